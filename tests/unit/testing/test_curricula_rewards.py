"""The kit for game samplers and reward shapers: good ones pass, and each deliberately broken one is caught."""

import random
from dataclasses import replace

import pytest

from spiral.api.records import LEARNER
from spiral.api.training import RecordsEpisodes, Stateful
from spiral.plugins.registry import Plugins
from spiral.testing import CHECKED_KINDS, check, check_curriculum, check_reward
from spiral.testing.episodes import CHAIRS, random_episode, unpaid


def caught(found, *words):
    """Whether one sentence has all the words."""
    assert any(all(word in sentence for word in words) for sentence in found), found or "nothing was found"


# The made-up episodes.


def test_episodes_are_what_rollouts_give():
    """One trajectory a player with the turns that `players` tells, rewards that include those of turns, an offender
    only if its last turn was illegal; and every kind that the kit promises to try comes up."""
    rng, kinds = random.Random(0), set()
    for _ in range(200):
        for game, num in CHAIRS.items():
            e = random_episode(rng, game)
            assert len(e.policies) == len(e.returns) == len(e.trajectories) == num
            assert LEARNER in e.policies
            for player, t in enumerate(e.trajectories):
                assert (t.game, t.player, t.policy, t.deal) == (game, player, e.policies[player], e.deal)
                assert len(t.turns) == e.players.count(player)
                assert t.reward == pytest.approx(e.returns[player] + sum(turn.reward for turn in t.turns))
                kinds |= {("turns", len(t.turns)), ("seat", t.policy)}
                kinds |= {("turn", turn.move is None, turn.legal, bool(turn.reply)) for turn in t.turns}
            assert (e.ending == "illegal") == (e.offender is not None)
            if e.offender is not None:
                assert (e.players[-1], e.trajectories[e.offender].turns[-1].legal) == (e.offender, False)
            kinds |= {("ending", e.ending), ("mirror", num > 1 and set(e.policies) == {LEARNER})}
            kinds |= {("sum", sum(e.returns) == 0), ("shaped", any(u.reward for t in e.trajectories for u in t.turns))}
            assert all(t.reward == 0 for t in unpaid(e).trajectories)
    expected = {("turns", n) for n in range(4)} | {("seat", s) for s in (LEARNER, "bot:random", "snapshot:10")}
    expected |= {("turn", False, True, True), ("turn", True, False, True), ("turn", False, False, True)}
    expected |= {("turn", False, True, False), ("ending", "finished"), ("ending", "illegal")}
    expected |= {(what, value) for what in ("mirror", "sum", "shaped") for value in (True, False)}
    assert expected <= kinds


# Game samplers.


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


class Crashes(Plain):
    def __init__(self, games):
        raise ValueError("no games today")


class Grabs(Plain):
    def __init__(self, games):
        super().__init__(games)
        games.pop("duel")


class Elsewhere(Plain):
    def choose(self, rng):
        return "chess"


class Index(Plain):
    def choose(self, rng):
        return rng.randrange(len(self.names))


class GlobalDice(Plain):
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


class Duellist(Learns):
    """Takes it that there is an opponent."""

    def record(self, episode):
        super().record(replace(episode, returns=(*episode.returns[:1], -episode.returns[1])))


class NeedsTurns(Learns):
    def record(self, episode):
        assert all(t.turns[-1].move is None or t.reward is not None for t in episode.trajectories)


class Forgets(Learns):
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
        (Crashes, ["making the game sampler", "raised ValueError: no games today"]),
        (Grabs, ["changed the games it was given", "work on a copy"]),
        (Elsewhere, ["choose gave 'chess', which is none of the run's games: solo, duel, trio"]),
        (Index, ["which is none of the run's games"]),
        (GlobalDice, ["for one state of rng and one past", "draw from rng alone"]),
        (Rotates, ["choose changes what is chosen later", "learn in record alone"]),
        (Duellist, ["record(episode)", "raised IndexError"]),
        (NeedsTurns, ["record(episode)", "raised IndexError"]),
        (Forgets, ["its state restored, chose", "keep all that it remembers in `state`"]),
        (RestoresHalf, ["came to another state"]),
        (NumberKeys, ["comes back from JSON as", "text keys"]),
    ],
)
def test_a_broken_game_sampler_is_caught(sampler, words):
    caught(check_curriculum(sampler), *words)


def test_the_fakes_of_the_kit_are_what_they_claim():
    """A sampler without `record` and one with: the Protocols tell them apart as training does."""
    assert not isinstance(Plain({"a": 1.0}), RecordsEpisodes)
    assert isinstance(Learns({"a": 1.0}), RecordsEpisodes)
    assert isinstance(Learns({"a": 1.0}), Stateful)


# Reward shapers.


def rewarded(episode, amounts):
    """`amounts[i]` added to the reward of player i."""
    pairs = zip(episode.trajectories, amounts, strict=True)
    return replace(episode, trajectories=tuple(replace(t, reward=t.reward + x) for t, x in pairs))


def per_turn(episode, amount, total=True):
    """`amount` for every turn, and their sum for the trajectory if `total`."""
    return replace(
        episode,
        trajectories=tuple(
            replace(
                t,
                reward=t.reward + (amount * len(t.turns) if total else 0.0),
                turns=tuple(replace(turn, reward=turn.reward + amount) for turn in t.turns),
            )
            for t in episode.trajectories
        ),
    )


def nothing(episode):
    return episode


def winner_takes_more(episode):
    return rewarded(episode, [r for r in episode.returns])


def pays_turns(episode):
    return per_turn(episode, 0.25)


def moves_the_return_to_turns(episode):
    """The total is as it was; what stood for the game now stands at the turns, as much at each."""
    moved = []
    for t in episode.trajectories:
        left = t.reward - sum(turn.reward for turn in t.turns)
        turns = tuple(replace(turn, reward=turn.reward + left / len(t.turns)) for turn in t.turns)
        moved.append(replace(t, turns=turns))
    return replace(episode, trajectories=tuple(moved))


def centred_bonus(episode):
    """A bonus for turns, less the mean over the players, so that the sum stays."""
    mean = 0.25 * len(episode.players) / len(episode.returns)
    return rewarded(per_turn(episode, 0.25), [-mean] * len(episode.returns))


class RunningMean:
    """Takes the mean of the first player's returns so far from everybody; keeps it in its state."""

    def __init__(self):
        self.state = {"sum": 0.0, "num": 0}

    def __call__(self, episode):
        total, num = self.state["sum"] + episode.returns[0], self.state["num"] + 1
        self.state = {"sum": total, "num": num}
        return rewarded(episode, [-total / num] * len(episode.returns))


class KeepsNothing(RunningMean):
    """Remembers, and saves nothing."""

    def __init__(self):
        self.seen = []

    def __call__(self, episode):
        self.seen.append(episode.returns[0])
        return rewarded(episode, [-sum(self.seen)] * len(episode.returns))


class SavesLess(KeepsNothing):
    def __init__(self):
        super().__init__()
        self.state = {}


class SavesNan(RunningMean):
    def __init__(self):
        self.state = {"mean": float("nan")}

    def __call__(self, episode):
        return episode


def crashes(episode):
    return rewarded(episode, [t.turns[-1].reward for t in episode.trajectories])


def gives_numbers(episode):
    return [t.reward for t in episode.trajectories]


def changes_returns(episode):
    return replace(episode, returns=tuple(2 * r for r in episode.returns))


def drops_bots(episode):
    return replace(episode, trajectories=tuple(t for t in episode.trajectories if t.policy == LEARNER))


def reverses(episode):
    return replace(episode, trajectories=episode.trajectories[::-1])


def drops_illegal_turns(episode):
    kept = [replace(t, turns=tuple(turn for turn in t.turns if turn.legal)) for t in episode.trajectories]
    return replace(episode, trajectories=tuple(kept))


def mends_moves(episode):
    mended = [replace(t, turns=tuple(replace(turn, legal=True) for turn in t.turns)) for t in episode.trajectories]
    return replace(episode, trajectories=tuple(mended))


def not_finite(episode):
    return rewarded(episode, [float("inf")] * len(episode.returns))


def not_finite_turns(episode):
    return per_turn(episode, float("nan"), total=False)


def in_place(episode):
    for t in episode.trajectories:
        object.__setattr__(t, "reward", t.reward + 1)
    return episode


def noisy(episode):
    return rewarded(episode, [random.random() for _ in episode.returns])


def forgets_the_total(episode):
    return per_turn(episode, 0.25, total=False)


@pytest.mark.parametrize(
    "factory",
    [lambda: nothing, lambda: winner_takes_more, lambda: pays_turns, lambda: centred_bonus, RunningMean],
)
def test_good_shapers_pass(factory):
    assert check_reward(factory) == []


def test_a_shaper_may_move_the_return_to_the_turns():
    """The total is as it was, as with one that forgets it; the kit tells them apart where nothing is at stake."""
    assert check_reward(lambda: moves_the_return_to_turns) == []


@pytest.mark.parametrize(
    ("factory", "words"),
    [
        (lambda: crashes, ["the shaper, called with a game of", "raised IndexError"]),
        (lambda: gives_numbers, ["not an Episode"]),
        (lambda: changes_returns, ["the shaper changed Episode.returns", "Trajectory.reward and Turn.reward only"]),
        (lambda: drops_bots, ["the shaper gave 1 trajectories for", "one a player"]),
        (lambda: reverses, ["the shaper changed Trajectory.player from 0 to 1"]),
        (lambda: drops_illegal_turns, ["turns where", "keep them all"]),
        (lambda: mends_moves, ["the shaper changed Turn.legal from False to True"]),
        (lambda: not_finite, ["set a Trajectory.reward to inf", "finite floats"]),
        (lambda: not_finite_turns, ["set a Turn.reward to nan"]),
        (lambda: in_place, ["changed the episode it was given", "dataclasses.replace"]),
        (lambda: noisy, ["use no chance"]),
        (lambda: forgets_the_total, ["left the rewards of their trajectories as they were", "add their sum"]),
        (KeepsNothing, ["has no `state`", "as if it had not been stopped"]),
        (SavesLess, ["its state restored, gave other rewards"]),
        (SavesNan, ["which JSON cannot hold"]),
    ],
)
def test_a_broken_shaper_is_caught(factory, words):
    caught(check_reward(factory), *words)


# By kind and name.


def test_check_finds_the_kit_of_both_kinds():
    class Both:
        from spiral import hookimpl

        @hookimpl
        def register_curricula(self, register):
            register("elsewhere", Elsewhere)
            register("learns", Learns)

        @hookimpl
        def register_rewards(self, register):
            register("forgetful", lambda: forgets_the_total)
            register("paying", lambda: pays_turns)

    plugins = Plugins()
    plugins.add(Both(), "acme")
    assert {"curriculum", "reward"} <= set(CHECKED_KINDS)
    assert check(plugins, "curriculum", "learns") == check(plugins, "reward", "paying") == []
    caught(check(plugins, "curriculum", "elsewhere"), "none of the run's games")
    caught(check(plugins, "reward", "forgetful"), "add their sum")
