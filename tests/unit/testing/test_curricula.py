"""The checks of game samplers: good ones pass, and each deliberately wrong one is reported."""

import random
from dataclasses import replace

import pytest

from spiral.api.training import RecordsEpisodes, Stateful
from spiral.testing import check_curriculum


def assert_reported(violations, *words):
    """One of the violations has all the words."""
    assert any(all(word in text for word in words) for text in violations), violations or "no violation was reported"


class Plain:
    def __init__(self, games):
        self.names, self.weights = list(games), list(games.values())

    def choose(self, rng):
        return rng.choices(self.names, self.weights)[0]


class Learns(Plain):
    """Plays the game that the learner lost most often a little more."""

    def __init__(self, games):
        super().__init__(games)
        self.state = {game: 1 for game in games}

    def choose(self, rng):
        return rng.choices(self.names, [self.state[game] for game in self.names])[0]

    def record(self, episode):
        self.state = self.state | {episode.game: self.state[episode.game] + (min(episode.returns) < 0)}


class CannotBeMade(Plain):
    def __init__(self, games):
        raise ValueError("no games today")


class ChangesArgument(Plain):
    def __init__(self, games):
        super().__init__(games)
        games.pop("duel")


class OtherGame(Plain):
    def choose(self, rng):
        return "chess"


class Index(Plain):
    def choose(self, rng):
        return rng.randrange(len(self.names))


class GlobalGenerator(Plain):
    def choose(self, rng):
        return super().choose(random)


class Rotates(Plain):
    """Fair, and of no chance at all; but what comes next depends on how often it was asked."""

    def __init__(self, games):
        super().__init__(games)
        self.state = {"next": 0}

    def choose(self, rng):
        self.state = {"next": self.state["next"] + 1}
        return self.names[self.state["next"] % len(self.names)]


class AssumesTwoPlayers(Learns):
    """Reads the return of an opponent, also where there is none."""

    def record(self, episode):
        super().record(replace(episode, returns=(*episode.returns[:1], -episode.returns[1])))


class AssumesTurns(Learns):
    def record(self, episode):
        assert all(t.turns[-1].move is None or t.reward is not None for t in episode.trajectories)


class OmitsState(Learns):
    """Remembers in another place than `state`."""

    def __init__(self, games):
        super().__init__(games)
        self.wins, self.state = self.state, {}

    def choose(self, rng):
        return rng.choices(self.names, [self.wins[game] for game in self.names])[0]

    def record(self, episode):
        self.wins[episode.game] += min(episode.returns) < 0


class RestoresHalf(Learns):
    """Nothing that it chooses depends on it yet, but the count of games starts again."""

    def __init__(self, games):
        super().__init__(games)
        self.num_games = 0

    @property
    def state(self):
        return {**self.wins, "games": self.num_games}

    @state.setter
    def state(self, state):
        self.wins = {game: n for game, n in state.items() if game != "games"}

    def record(self, episode):
        super().record(episode)
        self.num_games += 1


class NumberKeys(Learns):
    def record(self, episode):
        self.state = self.state | {3: 1}


@pytest.mark.parametrize("sampler", [Plain, Learns])
def test_good_game_samplers_pass(sampler):
    assert check_curriculum(sampler) == []


@pytest.mark.parametrize(
    ("sampler", "words"),
    [
        (CannotBeMade, ["making the game sampler", "raised ValueError: no games today"]),
        (ChangesArgument, ["changed the games it was given", "work on a copy"]),
        (OtherGame, ["choose returned 'chess', which is no game of the run; return one of solo, duel, trio"]),
        (Index, ["which is no game of the run"]),
        (GlobalGenerator, ["for one state of rng and one past", "draw from rng alone"]),
        (Rotates, ["choose changes what is chosen later", "learn in record alone"]),
        (AssumesTwoPlayers, ["record(episode)", "raised IndexError"]),
        (AssumesTurns, ["record(episode)", "raised IndexError"]),
        (OmitsState, ["with the restored state chose", "keep all that it remembers in `state`"]),
        (RestoresHalf, ["came to another state"]),
        (NumberKeys, ["comes back from JSON as", "text keys"]),
    ],
)
def test_the_violation_of_a_game_sampler_is_reported(sampler, words):
    assert_reported(check_curriculum(sampler), *words)


def test_the_samplers_of_this_file_are_told_apart_by_their_members():
    """A sampler without `record` and one with: the Protocols tell them apart as training does."""
    assert not isinstance(Plain({"a": 1.0}), RecordsEpisodes)
    assert isinstance(Learns({"a": 1.0}), RecordsEpisodes)
    assert isinstance(Learns({"a": 1.0}), Stateful)
