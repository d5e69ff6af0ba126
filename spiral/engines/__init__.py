"""One file an engine; each implements `spiral.api.interfaces.Engine` and is registered in `spiral.builtin`."""
