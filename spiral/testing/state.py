"""What a checkpoint asks of a plug-in's `state`: JSON, and back."""

from __future__ import annotations

import json
from typing import Any

from spiral.api.training import Stateful
from spiral.testing.violations import Broken, doing, short


def saved(plugin: Stateful) -> Any:
    """The state after a round trip through JSON. Raises Broken if it does not survive that."""
    with doing("reading state"):
        state = plugin.state
    try:
        back = json.loads(json.dumps(state, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise Broken(f"state is {short(state)}, which JSON cannot hold ({error}); keep JSON values in it") from error
    if back != state:
        raise Broken(
            f"state is {short(state)} and comes back from JSON as {short(back)}; keep lists, and dicts with text keys"
        )
    return back


def restore(plugin: object, state: Any) -> None:
    """Set the state as a resumed run does."""
    with doing("setting state"):
        plugin.state = state  # type: ignore[attr-defined]
