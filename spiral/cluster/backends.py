"""What answers the requests of a player's games: an engine of its own, or those of other processes."""

from __future__ import annotations

import time
from functools import partial
from typing import Any, Protocol

from spiral.api.errors import SpiralError
from spiral.api.records import PolicyId
from spiral.api.text import printable_logger
from spiral.api.training import Engine
from spiral.cluster.buckets import Fetch, Received
from spiral.cluster.crew import Crew, PlayerLost
from spiral.cluster.engine import FleetEngine
from spiral.cluster.fleet import Fleet
from spiral.cluster.orders import Load, Span
from spiral.cluster.shared_engine import SharedEngine
from spiral.config.schema import Config
from spiral.models.tokens import Vocabulary
from spiral.plugins.registry import Plugins
from spiral.policies.loading import completer_around, probed_engine
from spiral.selfplay.setup import Players, add_members, learner_shares, make_play_setup, make_players

log = printable_logger(__name__)
SEARCH_S = 0.2
"""Seconds between two looks for an engine that can say how prompts are written."""


class Backend(Protocol):
    """An engine, and what plays with it."""

    plays: bool
    """Whether it is given games."""
    answers: bool
    """Whether it is asked single replies, and given weights."""
    engine: SharedEngine
    vocabulary: Vocabulary

    @property
    def players(self) -> Players:
        """The games and the pool."""

    def load(self, load: Load) -> None:
        """Have a policy answer with these weights from now on."""

    def drop(self, policy: PolicyId) -> None:
        """Forget a policy."""

    def spans(self, began: float) -> list[Span]:
        """What was done since `began`, by what; the player's own without a name."""

    def close(self) -> None:
        """Free what it holds."""


class OwnEngine:
    """The engine that the config names, in this process."""

    answers = True

    def __init__(self, config: Config, plugins: Plugins, fetch: Fetch, plays: bool = True) -> None:
        """`fetch`: gets the bucket that a load names."""
        self.plays, self._fetch = plays, fetch

        def shared(model: Any, tokenizer: Any) -> Engine:
            self.engine = SharedEngine(probed_engine(model, tokenizer, config, plugins))
            return self.engine

        setup = make_play_setup(config, plugins, make_engine=shared)
        add_members(config, setup)
        self.players: Players = setup
        self.vocabulary = Vocabulary.of(setup.model, setup.tokenizer)
        self._completer = setup.completer

    def load(self, load: Load) -> None:
        """See `Backend`."""
        self._completer.engine.load_weights(load.policy, Received(load.buckets, self._fetch), load.version)

    def drop(self, policy: PolicyId) -> None:
        """See `Backend`."""
        self._completer.engine.drop(policy)

    def spans(self, began: float) -> list[Span]:
        """See `Backend`."""
        return [Span("", began, time.time(), "playing" if self.plays else "answering")]

    def close(self) -> None:
        """See `Backend`."""
        if (close := getattr(self.engine, "close", None)) is not None:
            close()


class OtherEngines:
    """The engines of other processes, for one that has the games alone: no model is made here, and none is needed,
    since an engine's process says how prompts are written. The learner gives the engines their weights; here a
    load only says which one a game needs."""

    plays, answers = True, False

    def __init__(self, config: Config, plugins: Plugins, crew: Crew, client: str, start_s: float) -> None:
        """`crew`: the processes with engines. `client`: what they know this one by. Raises SpiralError if none is ready
        after `start_s` seconds."""
        deadline_s = config.rollout.deadline_s
        self._fleet = Fleet(crew, client, 1, deadline_s, gives_weights=False, on_said=partial(log.warning, "%s"))
        self._waits: list[Span] = []
        try:
            self._remote = FleetEngine(self._fleet, start_s, on_wait=self._note_wait)
            self.engine = SharedEngine(self._remote)
            self.vocabulary = _vocabulary(crew, start_s)
            completer = completer_around(self.engine, self.vocabulary, config, plugins)
            self.players = make_players(config, plugins, completer, learner_shares(config))
            add_members(config, self.players)
        except BaseException:
            self.close()
            raise

    def load(self, load: Load) -> None:
        """See `Backend`."""
        self._remote.expect(load)

    def drop(self, policy: PolicyId) -> None:
        """See `Backend`."""
        self._remote.drop(policy)

    def spans(self, began: float) -> list[Span]:
        """See `Backend`: its waits for the engines, what it did between them, and what the engines did."""
        waits, self._waits = self._waits, []
        edges = [began, *(edge for wait in waits for edge in (wait.began, wait.ended)), time.time()]
        played = [Span("", a, b, "playing") for a, b in zip(edges[::2], edges[1::2], strict=True) if b > a]
        return [*played, *waits, *self._fleet.results.take_spans()]

    def close(self) -> None:
        """See `Backend`."""
        self._fleet.close()

    def _note_wait(self, began: float, ended: float) -> None:
        self._waits.append(Span("", began, ended, "waiting"))


def _vocabulary(crew: Crew, within_s: float) -> Vocabulary:
    """That of the first engine which says it. Raises SpiralError if none does."""
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        for name in crew.players():
            try:
                call = crew.ask_vocabulary(name)
                if call in crew.wait([call], max(0.0, until - time.monotonic())):
                    answer = crew.answer(call)
                    if isinstance(answer, Vocabulary):
                        return answer
            except PlayerLost:
                continue
        time.sleep(SEARCH_S)
    raise SpiralError(f"no engine said within {within_s:g} s how prompts are written; raise cluster.args.start_s")
