"""Importing this lets transformers' Auto classes load byte models and their tokenizer.

Not imported by the package itself: the names of the models must be listed without loading torch.
"""

import spiral_models.byte.model
import spiral_models.byte.tokenizer  # noqa: F401
