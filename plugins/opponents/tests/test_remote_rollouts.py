"""A remote model as an opponent of a run: a failure of its server costs at most the game that was waiting for it.

The match is voided, replaced by another deal and counted by cause; no player is scored for it, nothing of it is among the
episodes, and all other games finish meanwhile. A reply that no rule allows is an illegal move of the model.
"""

import random
import threading

import pytest
from spiral_models.byte.tokenizer import ByteTokenizer
from spiral_opponents.openai_chat import bot as remote
from spiral_opponents.openai_chat.bot import Remote

from spiral import LEARNER, IllegalMove, RunError, SpiralError
from spiral.config.schema import RolloutConfig
from spiral.models.prompt_cache import Prompter
from spiral.models.prompts import PlainFormat
from spiral.plugins.registry import Plugins
from spiral.policies.completer import Completer
from spiral.policies.pool import Pool
from spiral.selfplay.curriculum import Weighted
from spiral.selfplay.rollouts import Rollouts
from spiral.testing import ChatAnswer, ChatServer, ScriptedEngine

PROMPTER = Prompter(PlainFormat(ByteTokenizer()))
STOP = PROMPTER.stop_ids[0]
MODEL = "bot:model"
NUM_GAMES = 6


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch):
    monkeypatch.setattr(remote, "BACK_OFF_S", 0.01)


class Words:
    """Players 0 and 1 in turn say a or b, 2 words each; the first line of what they see is the deal."""

    num_players, worst_return, zero_sum, rules = 2, -3.0, True, ""

    def reset(self, rng):
        self.deal, self.words = rng.getrandbits(32), ()

    def current_player(self):
        return None if len(self.words) >= 4 else len(self.words) % 2

    def observe(self, player):
        return f"{self.deal}\np{player} {' '.join(self.words)}"

    def legal_moves(self):
        return ["a", "b"] if self.current_player() is not None else []

    def play(self, move):
        if move not in ("a", "b"):
            raise IllegalMove("say a or b")
        self.words += (move,)

    def returns(self):
        return [1.0, -1.0] if self.words[-1] == "a" else [-1.0, 1.0]


class LearnerFirst:
    """The learner as player 0, the remote model as player 1."""

    def seat(self, game, num_players, pool, rng):
        return [LEARNER, MODEL]


def rollouts(bot, game=Words, learner="a", **config):
    engine = ScriptedEngine(lambda request: (*learner.encode(), STOP))
    pool = Pool(Plugins(), Completer.of(engine, PROMPTER, max_new_tokens=8))
    pool.add_bot(MODEL, bot)
    settings = {"deadline_s": 30.0, "max_turns": 50, **config}
    made = Rollouts({"words": game}, Weighted({"words": 1.0}), LearnerFirst(), pool, RolloutConfig(**settings))
    return made, engine


def play(server, num_games=NUM_GAMES, seed=(0, "test"), game=Words, **args):
    """(episodes, voided games, bot)"""
    bot = Remote("tiny", server.url, **{"retries": 1, "timeout_s": 20.0, "max_concurrent": num_games, **args})
    made, _ = rollouts(bot, game)
    return made.play(num_games, seed), made.voided, bot


def deal_of(request):
    return request["messages"][1]["content"].splitlines()[0]


def word_for(request):
    """A move that depends on what was asked alone."""
    return random.Random(request["messages"][1]["content"]).choice("ab")


class OneDoomed:
    """Answers with `failure` from question number `turn` on, in the first game that asks it; well in all others.

    The failing game has to wait until all other games are over: `alone` says whether they were.
    """

    def __init__(self, failure, turn):
        self.failure, self.turn, self.doomed, self.alone = failure, turn, None, False
        self._lock, self._asked, self._left = threading.Lock(), {}, 2 * (NUM_GAMES - 1)
        self._over = threading.Event()

    def __call__(self, request):
        deal = deal_of(request)
        with self._lock:
            self._asked[deal] = self._asked.get(deal, 0) + 1
            if self.doomed is None and self._asked[deal] == self.turn:
                self.doomed = deal
            fails = deal == self.doomed and self._asked[deal] >= self.turn
            self._left -= not fails and deal != self.doomed
            if self._left == 0:
                self._over.set()
        if fails:
            self.alone = self._over.wait(20)
            return self.failure
        return "b"


FAILURES = {
    "timeout": ChatAnswer(fault="hang"),
    "timeout, byte by byte": ChatAnswer("a", pause_s=0.05),
    "http 429": ChatAnswer(status=429, headers={"Retry-After": "0"}),
    "http 500": ChatAnswer(status=500, body=b"a"),
    "http 503": ChatAnswer(status=503, headers={"Retry-After": "9999"}),
    "connection": ChatAnswer(fault="reset"),
    "connection, half sent": ChatAnswer("a", fault="cut"),
    "not json": ChatAnswer(body=b"<html>a</html>"),
    "wrong shape": ChatAnswer(body=b'{"content": "a"}'),
    "no reply": ChatAnswer(""),
    "cut off": ChatAnswer("a", finish="length"),
    "too large": ChatAnswer("a" * 1_000_000),
    "too large, 10 MB": ChatAnswer("a" * 10_000_000),
    "not utf-8": ChatAnswer(body=b'{"choices": [{"message": {"content": "a\xff"}}]}'),
}


@pytest.mark.parametrize("turn", [1, 2])
@pytest.mark.parametrize("kind", FAILURES)
def test_a_failure_costs_its_own_game_alone(kind, turn):
    """One of six games fails at the model's first or second move, after the other five are over.

    Six whole games come back, the sixth on another deal; the one voided game names deal, moves so far and cause.
    """
    cause = kind.split(",")[0]
    answers = OneDoomed(FAILURES[kind], turn)
    with ChatServer(answers) as server:
        # A short time-out may strike a call that only the busy machine is slow to answer: it is asked again.
        episodes, voided, bot = play(server, **({"timeout_s": 0.7, "retries": 2} if cause == "timeout" else {}))
        words = [deal_of(request) for request in server.requests]
    assert answers.alone or cause == "timeout", "the other games waited for the one that failed"
    [game] = voided
    assert game.cause == cause
    assert str(random.Random(game.deal).getrandbits(32)) == answers.doomed
    assert game.moves == ("a", "b", "a")[: 2 * turn - 1]
    failures = bot.spent["failures"]
    assert set(failures) == {cause}
    assert failures[cause] == words.count(answers.doomed) - (turn - 1) or cause == "timeout"
    assert len(episodes) == NUM_GAMES
    assert game.deal not in {episode.deal for episode in episodes}
    for episode in episodes:
        assert (episode.ending, episode.returns) == ("finished", (-1.0, 1.0))
        learner, model = episode.trajectories
        assert [(t.move, t.legal) for t in learner.turns] == [("a", True)] * 2
        assert [(t.move, t.legal, t.prompt, t.reply) for t in model.turns] == [("b", True, (), ())] * 2


@pytest.mark.parametrize("text", ["nonsense", "<|im_end|>", "a b", "\\boxed{c}", "[" * 1000, "a\x00b\x1b[2J"])
def test_what_is_said_and_no_move_is_the_models_own_fault(text):
    """It forfeits with the game's worst return, its words are on record, and nothing is voided."""
    with ChatServer(lambda request: text) as server:
        [episode], voided, _ = play(server, 1)
    assert voided == []
    assert (episode.ending, episode.offender, episode.returns) == ("illegal", 1, (3.0, -3.0))
    [turn] = episode.trajectories[1].turns
    assert (turn.legal, turn.reply) == (False, ())
    assert turn.move == ("c" if "boxed" in text else text)


def test_special_tokens_in_a_reply_reach_the_learner_as_characters():
    """What the model says in a talking game is seen by the learner, and no id of it is special."""

    class Chat(Words):
        def legal_moves(self):
            return None

        def play(self, move):
            self.words += (move,)

    with ChatServer(lambda request: "<|eot|><|act|><|im_end|>") as server:
        made, engine = rollouts(Remote("tiny", server.url), Chat)
        [episode] = made.play(1, (0,))
    assert episode.ending == "finished"
    second = engine.requests[1].prompt
    assert b"<|eot|><|act|><|im_end|>" in bytes(i for i in second if i < 256)
    assert [i for i in second if i >= 256] == [i for i in engine.requests[0].prompt if i >= 256]


@pytest.mark.parametrize(("max_concurrent", "together"), [(1, 1), (3, 3), (6, 6)])
def test_slow_answers_are_waited_for_together(max_concurrent, together):
    """Six games ask at once, as far as the bot allows: no answer is sent before so many wait, and never more do."""
    gate = threading.Barrier(together)

    def answer(request):
        gate.wait(20)
        return "b"

    with ChatServer(answer) as server:
        episodes, voided, _ = play(server, max_concurrent=max_concurrent)
        assert (len(episodes), voided, server.peak) == (6, [], together)
        assert len(server.requests) == 12


def test_the_same_answers_are_the_same_games():
    """Whatever order they come in, and whatever fails and passes on the way."""
    pace = random.Random(1)

    def hurried(request):
        return word_for(request)

    def slow(request):
        threading.Event().wait(pace.random() / 50)
        return ChatAnswer(status=500) if pace.random() < 0.3 else word_for(request)

    played = []
    for answer in (hurried, hurried, slow):
        with ChatServer(answer) as server:
            episodes, voided, _ = play(server, 20, retries=20, max_concurrent=5)
        assert voided == []
        played.append(episodes)
    assert played[0] == played[1] == played[2]
    assert len({episode.returns for episode in played[0]}) == 2


def test_a_refusal_stops_the_run_with_its_sentence():
    """A wrong key is wrong for every game."""
    with ChatServer(lambda request: ChatAnswer(status=401)) as server:
        with pytest.raises(SpiralError, match="http 401 .*key_env"):
            play(server)
        assert len(server.requests) <= NUM_GAMES


def test_a_spent_budget_stops_the_run_with_its_sentence():
    """Six games need 12 calls; the eighth is the last."""
    with ChatServer(lambda request: "b") as server:
        with pytest.raises(SpiralError, match="has used its budget of 8 calls; raise max_calls"):
            play(server, max_calls=8, max_concurrent=1)
        assert len(server.requests) == 8


def test_a_server_that_never_answers_stops_the_run_and_is_named():
    """After as many games as rollout.max_voided allows; the sentence names the server that did not answer, and how."""
    with ChatServer(lambda request: ChatAnswer(status=500)) as server:
        bot = Remote("tiny", server.url, retries=0)
        made, _ = rollouts(bot, max_voided=3)
        with pytest.raises(RunError, match=rf"4 games .* http 500: remote bot tiny at {server.url} .* remote players"):
            made.play(NUM_GAMES, (0,))
    assert [game.cause for game in made.voided] == ["http 500"] * 4
