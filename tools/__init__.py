"""Programs for maintainers, run as `python -m tools.NAME` from the repository: generated pages and measurements."""
