"""One file an engine; each implements `spiral.api.training.Engine` and is registered in `spiral.builtin`."""
