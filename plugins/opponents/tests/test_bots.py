"""The bots `random` and `perfect`: perfect play against known theory, and what each refuses."""

import pickle
import random
from collections import Counter

import pytest
from spiral_games.native.kuhn_poker import KuhnPoker
from spiral_games.native.simple_negotiation import SimpleNegotiation
from spiral_games.native.tic_tac_toe import TicTacToe
from spiral_opponents.bots.minimax import PerfectBot
from spiral_opponents.bots.random_bot import RandomBot

from spiral import SpiralError


@pytest.fixture(scope="module")
def perfect():
    """One bot for the module: it remembers what it solved."""
    return PerfectBot()


class Nim:
    """Take 1 to 3 of the counters; the player who takes the last wins `prize`. Player `first` begins."""

    num_players = 2
    zero_sum = True
    perfect_information = True
    rules = "nim"

    def __init__(self, counters, first=0, prize=1.0):
        self.start, self.prize = (counters, first), prize
        self.reset(random.Random(0))

    def reset(self, rng):
        self.counters, self.mover = self.start

    def current_player(self):
        return self.mover if self.counters else None

    def observe(self, player):
        return f"nim {self.counters}"

    def legal_moves(self):
        return [str(n) for n in (1, 2, 3) if n <= self.counters]

    def play(self, move):
        self.counters -= int(move)
        self.mover = 1 - self.mover

    def returns(self):
        # The player to move next has lost.
        return [-self.prize, self.prize] if self.mover == 0 else [self.prize, -self.prize]


class Endless(Nim):
    """A game in which nothing ever happens, and every position is new."""

    def observe(self, player):
        return f"endless {self.counters}"

    def play(self, move):
        self.counters += 1
        self.mover = 1 - self.mover


class Dice(Nim):
    """A die is thrown after each move, by a generator that another object of the game's keeps."""

    def reset(self, rng):
        super().reset(rng)
        self.table, self.thrown = {"cup": [random.Random(rng.random())]}, 0

    def observe(self, player):
        return f"{super().observe(player)} {self.thrown}"

    def play(self, move):
        super().play(move)
        self.thrown = self.table["cup"][0].randrange(6)


class KeepsGenerator(Nim):
    """A generator that the game never draws from says nothing about chance."""

    def reset(self, rng):
        super().reset(rng)
        self.rng = rng


class Lacking(Nim):
    def __init__(self, **changes):
        super().__init__(3)
        for name, value in changes.items():
            setattr(self, name, value)


class FreeText(Nim):
    def legal_moves(self):
        return None


def started(game, seed=0):
    game.reset(random.Random(seed))
    return game


def match(bots, seed):
    game, rng = started(TicTacToe()), random.Random(seed)
    while (player := game.current_player()) is not None:
        game.play(bots[player].choose(game, player, rng))
    return game


def choices(bot, game, count=200):
    rng = random.Random(1)
    return Counter(bot.choose(game, game.current_player(), rng) for _ in range(count))


def test_perfect_against_perfect_always_draws(perfect):
    boards = set()
    for seed in range(300):
        game = match([perfect, perfect], seed)
        assert game.returns() == [0, 0]
        boards.add(game.observe(0))
    assert len(boards) > 10  # it varies its play


@pytest.mark.parametrize("player", [0, 1])
def test_perfect_never_loses_to_random(perfect, player):
    bots = [RandomBot(), RandomBot()]
    bots[player] = perfect
    results = Counter(match(bots, seed).returns()[player] for seed in range(300))
    assert results[-1.0] == 0
    assert results[1.0] > 150


@pytest.mark.parametrize(
    ("moves", "best"),
    [
        ("", "012345678"),  # every opening draws
        ("0", "4"),  # a corner is answered in the centre only
        ("4", "0268"),  # the centre in a corner only
        ("1", "0247"),  # an edge: beside it, in the centre, or opposite
        ("0314", "2"),  # complete the row ...
        ("041", "2"),  # ... or stop it
    ],
)
def test_perfect_picks_uniformly_among_the_best_moves(perfect, moves, best):
    game = started(TicTacToe())
    for move in moves:
        game.play(move)
    counts = choices(perfect, game, 900)
    assert set(counts) == set(best)
    for count in counts.values():
        assert count / 900 == pytest.approx(1 / len(best), abs=0.08)


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize(("counters", "best"), [(5, "1"), (6, "2"), (7, "3"), (9, "1"), (8, "123")])
def test_perfect_solves_another_game_for_either_player(first, counters, best):
    assert set(choices(PerfectBot(), Nim(counters, first))) == set(best)


def test_one_bot_keeps_games_apart():
    """Same class and observations, other rules: what was solved for one must not answer for the other."""
    bot = PerfectBot()
    misere = Nim(5, prize=-1.0)
    misere.rules = "nim, and the player who takes the last loses"
    assert set(choices(bot, Nim(5))) == {"1"}
    assert set(choices(bot, misere)) == {"1", "2", "3"}


def test_a_position_is_solved_once():
    bot = PerfectBot()
    played = Counter()

    class Counted(Nim):
        def play(self, move):
            played[self.counters] += 1
            super().play(move)

    choices(bot, Counted(9), 1)
    first = sum(played.values())
    choices(bot, Counted(9), 50)
    assert sum(played.values()) == first


@pytest.mark.parametrize("bot", [RandomBot(), PerfectBot()])
def test_bots_do_not_change_the_game(bot):
    game = started(TicTacToe())
    game.play("4")
    before = pickle.dumps(game)
    bot.choose(game, 1, random.Random(0))
    assert pickle.dumps(game) == before


@pytest.mark.parametrize(
    ("game", "reason"),
    [
        (started(KuhnPoker()), "KuhnPoker: it does not declare perfect_information"),
        (Lacking(num_players=3), "two players"),
        (Lacking(zero_sum=False), "zero_sum"),
        (Lacking(perfect_information=False), "perfect_information"),
        (FreeText(3), "legal moves"),
        (Dice(3), "chance may come during play"),
        (Endless(1), "too long"),
    ],
)
def test_perfect_names_what_a_game_lacks(game, reason):
    with pytest.raises(SpiralError, match=reason):
        PerfectBot().choose(game, 0, random.Random(0))


def test_perfect_asks_a_game_for_chance_and_does_not_inspect_it():
    """What counts is how matches go: a generator that is kept and not used keeps no game from being played."""
    assert set(choices(PerfectBot(), KeepsGenerator(5))) == {"1"}


def test_perfect_refuses_the_dice_of_textarena():
    """Their generator hides in another object than the game."""
    pytest.importorskip("textarena")
    from spiral_games.textarena.adapter import TextArenaGame

    game = started(TextArenaGame("PigDice-v0-50"))
    with pytest.raises(SpiralError, match="TextArenaGame: matches from two seeds go two ways"):
        PerfectBot().choose(game, game.current_player(), random.Random(0))


def test_perfect_gives_up_at_its_limit():
    with pytest.raises(SpiralError, match="after 100 positions"):
        PerfectBot(max_positions=100).choose(started(TicTacToe()), 0, random.Random(0))
    with pytest.raises(SpiralError, match="max_positions=0"):
        PerfectBot(max_positions=0)


def test_random_is_uniform_over_legal_moves():
    game = started(TicTacToe())
    game.play("4")
    counts = choices(RandomBot(), game, 4000)
    assert sorted(counts) == list("01235678")
    assert all(count / 4000 == pytest.approx(1 / 8, abs=0.03) for count in counts.values())


def test_random_samples_free_text_or_says_why_not():
    game = started(SimpleNegotiation())
    game.play(RandomBot().choose(game, 0, random.Random(0)))
    assert game.current_player() == 1
    with pytest.raises(SpiralError, match="no sample_move"):
        RandomBot().choose(FreeText(3), 0, random.Random(0))


def test_random_leaves_a_game_that_finds_no_move_its_own_fault():
    """Such a match is voided and the run goes on; a game without `sample_move` would fail in every match."""

    class Stuck(Nim):
        def legal_moves(self):
            return None

        def sample_move(self, rng):
            raise ValueError("no legal move was found")

    with pytest.raises(ValueError, match="no legal move was found"):
        RandomBot().choose(Stuck(3), 0, random.Random(0))


def test_the_perfect_bot_names_a_game_whose_text_does_not_tell_what_is_legal():
    """Right after 0, 1, 2 square 3 is forbidden, after 2, 1, 0 it is not, and the board shows the same: a superko rule."""

    class Ko(TicTacToe):
        def reset(self, rng):
            super().reset(rng)
            self.made = []

        def legal_moves(self):
            return [move for move in super().legal_moves() if move != "3" or self.made != ["0", "1", "2"]]

        def play(self, move):
            super().play(move)
            self.made.append(move)

    games = {way: Ko() for way in ("01286", "21086")}
    for way, game in games.items():
        game.reset(random.Random(0))
        for move in way[:3]:
            game.play(move)
    bot = PerfectBot()
    bot.choose(games["01286"], 1, random.Random(0))
    with pytest.raises(SpiralError, match="perfect cannot play Ko: it declares perfect_information.*spiral check"):
        bot.choose(games["21086"], 1, random.Random(0))
