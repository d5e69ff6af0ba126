"""A bot's broken promise is the bot's fault, by name: the match is voided, so that the learner never earns from it.

An illegal move of a model or a person is the player's. A program that answers no text, an illegal move, an exception,
or that changes the game it is shown is broken; what the game raises while a bot asks it is the game's all the same.
"""

import copy
import random
from collections import Counter

import pytest

from spiral import IllegalMove
from spiral.api.errors import PluginError, RunError
from spiral.api.records import LEARNER
from spiral.config.schema import RolloutConfig
from spiral.models.prompt_cache import Prompter
from spiral.plugins.registry import Plugins
from spiral.policies.completer import Completer
from spiral.policies.pool import Pool
from spiral.selfplay.curriculum import Weighted
from spiral.selfplay.fixed_seats import FixedSeats
from spiral.selfplay.rollouts import Rollouts
from spiral.testing.fakes import ScriptedEngine

STOP = 0
FAULTS = {
    "None": ("no text", "gave a NoneType as its move, not text"),
    "7": ("no text", "gave a int as its move, not text"),
    "illegal": ("illegal move", "made the move '?', which is not legal (say a or b)"),
    "raises": ("exception", "raised ZeroDivisionError: division by zero"),
    "exits": ("exception", "raised SystemExit: 3"),
    "tries": ("exception", "raised IllegalMove: say a or b"),
    "plays": ("changed game", "changed the game that it was shown"),
    "cheats": ("changed game", "changed the game that it was shown"),
    "breaks": ("changed game", "changed the game that it was shown"),
}
"""What a bot does -> how it is counted, and what is said of it."""


class Words:
    """Two players in turn say a or b, four words in all; each holds a secret that the other does not see."""

    num_players, worst_return, zero_sum, rules = 2, -3.0, True, ""

    def reset(self, rng):
        self.secrets, self.said = [rng.random(), rng.random()], ()

    def current_player(self):
        return None if len(self.said) == 4 else len(self.said) % 2

    def observe(self, player):
        return f"{self.secrets[player]} {' '.join(self.said)}"

    def legal_moves(self):
        return ["a", "b"] if len(self.said) < 4 else []

    def play(self, move):
        if move not in self.legal_moves():
            raise IllegalMove("say a or b")
        self.said += (move,)

    def returns(self):
        return [1.0, -1.0]


class Broken:
    """Says b, but breaks a promise in every other deal. `max_concurrent` above 0: asked in a thread."""

    def __init__(self, does, max_concurrent=0):
        self.does, self.max_concurrent = does, max_concurrent

    def choose(self, game, player, rng):
        if game.secrets[0] > 0.5:
            if self.does in ("None", "7", "illegal"):
                return {"None": None, "7": 7, "illegal": "?"}[self.does]
            self.fail(game, player)
        return "b"

    def fail(self, game, player):
        if self.does == "raises":
            _ = 1 / 0
        elif self.does == "exits":
            raise SystemExit(3)
        elif self.does == "tries":
            game.play("?")
        elif self.does == "plays":
            game.play("b")
        elif self.does == "cheats":
            game.secrets[1 - player] = 0.0
        elif self.does == "breaks":
            game.secrets = []


def rollouts(bot, game=Words, forfeit=False, **config):
    says = {"encode": lambda *_: [1], "read": lambda *_: "a", "reply": lambda *_: None, "stop_ids": (STOP,)}
    prompter = Prompter(type("Format", (), says)())
    pool = Pool(Plugins(), Completer.of(ScriptedEngine(lambda request: [1, STOP]), prompter, 4))
    pool.add_bot("bot:mine", bot)
    seats = type("Seats", (), {"seat": lambda self, *_: [LEARNER, "bot:mine"]})()
    settings = RolloutConfig(**{"deadline_s": 5.0, **config})
    return Rollouts({"words": game}, Weighted({"words": 1.0}), seats, pool, settings, forfeit=forfeit)


@pytest.mark.parametrize("max_concurrent", [0, 1])
@pytest.mark.parametrize("does", FAULTS)
def test_a_broken_promise_voids_the_match_with_the_bots_name(does, max_concurrent):
    """The learner earns from no such match: all that is left was played by the rules."""
    played = rollouts(Broken(does, max_concurrent), max_voided=40)
    episodes = played.play(12, (0, "test"))
    assert [(e.ending, e.returns) for e in episodes] == [("finished", (1.0, -1.0))] * 12
    fault, said = FAULTS[does]
    assert {(v.cause, v.reason) for v in played.voided} == {(f"bot:mine: {fault}", f"bot:mine {said}")}


def test_retries_are_no_excuse_for_a_program():
    """`rollout.retries` is for players that may err; a bot would only repeat itself."""
    played = rollouts(Broken("illegal"), max_voided=40, retries=3)
    assert {len(e.players) for e in played.play(12, (0, "test"))} == {4}
    assert played.voided


def test_too_many_faults_name_the_bot_and_what_to_do():
    with pytest.raises(RunError, match=r"bot:mine made the move '\?'.*; mend the bot, which spiral check tests, or"):
        rollouts(Broken("illegal"), max_voided=2).play(12, (0, "test"))


@pytest.mark.parametrize("does", FAULTS)
def test_in_a_tournament_the_bot_forfeits(does):
    """Nothing is voided: the offender loses the game's worst return, and the episode says by what fault."""
    played = rollouts(Broken(does), forfeit=True)
    episodes = played.play(12, (0, "test"))
    assert played.voided == []
    lost = [e for e in episodes if e.offender is not None]
    assert Counter(e.ending for e in episodes) == {"illegal": len(lost), "finished": 12 - len(lost)}
    assert {(e.offender, e.returns, e.fault) for e in lost} == {(1, (3.0, -3.0), FAULTS[does][0])}
    assert {e.fault for e in episodes if e.offender is None} == {""}


def test_what_a_game_raises_while_a_bot_asks_it_is_the_games_fault():
    """Whoever asked, the traceback passes through the game's own code."""

    class Torn(Words):
        def legal_moves(self):
            if self.secrets[0] > 0.5:
                raise KeyError("my page")
            return super().legal_moves()

        def play(self, move):
            self.said += (move,)

    class Asks:
        def choose(self, game, player, rng):
            return rng.choice(game.legal_moves())

    played = rollouts(Asks(), game=Torn, max_voided=40)
    played.play(6, (0, "test"))
    assert {(v.cause, v.reason) for v in played.voided} == {("game", "KeyError: 'my page'")}


def test_a_bot_that_thinks_without_end_is_not_told_as_the_game():
    """Even where its time ends inside the game, which it asks over and over."""

    class Thinks:
        def choose(self, game, player, rng):
            while True:
                game.observe(player)

    played = rollouts(Thinks(), max_voided=0, turn_deadline_s=0.2)
    with pytest.raises(RunError, match="bot:mine raised TimeoutError: no end after 0.2 s; mend the bot"):
        played.play(1, (0, "test"))
    assert [v.cause for v in played.voided] == ["bot:mine: exception"]


def test_a_good_bot_may_play_on_a_copy_and_ask_all_it_likes():
    class Searches:
        def choose(self, game, player, rng):
            other = copy.deepcopy(game)
            while other.current_player() is not None:
                other.play(random.choice(other.legal_moves()))
            return "b"

    played = rollouts(Searches())
    assert len(played.play(4, (0, "test"))) == 4
    assert played.voided == []


@pytest.mark.parametrize(
    ("choose", "said"),
    [
        (lambda self, rng: "chess", "curriculum 'mine' chose 'chess', which is no game of the run: words"),
        (lambda self, rng: None, "curriculum 'mine' chose None, which is no game of the run: words"),
        (lambda self: "words", "curriculum 'mine' raised TypeError: "),
    ],
)
def test_a_curriculums_mistake_is_a_sentence_with_its_name(choose, said):
    wrong, seats = type("Wrong", (), {"choose": choose})(), FixedSeats("words", ["bot:mine"] * 2)
    pool = Pool(Plugins())
    pool.add_bot("bot:mine", Broken("None"))
    played = Rollouts({"words": Words}, wrong, seats, pool, RolloutConfig(), names=("curriculum 'mine'", "sampler"))
    with pytest.raises(PluginError, match=f"^{said}"):
        played.play(1, (0, "test"))
