"""Byte-level decoders: model, tokenizer, sizes and export."""
