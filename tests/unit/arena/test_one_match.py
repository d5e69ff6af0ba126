"""`spiral play --web`: a person plays a policy in the browser, at once, in the seat and from the deal that were asked for."""

import contextlib
import threading

import pytest
from click.testing import CliRunner

from spiral import SpiralError
from spiral.arena.one_match import one_match
from spiral.arena.server import application
from spiral.arena.serving import listening, page_server
from spiral.commands.main import main
from spiral.training.session import Policy
from tests.unit.arena.conftest import RunningArena


@pytest.fixture(scope="module")
def loaded():
    return Policy.named("random", "tic_tac_toe").loaded


@contextlib.contextmanager
def served(lobby):
    bound = listening("127.0.0.1", 0, "")
    serving = page_server(application(lobby))
    thread = threading.Thread(target=serving.run, args=([bound],), daemon=True)
    thread.start()
    while not serving.started:
        threading.Event().wait(0.01)

    def stop():
        serving.should_exit = True
        thread.join(10)

    yield RunningArena(bound.getsockname()[1], lobby, lobby.store, None, stop)
    stop()


def test_a_person_plays_the_policy_in_the_browser(loaded):
    """As the player that was asked for; the next match has the next deal."""
    with one_match(loaded, None, 1, 5) as lobby, served(lobby) as page:
        assert "tic_tac_toe" in page.ask("/play")[1]
        token = page.register("ann", "guest")
        with page.connection(token, origin=f"http://127.0.0.1:{page.port}") as ann:
            for seed in (5, 6):
                ann.send(kind="queue", games=["tic_tac_toe"])
                match = ann.until("match")
                assert (match["seat"], match["players"][0]) == (1, "random")
                assert lobby.store.match(match["match"]).seed == seed
                assert ann.play()["ending"] == "finished"


def test_a_seat_that_the_game_does_not_have_is_told(loaded):
    """In a sentence, before anything is served."""
    with pytest.raises(SpiralError, match="tic_tac_toe has players 0 to 1, not 2"), one_match(loaded, None, 2, 0):
        pass


def test_a_port_without_a_page_is_refused():
    """It would be ignored."""
    result = CliRunner().invoke(main, ["play", "random", "--game", "tic_tac_toe", "--port", "80"])
    assert result.exit_code == 2
    assert "--port is for the page of --web" in result.output
