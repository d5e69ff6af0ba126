"""Reports on runs and tournaments: the terminal, TensorBoard and HTML pages."""
