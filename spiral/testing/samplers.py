"""The promises of an opponent sampler."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from functools import partial
from typing import Any

from spiral.api.errors import SpiralError
from spiral.api.policies import OpponentSampler
from spiral.api.records import LEARNER, PolicyId
from spiral.api.training import RecordsEpisodes, Stateful
from spiral.plugins.registry import Plugins
from spiral.policies.pool import Pool
from spiral.testing.fakes import ScriptedBot, make_episode
from spiral.testing.state import restore, saved
from spiral.testing.violations import Broken, doing, findings, global_chance, short

SamplerFactory = Callable[[], OpponentSampler]

MEMBER = "bot:scripted"
NUM_DRAWS = 2_000
"""Seatings that are counted."""
NUM_REMEMBERED = 50
"""Seatings before and after a state is saved."""


class _Line:
    """One sampler at work: a pool, a generator, and a random result for every table that it seats.

    `full`: whether the pool holds snapshots and a member beside the learner.
    """

    def __init__(self, factory: SamplerFactory, plugins: Plugins, seed: int, full: bool = True) -> None:
        with doing("making the sampler"):
            self.sampler = factory()
        self.pool, self.rng, self.results = Pool(plugins), random.Random(seed), random.Random(seed + 1)
        for step in (0, 10, 20) if full else ():
            self.pool.add_snapshot(step, 3, "last")
        if full:
            self.pool.add_bot(MEMBER, ScriptedBot([]))
            self.pool.add_member(MEMBER)

    def next(self, num: int) -> list[PolicyId]:
        """The next seating. Raises SpiralError if the sampler does not seat `num` players, and that is not 2."""
        try:
            seats: Any = self.sampler.seat("game", num, self.pool, self.rng)
        except SpiralError as refusal:
            if num == 2:
                raise Broken(f"seat refused a table for 2: {refusal}") from refusal
            raise
        except Exception as error:
            raise Broken(
                f"seat for {num} players raised {type(error).__name__}: {error}; a SpiralError says what is not "
                "supported"
            ) from error
        self._validate(seats, num)
        episode = make_episode([self.results.choice((-1.0, 1.0)) for _ in seats], policies=seats)
        self.pool.results.record([episode])
        if isinstance(self.sampler, RecordsEpisodes):
            with doing("record(episode)"):
                self.sampler.record(episode)
        return list(seats)

    def _validate(self, seats: Any, num: int) -> None:
        if not isinstance(seats, list) or len(seats) != num:
            raise Broken(f"seat gave {short(seats)} for {num} players; give a list with one policy a chair")
        if unknown := [policy for policy in seats if policy not in self.pool]:
            raise Broken(f"seat gave {short(unknown[0])}, which is not in the pool; pool.bot(name) puts a bot there")
        if LEARNER not in seats:
            raise Broken(f"seat gave {seats} without '{LEARNER}'; the learner sits at one chair at least")


def check_sampler(factory: SamplerFactory, plugins: Plugins, *, seed: int = 0) -> list[str]:
    """Every promise of `spiral.api.policies.OpponentSampler` that `factory()` breaks, a sentence each.

    Tried for tables of 1 to 4 chairs, with a pool that holds the learner alone, or three snapshots and a bot too.
    A SpiralError for a number of chairs other than 2 says that the sampler does not go there. Deterministic in `seed`.
    """
    return findings(
        *[[partial(_seats, factory, plugins, num, seed, full)] for full in (False, True) for num in (2, 1, 3, 4)],
        [partial(_restored, factory, plugins, seed)],
    )


def _seats(factory: SamplerFactory, plugins: Plugins, num: int, seed: int, full: bool) -> None:
    """Form, determinism and balance at a table with `num` chairs."""
    one, two = _Line(factory, plugins, seed, full), _Line(factory, plugins, seed, full)
    counts = [0] * num
    with global_chance() as chance:
        for number in range(NUM_DRAWS):
            try:
                chance(number)
                seats = one.next(num)
                chance(number + NUM_DRAWS)
                again = two.next(num)
            except SpiralError:
                return
            if seats != again:
                raise Broken(
                    f"seat gave {seats} and {again} for one state of rng and one past; draw from rng alone and share "
                    "nothing between samplers"
                )
            if seats.count(LEARNER) == 1:
                counts[seats.index(LEARNER)] += 1
    total = sum(counts)
    # Five standard deviations of a binomial: fails for a lopsided sampler, never by chance.
    allowed = 5 * math.sqrt(total * (1 / num) * (1 - 1 / num)) + 1
    if any(abs(count - total / num) > allowed for count in counts):
        raise Broken(
            f"the chairs are not balanced: when the learner sat once, it sat {counts} times at chairs 0 to {num - 1}; "
            "give it each chair equally often, or it learns only one side of a game"
        )


def _restored(factory: SamplerFactory, plugins: Plugins, seed: int) -> None:
    """A sampler whose state is restored goes on as the one it was saved from."""
    one = _Line(factory, plugins, seed)
    for _ in range(NUM_REMEMBERED):
        one.next(2)
    two = _Line(factory, plugins, seed)
    if isinstance(one.sampler, Stateful):
        restore(two.sampler, saved(one.sampler))
    two.pool.state = saved(one.pool)
    for line in (one, two):
        line.rng, line.results = random.Random(seed + 2), random.Random(seed + 3)
    for number in range(NUM_REMEMBERED):
        seats, again = one.next(2), two.next(2)
        if seats != again:
            raise Broken(
                f"a sampler made anew, its state restored, seated {again} where the first one seated {seats} ({number} "
                "tables later); keep all that it remembers in `state`"
            )
