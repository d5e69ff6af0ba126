"""A run that can learn nothing says so in its first steps: every reply illegal, or every advantage 0.

Apart from the collapse detector, which compares a run with how it was: this one was never otherwise. A note and no
error, since sampling may still find a legal move, or a game that is won.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from spiral.api.records import Trajectory, Turn
from spiral.config.schema import Config
from spiral.training.health.detector import Collapse
from spiral.training.health.indicators import NOTHING

MIN_REPLIES = 32
"""So many replies of the learner, in whole steps, before anything is said."""
MAX_CHARACTERS = 160
"""Of a text that is shown."""
MOST = 0.5
"""A cause that explains more than this share of the illegal replies is named as the likely one."""

Show = Callable[[Sequence[int]], str]
"""Reply ids -> text."""


@dataclass
class _Seen:
    """What the learner's replies were so far. JSON values."""

    replies: int = 0
    legal: int = 0
    cut: int = 0
    """Ran out of tokens."""
    unreadable: int = 0
    """Ended, and hold no move."""
    taught: int = 0
    """Turns with an advantage."""
    sample: str = ""
    """The first illegal reply, and what it answered."""
    over: bool = False
    """Something can be learned, or it was said that nothing can."""


class FirstSteps:
    """`state`: JSON values, what was seen so far."""

    def __init__(self, config: Config, show: Show) -> None:
        self._config, self._show = config, show
        self._seen = _Seen()

    def look(
        self, step: int, trajectories: Sequence[Trajectory], advantages: Sequence[Sequence[float]]
    ) -> Collapse | None:
        """What became certain at this step; `trajectories` are the learner's, `advantages` theirs. Once a run."""
        seen = self._seen
        if seen.over:
            return None
        for turn in _replies(trajectories):
            seen.replies += 1
            seen.legal += turn.legal
            seen.cut += turn.finish == "length"
            seen.unreadable += turn.finish != "length" and turn.move is None
            if not turn.legal and not seen.sample:
                seen.sample = f"{_shown(self._show(turn.reply))} in answer to {_shown(turn.observation, end=True)}"
        seen.taught += sum(abs(advantage) > NOTHING for row in advantages for advantage in row)
        seen.over = bool(seen.legal and seen.taught)
        if seen.over or seen.replies < MIN_REPLIES:
            return None
        seen.over = True
        sentence = self._no_credit(trajectories) if seen.legal else self._no_legal_reply()
        return Collapse(step, "nothing to learn", "", sentence, "warning", 0)

    @property
    def state(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self._seen)

    @state.setter
    def state(self, state: dict[str, Any]) -> None:
        self._seen = _Seen(**state)

    def _no_legal_reply(self) -> str:
        seen, c = self._seen, self._config
        if seen.cut > MOST * seen.replies:
            cause = (
                f"{seen.cut / seen.replies:.0%} ran out of tokens before their end; raise rollout.max_new_tokens "
                f"({c.rollout.max_new_tokens}), or take a prompt format that asks for less"
            )
        elif seen.unreadable > MOST * seen.replies:
            cause = (
                f"{seen.unreadable / seen.replies:.0%} hold no move as prompt={c.prompt.name} reads it; take a format "
                "that the model can follow"
            )
        else:
            cause = (
                "moves can be read, and are not the game's; tell the model the rules (prompt.args.rules=true), or take "
                "a format that lists the legal moves"
            )
        if not c.warm_start.max_steps:
            cause += ", or teach it how a move is written with warm_start.max_steps=200"
        return (
            f"none of the learner's first {seen.replies} replies was a legal move, so nothing can be learned yet; one "
            f"of them: {seen.sample}; the likely cause: {cause}."
        )

    def _no_credit(self, trajectories: Sequence[Trajectory]) -> str:
        c, returns = self._config, {trajectory.reward for trajectory in trajectories}
        cause = (
            f"every game of the last step gave the learner the same return, {returns.pop():g}; let it meet others "
            "(opponents), or play games that can be won"
            if len(returns) == 1
            else f"advantage={c.advantage.name} finds no difference between the games that it compares; raise "
            "rollout.group_size or rollout.episodes, or take another"
        )
        still = "" if c.learner.kl or c.learner.entropy or c.learner.anchor else ", and the weights stand still"
        example = f"; an illegal reply: {self._seen.sample}" if self._seen.sample else ""
        return (
            f"every advantage of the learner's first {self._seen.replies} replies is 0, so the run learns nothing from "
            f"its games{still}{example}; the likely cause: {cause}."
        )


def _replies(trajectories: Sequence[Trajectory]) -> Iterator[Turn]:
    return (turn for trajectory in trajectories for turn in trajectory.turns if turn.reply)


def _shown(text: str, end: bool = False) -> str:
    """A text in quotes on one line; of a long one the beginning, or the end."""
    if len(text) > MAX_CHARACTERS:
        text = f"...{text[-MAX_CHARACTERS:]}" if end else f"{text[:MAX_CHARACTERS]}..."
    return json.dumps(text, ensure_ascii=False)
