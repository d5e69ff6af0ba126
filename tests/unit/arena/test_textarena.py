"""TextArena's own client, unmodified, on the arena: what it asks and is told, and whole rated matches of it."""

import asyncio
import contextlib
import json
import random
import ssl
import threading
import time
import uuid
from urllib.parse import urlencode

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from spiral.api.errors import SpiralError
from spiral.arena import lobby as lobby_module
from spiral.arena import serving
from spiral.arena.database import Database
from spiral.arena.game_process import GameFault, GameHost
from spiral.arena.house import BotChooser, HousePlayer
from spiral.arena.lobby import GameInfo, Lobby
from spiral.arena.server import application, game_sockets
from spiral.arena.store import Store
from spiral.arena.textarena_client import ENVIRONMENTS, KINDS, GameTalk, asked_games, environment, move_in, register
from spiral.arena.textarena_sockets import game_address
from spiral.plugins.registry import Plugins
from tests.unit.arena.conftest import RunningArena
from tests.unit.arena.textarena_games import NAMES, every_environment, local_games, textarena_games


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """Made as `spiral arena` makes it where none is given."""
    return serving.self_signed(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="module")
def local_host():
    made = GameHost(local_games, limit_s=5.0)
    yield made
    made.close()


@contextlib.contextmanager
def running(folder, host, names, certificate, monkeypatch, clock_s=30.0, house_after_s=0.1):
    """An arena with its TLS port until the block ends; the house plays all games."""
    monkeypatch.setattr(lobby_module, "HOUSE_AFTER_S", house_after_s)
    monkeypatch.setattr(lobby_module, "PAIRING_S", 0.02)
    database = Database(f"sqlite:///{folder / 'arena.db'}")
    store = Store(database)
    bot = HousePlayer(store.house_player("random"), BotChooser(Plugins.installed().make("bot", "random"), "random"))
    lobby = Lobby(store, host, [GameInfo(name, 2, "") for name in names], {name: [bot] for name in names}, clock_s)
    ports = [serving.listening("127.0.0.1", 0) for _ in range(2)]
    pages = serving.page_server(application(lobby, games_at=game_address(ports[1].getsockname()[1])))
    games = serving.game_server(game_sockets(lobby), *certificate)
    port = ports[0].getsockname()[1]
    thread = threading.Thread(target=asyncio.run, args=(serving.serve([(pages, ports[0]), (games, ports[1])]),))
    thread.start()
    while not (pages.started and games.started):
        time.sleep(0.01)
    try:
        yield RunningArena(port, lobby, store, games.servers[0].get_loop(), lambda: None)
    finally:
        pages.should_exit = True
        thread.join(20)
        store.close()
        database.close()


@pytest.fixture
def arena(tmp_path, local_host, certificate, monkeypatch):
    with running(tmp_path, local_host, tuple(local_games()), certificate, monkeypatch) as made:
        yield made


class Socket:
    """One of the client's two sockets, without the client."""

    def __init__(self, socket):
        self.socket = socket

    def send(self, **message):
        self.socket.send(json.dumps(message))

    def until(self, *commands, within=20.0):
        """The next message with one of the commands."""
        end = time.monotonic() + within
        while True:
            message = json.loads(self.socket.recv(timeout=max(0.1, end - time.monotonic())))
            if message["command"] in commands:
                return message


def signed_up(arena, name):
    """The token of a model that registered as the client does."""
    token = str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{name}@example.org"))
    status, text = arena.ask("/register_model", {"model_name": name, "description": None, "model_token": token})
    assert (status, json.loads(text)) == (200, {"model_token": token})
    return token


@contextlib.contextmanager
def queue(arena, name, token):
    asked = urlencode({"model_name": name, "model_token": token})
    with connect(f"ws://127.0.0.1:{arena.port}/ws?{asked}") as socket:
        yield Socket(socket)


@contextlib.contextmanager
def game(url, token):
    unchecked = ssl.create_default_context()
    unchecked.check_hostname, unchecked.verify_mode = False, ssl.CERT_NONE
    with connect(f"wss://{url}/ws?token={token}", ssl=unchecked) as socket:
        yield Socket(socket)


def matched(arena, name, token, number=35):
    """What the queue says of a match."""
    with queue(arena, name, token) as waiting:
        waiting.send(command="queue", environments=[number])
        assert waiting.until("queued")["num_players_in_queue"] >= 0
        return waiting.until("match_found")


# --- what the client says and is told ---------------------------------------------------------------------------------


def test_its_numbers_and_types_are_those_of_the_client():
    """Both tables are copies, so they are compared with the client's own."""
    pytest.importorskip("textarena")
    from textarena import api
    from textarena.core import ObservationType

    assert {v: k for k, v in {**api.NAME_TO_ID_DICT, **api.MGC_NAME_TO_ID_DICT}.items()} == dict(ENVIRONMENTS)
    assert {one.name: one.value for one in ObservationType} == dict(KINDS)


def test_every_environment_of_the_client_is_a_game_here():
    """All fifteen run offline, under the name that the client gives them."""
    pytest.importorskip("textarena")
    from spiral_games.textarena import environment_ids

    assert set(ENVIRONMENTS.values()) <= set(environment_ids())
    assert environment("textarena/Chess-v0(style=transcript)") == "Chess-v0"
    assert environment("chess") is environment("openspiel/chess") is None


def test_a_number_stands_for_all_games_of_its_name():
    """With arguments and without; one that is not played here is told by name."""
    games = ["kuhn_poker", "textarena/Chess-v0", "textarena/Chess-v0(style=board)", "textarena/Othello-v0"]
    assert asked_games([0, 68, "x", True], games) == games[1:3]
    with pytest.raises(SpiralError, match="Poker-v0 is not played here; there are: Chess-v0, Chess-v0, Othello-v0"):
        asked_games([68], games)


@pytest.mark.parametrize(
    ("action", "legal", "move"),
    [
        ("[4]", ["3", "4"], "4"),
        ("4", ["3", "4"], "4"),
        ("Corners are taken, [9] too, so I take the centre: [ 4 ]. Not [3].", ["3", "4"], "4"),
        ("[BID: 2 3] beats it", ["Call", "Bid: 2, 3"], "Bid: 2, 3"),
        ("I pass", ["3"], "I pass"),
        ("[7]", ["3"], "[7]"),
        ("[Offer: 1 Wood -> 1 Ore] deal?", None, "[Offer: 1 Wood -> 1 Ore] deal?"),
    ],
)
def test_the_move_of_a_reply_is_its_first_legal_part_in_brackets(action, legal, move):
    """As the environments search for it; what holds no legal move goes to the game whole, which says why it is none."""
    assert move_in(action, legal) == move


TURN = {"kind": "turn", "match": 1, "number": 0, "observation": "all", "legal_moves": ["4"], "clock_s": 9.0}
BEGUN = {"kind": "match", "match": 1, "game": "x/TicTacToe-v0", "seat": 1}


def talked(*messages, kept=None):
    """What a client is told for messages of the arena; `kept`: what the game keeps at each look."""
    looks = iter(kept or [])

    async def look(match, seat):
        assert (match, seat) == (1, 1)
        return next(looks, None)

    async def all_told():
        talk = GameTalk(look)
        return [told for message in messages for told in await talk.told(message)]

    return asyncio.run(all_told())


def test_an_observation_holds_what_is_new_with_sender_and_type():
    """Since the client itself keeps what it was told before; a kind that it does not know is a message of the game."""
    first = [(-1, "rules", "PROMPT"), (0, "[4]", "PLAYER_ACTION")]
    second = [*first, (-1, "board", "GAME_BOARD"), (-1, "hm", "WHISPER")]
    told = talked(BEGUN, TURN, TURN, kept=[first, second])
    assert [one["player_id"] for one in told] == [1, 1]
    assert [one["observation"] for one in told] == [
        [[-1, "rules", 1], [0, "[4]", 2]],
        [[-1, "board", 5], [-1, "hm", 4]],
    ]


def test_an_observation_is_never_empty():
    """The client takes an empty list for none and would wait for ever: of two turns in a row, the second has a word."""
    told = talked(BEGUN, TURN, TURN, kept=[[(-1, "rules", "PROMPT")]] * 2)
    assert told[1]["observation"] == [[-1, "It is your turn.", 4]]


def test_a_game_without_messages_is_shown_as_one():
    """What it lets the player observe, whole."""
    assert talked(BEGUN, TURN)[0]["observation"] == [[-1, "all", 4]]


def test_a_refused_move_is_told_with_the_next_observation():
    """As TextArena's environments tell it, by the game and of the kind GAME_ADMIN."""
    told = talked(BEGUN, {"kind": "illegal", "reason": "square 4 is taken"}, TURN, kept=[[]])
    assert told[0]["observation"] == [[-1, "Player 1 attempted an invalid move. Reason: square 4 is taken", 6]]


@pytest.mark.parametrize(
    ("ending", "offender", "commands", "reason"),
    [
        ("finished", None, ["game_over"], "ended by its rules"),
        ("timeout", 1, ["timed_out", "game_over"], "Player 1 ran out of time"),
        ("timeout", 0, ["game_over"], "Player 0 ran out of time"),
        ("illegal", 0, ["game_over"], "Player 0 made 3 invalid moves"),
        ("left", 0, ["game_over"], "Player 0 gave up"),
    ],
)
def test_the_end_is_told_with_its_reason_and_the_change_of_the_games_rating(ending, offender, commands, reason):
    """In mu, which is what the leaderboard shows; the rating over all games is not the client's."""
    ratings = [
        {"game": "", "before": [25, 8], "after": [40, 8]},
        {"game": "x/TicTacToe-v0", "before": [25.0, 8], "after": [27.5, 8]},
    ]
    over = {"kind": "over", "outcome": "win", "ending": ending, "offender": offender, "ratings": ratings}
    told = talked(BEGUN, TURN, {**over, "observation": ""})[1:]
    assert [one["command"] for one in told] == commands
    assert (told[-1]["outcome"], told[-1]["trueskill_change"]) == ("win", 2.5)
    assert reason in told[-1]["reason"]


def test_an_end_before_the_first_turn_comes_after_an_observation():
    """Without one the client would not know whose rating changed, and would say nothing of it."""
    over = {"kind": "over", "outcome": "voided", "ending": "it raised", "offender": None, "ratings": []}
    told = talked(BEGUN, {**over, "observation": "the end"})
    assert [one["command"] for one in told] == ["observation", "game_over"]
    assert (told[1]["reason"], told[1]["trueskill_change"]) == ("the match is void: it raised", 0)


def test_a_registration_answers_as_the_client_expects(tmp_path):
    """The client reads these words; the same registration again is answered alike."""
    database = Database(f"sqlite:///{tmp_path / 'a.db'}")
    store = Store(database)
    store.add_player("ann", "person")
    token, other = str(uuid.uuid4()), str(uuid.uuid4())
    asked = {"model_name": "m.1", "description": "d", "email": "m@example.org", "model_token": token}
    assert register(store, asked) == register(store, asked) == (200, {"model_token": token})
    assert store.player_by_token(token).name == "m.1"
    for change, status, words in [
        ({"model_token": other}, 409, "different token"),
        ({"model_name": "m.2"}, 409, "different token"),
        ({"model_name": "ann", "model_token": other}, 409, "different token"),
        ({"model_token": None}, 400, "Model token is required"),
        ({"model_token": "guess"}, 400, "Invalid token format"),
        ({"model_name": "<b>"}, 422, "a name has 1 to 32 letters"),
        ({"model_name": None}, 422, "a name has 1 to 32 letters"),
    ]:
        answered, told = register(store, {**asked, **change})
        assert (answered, words in told["detail"]) == (status, True), change
    database.close()


# --- its sockets ------------------------------------------------------------------------------------------------------


def test_a_match_over_its_sockets(arena):
    """Queue, match, TLS, observations, a refused move, one that is too long, and the end with the change of rating."""
    token = signed_up(arena, "ann")
    found = matched(arena, "ann", token)
    assert found["env_id"] == "TicTacToe-v0"
    assert found["game_url"].startswith("127.0.0.1:")
    with game(found["game_url"], token) as play:
        first = play.until("observation")
        assert first["observation"][0] == [-1, f"You are Player {first['player_id']}.", 1]
        play.send(command="ping")
        assert play.until("pong")
        play.send(command="action", action="[9], or \ud800?")
        assert "attempted an invalid move" in play.until("observation")["observation"][-1][1]
        play.send(command="action", action="[0]" * 10_000)
        assert "shorten it" in play.until("observation")["observation"][-1][1]
        every = "".join(f"[{square}]" for square in range(9))
        play.send(command="action", action=every)
        assert play.until("action_ack")
        while (end := play.until("observation", "game_over"))["command"] == "observation":
            play.send(command="action", action=every)
        assert play.until("server_shutdown")
    moves = arena.store.match(found["environment_id"]).moves
    assert [one.said for one in moves if not one.legal] == ["[9], or ??"]
    assert {one.said for one in moves if one.legal and len(one.move) == 1} >= {every}
    assert arena.store.rating(arena.store.player_by_name("ann").id, "local/TicTacToe-v0").mu == pytest.approx(
        25 + end["trueskill_change"]
    )


def test_it_meets_programs_of_the_arenas_own_protocol(arena, monkeypatch):
    """In the same queue and match; each is told in its own words."""
    monkeypatch.setattr(lobby_module, "HOUSE_AFTER_S", 60.0)
    token = signed_up(arena, "ann")
    with arena.connection(arena.register("bob")) as bob:
        bob.send(kind="queue", games=["local/TicTacToe-v0"])
        bob.until("queued")
        found = matched(arena, "ann", token)
        assert set(bob.until("match")["players"]) == {"ann", "bob"}
        with game(found["game_url"], token) as play:
            seat = bob.heard[-1]["seat"]
            if seat == 1:
                play.until("observation")
                play.send(command="action", action="[4]")
                assert play.until("action_ack")
                play.send(command="action", action="[5]")
                assert "not your turn" in play.until("error")["message"]
            bob.until("turn")
            bob.send(kind="leave")
            end = play.until("game_over")
    assert (end["outcome"], end["reason"]) == ("win", f"Player {seat} gave up")
    assert end["trueskill_change"] > 0


@pytest.mark.parametrize(("name", "known"), [("ann", False), ("bob", True)])
def test_a_name_or_token_that_is_not_its_own_gets_no_socket(arena, name, known):
    """Refused before it opens, so the client gives up at once instead of after half an hour."""
    token = signed_up(arena, "ann") if known else "guess"
    with pytest.raises(InvalidStatus, match="403"), queue(arena, name, token):
        pass
    with pytest.raises(InvalidStatus, match="403"), game(f"127.0.0.1:{port_of_games(arena)}", "guess"):
        pass


def port_of_games(arena):
    """From a match of another player."""
    return matched(arena, "zoe", signed_up(arena, "zoe"))["game_url"].rpartition(":")[2]


def test_a_queue_for_what_is_not_here_ends_at_once(arena):
    """The client would wait for half an hour after an error alone; a match at no address ends its waiting."""
    with queue(arena, "ann", signed_up(arena, "ann")) as waiting:
        waiting.send(command="queue", environments=[68])
        assert "Poker-v0 is not played here" in waiting.until("error")["message"]
        assert waiting.until("match_found")["game_url"] == ""
        with pytest.raises(ConnectionClosed):
            waiting.until("nothing")


def test_a_client_that_comes_again_gets_its_match_back(arena, monkeypatch):
    """It is told all of it again; the older of its sockets is told to stop."""
    token = signed_up(arena, "ann")
    found = matched(arena, "ann", token)
    with game(found["game_url"], token) as play:
        asked = play.until("observation")
        with queue(arena, "ann", token) as again:
            again.send(command="queue", environments=[35])
            assert again.until("match_found") == found
            assert play.until("server_shutdown")
        with game(found["game_url"], token) as back:
            assert back.until("observation") == asked


def test_a_match_that_is_over_ends_the_client(arena):
    """A game socket without a match in play closes with a sentence."""
    found = matched(arena, "zoe", signed_up(arena, "zoe"))
    with game(found["game_url"], signed_up(arena, "ann")) as play:
        assert "over, or has not begun" in play.until("error")["message"]
        assert play.until("server_shutdown")


def test_a_player_that_leaves_the_queue_is_told_so(arena, monkeypatch):
    """And is paired no more; a closed socket leaves it too."""
    monkeypatch.setattr(lobby_module, "HOUSE_AFTER_S", 60.0)
    token = signed_up(arena, "ann")
    for leave in (True, False):
        with queue(arena, "ann", token) as waiting:
            waiting.send(command="queue", environments=[35, 84])
            assert waiting.until("queued")["num_players_in_queue"] == 1
            if leave:
                waiting.send(command="leave")
                assert waiting.until("left")
                assert len(arena.lobby.queue) == 0
    end = time.monotonic() + 10
    while len(arena.lobby.queue) and time.monotonic() < end:
        time.sleep(0.02)
    assert len(arena.lobby.queue) == 0


def test_a_game_that_fails_is_void_for_the_client_too(arena):
    """Its rating stays, and it is told the cause."""
    token = signed_up(arena, "ann")
    found = matched(arena, "ann", token, number=84)
    with game(found["game_url"], token) as play:
        play.until("observation")
        play.send(command="action", action="raise")
        end = play.until("game_over")
    assert (end["outcome"], end["trueskill_change"]) == ("voided", 0)
    assert "ZeroDivisionError" in end["reason"]


def test_a_host_that_is_asked_for_a_match_that_failed_says_so(local_host):
    """Whatever ended it, and for every question."""
    for ask in (lambda: asyncio.run(local_host.amessages(99, 0)), lambda: local_host.play(99, "4")):
        with pytest.raises(GameFault):
            ask()


@pytest.mark.parametrize(
    ("called", "fixed", "address"),
    [
        ("arena.example.org:8000", "", "arena.example.org:8443"),
        ("[::1]:8000", "", "[::1]:8443"),
        ("inner:8000", "arena.example.org:443", "arena.example.org:443"),
    ],
)
def test_game_sockets_are_where_the_client_called(called, fixed, address):
    """At the TLS port of the same host, unless the arena is behind a proxy."""
    assert game_address(8443, fixed)(called) == address


def test_a_certificate_that_is_none_is_told_in_a_sentence(tmp_path):
    """And so are a missing openssl and a port in use."""
    file = tmp_path / "c.pem"
    file.write_text("no certificate")
    with pytest.raises(SpiralError, match="are no certificate with its key"):
        serving.game_server(None, file, file)
    with serving.listening("127.0.0.1", 0) as taken, pytest.raises(SpiralError, match="choose another"):
        serving.listening("127.0.0.1", taken.getsockname()[1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(tmp_path))
        with pytest.raises(SpiralError, match="install openssl, or give --tls-cert"):
            serving.self_signed(tmp_path)


# --- the client itself ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def textarena_host():
    made = GameHost(textarena_games, limit_s=60.0)
    yield made
    made.close()


class Agent:
    """Plays the three games, with words around its moves as a model would."""

    model_name, seen = "scripted", ""

    def __call__(self, observation):
        if not isinstance(observation, str):  # the raw variant tells only what is new
            observation = self.seen + "\n".join(text for _, text, _ in observation)
        self.seen = observation
        if "Tic Tac Toe" in observation:
            return f"I take {observation.rpartition('Available Moves: ')[2].split(',')[0]}."
        if "Negotiation Game" in observation:
            return "[Accept]" if "Player 1" in observation[:40] else "[Offer: 1 Wood -> 1 Wheat]"
        return "[Call]" if " bids " in observation.rpartition("New round")[2] else "At least [Bid: 1, 2]."


def plays(name, environments, results):
    """One match of the client as its documentation plays it, in a thread with an event loop of its own."""
    import textarena

    asyncio.set_event_loop(loop := asyncio.new_event_loop())
    agent = Agent()
    env = textarena.make_online(environments, name, email=f"{name}@example.org", agent=agent)
    env.reset(num_players=1)
    done = False
    while not done:
        _, observation = env.get_observation()
        done, _ = env.step(agent(observation))
    rewards, infos = env.close()
    results.append((name, rewards, infos))
    for task in (left := asyncio.all_tasks(loop)):  # the client leaves some
        task.cancel()
    loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
    loop.close()


def together(*matches, results, within=120.0):
    """Several clients at once; each match is (name, environments)."""
    before = len(results)
    threads = [threading.Thread(target=plays, args=(*match, results), daemon=True) for match in matches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(within)
    assert len(results) == before + len(matches)


@pytest.fixture
def textarena_arena(tmp_path, textarena_host, certificate, monkeypatch):
    pytest.importorskip("textarena")
    from textarena import api

    with running(tmp_path, textarena_host, NAMES, certificate, monkeypatch) as arena:
        # The two constants, and nothing else of it.
        monkeypatch.setattr(api, "MATCHMAKING_WS_URI", f"ws://127.0.0.1:{arena.port}/ws")
        monkeypatch.setattr(api, "MATCHMAKING_HTTP_URI", f"http://127.0.0.1:{arena.port}")
        yield arena


def agrees(arena, results, num_matches):
    """What the clients read back is what the leaderboard says: each rating is 25 plus its changes."""
    played = {}
    for number in range(1, num_matches + 1):
        match = arena.store.match(number)
        assert (match.status, match.ending) == ("finished", "finished")
        for player in match.players:
            played.setdefault((player.name, match.game), []).append(number)
    for name in {result[0] for result in results}:
        changes = [change for result in results if result[0] == name for change in result[1].values()]
        ended = [info for result in results if result[0] == name for info in result[2].values()]
        assert {one["outcome"] for one in ended} <= {"win", "draw", "loss"}
        assert {one["reason"] for one in ended} == {"the match ended by its rules"}
        boards = {game: json.loads(arena.ask(f"/api/leaderboard?game={game}")[1]) for game in NAMES}
        rows = {game: row for game, board in boards.items() for row in board if row["name"] == name}
        assert {game: row["matches"] for game, row in rows.items()} == {
            game: len(numbers) for (who, game), numbers in played.items() if who == name
        }
        assert sum(row["mu"] - 25 for row in rows.values()) == pytest.approx(sum(changes))
        assert len(changes) == sum(row["matches"] for row in rows.values())
    return played


def test_two_clients_play_each_other_and_the_house(textarena_arena, monkeypatch):
    """A match of the two, one with the training variant and one with several games to choose from, then one of the
    first with the house; what they read back is what the leaderboard says."""
    results = []
    with monkeypatch.context() as patch:
        patch.setattr(lobby_module, "HOUSE_AFTER_S", 60.0)
        together(("ann", "TicTacToe-v0-train"), ("bob", ["Poker-v0", "TicTacToe-v0"]), results=results)
    together(("ann", "LiarsDice-v0"), results=results)
    assert agrees(textarena_arena, results, 2).keys() == {
        ("ann", NAMES[0]), ("bob", NAMES[0]), ("ann", NAMES[1]), ("random", NAMES[1]),
    }  # fmt: skip


@pytest.mark.slow
def test_two_clients_finish_ten_rated_matches_of_three_games(textarena_arena, monkeypatch):
    """Four against each other, and between those three each against a player of the house, since the last opponent
    comes again only after a while; each game in both."""
    first, second, third = "TicTacToe-v0", "LiarsDice-v0", "SimpleNegotiation-v0"
    results = []
    for shared, alone in ((first, (second, third)), (second, (third, first)), (third, (first, second))):
        with monkeypatch.context() as patch:
            patch.setattr(lobby_module, "HOUSE_AFTER_S", 60.0)
            together(("ann", shared), ("bob", shared), results=results)
        together(("ann", alone[0]), ("bob", alone[1]), results=results)
    monkeypatch.setattr(lobby_module, "HOUSE_AFTER_S", 60.0)
    together(("ann", f"{first}-raw"), ("bob", first), results=results)
    played = agrees(textarena_arena, results, 10)
    assert {key: len(numbers) for key, numbers in played.items()} == {
        ("ann", NAMES[0]): 3, ("ann", NAMES[1]): 2, ("ann", NAMES[2]): 2, ("bob", NAMES[0]): 3, ("bob", NAMES[1]): 2,
        ("bob", NAMES[2]): 2, ("random", NAMES[0]): 2, ("random", NAMES[1]): 2, ("random", NAMES[2]): 2,
    }  # fmt: skip


@pytest.mark.slow
def test_each_environment_of_the_client_is_played_on_its_sockets(tmp_path, certificate, monkeypatch):
    """All fifteen: what the game tells first, moves that it takes, an opponent of the house in each other seat."""
    pytest.importorskip("textarena")
    host = GameHost(every_environment, limit_s=60.0)
    names = [f"textarena/{name}" for name in ENVIRONMENTS.values()]
    with running(tmp_path, host, names, certificate, monkeypatch, clock_s=60.0) as arena:
        for number, name in ENVIRONMENTS.items():
            players = len(host.open(0, f"textarena/{name}", 0).observations)
            arena.lobby.games[f"textarena/{name}"] = GameInfo(name, players, "")
            token = signed_up(arena, f"model {number}")
            found = matched(arena, f"model {number}", token, number)
            assert found["env_id"] == name
            with game(found["game_url"], token) as play:
                told = play.until("observation", within=60.0)
                assert told["observation"][0][0] == -1, name  # a prompt, or a board for who guesses in Codenames
                move = host.copy(found["environment_id"]).sample_move(random.Random(0))
                play.send(command="action", action=move if " " in move else f"[{move.strip('[]')}]")
                assert play.until("action_ack")
                told = play.until("observation", "game_over", within=60.0)
                assert "invalid move" not in str(told), (name, move, told)
                assert len(arena.store.match(found["environment_id"]).players) == players
    host.close()
