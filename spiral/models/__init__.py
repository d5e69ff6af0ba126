"""Language models as the core sees them: logits at chosen positions, prompts and replies."""
