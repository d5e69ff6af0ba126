"""The promises of a game sampler."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from spiral.api.training import GameSampler, RecordsEpisodes, Stateful
from spiral.testing.episodes import CHAIRS, random_episode
from spiral.testing.state import restore, saved
from spiral.testing.violations import Broken, doing, findings, global_chance, short

CurriculumFactory = Callable[[Mapping[str, float]], GameSampler]

MIXTURES: tuple[Mapping[str, float], ...] = (dict(zip(CHAIRS, (1.0, 2.5, 0.5), strict=True)), {"duel": 1.0})
"""Game -> weight: three games, and one alone."""
NUM_STEPS = 60
NUM_GAMES = 8
"""Games a step: chosen before the first of them is recorded, as in training."""


class _Line:
    """One sampler at work: its generator, and made-up results of the games that it chose."""

    def __init__(self, factory: CurriculumFactory, games: Mapping[str, float], seed: int) -> None:
        self.games = dict(games)
        with doing(f"making the game sampler for {list(games)}"):
            self.sampler = factory(self.games)
        if self.games != games:
            raise Broken(f"making the game sampler changed the games it was given to {self.games}; work on a copy")
        self.rng, self.results = random.Random(seed), random.Random(seed + 1)

    def choose(self, rng: random.Random) -> str:
        """The next game. Raises Broken if it is none of the run's."""
        with doing("choose(rng)"):
            game: Any = self.sampler.choose(rng)
        if not isinstance(game, str) or game not in self.games:
            raise Broken(f"choose gave {short(game)}, which is none of the run's games: {', '.join(self.games)}")
        return game

    def step(self) -> list[str]:
        """The games of a step, chosen and then recorded in their order."""
        chosen = [self.choose(self.rng) for _ in range(NUM_GAMES)]
        if isinstance(self.sampler, RecordsEpisodes):
            for game in chosen:
                episode = random_episode(self.results, game)
                with doing(f"record(episode), of {short(episode.policies)} with returns {episode.returns},"):
                    self.sampler.record(episode)
        return chosen


def check_curriculum(factory: CurriculumFactory, *, seed: int = 0) -> list[str]:
    """Every promise of `spiral.api.training.GameSampler` that `factory(games)` breaks, a sentence each.

    - It chooses names of the run's games and nothing else, for one game and for several.
    - All chance comes from the `rng` given: equal pasts and equal generators choose alike.
    - `choose` changes nothing: each process of a run chooses for its own games only, and all must stay alike.
    - `record` takes every finished game: for one to three players, won, lost or drawn, with illegal turns or no turn,
      with the learner at one chair or at all.
    - What it remembers is its `state`: JSON, and enough to go on exactly after a resume.

    Tried on steps of 8 made-up games that are recorded after all were chosen. Deterministic in `seed`.
    """
    return findings(
        [partial(_chooses, factory, games, seed) for games in MIXTURES],
        [partial(_only_learns_in_record, factory, seed), partial(_restored, factory, seed)],
    )


def _chooses(factory: CurriculumFactory, games: Mapping[str, float], seed: int) -> None:
    """Names, determinism, and records of every kind."""
    one, two = _Line(factory, games, seed), _Line(factory, games, seed)
    with global_chance() as chance:
        for number in range(NUM_STEPS):
            chance(number)
            chosen = one.step()
            chance(number + NUM_STEPS)
            again = two.step()
            if chosen != again:
                raise Broken(
                    f"choose gave {chosen} and {again} for one state of rng and one past; draw from rng alone and "
                    "share nothing between samplers"
                )


def _only_learns_in_record(factory: CurriculumFactory, seed: int) -> None:
    """A process that is asked for more games than another stays like it."""
    one, two = _Line(factory, MIXTURES[0], seed), _Line(factory, MIXTURES[0], seed)
    for number in range(NUM_STEPS):
        for _ in range(number % 5):  # no fixed number, which might be a whole turn of a rotation
            two.choose(random.Random(number))
        if one.step() != two.step():
            raise Broken(
                "choose changes what is chosen later; learn in record alone, since each process of a run chooses for "
                "its own games only"
            )


def _restored(factory: CurriculumFactory, seed: int) -> None:
    """A sampler whose state is restored goes on as the one it was saved from."""
    one, two = _Line(factory, MIXTURES[0], seed), _Line(factory, MIXTURES[0], seed)
    for _ in range(NUM_STEPS):
        one.step()
    if isinstance(one.sampler, Stateful):
        restore(two.sampler, saved(one.sampler))
    for line in (one, two):
        line.rng, line.results = random.Random(seed + 2), random.Random(seed + 3)
    for number in range(NUM_STEPS):
        chosen, again = one.step(), two.step()
        if chosen != again:
            raise Broken(
                f"a game sampler made anew, its state restored, chose {again} where the first one chose {chosen} "
                f"({number} steps later); keep all that it remembers in `state`"
            )
    states = [saved(line.sampler) for line in (one, two) if isinstance(line.sampler, Stateful)]
    if any(state != states[0] for state in states):
        raise Broken("a game sampler made anew, its state restored, came to another state; keep all of it in `state`")
