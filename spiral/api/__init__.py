"""The contracts between the core and its plug-ins: records, Protocols, hooks and errors; imports nothing of spiral."""
