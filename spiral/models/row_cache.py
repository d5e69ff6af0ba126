"""What an engine keeps of the texts in flight: a row each, that can be copied, cut and gone on with.

A model's keys and values by default, which the torch engine makes; a model that keeps more than those brings its own,
by an optional member `row_cache(max_rows, device, dtype)`.
"""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor

from spiral.models.adapted import wrapped


class RowCache(Protocol):
    """Rows of texts whose ids have places 0, 1, ... What stands behind the ids that were written last is never read."""

    generation: int
    """Counts the buffers: a pass that was recorded over those of another number is void."""

    @property
    def does_equal_work(self) -> bool:
        """Whether a pass over given rows and a given span computes the same whatever the ids are, so that it can be
        recorded and replayed."""

    @property
    def num_bytes(self) -> int:
        """Size of all buffers."""

    def reserve(self, rows: int, length: int) -> None:
        """Make room for `rows` texts of `length` ids; what was written stays."""

    def trim(self) -> None:
        """Give back buffers that are much larger than what was asked for since the last call; their content is lost."""

    def copy(self, pairs: list[tuple[int, int]]) -> None:
        """Copy whole rows, (source, target) each; every source is read before a target is written."""

    def read(self, row: int, length: int) -> Any:
        """What `write` needs of the first `length` ids of a row, apart from the buffers."""

    def write(self, row: int, kept: Any) -> None:
        """Put what `read` returned at the start of a row."""

    def window(self, first: int, last: int, positions: Tensor, span: int) -> Any:
        """What the model is given as `past_key_values` for one forward pass over new ids of rows first..last-1 at
        `positions` (n, T), which go on where each text ended, all below `span`."""

    def mask(self, places: Tensor, span: int) -> Tensor | None:
        """What the model is given as a mask beside such a window, (n, 1, T, span) to add to scores; None where the
        window itself tells it."""


def own_row_cache(model: Any, max_rows: int) -> RowCache | None:
    """The one that a model brings, for so many texts; None for a model that keeps keys and values."""
    make = getattr(wrapped(model), "row_cache", None)
    made: RowCache | None = None if make is None else make(max_rows, model.device, model.dtype)
    return made
