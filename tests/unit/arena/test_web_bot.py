"""People in a running experiment: the bot `web` serves the arena's page, and whoever waits there gets the next match."""

import contextlib
import json
import random
import socket
import threading
import time
from dataclasses import replace
from urllib.parse import quote

import pytest
from spiral_games.native.kuhn_poker import KuhnPoker
from spiral_games.native.tic_tac_toe import TicTacToe
from websockets.exceptions import ConnectionClosed

from spiral import LEARNER, Declined, SpiralError, Unavailable, hookimpl
from spiral.arena import web_bot
from spiral.arena.web_bot import WebBot
from spiral.config import loading as config
from spiral.config.schema import PluginConfig, RolloutConfig
from spiral.plugins.registry import Plugins
from spiral.policies.pool import Pool
from spiral.runs.directory import RunDir
from spiral.selfplay.curriculum import Weighted
from spiral.selfplay.rollouts import Rollouts
from spiral.selfplay.validation import check
from spiral.training.loop import train
from tests.unit.arena.conftest import RunningArena

CLOCK_S = 60.0


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Served:
    """A bot `web` at work, and people who come to its page."""

    def __init__(self, folder, clock=CLOCK_S):
        port = free_port()
        self.bot = WebBot(port, clock, "127.0.0.1")
        self.bot.keep_in(folder)
        self.page = RunningArena(port, self.bot._lobby, self.bot._lobby.store, None, None)

    def person(self, name="ann"):
        """A connection, as the page makes one."""
        token = self.page.register(name, "person")
        return self.page.connection(token, origin=f"http://127.0.0.1:{self.page.port}")

    def queue(self, person):
        person.send(kind="queue", games=[web_bot.ANY_GAME])
        person.until("queued")


@pytest.fixture
def web(tmp_path):
    return Served(tmp_path / "bots")


class Drawn:
    """The bot against the random one in each first line-up, the random one against itself in any other."""

    def __init__(self):
        self.drawn = 0

    def seat(self, game, num_players, pool, rng):
        self.drawn += 1
        return ["bot:web", "bot:random"] if rng.random() < 0.5 else ["bot:random", "bot:random"]


def playing(bot, game, num_games=1, sampler=None, **rules):
    """Rollouts in a thread; the thread and what it gives."""
    plugins = Plugins.installed()
    pool = Pool(plugins)
    pool.add_bot("bot:web", bot)
    pool.bot("random")
    ready = Rollouts(
        {"it": game}, Weighted({"it": 1.0}), sampler or Drawn(), pool, RolloutConfig(max_turns=50, **rules)
    )
    found = {"rollouts": ready}
    thread = threading.Thread(target=lambda: found.update(episodes=ready.play(num_games, (7, "web"))), daemon=True)
    thread.start()
    return thread, found


class WebFirst(Drawn):
    """The bot in the first line-up alone."""

    def seat(self, game, num_players, pool, rng):
        self.drawn += 1
        return ["bot:web" if self.drawn == 1 else "bot:random", "bot:random"]


def test_who_waits_at_the_page_plays_the_next_match(web):
    """Its moves are in the episode, and it is told how the match ended."""
    with web.person() as ann:
        web.queue(ann)
        thread, found = playing(web.bot, TicTacToe, sampler=WebFirst())
        match = ann.until("match")
        assert (match["players"], match["rules"]) == (["ann", "the run"], TicTacToe().rules)
        made = []
        end = ann.play(choose=lambda turn: made.append(turn["legal_moves"][0]) or made[-1])
        thread.join(30)
    (episode,) = found["episodes"]
    assert [turn.move for turn in episode.trajectories[0].turns] == made
    assert (end["returns"], end["ending"]) == (list(episode.returns), "finished")
    assert end["outcome"] == {1.0: "win", 0.0: "draw", -1.0: "loss"}[episode.returns[0]]
    assert end["observation"]


def test_people_choose_among_the_games_of_a_run(tmp_path):
    """Who waits for one is given no match of another; its page leads to the run's."""
    run = tmp_path / "several"
    run.mkdir()
    games = [PluginConfig("kuhn_poker"), PluginConfig("kuhn_poker", {"rounds": 3}), PluginConfig("tic_tac_toe")]
    (run / "config.yaml").write_text(config.dump(replace(config.load(), games=games)), encoding="utf-8")
    web = Served(run / "bots")
    assert list(web.bot._lobby.games) == ["kuhn_poker", "kuhn_poker(rounds=3)", "tic_tac_toe"]
    assert "kuhn_poker(rounds=3)" in web.page.ask("/play")[1]
    one, other = KuhnPoker(), KuhnPoker(rounds=3)
    for number, game in enumerate((one, other)):
        game.reset(random.Random(number))
    with web.person() as ann:
        ann.send(kind="queue", games=["kuhn_poker(rounds=3)"])
        ann.until("queued")
        web.bot.match_begins(one, "kuhn_poker")
        web.bot.match_begins(other, "kuhn_poker(rounds=3)")
        with pytest.raises(Declined, match="no person waits"):
            web.bot.choose(one, 0, None)
        found = []
        thread = threading.Thread(target=lambda: found.append(web.bot.choose(other, 0, None)), daemon=True)
        thread.start()
        match = ann.until("match")
        assert (match["game"], match["replay"]) == ("kuhn_poker(rounds=3)", "/runs/several")
        turn = ann.until("turn")
        ann.send(kind="move", number=turn["number"], move="bet")
        thread.join(30)
        assert found == ["bet"]
        web.bot.match_over(other, None)
        assert ann.until("over")["outcome"] == "voided"
        web.bot.match_over(one, None)
    assert web.bot._lobby._named == {}


def test_a_bot_hears_which_game_a_match_is_of(web):
    """Before it is asked, each match by its label; and is asked all the same if it fails at that."""
    heard = []

    class Listens:
        def match_begins(self, game, name):
            heard.append((game, name))
            raise RuntimeError("no matter")

        def choose(self, game, player, rng):
            assert [name for one, name in heard if one is game] == ["it"]
            return rng.choice(game.legal_moves())

    thread, found = playing(Listens(), TicTacToe, num_games=4)
    thread.join(30)
    assert len(found["episodes"]) == 4
    assert heard


def test_without_people_others_play(web):
    """At once, and no match is voided for that."""
    thread, found = playing(web.bot, KuhnPoker, num_games=20, max_voided=0)
    thread.join(30)
    assert {policy for e in found["episodes"] for policy in e.policies} == {"bot:random"}
    assert found["rollouts"].voided == []


def test_a_person_sees_what_its_player_may_know(web):
    """Not the other one's card; and where the match stands after its own move."""
    with web.person() as ann:
        web.queue(ann)
        thread, _ = playing(web.bot, KuhnPoker, sampler=WebFirst())
        turn = ann.until("turn")
        assert turn["legal_moves"] == ["check", "bet"]
        assert "p1" not in turn["observation"]
        ann.send(kind="move", number=turn["number"], move="bet")
        state = ann.until("state")
        assert (state["to_move"], state["observation"]) == (1, f"{turn['observation']} bet")
        ann.until("over")
        thread.join(30)


def test_an_illegal_move_is_asked_again(web):
    """As often as it takes: it is a person."""
    with web.person() as ann:
        web.queue(ann)
        thread, found = playing(web.bot, TicTacToe, sampler=WebFirst())
        for _ in range(5):
            ann.send(kind="move", number=ann.until("turn")["number"], move="z9")
            assert "one digit from 0 to 8" in ann.until("illegal")["reason"]
        assert ann.play()["ending"] == "finished"
        thread.join(30)
    assert all(turn.legal for turn in found["episodes"][0].trajectories[0].turns)


def test_a_lost_connection_gets_its_seat_back(web):
    """The run waits meanwhile, no longer than the clock."""
    token = web.page.register("ann", "person")
    with web.page.connection(token) as ann:
        web.queue(ann)
        thread, found = playing(web.bot, TicTacToe, sampler=WebFirst())
        turn = ann.until("turn")
    with web.page.connection(token) as again:
        asked = again.until("turn")
        again.send(kind="history")
        assert again.until("history")["seen"] == []
        assert (asked["number"], asked["observation"]) == (turn["number"], turn["observation"])
        again.send(kind="move", number=asked["number"], move=asked["legal_moves"][0])
        assert again.play()["ending"] == "finished"
        thread.join(30)
    assert len(found["episodes"]) == 1


@pytest.mark.parametrize(("clock", "cause"), [(0.3, "clock ran out"), (CLOCK_S, "person left")])
def test_a_match_that_a_person_gives_up_is_voided_and_replaced(tmp_path, clock, cause):
    """The run does not wait for longer than the clock; no player is scored for it."""
    web = Served(tmp_path, clock)
    with web.person() as ann:
        web.queue(ann)
        thread, found = playing(web.bot, TicTacToe, sampler=WebFirst())
        if cause == "person left":
            ann.until("turn")
            ann.send(kind="leave")
        assert ann.until("over")["outcome"] == "voided"
        thread.join(30)
    (episode,) = found["episodes"]
    assert episode.policies == ("bot:random", "bot:random")
    assert [game.cause for game in found["rollouts"].voided] == [cause]


def test_matches_that_are_given_up_again_and_again_cost_a_step_only_a_few(web):
    """After three in a row there is a pause, in which others play: a step can afford 16 voided matches."""
    stop = threading.Event()

    def leave():
        # In the pause that follows no match comes any more, and then the test is over.
        with contextlib.suppress(TimeoutError, ConnectionClosed), web.person() as ann:
            web.queue(ann)
            while not stop.is_set():
                ann.until("turn")
                ann.send(kind="leave")
                ann.until("over")
                ann.send(kind="queue", games=[web_bot.ANY_GAME])

    threading.Thread(target=leave, daemon=True).start()
    for _ in range(500):
        if len(web.bot._lobby.queue):
            break
        time.sleep(0.02)
    thread, found = playing(web.bot, TicTacToe, num_games=200)
    thread.join(60)
    stop.set()
    assert len(found["episodes"]) == 200
    assert 1 <= len(found["rollouts"].voided) <= web_bot.MAX_GIVEN_UP


def test_a_browser_is_the_same_player_after_a_resume(tmp_path):
    """Who the players are is kept with the run."""
    first = Served(tmp_path)
    token = first.page.register("ann", "person")
    del first
    second = Served(tmp_path)
    with second.page.connection(token) as ann:
        assert ann.until("welcome")["name"] == "ann"


def test_a_run_that_is_over_frees_its_port(tmp_path):
    """The next one in this process may have it."""
    first = Served(tmp_path)
    port = first.page.port
    del first
    bot = WebBot(port, CLOCK_S, "127.0.0.1")
    bot.keep_in(tmp_path)
    assert RunningArena(port, None, None, None, None).ask("/play")[0] == 200


def test_the_page_is_the_arenas(web):
    """With all that keeps a browser from loading anything else."""
    status, text = web.page.ask("/play")
    assert status == 200
    assert web_bot.ANY_GAME in text
    for path in ("/", f"/games/{quote(web_bot.ANY_GAME)}", "/matches", "/leaderboard"):
        assert web.page.ask(path)[0] == 200


def test_a_port_that_is_taken_is_told(web, tmp_path):
    """And what to do."""
    with pytest.raises(SpiralError, match=r"127.0.0.1:\d+ cannot be listened at .*: web:port=N"):
        WebBot(web.page.port, 1.0, "127.0.0.1").keep_in(tmp_path)


@pytest.mark.parametrize(("args", "reason"), [({"port": 70000}, "port=70000"), ({"clock": 0}, "clock=0")])
def test_arguments_out_of_range_are_told(args, reason):
    """As for any bot."""
    with pytest.raises(SpiralError, match=reason):
        Plugins.installed().make("bot", "web", **args)


def test_people_play_with_the_main_process_alone(tmp_path, monkeypatch):
    """The other processes of a run cannot listen at the same port, and decline."""
    monkeypatch.setenv("RANK", "1")
    bot = WebBot(free_port(), 1.0, "127.0.0.1")
    bot.keep_in(tmp_path)
    with pytest.raises(Unavailable, match="main process"):
        bot.choose(KuhnPoker(), 0, None)


class Opened:
    """A logger that holds the first step until a person waits: a run of a test is over in a second."""

    queued = threading.Event()

    def __init__(self, run_dir):
        pass

    @hookimpl
    def run_started(self, run_dir):
        assert self.queued.wait(60)


class Local:
    """The plug-in of this file."""

    @hookimpl
    def register_loggers(self, register):
        register("opened", Opened)


def test_a_run_with_web_among_its_members_trains_while_a_person_plays(tmp_path):
    """The person's games are in the log with its moves, and the learner's turns in them have their advantages; the other
    games are played by another member."""
    Opened.queued.clear()
    port, ends = free_port(), []

    def play():
        page = RunningArena(port, None, None, None, None)
        for _ in range(3000):
            try:
                token = json.loads(page.ask("/api/players", {"kind": "guest"})[1])["token"]
                break
            except OSError:
                time.sleep(0.02)
        with page.connection(token, origin=f"http://127.0.0.1:{port}") as person:
            (game,) = json.loads(page.ask("/api/games")[1])
            assert (game["name"], game["num_players"]) == ("kuhn_poker", 2)
            assert "bluffing" in game["skills"]
            assert page.ask("/runs/r")[0] == 200
            while len(ends) < 2:
                person.send(kind="queue", games=["kuhn_poker"])
                person.until("queued")
                Opened.queued.set()
                ends.append(person.play())

    threading.Thread(target=play, daemon=True).start()
    plugins = Plugins.installed()
    plugins.add(Local(), "local", "1.0")
    words = [
        "steps=6", "rollout.episodes=8", "warm_start.max_steps=2", "warm_start.cache=false", "warm_start.batch=8",
        "evaluate.every=0", "checkpoint.every=6", "loggers=[opened]", f"pool.members=['web:port={port},clock=60',random]",
        "opponents={name: mixture, args: {weights: {members: 1}}}",
    ]  # fmt: skip
    asked = config.load(None, words)
    check(asked, plugins)
    run = RunDir.create(tmp_path / "r", asked, plugins.distributions)
    train(asked, run, plugins, lambda *_: None, False)
    assert [line["step"] for line in run.metrics()] == list(range(6))
    by_person = [one for one in run.episodes() if any("web" in policy for policy in one["policies"])]
    finished = [end for end in ends if end["outcome"] != "voided"]
    assert 1 <= len(finished) <= len(by_person)
    for episode in by_person:
        own = [turn for turn in episode["turns"] if "web" in episode["policies"][turn["player"]]]
        assert all(turn["legal"] and turn["move"] for turn in own)
        learners = [turn for turn in episode["turns"] if episode["policies"][turn["player"]] == LEARNER]
        assert all(turn["advantage"] is not None for turn in learners)
    assert len(run.episodes()) == 48
    assert any("bot:random" in one["policies"] for one in run.episodes())
