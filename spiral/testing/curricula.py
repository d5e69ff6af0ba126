"""Checks a curriculum against the contract of `spiral.api.training.GameSampler`."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from spiral.api.training import GameSampler, RecordsEpisodes, Stateful
from spiral.testing.episodes import GAMES, random_episode
from spiral.testing.state import restore_state, saved_state
from spiral.testing.violations import Violation, doing, global_generators, run_checks, short

CurriculumFactory = Callable[[Mapping[str, float]], GameSampler]

MIXTURES: tuple[Mapping[str, float], ...] = (dict(zip(GAMES, (1.0, 2.5, 0.5), strict=True)), {"duel": 1.0})
"""Game -> weight: three games, and one alone."""
NUM_STEPS = 60
NUM_GAMES = 8
"""Games a step: chosen before the first of them is recorded, as in training."""


class _Trial:
    """A game sampler under test, its generator, and random results of the games that it chooses."""

    def __init__(self, factory: CurriculumFactory, games: Mapping[str, float], seed: int) -> None:
        self.games = dict(games)
        with doing(f"making the game sampler for {list(games)}"):
            self.sampler = factory(self.games)
        if self.games != games:
            raise Violation(f"making the game sampler changed the games it was given to {self.games}; work on a copy")
        self.rng, self.results = random.Random(seed), random.Random(seed + 1)

    def choose(self, rng: random.Random) -> str:
        """The next game. Raises Violation if it is not one of the run."""
        with doing("choose(rng)"):
            game: Any = self.sampler.choose(rng)
        if not isinstance(game, str) or game not in self.games:
            raise Violation(
                f"choose returned {short(game)}, which is no game of the run; return one of {', '.join(self.games)}"
            )
        return game

    def step(self) -> list[str]:
        """The games of a step, all chosen and then recorded in their order."""
        chosen = [self.choose(self.rng) for _ in range(NUM_GAMES)]
        if isinstance(self.sampler, RecordsEpisodes):
            for game in chosen:
                episode = random_episode(self.results, game)
                with doing(f"record(episode), of {short(episode.policies)} with returns {episode.returns},"):
                    self.sampler.record(episode)
        return chosen


def check_curriculum(factory: CurriculumFactory, *, seed: int = 0) -> list[str]:
    """The violations of `spiral.api.training.GameSampler` by `factory(games)`, a sentence each; [] if there are none.

    - It chooses names of the run's games and nothing else, for one game and for several.
    - All chance comes from the `rng` given: equal pasts and equal generators choose alike.
    - `choose` changes nothing: each process of a run chooses for its own games only, and all must stay alike.
    - `record` takes every finished game: for one to three players, won, lost or drawn, with illegal turns or no turn,
      with the learner as one player or as all.
    - What it remembers is its `state`: JSON, and enough to go on exactly after a resume.

    Tried on steps of 8 random games that are recorded after all were chosen. Deterministic in `seed`.

    Example: `assert check_curriculum(MyCurriculum) == []`
    """
    return run_checks(
        [partial(_check_choices, factory, games, seed) for games in MIXTURES],
        [partial(_check_choose_changes_nothing, factory, seed), partial(_check_restored, factory, seed)],
    )


def _check_choices(factory: CurriculumFactory, games: Mapping[str, float], seed: int) -> None:
    """Names, determinism, and records of every kind."""
    one, two = _Trial(factory, games, seed), _Trial(factory, games, seed)
    with global_generators() as seed_globals:
        for number in range(NUM_STEPS):
            seed_globals(number)
            chosen = one.step()
            seed_globals(number + NUM_STEPS)
            repeated = two.step()
            if chosen != repeated:
                raise Violation(
                    f"choose returned {chosen} and {repeated} for one state of rng and one past; draw from rng alone "
                    "and share nothing between samplers"
                )


def _check_choose_changes_nothing(factory: CurriculumFactory, seed: int) -> None:
    """A sampler that is asked for more games than another goes on like it."""
    one, two = _Trial(factory, MIXTURES[0], seed), _Trial(factory, MIXTURES[0], seed)
    for number in range(NUM_STEPS):
        # Not a fixed number, which might be a whole turn of a rotation and so change nothing.
        for _ in range(number % 5):
            two.choose(random.Random(number))
        if one.step() != two.step():
            raise Violation(
                "choose changes what is chosen later; learn in record alone, since each process of a run chooses for "
                "its own games only"
            )


def _check_restored(factory: CurriculumFactory, seed: int) -> None:
    """A second sampler, given the state of the first, goes on as the first does.

    Into a second instance, as a resumed process does it: in the first one, everything that `state` omits would still
    be there.
    """
    one, two = _Trial(factory, MIXTURES[0], seed), _Trial(factory, MIXTURES[0], seed)
    for _ in range(NUM_STEPS):
        one.step()
    if isinstance(one.sampler, Stateful):
        restore_state(two.sampler, saved_state(one.sampler))
    for trial in (one, two):
        trial.rng, trial.results = random.Random(seed + 2), random.Random(seed + 3)
    for number in range(NUM_STEPS):
        chosen, repeated = one.step(), two.step()
        if chosen != repeated:
            raise Violation(
                f"a new game sampler with the restored state chose {repeated} where the first one chose {chosen} "
                f"({number} steps later); keep all that it remembers in `state`"
            )
    # What a sampler counts may not have changed its choices yet, and would after the next resume.
    states = [saved_state(trial.sampler) for trial in (one, two) if isinstance(trial.sampler, Stateful)]
    if any(state != states[0] for state in states):
        raise Violation(
            "a new game sampler with the restored state came to another state; restore all that it remembers from "
            "`state`"
        )
