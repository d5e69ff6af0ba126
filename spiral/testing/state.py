"""Saves and restores a plug-in's `state` as a checkpoint does: through JSON."""

from __future__ import annotations

import json
from typing import Any

from spiral.api.training import Stateful
from spiral.testing.violations import Violation, doing, short


def saved_state(plugin: Stateful) -> Any:
    """The state after a round trip through JSON. Raises Violation if JSON does not give back an equal state."""
    with doing("reading state"):
        state = plugin.state
    try:
        restored = json.loads(json.dumps(state, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise Violation(f"state is {short(state)}, which JSON cannot hold ({error}); keep JSON values in it") from error
    # Tuples become lists and number keys become text without an error, so a plug-in would resume with other types.
    if restored != state:
        raise Violation(
            f"state is {short(state)} and comes back from JSON as {short(restored)}; use lists instead of tuples, and "
            "dicts with text keys"
        )
    return restored


def restore_state(plugin: object, state: Any) -> None:
    """Set the state as a resumed run does. Raises Violation if setting it raises."""
    with doing("setting state"):
        plugin.state = state  # type: ignore[attr-defined]
