"""Importing this lets transformers' Auto classes load byte models, patched ones and their tokenizer.

Not imported by the package itself: the names of the models must be listed without loading torch.
"""

import spiral_models.byte.model
import spiral_models.byte.tokenizer
import spiral_models.patch.model  # noqa: F401
