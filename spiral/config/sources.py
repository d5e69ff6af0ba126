"""The part of the schema that tells what a run learns from in place of playing: games of other policies, or text."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class ExamplesConfig:
    """Games that were played before, by other policies: supervised training in place of self-play."""

    path: str = ""
    """A file that `spiral collect` wrote, of whose games each step trains on `rollout.episodes`, in a new random order
    each epoch; empty for self-play."""
    held_out: float = 0.05
    """Share of the games that is never trained on: each evaluation measures the loss on them."""
    max_held_out: int = 500
    """Games held out, at most."""
    thoughts: bool = True
    """Train on what a policy wrote before its answer, where the prompt format lets a reply say more than a move."""


@dataclass(frozen=True)
class TextConfig:
    """Text to pretrain on, in place of games; `docs/guides/pretraining.md` shows how."""

    paths: list[str] = field(default_factory=list)
    """Files, folders of files, and folders that `datasets` saved; empty for games."""
    row_tokens: int = 512
    """Tokens of a row, each predicted from those before it in the row; at most the model's context."""
    step_tokens: int = 16384
    """Tokens of a step, in whole rows."""
    held_out_bytes: int = 1_000_000
    """Text that is never trained on, on which bits per byte are measured; at most a tenth of all."""
    trained_bytes: int | None = None
    """Text that is trained on, at most, for comparisons of more and less of it; null for all that is not held out."""
    evaluate_tokens: int = 32768
    """Held-out tokens that an evaluation measures, spread evenly; the last one measures all."""
    samples: int = 4
    """Texts that the model writes at each evaluation: one from nothing, the others from beginnings of held-out ones."""
    sample_tokens: int = 160
    """The longest of them."""
