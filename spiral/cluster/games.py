"""The games of a step, played by a fleet: asked for as early as the bound on staleness allows, and always those that
the seed of the step names, so that no game is trained on, or left out, for how long it took."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from spiral.api.errors import RunError
from spiral.api.progress import Phase, Progress, no_progress
from spiral.api.records import Episode, VoidedGame
from spiral.cluster.dispatcher import admitted
from spiral.cluster.fleet import Fleet
from spiral.cluster.gauges import Gauges, learners_turns
from spiral.cluster.orders import Span, Ticket
from spiral.config.schema import Config
from spiral.learning.stop_signals import StopSignals
from spiral.seeds import derive
from spiral.selfplay.draws import Draw, Draws
from spiral.selfplay.rollouts import check_voided

WAIT_S = 0.5
"""Seconds between two looks for a signal to stop, and for groups that have to be drawn anew."""


class FleetGames:
    """See `spiral.training.experience.StepGames`."""

    def __init__(
        self,
        fleet: Fleet,
        draws: Draws,
        config: Config,
        staleness: int,
        rank: int = 0,
        world: int = 1,
        stop: StopSignals | None = None,
        progress: Progress = no_progress,
    ) -> None:
        """`staleness`: versions that the learner may be ahead of the weights with which a game began; 0 waits for each
        step's games before the update. `rank`, `world`: of several clients, each plays every world-th group."""
        self._fleet, self._draws, self._config = fleet, draws, config
        self._staleness, self._rank, self._world = staleness, rank, world
        self._stop, self._progress = stop or StopSignals(), progress
        self._next = self._asked_up_to = 0
        self._epoch = 0
        self._gauges = Gauges()
        self.voided: list[VoidedGame] = []
        self.metrics: Mapping[str, float] = {}

    def of_step(self, step: int) -> list[Episode]:
        """The episodes of this client's groups, in the order of the games' numbers. Raises RunError when too many games
        had to be voided, or a player is silent."""
        if step != self._next:
            self._begin_at(step)
        self.voided, asked, cpu_s = [], time.monotonic(), time.thread_time() + self._fleet.cpu_s
        for later in range(self._asked_up_to, admitted(step, self._staleness, self._config.steps) + 1):
            root = _root(self._config, later)
            self._fleet.play([self._ticket(later, self._draws.draw(root, n)) for n in self._groups])
            self._asked_up_to = later + 1
        results, keys = self._fleet.results, [(step, index) for index in self._groups]
        size = self._config.rollout.group_size
        self._progress(Phase("playing", len(keys) * size, "games", lambda: results.num_done(keys) * size))
        while True:
            self._fleet.wait(lambda: results.num_done(keys) == len(keys) or bool(results.returned), WAIT_S)
            if results.num_done(keys) == len(keys):
                break
            self._stop.check()
            self._draw_again()
            self._note_voided(step)
        self._note_voided(step)
        self._next = step + 1
        groups = [results.take(key) for key in keys]
        episodes = [episode for _, games in groups for episode in games]
        self._check_versions(step, episodes)
        self._gauges.played.add(self._fleet.results.take_played())
        gauges = self._gauges.metrics(step, episodes, [ended for ended, _ in groups], asked)
        head_s = time.thread_time() + self._fleet.cpu_s - cpu_s
        head = {"cluster/head_ms": 1e3 * head_s / max(1, len(episodes))}
        self.metrics = {**gauges, **head, "cluster/lost_players": float(self._fleet.num_losses)}
        return episodes

    def take_spans(self) -> list[Span]:
        return self._fleet.results.take_spans()

    @property
    def _groups(self) -> Sequence[int]:
        config = self._config.rollout
        return range(self._rank, config.episodes // config.group_size, self._world)

    def _begin_at(self, step: int) -> None:
        """Go on at another step than the next: what was asked for belongs to weights that are no more."""
        self._fleet.give_up()
        self._epoch += 1
        self._asked_up_to = step

    def _draw_again(self) -> None:
        for ticket in self._fleet.results.take_returned():
            draw = self._draws.draw(_root(self._config, ticket.step), ticket.draw.index, ticket.draw.attempt + 1)
            self._fleet.play([self._ticket(ticket.step, draw)])

    def _ticket(self, step: int, draw: Draw) -> Ticket:
        return Ticket(step, draw, self._epoch, self._draws.is_single(draw))

    def _note_voided(self, step: int) -> None:
        self.voided += self._fleet.results.take_voided(step)
        check_voided(self.voided, self._config.rollout)

    def _check_versions(self, step: int, episodes: Sequence[Episode]) -> None:
        """Raise RunError for a game that began with weights older than the bound allows: a fault of the cluster."""
        for turn in learners_turns(episodes):
            if not step - self._staleness <= turn.oldest_version <= turn.version <= step:
                raise RunError(
                    f"a game of step {step} has a reply of version {turn.oldest_version}, and "
                    f"cluster.args.staleness={self._staleness} allows {max(0, step - self._staleness)} to "
                    f"{step}; report it"
                )


def _root(config: Config, step: int) -> int:
    return derive(config.seed, "rollout", step)
