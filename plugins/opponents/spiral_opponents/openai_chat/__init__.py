"""A bot that asks a model behind an OpenAI-compatible chat endpoint."""
