"""Decoders over bytes whose large part runs over patches of bytes: model, boundaries, cache and sizes."""
