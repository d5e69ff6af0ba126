"""Texts of OpenSpiel's positions: moves as words, observations made shorter, and changes between observations."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

_MOVER = re.compile(r"^\[P\d+\] ?")
_LEDUC = re.compile(
    r"\[Observer: \d+\]\[Private: (-?\d+)\]\[Round \d+\]\[Player: -?\d+\]\[Pot: \d+\]\[Money:[ \d]*\]"
    r"(?:\[Public: (-?\d+)\])?\[Round1: ([ \d]*)\]\[Round2: ([ \d]*)\]"
)


def words(state: Any, player: int, actions: Sequence[int]) -> list[str]:
    """The text of each action: OpenSpiel's own on one line, without the mover; equal ones get ` #action` behind."""
    texts = [_MOVER.sub("", " ".join(state.action_to_string(player, action).split())) for action in actions]
    times = Counter(texts)
    return [
        text if text and times[text] == 1 else f"{text} #{action}".strip()
        for text, action in zip(texts, actions, strict=True)
    ]


def history(game: Any, state: Any) -> tuple[str, ...]:
    """What players and chance did in the match of `state`, as `words` says it; a player's moves apart from the others
    that were legal."""
    at, made = game.new_initial_state(), []
    for action in state.history():
        player = at.current_player()
        legal = [action] if at.is_chance_node() else at.legal_actions()
        made.append(dict(zip(legal, words(at, player, legal), strict=True))[action])
        at.apply_action(action)
    return tuple(made)


def leduc(text: str) -> str:
    """Leduc's information state in a dozen characters: own card, moves, and the public card with its moves.

    `2 cr/4 c`: the player holds 2, call and raise in round 1, the public card is 4, call in round 2. What is left out
    (round, mover, pot, money) follows from the moves.
    """
    match = _LEDUC.fullmatch(text)
    if match is None:
        raise ValueError(f"not an information state of leduc_poker: {text!r}")
    private, public, first, second = match.groups()
    rounds = [f"{private} {_letters(first)}"] + ([] if public is None else [f"{public} {_letters(second)}"])
    return "/".join(part.strip() for part in rounds)


def _letters(actions: str) -> str:
    return "".join("fcr"[int(action)] for action in actions.split())


SHORT: dict[str, Callable[[str], str]] = {"leduc_poker": leduc}
"""Games with a short style, and how their text is shortened without loss."""


def changes(before: Sequence[str], text: str) -> list[str]:
    """What is new in a text, line by line and numbered, so that the text can be worked out from the last one."""
    lines = text.splitlines()
    new = [f"{number}:{line}" for number, line in enumerate(lines) if before[number : number + 1] != [line]]
    return new + ([f"{len(lines)}:"] if len(lines) < len(before) else [])
