"""Checks a reward shaper against the contract of `spiral.api.training.RewardShaper`."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from functools import partial
from typing import Any

from spiral.api.records import Episode, Trajectory, Turn
from spiral.api.training import RewardShaper, Stateful
from spiral.testing.episodes import GAMES, random_episode, unpaid
from spiral.testing.state import restore_state, saved_state
from spiral.testing.violations import Violation, doing, global_generators, is_finite, run_checks, short

RewardFactory = Callable[[], RewardShaper]

NUM_EPISODES = 60
TOLERANCE = 1e-9
"""What counts as 0 in a sum of rewards, which is rounding."""


def check_reward(factory: RewardFactory, *, seed: int = 0) -> list[str]:
    """The violations of `spiral.api.training.RewardShaper` by `factory()`, a sentence each; [] if there are none.

    - It returns an Episode for every finished game: for one to three players, with illegal turns or no turn at all,
      with bots, and with what earlier shapers paid.
    - It changes `Trajectory.reward` and `Turn.reward` and nothing else. `Episode.returns` stays what the game
      returned, which ratings, metrics and curricula read; there is one trajectory a player, in the same order, with
      the same turns.
    - The numbers are finite.
    - A trajectory's reward includes what its turns were given: it is the old reward, and the new rewards of turns,
      and whatever else the shaper pays for the game.
    - The episode that it is given stays as it is, and equal pasts give equal rewards.
    - What it remembers is its `state`: JSON, and enough to go on exactly after a resume.

    Not checked: whether the players' rewards still add up to 0; say it in the docstring. Deterministic in `seed`.

    Example: `assert check_reward(lambda: wins_only) == []`
    """
    rng = random.Random(seed)
    episodes = [random_episode(rng, game) for _ in range(NUM_EPISODES // len(GAMES)) for game in GAMES]
    return run_checks(
        [partial(_check_outputs, factory, episodes)],
        [partial(_check_totals, factory, episodes), partial(_check_deterministic, factory, episodes)],
        [partial(_check_restored, factory, episodes)],
    )


def _new(factory: RewardFactory) -> RewardShaper:
    with doing("making the shaper"):
        return factory()


def _shape(shaper: RewardShaper, episode: Episode) -> Episode:
    """The shaped episode. Raises Violation if anything but rewards is changed, or the given episode is."""
    before = copy.deepcopy(episode)
    with doing(f"the shaper, called with a game of {len(episode.returns)} players,"):
        shaped: Any = shaper(episode)
    if episode != before:
        raise Violation("the shaper changed the episode it was given; make a new one with dataclasses.replace")
    if not isinstance(shaped, Episode):
        raise Violation(f"the shaper returned {short(shaped)}, not an Episode; return the episode with other rewards")
    _check_unchanged("Episode", "trajectories", episode, shaped)
    if len(shaped.trajectories) != len(episode.trajectories):
        raise Violation(
            f"the shaper returned {len(shaped.trajectories)} trajectories for {len(episode.trajectories)} players; "
            "return one a player, in the order of the players"
        )
    for old, new in zip(episode.trajectories, shaped.trajectories, strict=True):
        _check_trajectory(old, new)
    return shaped


def _check_trajectory(old: Trajectory, new: Trajectory) -> None:
    _check_unchanged("Trajectory", "reward", replace(old, turns=()), replace(new, turns=()))
    if len(old.turns) != len(new.turns):
        raise Violation(f"the shaper returned {len(new.turns)} turns where {len(old.turns)} were played; keep them all")
    for before, after in zip(old.turns, new.turns, strict=True):
        _check_unchanged("Turn", "reward", before, after)
    for record, number in [("Trajectory", new.reward), *(("Turn", turn.reward) for turn in new.turns)]:
        if not is_finite(number):
            raise Violation(f"the shaper set a {record}.reward to {short(number)}; set finite floats")


def _check_unchanged(
    record: str, free: str, old: Episode | Trajectory | Turn, new: Episode | Trajectory | Turn
) -> None:
    """All fields of two records but `free` are equal."""
    for field in fields(old):
        before, after = getattr(old, field.name), getattr(new, field.name)
        if field.name != free and before != after:
            raise Violation(
                f"the shaper changed {record}.{field.name} from {short(before)} to {short(after)}; change "
                "Trajectory.reward and Turn.reward only"
            )


def _check_outputs(factory: RewardFactory, episodes: Sequence[Episode]) -> None:
    """One shaper takes all episodes, one after another."""
    shaper = _new(factory)
    for episode in episodes:
        _shape(shaper, episode)


def _check_totals(factory: RewardFactory, episodes: Sequence[Episode]) -> None:
    """Where all returns are 0, rewards of turns show in the totals: there is no return that could be moved to turns.

    A shaper may take back for the game what it gives for turns, so one total of 0 proves nothing; all of them do.
    """
    shaper = _new(factory)
    trajectories = [t for episode in episodes for t in _shape(shaper, unpaid(episode)).trajectories]
    totals = [t.reward for t in trajectories if abs(sum(turn.reward for turn in t.turns)) > TOLERANCE]
    if totals and all(abs(total) <= TOLERANCE for total in totals):
        raise Violation(
            "the shaper gave rewards to turns and left the rewards of their trajectories as they were; a trajectory's "
            "reward includes those of its turns, so add their sum to it"
        )


def _check_deterministic(factory: RewardFactory, episodes: Sequence[Episode]) -> None:
    """Two shapers with one past agree, although the global generators are seeded differently for each."""
    one, two = _new(factory), _new(factory)
    with global_generators() as seed_globals:
        for number, episode in enumerate(episodes):
            seed_globals(number)
            shaped = _shape(one, episode)
            seed_globals(number + len(episodes))
            if _shape(two, episode) != shaped:
                raise Violation(
                    "two new shapers gave different rewards for the same episodes; use no chance, and share nothing "
                    "between shapers"
                )


def _check_restored(factory: RewardFactory, episodes: Sequence[Episode]) -> None:
    """A second shaper, given the state of the first, goes on as the first does.

    Into a second instance, as a resumed process does it: in the first one, everything that `state` omits would still
    be there. A shaper without `state` is compared with a new one, since a resumed run would use that.
    """
    one, two = _new(factory), _new(factory)
    half = len(episodes) // 2
    for episode in episodes[:half]:
        _shape(one, episode)
    stateful = isinstance(one, Stateful)
    if isinstance(one, Stateful):
        restore_state(two, saved_state(one))
    for episode in episodes[half:]:
        if _shape(one, episode) != _shape(two, episode):
            raise Violation(
                "a new shaper with the restored state gave other rewards; keep all that it remembers in `state`"
                if stateful
                else "the shaper remembers earlier games and has no `state`; keep what it remembers in one, so that a "
                "resumed run goes on as if it had not been stopped"
            )
