"""A bot may decline a match, which another line-up plays then, and may hear how its matches ended."""

import pytest

from spiral.api.errors import RunError
from spiral.api.policies import Declined, Unavailable
from spiral.api.records import LEARNER
from spiral.selfplay import play as module
from tests.unit.selfplay.test_rollouts import rollouts


class Shy:
    """Plays `takes` matches, and declines all others; remembers what it hears."""

    external, max_concurrent = True, 4

    def __init__(self, takes=0, leaves=0):
        self.takes, self.leaves = takes, leaves
        self.games, self.ends = [], []

    def choose(self, game, player, rng):
        if not any(game is known for known in self.games):
            if len(self.games) >= self.takes:
                raise Declined("no person")
            self.games.append(game)
        if self.leaves:
            self.leaves -= 1
            raise Unavailable("left")
        return "b"

    def match_over(self, game, episode):
        if any(game is known for known in self.games):
            self.ends.append((game, episode))


class Often:
    """Names the shy bot in most line-ups, and the learner alone in the others."""

    def seat(self, game, num_players, pool, rng):
        return [LEARNER, "bot:shy" if rng.random() < 0.7 else LEARNER]


class AtFirst:
    """Names the shy bot in the first line-up alone."""

    num_drawn = 0

    def seat(self, game, num_players, pool, rng):
        self.num_drawn += 1
        return [LEARNER, "bot:shy" if self.num_drawn == 1 else LEARNER]


def test_a_match_that_is_declined_is_played_by_others():
    """It is not voided, whatever `max_voided` is, and the number of games is kept."""
    ready = rollouts(sampler=Often(), bots={"bot:shy": Shy()}, max_voided=0)
    episodes = ready.play(20, (0, "declined"))
    assert len(episodes) == 20
    assert {policy for e in episodes for policy in e.policies} == {LEARNER}
    assert ready.voided == []


def test_what_a_bot_takes_it_plays():
    """Two of the matches, and their results are those of any other game."""
    shy = Shy(takes=2)
    episodes = rollouts(sampler=Often(), bots={"bot:shy": shy}).play(20, (0, "declined"))
    taken = [e for e in episodes if "bot:shy" in e.policies]
    assert len(taken) == 2
    assert all(e.returns == (-1.0, 1.0) and e.ending == "finished" for e in taken)
    assert all(t.legal for e in taken for t in e.trajectories[1].turns)


def test_a_bot_hears_how_each_of_its_matches_ended():
    """With the episode; with None where the match was voided."""
    shy = Shy(takes=3, leaves=1)
    ready = rollouts(sampler=Often(), bots={"bot:shy": shy})
    episodes = ready.play(20, (0, "declined"))
    assert len(ready.voided) == 1
    assert len(shy.ends) == 3
    heard = [episode for _, episode in shy.ends]
    assert heard.count(None) == 1
    taken = [e for e in episodes if "bot:shy" in e.policies]
    assert len(taken) == 2
    assert all(any(episode is e for episode in heard) for e in taken)
    assert all(game.current_player() is None for game, episode in shy.ends if episode is not None)


def test_a_group_is_declined_as_a_whole():
    """Its matches share a line-up: one that was taken ends, and its bot hears that it counts for no player."""
    shy = Shy(takes=1)
    episodes = rollouts(sampler=AtFirst(), bots={"bot:shy": shy}, group_size=2).play(2, (0, "declined"))
    assert {policy for e in episodes for policy in e.policies} == {LEARNER}
    assert [episode for _, episode in shy.ends] == [None]


def test_where_no_other_line_up_comes_the_run_stops_and_says_so(monkeypatch):
    """A sampler that names one opponent alone would be asked for ever."""
    monkeypatch.setattr(module, "MAX_REDRAWN", 5)
    with pytest.raises(RunError, match=r"3 games of one step had to be voided.*no person"):
        rollouts(seats=[LEARNER, "bot:shy"], bots={"bot:shy": Shy()}, max_voided=2).play(1, (0, "declined"))


def test_what_a_bot_raises_as_it_hears_of_an_end_costs_no_game(caplog):
    """It is told on the terminal."""

    class Broken(Shy):
        def match_over(self, game, episode):
            raise ValueError("not now")

    episodes = rollouts(seats=[LEARNER, "bot:shy"], bots={"bot:shy": Broken(takes=9)}).play(2, (0, "declined"))
    assert len(episodes) == 2
    assert "bot:shy raised ValueError in match_over: not now" in caplog.text
