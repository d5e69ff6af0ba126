"""A remote model as an opponent of a run: a failure of its server costs at most the game that was waiting for it.

The match is voided, replaced by another deal and counted by cause; no player is scored for it, nothing of it is among the
episodes, and all other games finish meanwhile. A reply that no rule allows is an illegal move of the model.
"""

import logging
import random
import threading
import time

import pytest
from spiral_models.byte.tokenizer import ByteTokenizer
from spiral_opponents.openai_chat import bot as remote
from spiral_opponents.openai_chat import patience
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
    """What a remote player says is a move or an illegal move, whatever it says.

    It forfeits with the game's worst return, its words are on record, and nothing is voided.
    """
    with ChatServer(lambda request: text) as server:
        [episode], voided, _ = play(server, 1)
    assert voided == []
    assert (episode.ending, episode.offender, episode.returns) == ("illegal", 1, (3.0, -3.0))
    [turn] = episode.trajectories[1].turns
    assert (turn.legal, turn.reply) == (False, ())
    assert turn.move == ("c" if "boxed" in text else text)


def test_special_tokens_in_a_reply_reach_the_learner_as_characters():
    """What a remote player says is text to the learner: no id of it is special."""

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
    """Six games ask at once, as far as the bot allows: after the first, no answer is sent before so many wait, and never
    more do."""
    waiting, lock, enough = iter(range(100)), threading.Lock(), threading.Event()

    def answer(request):
        with lock:
            number = next(waiting)
        if number >= together:
            enough.set()
        assert number == 0 or enough.wait(20)
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


# A url that is another server's


PAGES = {
    "html": (ChatAnswer(body=b"<!doctype html><title>Hotel Wi-Fi</title>" + b"x" * 500, headers={"Content-Type": "text/html"}),
             "text/html, beginning '<!doctype html><title>Hotel Wi-Fi</title>xxx"),
    "large html": (ChatAnswer(body=b"<html>" + b"x" * 600_000), "more than 524,288 bytes"),
    "other json": (ChatAnswer(body=b'{"status": "ok"}', headers={"Content-Type": "application/json"}),
                   """application/json, beginning '{"status": "ok"}'"""),
    "error": (ChatAnswer(body=b'{"error": {"message": "no such route"}}'), "no such route"),
    "a list": (ChatAnswer(body=b"[1, 2]"), "beginning '[1, 2]'"),
    "plain text": (ChatAnswer(body=b"It works!"), "beginning 'It works!'"),
    "empty": (ChatAnswer(body=b"", headers={"Content-Type": "text/plain"}), "text/plain, empty"),
    "bytes": (ChatAnswer(body=b"\x89PNG\xff\x00\x1b[2J"), "no UTF-8"),
}  # fmt: skip


@pytest.mark.parametrize("kind", PAGES)
@pytest.mark.parametrize(("num_games", "retries"), [(1, 4), (1, 0), (NUM_GAMES, 4)])
def test_a_url_of_another_server_stops_the_run_after_three_answers(kind, num_games, retries, monkeypatch):
    """Of all games together, in seconds: one sentence with url, what came and what to do."""
    page, looks = PAGES[kind]
    with ChatServer(lambda request: page) as server:
        start = time.monotonic()
        with pytest.raises(SpiralError) as error:
            play(server, num_games, retries=retries)
        assert time.monotonic() - start < 5
        assert len(server.requests) == 3
    assert not isinstance(error.value, RunError)
    assert str(error.value).startswith(f"remote bot tiny at {server_url(server)}: 3 answers were no chat completion")
    assert looks in str(error.value)
    assert "check that url ends before /chat/completions" in str(error.value)
    assert str(error.value).isprintable()


def server_url(server):
    """After it was closed too."""
    return f"http://127.0.0.1:{server._server.server_address[1]}/v1"


def test_a_login_page_is_named(monkeypatch):
    """A redirection will not pass: the first one stops the run, and says where it leads, without what follows `?`."""
    answer = ChatAnswer(status=302, headers={"Location": "https://login.example.org/start?token=abc"})
    with ChatServer(lambda request: answer) as server:
        with pytest.raises(SpiralError, match=r"http 302 .* it sends on to https://login.example.org/start;") as error:
            play(server, 1)
        assert len(server.requests) == 1
    assert "token" not in str(error.value)


def test_a_key_that_a_page_repeats_is_in_no_sentence(monkeypatch):
    monkeypatch.setenv("KEY", "sk-123456")
    page = ChatAnswer(body=b"<b>Bearer sk-123456</b>")
    with ChatServer(lambda request: page) as server, pytest.raises(SpiralError) as error:
        play(server, 1, key_env="KEY")
    assert "beginning '<b>Bearer ***</b>'" in str(error.value)
    assert "sk-123456" not in str(error.value)


def test_a_page_after_an_answer_is_an_outage():
    """The url was right, so what comes later will pass: the game is voided, and all others go on."""
    html = ChatAnswer(body=b"<html>maintenance</html>")
    with ChatServer(["b", "b", *[html] * 8, *["b"] * 40]) as server:
        episodes, voided, _ = play(server, max_concurrent=1)
    assert len(episodes) == NUM_GAMES
    assert {game.cause for game in voided} == {"not json"}
    assert "text" in voided[0].reason or "without a type" in voided[0].reason


def test_a_server_that_is_down_is_asked_by_all_games_at_once():
    """It proves nothing about the url, and a few games at a time would take many times as long."""
    asked, enough = iter(range(1000)), threading.Event()

    def answer(request):
        if next(asked) < 3:
            return ChatAnswer(status=503)
        if server.peak == NUM_GAMES:
            enough.set()
        enough.wait(5)
        return "b"

    with ChatServer(answer) as server:
        episodes, voided, _ = play(server, retries=3)
        assert server.peak == NUM_GAMES
    assert (len(episodes), voided) == (NUM_GAMES, [])


# Waits


def test_an_outage_is_on_the_terminal_while_it_lasts(monkeypatch, caplog):
    """A line at most every so many seconds, with the bot, the cause and since when; none once it answers."""
    monkeypatch.setattr(patience, "EVERY_S", 0.3)
    monkeypatch.setattr(remote, "MAX_BACK_OFF_S", 0.05)
    start = time.monotonic()

    def answer(request):
        return ChatAnswer(status=503, body=b"loading the model") if time.monotonic() - start < 1.4 else "b"

    with ChatServer(answer) as server, caplog.at_level(logging.WARNING):
        episodes, voided, _ = play(server, retries=50)
        lines = [record.getMessage() for record in caplog.records]
        url = server.url
    assert (len(episodes), voided) == (NUM_GAMES, [])
    assert 3 <= len(lines) <= 5
    assert all(line.startswith(f"remote bot tiny at {url}: no answer for ") for line in lines)
    assert "since " in lines[0]
    assert lines[0].endswith("the last call failed: http 503: loading the model")


def test_a_first_answer_that_does_not_come_is_on_the_terminal(monkeypatch, caplog):
    """Before any call has failed."""
    monkeypatch.setattr(patience, "EVERY_S", 0.2)
    with ChatServer([ChatAnswer("b", pause_s=0.01), "b"]) as server, caplog.at_level(logging.WARNING):
        play(server, 1)
    assert "no answer for 0 s" in caplog.records[0].getMessage()
    assert "still open" in caplog.records[0].getMessage()


def test_answers_that_come_are_no_lines(monkeypatch, caplog):
    """However long all of them take together; and the thread that watches ends with the questions."""
    monkeypatch.setattr(patience, "EVERY_S", 1.0)
    before = threading.active_count()

    def answer(request):
        time.sleep(0.05)
        return "b"

    with ChatServer(answer) as server, caplog.at_level(logging.WARNING):
        play(server, 36, max_concurrent=1)
    assert caplog.records == []
    time.sleep(1.2)
    assert not [t for t in threading.enumerate() if "_watch" in t.name] or threading.active_count() <= before + 1
