"""The promises of a reward shaper."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from functools import partial
from typing import Any

from spiral.api.records import Episode, Trajectory, Turn
from spiral.api.training import RewardShaper, Stateful
from spiral.testing.episodes import CHAIRS, random_episode, unpaid
from spiral.testing.state import restore, saved
from spiral.testing.violations import Broken, doing, findings, global_chance, is_finite, short

RewardFactory = Callable[[], RewardShaper]

NUM_EPISODES = 60
TOLERANCE = 1e-9
"""Rounding, and nothing else."""


def check_reward(factory: RewardFactory, *, seed: int = 0) -> list[str]:
    """Every promise of `spiral.api.training.RewardShaper` that `factory()` breaks, a sentence each.

    - It gives an Episode for every finished game: for one to three players, with illegal turns or no turn at all,
      with bots, and with what earlier shapers paid.
    - It changes `Trajectory.reward` and `Turn.reward` and nothing else. `Episode.returns` stays the game's word, which
      ratings, metrics and curricula read; there is one trajectory a player, in the same order, with the same turns.
    - The numbers are finite.
    - A trajectory's reward includes what its turns were given: it is the old reward, and the new rewards of turns,
      and whatever else the shaper pays for the game.
    - The episode that it is given stays as it is, and equal pasts give equal rewards.
    - What it remembers is its `state`: JSON, and enough to go on exactly after a resume.

    Whether the players' rewards still add up to 0 is not asked: say it in the docstring. Deterministic in `seed`.
    """
    rng = random.Random(seed)
    episodes = [random_episode(rng, game) for _ in range(NUM_EPISODES // len(CHAIRS)) for game in CHAIRS]
    return findings(
        [partial(_one_after_another, factory, episodes)],
        [partial(_includes_turns, factory, episodes), partial(_same_again, factory, episodes)],
        [partial(_restored, factory, episodes)],
    )


def _made(factory: RewardFactory) -> RewardShaper:
    with doing("making the shaper"):
        return factory()


def _shaped(shaper: RewardShaper, episode: Episode) -> Episode:
    """The shaped episode. Raises Broken for anything that is changed besides rewards."""
    before = copy.deepcopy(episode)
    with doing(f"the shaper, called with a game of {len(episode.returns)} players,"):
        shaped: Any = shaper(episode)
    if episode != before:
        raise Broken("the shaper changed the episode it was given; make a new one with dataclasses.replace")
    if not isinstance(shaped, Episode):
        raise Broken(f"the shaper gave {short(shaped)}, not an Episode")
    _same_but("Episode", "trajectories", episode, shaped)
    if len(shaped.trajectories) != len(episode.trajectories):
        raise Broken(
            f"the shaper gave {len(shaped.trajectories)} trajectories for {len(episode.trajectories)} players; give "
            "one a player, in the order of the chairs"
        )
    for old, new in zip(episode.trajectories, shaped.trajectories, strict=True):
        _check_trajectory(old, new)
    return shaped


def _check_trajectory(old: Trajectory, new: Trajectory) -> None:
    _same_but("Trajectory", "reward", replace(old, turns=()), replace(new, turns=()))
    if len(old.turns) != len(new.turns):
        raise Broken(f"the shaper gave {len(new.turns)} turns where {len(old.turns)} were played; keep them all")
    for before, after in zip(old.turns, new.turns, strict=True):
        _same_but("Turn", "reward", before, after)
    for what, number in [("Trajectory", new.reward), *(("Turn", turn.reward) for turn in new.turns)]:
        if not is_finite(number):
            raise Broken(f"the shaper set a {what}.reward to {short(number)}, and must give finite floats")


def _same_but(what: str, free: str, old: Episode | Trajectory | Turn, new: Episode | Trajectory | Turn) -> None:
    for field in fields(old):
        before, after = getattr(old, field.name), getattr(new, field.name)
        if field.name != free and before != after:
            raise Broken(
                f"the shaper changed {what}.{field.name} from {short(before)} to {short(after)}; change "
                "Trajectory.reward and Turn.reward only"
            )


def _one_after_another(factory: RewardFactory, episodes: Sequence[Episode]) -> None:
    shaper = _made(factory)
    for episode in episodes:
        _shaped(shaper, episode)


def _includes_turns(factory: RewardFactory, episodes: Sequence[Episode]) -> None:
    """Where nothing is at stake, turns that are paid show in the total: there is nothing that could be moved to them.

    A shaper may take back for the game what it gives for turns, so one total of 0 proves nothing; all of them do.
    """
    shaper = _made(factory)
    found = [t for episode in episodes for t in _shaped(shaper, unpaid(episode)).trajectories]
    totals = [t.reward for t in found if abs(sum(turn.reward for turn in t.turns)) > TOLERANCE]
    if totals and all(abs(total) <= TOLERANCE for total in totals):
        raise Broken(
            "the shaper gave rewards to turns and left the rewards of their trajectories as they were; a trajectory's "
            "reward includes those of its turns, so add their sum to it"
        )


def _same_again(factory: RewardFactory, episodes: Sequence[Episode]) -> None:
    """Two shapers with one past agree, whatever the global generators say."""
    one, two = _made(factory), _made(factory)
    with global_chance() as chance:
        for number, episode in enumerate(episodes):
            chance(number)
            first = _shaped(one, episode)
            chance(number + len(episodes))
            if _shaped(two, episode) != first:
                raise Broken(
                    "two new shapers gave different rewards for the same episodes; use no chance, and share nothing "
                    "between shapers"
                )


def _restored(factory: RewardFactory, episodes: Sequence[Episode]) -> None:
    """A shaper whose state is restored goes on as the one it was saved from."""
    one, two = _made(factory), _made(factory)
    half = len(episodes) // 2
    for episode in episodes[:half]:
        _shaped(one, episode)
    stateful = isinstance(one, Stateful)
    if isinstance(one, Stateful):
        restore(two, saved(one))
    for episode in episodes[half:]:
        if _shaped(one, episode) != _shaped(two, episode):
            raise Broken(
                "a shaper made anew, its state restored, gave other rewards; keep all that it remembers in `state`"
                if stateful
                else "the shaper remembers earlier games and has no `state`; keep what it remembers in one, so that a "
                "resumed run goes on as if it had not been stopped"
            )
