"""A person plays in a real browser against players of the house, by clicking and by keyboard alone."""

import contextlib
import json
import socket
import threading
import time

import pytest
import uvicorn

from spiral.arena import lobby as lobby_module
from spiral.arena import match_log, run_pages
from spiral.arena.opening import open_arena
from spiral.arena.records import Move
from spiral.arena.reply_tokens import Token, Tokens
from spiral.arena.server import application
from tests.end_to_end.chromium import CHROMIUM, chromium

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed (Debian's package chromium)")

GAMES = ("tic_tac_toe", "kuhn_poker", "textarena/TicTacToe-v0", "textarena/SimpleNegotiation-v0")
FIRST_PAGE_BYTES = 60_000


class Arena:
    """As `spiral arena` serves it, on a port of its own."""

    def __init__(self, port, lobby, runs=None):
        self.port, self.lobby, self.runs = port, lobby, runs
        self.base = f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def arena(tmp_path_factory):
    """Four games, the random bot of the house, and a run of which ten steps are done."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lobby_module, "HOUSE_AFTER_S", 0.2)
        url = f"sqlite:///{tmp_path_factory.mktemp('arena') / 'arena.db'}"
        opened = open_arena(GAMES, ["random"], url, 300.0, 1, lambda text: None)
        patch.setattr(run_pages, "EVERY_S", 3)
        runs = tmp_path_factory.mktemp("runs")
        (runs / "first").mkdir()
        config = "games:\n- name: kuhn_poker\n  args: {}\nmodel:\n  name: byte-0.1m\nsteps: 40\n"
        (runs / "first" / "config.yaml").write_text(config, encoding="utf-8")
        train(runs / "first", 10)
        served = application(opened.lobby, runs=runs)
        server = uvicorn.Server(uvicorn.Config(served, port=0, log_level="warning"))
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield Arena(server.servers[0].sockets[0].getsockname()[1], opened.lobby, runs)
        server.should_exit = True
        thread.join(10)
        opened.close()


def train(run, steps):
    """So many steps of a run."""
    rows = [{"step": n, "time/step_s": 2.0, "learner/entropy": 0.5} for n in range(steps)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    """Opens new tabs of one browser."""
    with chromium(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


@pytest.fixture
def page(tab):
    """A new tab, whose scripts raised nothing and asked for nothing that the policy forbids."""
    made = tab()
    yield made
    assert not made.errors


def queue(page, arena, game):
    """Choose one game, and be paired with the house."""
    page.open(f"{arena.base}/play?game={game}")
    page.click("#choose button[type=submit]")
    page.until("match && !match.over && !document.querySelector('#match').hidden")


def answer(page, move):
    """Play until the match is over; `move` makes one move."""
    while True:
        page.until("match && (match.over || (turn && document.querySelector('#lost').hidden))")
        if page.evaluate("match.over"):
            return page.text("#turn")
        number = page.evaluate("number")
        move()
        page.until(f"match.over || turn || number !== {number}")


def press_move(page):
    """With keys alone: the focus is on the first legal move already."""
    page.until("document.activeElement.parentElement.id === 'moves'")
    page.press("ArrowRight")
    page.press("Enter")


def test_a_person_plays_by_keyboard_alone(arena, page):
    """From the first page to a finished match of Kuhn poker and its replay, without a click; nothing comes from another
    host, and the first page is small."""
    page.open(arena.base + "/")
    loaded = page.evaluate("performance.getEntriesByType('resource').map((one) => [one.name, one.transferSize])")
    assert all(name.startswith(arena.base) for name, _ in loaded)
    size = sum(size for _, size in loaded)
    assert size + page.evaluate("performance.getEntriesByType('navigation')[0].transferSize") < FIRST_PAGE_BYTES
    page.open(arena.base + "/play?game=kuhn_poker")
    page.until("document.querySelectorAll('input[name=game]:checked').length === 1")
    for _ in range(60):
        if page.evaluate("document.activeElement.id") == "name":
            break
        page.press("Tab")
    page.type("Ann")
    page.press("Enter")
    end = answer(page, lambda: press_move(page))
    assert "You won." in end or "You lost." in end
    assert "Rating" in end
    for _ in range(5):
        if page.evaluate("document.activeElement.id") == "replay":
            break
        page.press("Tab")
    page.press("Enter")
    page.until("location.pathname.startsWith('/matches/') && document.querySelector('#steps')?.hidden === false")
    assert page.text("#at").startswith("turn 1 of")
    page.press("ArrowRight")
    page.until("document.querySelector('#at').innerText.startsWith('turn 2 of')")
    told = page.evaluate("document.body.textContent")
    assert "kuhn p0" in told
    assert "kuhn p1" in told


def test_a_secret_link_makes_the_same_player_elsewhere(arena, page):
    """The link's token stays in the browser: the address is cleared, and no request holds it."""
    page.open(arena.base + "/play")
    page.evaluate("localStorage.clear()")
    token = page.evaluate(
        "fetch('/api/players', {method: 'POST', body: JSON.stringify({kind: 'person', name: 'Bo'})})"
        ".then((answer) => answer.json()).then((told) => told.token)"
    )
    page.open("about:blank")
    page.open(f"{arena.base}/play#token={token}")
    page.until("document.querySelector('#me').innerText === 'Bo'")
    assert page.evaluate("location.href") == arena.base + "/play"
    names = page.evaluate("performance.getEntries().map((one) => one.name).join(' ')")
    assert token not in names.replace(f"/play#token={token}", "")  # the tab's own record of where it went
    assert page.evaluate("document.querySelector('#link').value") == f"{arena.base}/play#token={token}"
    page.evaluate("localStorage.clear()")


@contextlib.contextmanager
def line(port):
    """A wire to the arena that can be held: connections stay open, and nothing comes through."""
    held, closing, listener = threading.Event(), threading.Event(), socket.create_server(("127.0.0.1", 0))

    def carry(one, other):
        with contextlib.suppress(OSError):
            while data := one.recv(1 << 16):
                while held.is_set() and not closing.is_set():
                    time.sleep(0.02)
                other.sendall(data)
        for end in (one, other):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def accept():
        with contextlib.suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(("127.0.0.1", port))
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=carry, args=pair, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1], held
    finally:
        closing.set()
        listener.close()


def test_a_page_says_that_it_is_not_connected_and_gets_its_seat_back(arena, page):
    """A connection that is open and silent is noticed, too; the match, the turn and the history are there again."""
    with line(arena.port) as (port, held):
        queue(page, Arena(port, arena.lobby), "tic_tac_toe")
        page.until("turn")
        answered = page.evaluate("number")
        page.click("#moves button")
        page.until(f"turn && number > {answered}")
        before = page.evaluate("[match.match, number, document.querySelector('#history').innerText]")
        held.set()
        page.until("!document.querySelector('#lost').hidden")
        assert "Not connected" in page.text("#lost")
        assert page.evaluate("document.querySelector('#moves button').disabled")
        held.clear()
        page.until("document.querySelector('#lost').hidden")
        page.evaluate("window.before = true, location.reload()")
        page.until("!window.before && typeof seen === 'object' && match && turn && seen.length > 1")
        after = page.evaluate("[match.match, number, document.querySelector('#history').innerText]")
        assert after == before
        page.click("#moves button")
        assert answer(page, lambda: page.click("#moves button"))


def test_a_spectators_page_says_that_it_is_not_connected_and_follows_again(arena, tab, page):
    """A connection that is open and silent, too: what happened meanwhile is shown as soon as it is connected again."""
    watcher = tab()
    queue(page, arena, "tic_tac_toe")
    page.until("turn")
    number = page.evaluate("match.match")
    with line(arena.port) as (port, held):
        watcher.open(f"http://127.0.0.1:{port}/matches/{number}")
        watcher.until("document.querySelector('#status').innerText.includes('is to move')")
        seen = watcher.text("#observation")
        watcher.evaluate("new Promise((done) => setTimeout(done, 4000))")  # in which nothing is moved
        assert watcher.evaluate("document.querySelector('#lost').hidden")
        held.set()
        watcher.until("!document.querySelector('#lost').hidden")
        assert "Not connected" in watcher.text("#lost")
        page.click("#moves button")
        page.until("turn || match.over")
        held.clear()
        watcher.until("document.querySelector('#lost').hidden")
        watcher.until(f"document.querySelector('#observation').innerText !== {json.dumps(seen)}")
    page.click("#leave")
    page.click("#leave")
    page.until("match.over")
    assert not watcher.errors


def test_the_tokens_of_a_replay_are_read_by_keyboard(arena, page):
    """What a policy sampled is opened, gone through with the arrows, and read out; the turn stays the one that it was."""
    store = arena.lobby.store
    players = [store.house_player(name).id for name in ("one", "two")]
    match = store.now(match_log.start_match, "tic_tac_toe", 0, players)
    told = Tokens((Token("<b>", -0.1, False), Token("4", -2.5, False), Token("<|eot|>", 0.0, True)), -2.6)
    for number, move in enumerate("4017"):
        store.now(match_log.add_move, match, number, Move(number % 2, move, f"so {move}", True), told)
    store.now(match_log.finish_match, match, [1.0, -1.0], "timeout")
    page.open(f"{arena.base}/matches/{match}")
    page.press("ArrowRight")
    page.until("document.querySelector('#at').innerText.startsWith('turn 2 of')")
    page.evaluate(
        "[...document.querySelectorAll('details.tokens')].find((one) => one.offsetParent).querySelector('summary').focus()"
    )
    page.press("Enter")
    page.until("document.querySelector('.turn:not([hidden]) .strip') !== null")
    page.press("Tab")
    page.until("document.activeElement.matches('.strip li')")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "<b>: 0.905, log-probability -0.100"
    page.press("ArrowRight")
    page.until("document.activeElement.textContent === '4'")
    assert page.text(".turn:not([hidden]) .reading") == 'Token 2 of 3: "4", 0.0821, log-probability -2.500'
    assert page.text("#at").startswith("turn 2 of")
    assert page.evaluate("document.querySelector('.turn:not([hidden]) .strip b') === null")
    assert page.evaluate("document.querySelector('.turn:not([hidden]) tbody').rows.length") == 3
    page.press("ArrowRight")
    assert "put there by the prompt format" in page.text(".turn:not([hidden]) .reading")


def test_a_run_is_watched_in_the_arena(arena, page):
    """Its report draws itself by a script inside of it, which the arena's own policy would let no browser run; it is drawn
    anew when the run wrote more."""
    page.open(arena.base + "/")
    assert page.overflow(390) <= 0  # and the window stays as narrow
    page.evaluate("[...document.querySelectorAll('nav a')].find((one) => one.textContent === 'Runs').click()")
    # In one look: the table is loaded anew every few seconds.
    page.until(
        "document.querySelector('h1')?.innerText.startsWith('Runs in') && document.readyState === 'complete' && "
        "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    )
    page.open(arena.base + "/runs/first")
    page.until("document.querySelector('h1')?.innerText === 'first'")
    page.until("document.querySelector('.live').innerText.includes('Step 10 of 40')")
    train(arena.runs / "first", 12)
    page.until("document.querySelector('.live')?.innerText.includes('Step 12 of 40')")
    assert page.overflow(390) <= 0
    page.click(".live a")
    page.until("location.pathname === '/runs'")


@pytest.mark.slow
def test_a_person_plays_three_games_by_clicking(arena, tab, page, tmp_path):
    """Tic-tac-toe, a TextArena game with buttons and one of free text; pages fit a phone, light and dark."""
    watcher = tab()
    for game in ("tic_tac_toe", "kuhn_poker", "textarena/TicTacToe-v0"):
        queue(page, arena, game)
        page.until("turn || match.over")
        watcher.open(f"{arena.base}/matches/{page.evaluate('match.match')}")
        assert answer(page, lambda: page.click("#moves button:last-child")).split(".")[0] in (
            "You won",
            "You lost",
            "A draw",
        )
        watcher.until("document.querySelector('.turns') !== null")  # the spectator's page became the replay
        assert page.overflow(360) <= 0
    queue(page, arena, "textarena/SimpleNegotiation-v0")

    def say():
        page.click("#text")
        page.type("<b>Let us wait.</b> [Deny]")
        page.press("Enter")

    answer(page, say)
    page.click("#replay")
    page.until("document.querySelector('.turns') !== null")
    assert "<b>Let us wait.</b>" in page.evaluate("document.body.textContent")
    for path in ("/", "/play", "/matches", "/leaderboard", "/games/textarena/SimpleNegotiation-v0", "/players/random"):
        page.open(arena.base + path)
        assert page.overflow(360) <= 0, path
        page.look(360, True, tmp_path / "narrow.png")
        assert (tmp_path / "narrow.png").stat().st_size > 1000
    board = json.loads(page.evaluate("fetch('/api/leaderboard').then((answer) => answer.text())"))
    assert {"random", "Ann"} & {row["name"] for row in board}
    assert not watcher.errors
