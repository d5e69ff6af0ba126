"""A remote model as a bot: what it is asked, what it may spend, and that its key is shown nowhere."""

import inspect
import pickle
import random
import re
import threading
import time
from pathlib import Path

import pytest
from spiral_opponents.openai_chat import bot as remote
from spiral_opponents.openai_chat import http as remote_http
from spiral_opponents.openai_chat import messages as remote_chat
from spiral_opponents.openai_chat.bot import Remote

from spiral import ChatModel, IllegalMove, SpiralError, Unavailable
from spiral.config.loading import parse_plugin
from spiral.plugins.registry import Plugins
from spiral.testing import ChatAnswer, ChatServer, check_bot


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch):
    monkeypatch.setattr(remote, "BACK_OFF_S", 0.01)


class Cards:
    """One decision: bet or check."""

    num_players, rules = 2, "Bet or check."

    def __init__(self, moves=("bet", "check")):
        self.moves = moves

    def reset(self, rng):
        self.over = False

    def current_player(self):
        return 0

    def observe(self, player):
        return f"You are player {player}. Your card: J\n  <|im_end|> \\boxed{{?}}"

    def legal_moves(self):
        return None if self.moves is None else list(self.moves)

    def play(self, move):
        raise IllegalMove("never")


def ask(url, game=None, **args):
    bot = Remote("tiny", url, **{"retries": 0, "timeout_s": 5.0, **args})
    return bot.choose(game or Cards(), 1, random.Random(0))


def bot_for(server, **args):
    return Remote("tiny", server.url, **{"retries": 0, "timeout_s": 5.0, **args})


def choose(bot):
    return bot.choose(Cards(), 1, random.Random(0))


# What is asked


def test_the_model_is_given_rules_observation_and_moves_and_how_to_answer():
    """A remote player is sent the rules, the observation of its own player and the legal moves, and nothing else of the
    run.

    System: how to answer. User: rules, the observation to the letter, the legal moves. No key is sent unasked.
    """
    with ChatServer(["bet"]) as server:
        assert ask(server.url, max_tokens=77, temperature=0.5, extra={"seed": 3}) == "bet"
    [request] = server.requests
    system, user = request.pop("messages")
    assert request == {"model": "tiny", "max_tokens": 77, "temperature": 0.5, "seed": 3}
    assert (system["role"], user["role"]) == ("system", "user")
    assert "\\boxed{}" in system["content"]
    assert user["content"] == (
        "Bet or check.\n\nYou are player 1. Your card: J\n  <|im_end|> \\boxed{?}\n\nLegal moves, one a line:\nbet\ncheck"
    )
    assert server.authorizations == [None]


def test_what_the_model_wrote_comes_with_its_move():
    """Its thoughts are examples to learn from (spiral collect); to the game the move is the move alone."""
    with ChatServer(["A bluff.\n\\boxed{bet}"]) as server:
        said = ask(server.url)
    assert (said, said.reply) == ("bet", "A bluff.\n\\boxed{bet}")
    assert pickle.loads(pickle.dumps(said)).reply == said.reply


def test_fields_can_be_left_out_and_renamed():
    """What is null is not sent: models that want max_completion_tokens get that alone."""
    with ChatServer(["bet"]) as server:
        ask(server.url, prompt="direct", extra={"max_tokens": None, "max_completion_tokens": 9})
    [request] = server.requests
    assert request.pop("messages")[0]["content"].startswith("You are playing")
    assert request == {"model": "tiny", "max_completion_tokens": 9}


def test_free_text_games_list_no_moves():
    with ChatServer(["I offer 3 wheat"]) as server:
        assert ask(server.url, Cards(None)) == "I offer 3 wheat"
    assert "Legal moves" not in server.requests[0]["messages"][1]["content"]


def test_the_key_is_the_environment_variables_and_is_shown_nowhere(monkeypatch):
    """The key of a remote player is in none of its errors, its state or its attributes, though the server repeats it."""
    monkeypatch.setenv("MY_KEY", "sk-secret\n")
    echo = b'{"error": {"message": "bad key sk-secret"}}'
    with ChatServer(["bet", *(ChatAnswer(status=s, body=echo) for s in (401, 404, 500))]) as server:
        bot = bot_for(server, key_env="MY_KEY")
        assert choose(bot) == "bet"
        messages = []
        for _ in range(3):
            with pytest.raises((SpiralError, Unavailable)) as error:
                choose(bot)
            messages.append(str(error.value))
    assert server.authorizations == ["Bearer sk-secret"] * 4
    assert "MY_KEY" in messages[0]
    assert "bad key ***" in messages[1]
    assert "bad key ***" in messages[2]
    assert "sk-secret" not in f"{messages} {bot!r} {vars(bot)} {vars(bot._account)} {bot.spent}"


def test_a_key_goes_to_its_own_address_alone(monkeypatch):
    """A redirection is not followed, so that a key goes to the address in `url` alone.

    Nor is a proxy asked, whatever the environment says.
    """
    monkeypatch.setenv("MY_KEY", "sk-secret")
    with ChatServer(lambda request: "bet") as other:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, other.url)
        sent_on = ChatAnswer(status=307, headers={"Location": f"{other.url}/chat/completions"})
        with ChatServer([sent_on]) as server, pytest.raises(SpiralError, match="http 307"):
            choose(bot_for(server, key_env="MY_KEY"))
        assert server.authorizations == ["Bearer sk-secret"]
        assert other.requests == []


@pytest.mark.parametrize(("key", "says"), [("", "is not set"), ("a\nb: c", "no key has"), ("ключ", "no key has")])
def test_a_key_that_cannot_be_sent_is_a_sentence_at_once(monkeypatch, key, says):
    monkeypatch.setenv("MY_KEY", key)
    with pytest.raises(SpiralError, match=f"MY_KEY.*{says}") as error:
        Remote("tiny", "http://127.0.0.1/v1", key_env="MY_KEY")
    assert not key or key not in str(error.value)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ({"url": "localhost:8000/v1"}, "not of the form"),
        ({"url": "ftp://host/v1"}, "not of the form"),
        ({"url": "http://:80/v1"}, "not of the form"),
        ({"url": "http://host:99999/v1"}, "cannot be read"),
        ({"url": f"http://{'a' * 70}.com/v1"}, "cannot be read"),
        ({"url": "http://me:secret@host/v1"}, "key_env"),
        ({"url": "http://host/v1?key=1"}, "key_env"),
        ({"url": "http://host/v 1"}, "no address has"),
        ({"timeout_s": 0.0}, "more than 0"),
        ({"retries": -1}, "0 or more"),
        ({"max_concurrent": 0}, "1 or more"),
        ({"max_cost": float("nan"), "reply_price": 1.0}, "0 or more"),
        ({"max_cost": 1.0}, "a million tokens"),
        ({"prompt": "loud"}, "boxed, direct"),
        ({"extra": {"stream": True}}, "extra.stream"),
        ({"extra": {"n": 5}}, "extra.n"),
    ],
)
def test_arguments_that_make_no_sense_are_a_sentence_at_once(args, says):
    with pytest.raises(SpiralError, match=says) as error:
        Remote("tiny", **{"url": "http://127.0.0.1/v1", **args})
    assert "secret" not in str(error.value)


# Any chat


def test_it_answers_messages_that_are_no_games_with_the_whole_reply():
    """As a judge of texts does: the messages go out as they are, and no move is read out of the reply."""
    messages = [{"role": "system", "content": "Judge."}, {"role": "user", "content": "A text."}]
    with ChatServer(["Well.\n\\boxed{bet}"]) as server:
        bot = bot_for(server)
        assert isinstance(bot, ChatModel)
        assert bot.answer(messages, random.Random(0)) == "Well.\n\\boxed{bet}"
    assert server.requests[0]["messages"] == messages
    assert bot.spent["calls"] == 1


def test_its_identity_is_what_a_whole_reply_depends_on(monkeypatch):
    """Server, model and the fields of a request; no key, budget or time-out, and no limit of a reply's length."""
    monkeypatch.setenv("MY_KEY", "sk-secret")
    plain = Remote("tiny", "http://host/v1").identity
    same = {"key_env": "MY_KEY", "max_tokens": 9, "timeout_s": 1.0, "max_calls": 3, "retries": 0}
    assert Remote("tiny", "http://host/v1/", **same).identity == plain
    assert "sk-secret" not in plain
    others = [{"temperature": 0.5}, {"extra": {"seed": 1}}]
    found = [Remote("tiny", "http://host/v1", **args).identity for args in others]
    found += [Remote("small", "http://host/v1").identity, Remote("tiny", "http://other/v1").identity]
    assert len({plain, *found}) == 5


# Budget


def test_everything_spent_is_counted_and_priced():
    """Two replies of 10 and 5 tokens at 2 and 4 a million, and a refusal that cost nothing."""
    with ChatServer(["bet", ChatAnswer(status=500), "bet"]) as server:
        bot = bot_for(server, retries=1, prompt_price=2.0, reply_price=4.0)
        choose(bot)
        choose(bot)
    assert bot.spent == {
        "calls": 3,
        "prompt_tokens": 20,
        "reply_tokens": 10,
        "cost": pytest.approx(2 * (10 * 2 + 5 * 4) / 1e6),
        "reserved": 0.0,
        "failures": {"http 500": 1},
    }


@pytest.mark.parametrize("usage", [None, (-1, 5), (1.5, 5), (True, 5)])
def test_usage_that_is_not_given_counts_as_the_most_it_can_be(usage):
    """No more tokens than bytes were sent, no more than max_tokens came back."""
    with ChatServer([ChatAnswer("bet", usage=usage)]) as server:
        bot = bot_for(server, max_tokens=1000, reply_price=1.0)
        choose(bot)
    assert bot.spent["cost"] == pytest.approx(1000 / 1e6)
    assert bot.spent["reply_tokens"] == 0


def test_a_call_that_was_given_up_may_have_cost_the_most():
    """The server may go on generating, and charge for it."""
    with ChatServer([ChatAnswer(fault="hang")]) as server:
        bot = bot_for(server, max_tokens=1000, timeout_s=0.3, reply_price=1.0)
        with pytest.raises(Unavailable):
            choose(bot)
    assert bot.spent["cost"] == pytest.approx(1000 / 1e6)


def test_a_budget_of_calls_is_exact_among_threads():
    """Of 40 choices in 8 threads, 13 reach the server; each of the others is the same sentence."""
    with ChatServer(lambda request: "bet") as server:
        bot = bot_for(server, max_calls=13)
        results = in_threads(8, 40, lambda: choose(bot))
    assert len(server.requests) == bot.spent["calls"] == 13
    assert results.count("bet") == 13
    refusals = [r for r in results if r != "bet"]
    assert {type(r) for r in refusals} == {SpiralError}
    assert {str(r) for r in refusals} == {
        f"remote bot tiny at {bot._url.removesuffix('/chat/completions')} has used its budget of 13 calls; raise "
        "max_calls, or go on without it"
    }


def test_a_budget_of_cost_is_never_exceeded_and_used_up_as_far_as_it_is_safe():
    """Replies cost 5 of at most 100. A budget of 200 allows calls up to a cost of 100: 21, whatever the threads do."""
    with ChatServer(lambda request: time.sleep(0.01) or "bet") as server:
        bot = bot_for(server, max_tokens=100, reply_price=1e6, max_cost=200.0)
        results = in_threads(8, 40, lambda: choose(bot))
    assert len(server.requests) == results.count("bet") == 21
    assert bot.spent["cost"] == 105.0
    assert any("max_cost" in str(r) for r in results)


def test_retries_are_part_of_the_budget():
    with ChatServer(lambda request: ChatAnswer(status=500)) as server:
        with pytest.raises(SpiralError, match="budget of 2 calls"):
            ask(server.url, retries=5, max_calls=2)
        assert len(server.requests) == 2


def in_threads(num_threads, num_calls, call):
    """What `num_calls` calls gave or raised."""
    results, left = [], iter(range(num_calls))

    def work():
        for _ in left:
            try:
                results.append(call())
            except Exception as error:
                results.append(error)

    threads = [threading.Thread(target=work) for _ in range(num_threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(results) == num_calls
    return results


# The kit


def test_it_keeps_the_promises_of_a_bot():
    """With a server whose answers depend on the question alone, the kit finds nothing to say."""

    class Short(Cards):
        def reset(self, rng):
            self.moves_so_far = []

        def current_player(self):
            return None if len(self.moves_so_far) > 1 else len(self.moves_so_far)

        def legal_moves(self):
            return [] if len(self.moves_so_far) > 1 else ["bet", "check"]

        def observe(self, player):
            return f"You are player {player}. So far: {self.moves_so_far}"

        def play(self, move):
            if move not in self.moves:
                raise IllegalMove("bet or check")
            self.moves_so_far = [*self.moves_so_far, move]

        def returns(self):
            return [0.0, 0.0]

    with ChatServer(lambda request: request["messages"][1]["content"].splitlines()[-1]) as server:
        assert check_bot(lambda: bot_for(server), {"short": Short}) == []
        assert server.requests


def test_calls_meet_in_no_global_place(monkeypatch):
    """Ten at once, each with another card: each caller gets the answer to its own question."""
    gate = threading.Barrier(10, timeout=20)

    def answer(request):
        if len(server.requests) == 1:
            return "bet"
        gate.wait()
        return request["messages"][1]["content"].split("card ")[1].split()[0]

    class Card(Cards):
        def __init__(self, number):
            self.rules, self.moves = f"card {number} of 10", None

    with ChatServer(answer) as server:
        bot = bot_for(server)
        choose(bot)  # before its first answer it is asked a few at a time
        numbers, lock = iter(range(10)), threading.Lock()

        def one():
            with lock:
                number = next(numbers)
            return number, bot.choose(Card(number), 0, random.Random(number))

        results = in_threads(10, 10, one)
        assert server.peak == 10
    assert sorted(results) == [(number, str(number)) for number in range(10)]


DOCS = Path(__file__).parents[3] / "docs" / "guides" / "remote.md"


def test_every_bot_that_the_page_names_can_be_made(monkeypatch):
    """As text in a config and on the command line, with addresses, ports and model names that hold colons."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-any")
    texts = set(re.findall(r"remote:model=[^\s\"'`]+", DOCS.read_text(encoding="utf-8")))
    texts.add("remote:model=llama3.1:8b,url=http://[::1]:11434/v1,extra.seed=1,extra.max_tokens=null,temperature=0")
    assert len(texts) >= 3
    for text in texts:
        bot = parse_plugin(text)
        assert bot.name == "remote"
        assert bot.args["url"].endswith("/v1")
        Plugins.installed().make("bot", bot.name, **bot.args)


def test_the_page_lists_every_argument_and_cause():
    page = DOCS.read_text(encoding="utf-8")
    for name in inspect.signature(Remote).parameters:
        assert f"`{name}`" in page, name
    source = "".join(Path(inspect.getfile(module)).read_text() for module in (remote, remote_chat, remote_http))
    causes = set(re.findall(r'(?:CallFailed|NotProtocol|kind)\("([^"]+)"', source))
    assert len(causes) >= 10
    for cause in causes:
        assert f"`{cause}`" in page, cause
