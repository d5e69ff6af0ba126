"""One file an engine; each implements `spiral.interfaces.Engine` and is registered in `spiral.builtin`."""
