"""Checks an opponent sampler against the contract of `spiral.api.policies.OpponentSampler`."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from spiral.api.errors import SpiralError
from spiral.api.policies import OpponentSampler, uses_members
from spiral.api.records import LEARNER, PolicyId, learner_id
from spiral.api.training import RecordsEpisodes, Stateful
from spiral.plugins.registry import Plugins
from spiral.policies.pool import Pool
from spiral.testing.fakes import ScriptedBot, make_episode
from spiral.testing.state import restore_state, saved_state
from spiral.testing.violations import Violation, doing, global_generators, run_checks, short

SamplerFactory = Callable[[], OpponentSampler]

MEMBER = "bot:scripted"
SEVERAL: Sequence[PolicyId] = (LEARNER, learner_id("second"), learner_id("third"))
"""Policies in training of a run that trains three."""
NUM_DRAWS = 2_000
"""Calls of `seat` that are counted."""
NUM_REMEMBERED = 50
"""Calls of `seat` before a state is saved, and after it is restored."""


class _Trial:
    """An opponent sampler under test, its pool and generator, and a random result for every game that it seats.

    `full`: whether the pool holds snapshots and a member beside the learners.
    """

    def __init__(
        self,
        factory: SamplerFactory,
        plugins: Plugins,
        seed: int,
        full: bool = True,
        learners: Sequence[PolicyId] = (LEARNER,),
    ) -> None:
        with doing("making the sampler"):
            self.sampler = factory()
        self.pool = Pool(plugins, learners=dict.fromkeys(learners, 1.0))
        self.rng, self.results, self.num_games = random.Random(seed), random.Random(seed + 1), 0
        for step in (0, 10, 20) if full else ():
            for learner in learners:
                self.pool.add_snapshot(step, 3, "last", learner)
        if full:
            self.pool.add_bot(MEMBER, ScriptedBot([]))
            self.pool.add_member(MEMBER)

    def seat(self, num: int) -> list[PolicyId]:
        """The policies of the next game. Raises SpiralError if the sampler refuses a `num` other than 2."""
        try:
            self.learner = self.pool.learner_of(self.num_games)
            self.num_games += 1
            policies: Any = self.sampler.seat("game", num, self.pool.view(self.learner), self.rng)
        except SpiralError as refusal:
            if num == 2:
                raise Violation(f"seat refused a game of 2 players: {refusal}; return two policies") from refusal
            raise
        except Exception as error:
            raise Violation(
                f"seat for {num} players raised {type(error).__name__}: {error}; raise SpiralError for a number of "
                "players that is not supported"
            ) from error
        self._validate(policies, num)
        episode = make_episode([self.results.choice((-1.0, 1.0)) for _ in policies], policies=policies)
        self.pool.results.record([episode])
        if isinstance(self.sampler, RecordsEpisodes):
            with doing("record(episode)"):
                self.sampler.record(episode)
        return list(policies)

    def _validate(self, policies: Any, num: int) -> None:
        if isinstance(policies, str) or not isinstance(policies, Sequence) or len(policies) != num:
            raise Violation(
                f"seat returned {short(policies)} for {num} players; return a list with one policy a player"
            )
        if unknown := [policy for policy in policies if policy not in self.pool]:
            raise Violation(
                f"seat returned {short(unknown[0])}, which is not in the pool; pool.bot(name) adds a bot to it"
            )
        if MEMBER in policies and not uses_members(self.sampler):
            raise Violation(f"uses_members is False and seat returned {policies}, which holds a member; drop that flag")
        if len(self.pool.learners) == 1 and LEARNER not in policies:
            raise Violation(f"seat returned {policies} without '{LEARNER}'; return the learner for one player at least")
        if {*self.pool.learners}.isdisjoint(policies):
            raise Violation(
                f"seat returned {policies} without any of {', '.join(self.pool.learners)} for a game that is played "
                f"for '{self.learner}'; return pool.learner for one player at least"
            )


def check_sampler(factory: SamplerFactory, plugins: Plugins | None = None, *, seed: int = 0) -> list[str]:
    """The violations of `spiral.api.policies.OpponentSampler` by `factory()`, a sentence each; [] if there are none.

    - `seat` returns one policy of the pool a player, the learner for at least one of them; where several policies are
      in training, one of those.
    - All chance comes from the `rng` given: equal pasts and equal generators seat alike.
    - Over many games the learner is each player equally often.
    - What it remembers is its `state`: JSON, and enough to go on exactly after a resume.

    Tried on games of 1 to 4 players, with a pool that holds the learner alone, one with three snapshots and a bot too,
    and one of three policies in training with three snapshots each, whose games are played for each in turn. A
    SpiralError for a number of players other than 2 means that the sampler does not support it. `plugins`: where
    `pool.bot(name)` finds bots; the installed ones by default. Deterministic in `seed`. Raises PluginError if two
    installed plug-ins have one name.

    Example: `assert check_sampler(UntilItWins) == []`
    """
    registry = Plugins.installed() if plugins is None else plugins
    return run_checks(
        *[
            [partial(_check_seats, factory, registry, num, seed, full, learners)]
            for full, learners in ((False, (LEARNER,)), (True, (LEARNER,)), (True, SEVERAL))
            for num in (2, 1, 3, 4)
        ],
        *[[partial(_check_restored, factory, registry, seed, learners)] for learners in ((LEARNER,), SEVERAL)],
    )


def _check_seats(
    factory: SamplerFactory, plugins: Plugins, num: int, seed: int, full: bool, learners: Sequence[PolicyId]
) -> None:
    """Form, determinism and balance in games of `num` players."""
    one, two = (_Trial(factory, plugins, seed, full, learners) for _ in range(2))
    counts = [0] * num
    """By player: games in which that player alone was the learner."""
    with global_generators() as seed_globals:
        for number in range(NUM_DRAWS):
            try:
                seed_globals(number)
                policies = one.seat(num)
                seed_globals(number + NUM_DRAWS)
                repeated = two.seat(num)
            except SpiralError:
                return
            if policies != repeated:
                raise Violation(
                    f"seat returned {policies} and {repeated} for one state of rng and one past; draw from rng alone "
                    "and share nothing between samplers"
                )
            if policies.count(one.learner) == 1:
                counts[policies.index(one.learner)] += 1
    total = sum(counts)
    # Five standard deviations of a binomial: fails for a lopsided sampler, never by chance.
    allowed = 5 * math.sqrt(total * (1 / num) * (1 - 1 / num)) + 1
    if any(abs(count - total / num) > allowed for count in counts):
        raise Violation(
            f"the players are not balanced: in {total} games with one learner it was players 0 to {num - 1} {counts} "
            "times; make it each player equally often, or it learns only one side of a game"
        )


def _check_restored(factory: SamplerFactory, plugins: Plugins, seed: int, learners: Sequence[PolicyId]) -> None:
    """A second sampler, given the state of the first, goes on as the first does.

    Into a second instance, as a resumed process does it: in the first one, everything that `state` omits would still
    be there. The pool is restored too, since a sampler may choose by its results, which are not the sampler's to save.
    """
    one = _Trial(factory, plugins, seed, learners=learners)
    for _ in range(NUM_REMEMBERED):
        one.seat(2)
    two = _Trial(factory, plugins, seed, learners=learners)
    if isinstance(one.sampler, Stateful):
        restore_state(two.sampler, saved_state(one.sampler))
    two.pool.state = saved_state(one.pool)
    # A resumed run seeds the generators of a step anew; so both go on from equal ones, and only memory can differ.
    for trial in (one, two):
        trial.rng, trial.results, trial.num_games = random.Random(seed + 2), random.Random(seed + 3), 0
    for number in range(NUM_REMEMBERED):
        policies, repeated = one.seat(2), two.seat(2)
        if policies != repeated:
            raise Violation(
                f"a new sampler with the restored state returned {repeated} where the first one returned {policies} "
                f"({number} games later); keep all that it remembers in `state`"
            )
