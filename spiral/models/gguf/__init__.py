"""Reads language models from GGUF files and writes them as folders that transformers loads."""
