"""The checks of games: good ones pass, and each deliberately wrong one is reported by the violation that names it."""

import itertools
import random
import warnings

import pytest

from spiral import IllegalMove
from spiral.testing import Notice, check_game
from spiral.testing.information import check_leaks


class Cards:
    """Two of four cards are dealt; each player says stay or raise, twice; the higher card wins 1 and 1 a raise."""

    num_players = 2
    rules = "The higher card wins."
    zero_sum = True
    worst_return = -5.0

    def reset(self, rng):
        self.deal, self.moves_made = tuple(rng.sample(range(4), 2)), []

    def current_player(self):
        return None if len(self.moves_made) == 4 else len(self.moves_made) % 2

    def observe(self, player):
        return f"p{player} card {self.deal[player]} {' '.join(self.moves_made)}"

    def legal_moves(self):
        return ["stay", "raise"] if len(self.moves_made) < 4 else []

    def play(self, move):
        if move not in self.legal_moves():
            raise IllegalMove("say stay or raise")
        self.moves_made.append(move)

    def returns(self):
        stake = 1 + self.moves_made.count("raise")
        return [float(stake), float(-stake)] if self.deal[0] > self.deal[1] else [float(-stake), float(stake)]


class Listed(Cards):
    """The same, with its deals listed."""

    def deals(self):
        return [(1 / 12, deal) for deal in itertools.permutations(range(4), 2)]

    def reset(self, rng):
        self.reset_to(tuple(rng.sample(range(4), 2)))

    def reset_to(self, deal):
        self.deal, self.moves_made = deal, []


class Redrawn(Cards):
    def resample(self, player, rng):
        own = self.deal[player]
        other = rng.choice([card for card in range(4) if card != own])
        self.deal = (own, other) if player == 0 else (other, own)


class Race:
    """Public dice during play: throw or wait in turn, five times each; the higher sum wins."""

    num_players = 2
    rules = ""
    zero_sum = perfect_information = True

    def reset(self, rng):
        self.rng, self.sums, self.moves = rng, [0, 0], 0

    def current_player(self):
        return None if self.moves == 10 else self.moves % 2

    def observe(self, player):
        return f"move {self.moves}, you p{player}, sums {self.sums}"

    def legal_moves(self):
        return [] if self.moves == 10 else ["throw", "wait"]

    def play(self, move):
        if move not in self.legal_moves():
            raise IllegalMove("throw or wait")
        if move == "throw":
            self.sums[self.moves % 2] += self.rng.randint(1, 6)
        self.moves += 1

    def returns(self):
        sign = (self.sums[0] > self.sums[1]) - (self.sums[0] < self.sums[1])
        return [float(sign), float(-sign)]


class Guess:
    """One secret, one guesser: player 0 gives hints about a number in a range that both know."""

    num_players = 2
    rules = ""

    def reset(self, rng):
        self.low = rng.choice([0, 10, 20])
        self.number, self.moves_made = self.low + rng.randrange(3), []

    def current_player(self):
        return None if len(self.moves_made) == 4 else len(self.moves_made) % 2

    def observe(self, player):
        secret = f" secret {self.number}" if player == 0 else ""
        return f"p{player} from {self.low}{secret}: {self.moves_made}"

    def legal_moves(self):
        return None

    def sample_move(self, rng):
        return str(rng.randrange(30))

    def play(self, move):
        if self.current_player() is None or not move.isdecimal() or len(move) > 2:
            raise IllegalMove("say a number")
        self.moves_made.append(int(move))

    def returns(self):
        won = float(self.number in self.moves_made)
        return [won, won]

    def resample(self, player, rng):
        if player == 1:
            self.number = self.low + rng.randrange(3)


class Solitaire(Cards):
    """One player, and no other to hide anything from."""

    num_players = 1
    zero_sum = False

    def current_player(self):
        return None if len(self.moves_made) == 4 else 0

    def returns(self):
        return [float(self.deal[0])]


class Judging(Cards):
    """A match that is cut belongs to the higher card."""

    def judge(self):
        return [1.0, -1.0] if self.deal[0] > self.deal[1] else [-1.0, 1.0]


class NamesStates(Cards):
    """Says what all players have seen without asking each."""

    def joint_state(self):
        return f"{self.deal} {self.moves_made}"


class Tells(Cards):
    """Keeps what players are told as messages."""

    def messages(self, player):
        said = [(n % 2, move, "ACTION") for n, move in enumerate(self.moves_made)]
        return [(-1, f"card {self.deal[player]}", "PROMPT"), *said]


class TellsRedrawn(Tells, Redrawn):
    """The same, tested exactly."""


class HasMessages(Cards):
    """A setting of that name is no method."""

    messages = 5


@pytest.mark.parametrize(
    "game", [Cards, Listed, Redrawn, Tells, TellsRedrawn, HasMessages, Race, Guess, Solitaire, Judging, NamesStates]
)
def test_good_games_pass(game):
    assert check_game(game) == []
    assert check_game(game, num_matches=7, seed=123) == []


# From here on: games with one violation each, and words of the text that names it.

VIOLATING = []


def violates(*words, base=Listed):
    """Register a class's wrong members over a good game."""

    def add(cls):
        # At module level under its own name, so that pickling works and only the intended violation remains.
        made = type(cls.__name__, (cls, base), {"__module__": __name__})
        globals()[cls.__name__] = made
        VIOLATING.append((made, words))
        return made

    return add


@violates("has no method returns")
class NoReturns:
    returns = None


@violates("num_players is 0", "1 or more")
class NoPlayers:
    num_players = 0


@violates("rules is None", "make it a str")
class NoRules:
    rules = None


@violates("zero_sum is 'yes'", "True or False")
class FlagOfText:
    zero_sum = "yes"


@violates("worst_return is nan")
class WorstIsNan:
    worst_return = float("nan")


@violates("making the game raised ZeroDivisionError")
class CannotBeMade:
    def __init__(self):
        1 / 0  # noqa: B018


@violates("observe(0) is b'p0", "return a str")
class Bytes:
    def observe(self, player):
        return super().observe(player).encode()


@violates("observe(0) (seed 0, after 4 moves", "raised IndexError")
class RaisesAtTheEnd:
    def observe(self, player):
        return super().observe(player) + str([1, 2, 3, 4][len(self.moves_made)])


@violates("current_player() is 2", "return a player from 0 to 1")
class PlayerTwo:
    def current_player(self):
        return 2 if len(self.moves_made) == 3 else super().current_player()


@violates("legal_moves() is empty while the match is on")
class NoMoves:
    def legal_moves(self):
        return [] if len(self.moves_made) == 2 else super().legal_moves()


@violates("lists a move twice", "list each move once")
class Twice:
    def legal_moves(self):
        return super().legal_moves() * 2


@violates("legal_moves() is (1, 2)", "return a list of str, or None")
class Numbers:
    def legal_moves(self):
        return (1, 2)


@violates("when the match is over; return []")
class ListsForever:
    def legal_moves(self):
        return ["stay", "raise"]


@violates("returned 'raise'", "let it return None")
class PlayReturns:
    def play(self, move):
        super().play(move)
        return move


@violates("legal_moves() lists 'bluff' and play refuses it (say stay or raise)")
class ListedRefused:
    def legal_moves(self):
        return [*super().legal_moves(), "bluff"] if len(self.moves_made) < 4 else []

    def play(self, move):
        if move == "bluff":
            raise IllegalMove("say stay or raise")
        super().play(move)


@violates("never ends", "10,000 moves", "changed no observation")
class Endless:
    def play(self, move):
        pass


@violates("return a list with one number for each of the 2 players")
class OneReturn:
    def returns(self):
        return super().returns()[:1]


@violates("return finite floats")
class Infinite:
    def returns(self):
        return [float("inf"), float("-inf")]


@violates("zero_sum is declared", "add up to 1")
class NotZeroSum:
    def returns(self):
        return [amount + 0.5 for amount in super().returns()]


@violates("below worst_return (-1)", "lowest return possible")
class WorseThanDeclared:
    worst_return = -1.0


@violates("chance comes from a global random generator")
class GlobalGenerator:
    def reset(self, rng):
        self.reset_to(tuple(random.sample(range(4), 2)))


@violates("chance comes from a global random generator")
class GlobalGeneratorLate:
    def play(self, move):
        super().play(move)
        if len(self.moves_made) == 3 and random.random() < 0.05:
            self.deal = self.deal[::-1]


@violates("the same seed gave two different matches")
class Entropy:
    TIMES = itertools.count()  # stands for the clock or the system's entropy, and makes this test repeatable

    def reset(self, rng):
        super().reset(random.Random(next(self.TIMES)))


@violates("two matches at once disturb each other", "share nothing between instances")
class SharedBetweenInstances:
    MOVES = []  # noqa: RUF012

    def reset(self, rng):
        super().reset(rng)
        self.moves_made = self.MOVES
        self.moves_made.clear()


@violates("reset on a used game is not a fresh match")
class ResetsHalf:
    num_matches = 0

    def reset(self, rng):
        super().reset(rng)
        self.num_matches += 1

    def observe(self, player):
        return super().observe(player) + " again" * (self.num_matches > 1)


@violates("a deep copy is not a match of its own")
class CopiesShareMoves:
    def __deepcopy__(self, memo):
        other = type(self)()
        other.deal, other.moves_made = self.deal, self.moves_made
        return other


@violates("copy.deepcopy(game)", "raised TypeError")
class Uncopyable:
    def __deepcopy__(self, memo):
        raise TypeError("no")


@violates("pickling and unpickling the game", "raised")
class Unpicklable:
    def reset(self, rng):
        super().reset(rng)
        self.draw = lambda: rng

    def __deepcopy__(self, memo):
        other = type(self)()
        other.deal, other.moves_made = self.deal, list(self.moves_made)
        return other


@violates("does not go on alike after pickling")
class PicklesHalf:
    def __reduce__(self):
        other = (type(self), (), {"deal": (0, 1), "moves_made": list(self.moves_made)})
        return other

    def __deepcopy__(self, memo):
        other = type(self)()
        other.deal, other.moves_made = self.deal, list(self.moves_made)
        return other


@violates("observe() changes the match")
class CountsLooks:
    looks = 0

    def observe(self, player):
        self.looks += 1
        return super().observe(player)

    def returns(self):
        return super().returns() if self.looks < 15 else [0.0, 0.0]

    def reset_to(self, deal):
        super().reset_to(deal)
        self.looks = 0


@violates("legal_moves() changes the match", base=Race)
class DrawsToList:
    def legal_moves(self):
        moves = super().legal_moves()
        self.rng.shuffle(moves)
        return moves


@violates("raised KeyError", "raises IllegalMove(reason) and nothing else")
class KeyErrors:
    def play(self, move):
        {"stay": 0, "raise": 1}[move]
        super().play(move)


@violates("play('²') raised ValueError", "raises IllegalMove(reason)")
class ParsesDigits:
    def play(self, move):
        if move.isdigit():
            int(move)
        super().play(move)


@violates("play('-1') was accepted and legal_moves() does not list it")
class IndexFromTheEnd:
    def play(self, move):
        super().play("raise" if move == "-1" else move)


@violates("was accepted after the match was over")
class PlaysOn:
    def play(self, move):
        if len(self.moves_made) < 4:
            super().play(move)


@violates("a refused move changes the match")
class AssignsFirst:
    def play(self, move):
        self.moves_made.append(move)
        if move not in ("stay", "raise") or len(self.moves_made) > 4:
            if len(self.moves_made) != 3:
                self.moves_made.pop()
            raise IllegalMove("say stay or raise")


@violates("moves are free text, and there is no sample_move")
class NoSampler:
    def legal_moves(self):
        return None


@violates("sample_move(rng) returned 'hum' and play refuses it")
class SamplesNonsense(NoSampler):
    def sample_move(self, rng):
        return rng.choice(["stay", "hum"])

    def play(self, move):
        if move == "hum":
            raise IllegalMove("do not hum")
        self.moves_made.append(move)


@violates("deals() add up to 0.5")
class HalfTheDeals:
    def deals(self):
        return super().deals()[:6]


@violates("a probability above 0")
class ImpossibleDeal:
    def deals(self):
        return [*super().deals(), (0.0, (0, 0))]


@violates("a start that no deal of deals() gives")
class UnlistedDeals:
    def deals(self):
        return [(1 / 6, deal) for _, deal in super().deals()[:6]]


@violates("make the two agree", "the probability")
class LoadedDeals:
    def deals(self):
        return [(1 / 4 if i < 3 else 1 / 36, deal) for i, (_, deal) in enumerate(super().deals())]


@violates("after reset_to(deal) a match is not a function of the moves alone")
class ChanceAfterTheDeal:
    rng = random.Random(0)

    def reset(self, rng):
        super().reset(rng)
        self.rng = rng

    def play(self, move):
        super().play(move)
        if len(self.moves_made) == 4 and self.rng.random() < 0.5:
            self.deal = self.deal[::-1]


@violates("perfect_information is declared", "two different matches")
class FalselyPerfect:
    perfect_information = True


@violates("perfect_information is declared", "two different matches", base=Race)
class RemembersTheOrder:
    """Chance-free and not listed. Who threw first and then waited wins at the end, and the sums do not tell."""

    def reset(self, rng):
        super().reset(rng)
        self.early = False

    def play(self, move):
        if move not in self.legal_moves():
            raise IllegalMove("throw or wait")
        self.moves += 1
        if move == "throw":
            self.sums[1 - self.moves % 2] += 1
            self.early = self.early or self.moves == 1

    def returns(self):
        return [2.0 * self.early - 1, 1 - 2.0 * self.early]


@violates("does not tell who is to move", base=Race)
class HidesThePlayer:
    def observe(self, player):
        return f"sums {self.sums}"


@violates("hides what is legal")
class HiddenRule:
    def legal_moves(self):
        return ["stay"] if sum(self.deal) % 2 and len(self.moves_made) < 4 else super().legal_moves()


@violates("observe(0) leaks what player 1 sees", "declare perfect_information = True if nothing is hidden")
class OpenCards:
    perfect_information = False

    def observe(self, player):
        return f"{super().observe(player)} all {self.deal}"


@violates("observe(1) leaks what player 0 sees", "add resample(player, rng)")
class OneSeesBoth:
    perfect_information = False

    def observe(self, player):
        return super().observe(player) + (f" all {self.deal}" if player else "")


@violates("observe(1) leaks what player 0 sees", "in 200 deals", base=Cards)
class UnlistedLeak:
    perfect_information = False

    def observe(self, player):
        return super().observe(player) + (f" all {self.deal}" if player else "")


@violates("messages(0) leaks what player 1 sees", "in 200 deals, messages(0) always gave away observe(1)", base=Tells)
class TellsTheOthersCard:
    perfect_information = False

    def messages(self, player):
        # As a game whose observation hides what its messages to all players hold.
        return [(-1, f"cards {self.deal}", "PROMPT")] if player == 0 else Tells.messages(self, player)


@violates("messages(0) leaks what player 0 may not know", "after resample(0, rng)", base=TellsRedrawn)
class TellsWhatIsRedrawn:
    def messages(self, player):
        return [(-1, f"cards {self.deal}", "PROMPT")]


@violates("messages(0) holds 'card 1'", "make each a tuple of sender, text and kind", base=Tells)
class TellsTexts:
    def messages(self, player):
        return ["card 1"]


@violates("messages(0) has the sender 2", "-1 for the game", base=Tells)
class TellsFromNoPlayer:
    def messages(self, player):
        return [(2, "card", "PROMPT")]


@violates("messages(0) (seed 0, before the first move) raised KeyError", base=Tells)
class TellsNothing:
    def messages(self, player):
        raise KeyError(player)


@violates("messages(player) changes the match", base=Tells)
class TellsOnce:
    def reset(self, rng):
        Cards.reset(self, rng)
        self.told = 0

    def messages(self, player):
        self.told += 1
        return [(-1, f"told {self.told} times", "PROMPT")]


@violates("observe(0) leaks what player 0 may not know", "after resample(0, rng)", base=Redrawn)
class LeaksAfterARaise:
    def observe(self, player):
        return super().observe(player) + (f" all {self.deal}" if "raise" in self.moves_made else "")


@violates("its legal moves leak what player 0 may not know", base=Redrawn)
class LegalMovesLeak:
    def legal_moves(self):
        return ["stay"] if sum(self.deal) % 2 and len(self.moves_made) < 4 else super().legal_moves()


@violates("judge() is [1.0, 0.0]", "add up to 0", base=Judging)
class JudgesUnevenly:
    def judge(self):
        return [1.0, 0.0]


@violates("judge() is [-7.0, 7.0]", "below worst_return", base=Judging)
class JudgesTooHard:
    def judge(self):
        return [-7.0, 7.0]


@violates("judge() is None", base=Judging)
class JudgesNothing:
    def judge(self):
        return None


@violates("judge() ", "raised IndexError", base=Judging)
class JudgesTheEndAlone:
    def judge(self):
        return [float(self.moves_made[3] == "raise"), 0.0]


@violates("judge() changes the match", base=Judging)
class JudgesAndDeals:
    def judge(self):
        self.deal = self.deal[::-1]
        return [0.0, 0.0]


@violates("joint_state() is 3", "make it a str", base=NamesStates)
class NumbersStates:
    def joint_state(self):
        return 3


@violates("joint_state() changes the match", base=NamesStates)
class DealsAsItNames:
    def joint_state(self):
        self.deal = self.deal[::-1]
        return super().joint_state()


@violates("joint_state() is '[]' at two positions that the players observe differently", base=NamesStates)
class NamesOfHalfTheState:
    def joint_state(self):
        return str(self.moves_made)


@violates("resample(player, rng) never changed anything")
class RedrawsNothing:
    def resample(self, player, rng):
        pass


@pytest.mark.parametrize(("game", "words"), VIOLATING, ids=lambda value: getattr(value, "__name__", ""))
def test_the_violation_of_a_game_is_reported(game, words):
    violations = check_game(game)
    assert violations, f"{game.__name__} passed"
    assert any(all(word in text for word in words) for text in violations), violations
    assert all(len(text) < 700 and "\n" not in text for text in violations)


def undeclared(game):
    """The game, silent on whether it hides anything."""

    class Undeclared(game):
        def __getattribute__(self, name):
            if name == "perfect_information":
                raise AttributeError(name)
            return super().__getattribute__(name)

    Undeclared.__qualname__ = "Undeclared"
    globals()["Undeclared"] = Undeclared
    return Undeclared


@pytest.mark.parametrize("game", [Race, OpenCards, UnlistedLeak])
def test_a_game_that_does_not_say_what_it_hides_gets_a_notice(game):
    """The kit cannot know whether cards that all see are a leak: it tells what it saw, and what settles it."""
    with pytest.warns(Notice) as caught:
        assert check_game(undeclared(game)) == []
    (text,) = {str(warning.message) for warning in caught}
    assert " always gave away observe(" in text
    assert "declare perfect_information = True if nothing is, else hide it" in text
    assert "perfect_information = False, which makes this a violation" in text
    assert len(text) < 700


@pytest.mark.parametrize("game", [Cards, Guess, Race, Solitaire])
def test_a_game_that_hides_something_or_says_that_it_does_not_gets_none(game):
    with warnings.catch_warnings():
        warnings.simplefilter("error", Notice)
        assert check_game(game) == []


def test_a_flag_silences_the_leak_check_only_where_it_is_true():
    """Public dice look like a leak, and are none once the game says that nothing is hidden."""
    undeclared = type("Undeclared", (Race,), {"perfect_information": False, "__module__": __name__})
    globals()["Undeclared"] = undeclared
    assert check_game(undeclared) != []
    assert check_game(Race) == []


def test_one_fault_is_one_violation():
    assert len(check_game(GlobalGenerator)) == 1
    assert len(check_game(KeyErrors)) == 1


def test_the_result_depends_on_the_seed_alone_and_the_global_generators_stay_as_they_were():
    for game in (GlobalGeneratorLate, LeaksAfterARaise):
        random.seed(1)
        first = check_game(game, seed=5)
        random.seed(2)
        before = random.getstate()
        assert check_game(game, seed=5) == first
        if game is LeaksAfterARaise:
            assert random.getstate() == before


def test_a_game_for_one_player_is_not_searched_for_leaks():
    """There is no other player to leak to; hundreds of matches would be played in vain."""
    made = []

    def factory():
        made.append(Solitaire())
        return made[-1]

    assert list(check_leaks(factory, [], 0)) == []
    assert len(made) == 1
