"""What a person reads while a run trains, and what `spiral plugins` tells."""

import io
import itertools
from dataclasses import asdict

from click.testing import CliRunner
from rich.console import Console

from spiral.api.progress import Phase
from spiral.commands.main import main
from spiral.config import loading as config
from spiral.reports.terminal import Terminal, alone, headline
from spiral.runs import metric_names

NASH = {"eval/kuhn_poker/nash_conv": 0.5, "eval/kuhn_poker/nash_conv_live": 0.6}
WINS = {f"eval/nim/vs/random/p{p}/{what}": 0.25 + p / 4 for p in range(2) for what in ("win", "draw", "win_low")}


def test_a_game_is_judged_by_nash_conv_where_it_is_known_and_by_wins_as_every_player_elsewhere():
    kuhn_wins = {"eval/kuhn_poker/vs/random/p0/win": 0.9}
    assert headline(NASH | WINS | kuhn_wins) == {"NashConv kuhn_poker": (0.5,), "wins nim vs random": (0.25, 0.5)}


def test_games_and_opponents_are_shown_by_their_own_names():
    """`x/vs/y` against `z` is no game `x` against `y/vs/z`."""
    metrics = {metric_names.match("x/vs/y", "z", 0, "win"): 0.5, metric_names.nash_conv("50%/vs/a"): 0.25}
    assert headline(metrics) == {"NashConv 50%/vs/a": (0.25,), "wins x/vs/y vs z": (0.5,)}


def test_returns_tell_of_progress_only_where_a_player_plays_alone():
    metrics = {"play/lake/return_p0": 0.1, "play/duel/return_p0": 0.3, "play/duel/return_p1": -0.3}
    assert alone(metrics) == {"return lake": (0.1,)}


def test_a_run_that_learns_from_text_is_judged_by_bits_per_byte():
    out = io.StringIO()
    shown = Terminal(Console(file=out, width=200))
    shown.run_started(asdict(config.load(None, ["text.paths=[a, b]", "steps=1"])), "runs/r")
    shown.step_finished(0, {metric_names.bits_per_byte(): 2.34567, metric_names.bits_per_byte("gzip"): 2.5})
    told = out.getvalue().splitlines()
    assert told[0] == "byte-0.1m learns the text in a, b: 16384 tokens a step, run runs/r"
    assert told[1].startswith("step     0/1  bits per byte 2.346")


def test_without_a_terminal_each_line_stands_by_itself_and_the_last_step_has_one():
    out = io.StringIO()
    shown = Terminal(Console(file=out, width=40))
    shown.run_started(
        asdict(config.load(None, ["steps=3", "evaluate.every=0"])),
        "runs/a-run-with-a-name-that-is-longer-than-the-console-is-wide",
    )
    shown.step_finished(0, {**WINS, "play/illegal_rate": 0.125})
    shown.health_event({"step": 1, "sentence": "nim: [red] player 0 wins 99%, since step 0.", "action": "note"})
    shown.step_finished(1, {"play/illegal_rate": 0.5})
    shown.step_finished(2, {"play/illegal_rate": 0.25, "play/cut_games": 3.0})
    lines = out.getvalue().splitlines()
    assert lines[1:3] == [
        "step     0/3  wins nim vs random 0.250/0.500  illegal 12.5%  ? left",
        "step 1: nim: [red] player 0 wins 99%, since step 0. (noted)",
    ]
    assert lines[3].startswith("step     2/3  wins nim vs random 0.250/0.500  illegal 25.0%  cut 3 games")
    assert len(lines) == 4


def test_a_terminal_has_one_table_that_is_drawn_anew():
    out = io.StringIO()
    shown = Terminal(Console(file=out, width=60, force_terminal=True, color_system=None))
    shown.run_started(asdict(config.load(None, ["steps=3"])), "run")
    shown.step_finished(0, {**WINS, "play/illegal_rate": 0.125, "speed/games_per_s": 12345.6})
    shown.run_finished(3)
    last = out.getvalue().split("step 0 of 3")[-1]
    assert "wins nim vs random" in last
    assert "0.250/0.500" in last
    assert "12346" in last


def test_plugins_are_listed_a_line_each_and_one_by_name_with_its_arguments():
    run = CliRunner().invoke
    listed = run(main, ["plugins"]).output.splitlines()
    assert any(line.split()[:3] == ["pfsp", "Prioritised", "fictitious"] for line in listed)
    assert "arguments: weighting='squared', mirror=0.5" in run(main, ["plugins", "pfsp"]).output.splitlines()
    missing = run(main, ["plugins", "nosuch"])
    assert missing.exit_code == 2
    assert "nothing installed is called nosuch" in missing.output


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def _plain(clock):
    out = io.StringIO()
    shown = Terminal(Console(file=out, width=40), clock)
    shown._closed.set()  # its own thread would look too, in time of its own
    return shown, out


def test_no_phase_is_silent_for_ten_seconds():
    """Asked every half second for three minutes of one call that says nothing: never ten seconds without a line."""
    clock = Clock()
    shown, out = _plain(clock)
    shown.progress(Phase("loading hf(path=models/m)"))
    spoken = [0.0]
    while clock.now < 180:
        clock.now += 0.5
        before = len(out.getvalue())
        shown.beat()
        spoken += [clock.now] if len(out.getvalue()) > before else []
    shown.close()
    assert max(b - a for a, b in itertools.pairwise(spoken)) < 10
    assert clock.now - spoken[-1] < 10
    assert out.getvalue().splitlines()[1] == "loading hf(path=models/m), 18 s"


def test_a_phase_tells_how_much_is_done_how_fast_and_what_else_is_known():
    """Counted when it is shown, from the phase's own beginning."""
    clock = Clock()
    shown, out = _plain(clock)
    clock.now = 100.0
    done = 0.0
    shown.progress(Phase("warm start", 1000, "updates", lambda: done, lambda: "90% of games would end legally"))
    clock.now, done = 120.0, 50.0
    shown.beat()
    shown.close()
    line = "warm start: 50 of 1,000 updates, 2.5 updates/s, 20 s, 90% of games would end legally"
    assert out.getvalue().splitlines() == [line]


def test_steps_that_are_shown_leave_nothing_to_say():
    """Quick steps have their own lines: the phases between them are silent."""
    clock = Clock()
    shown, out = _plain(clock)
    shown.run_started(asdict(config.load(None, ["steps=300"])), "runs/a")
    for step in range(100):
        shown.progress(Phase("playing", 512, "games"))
        clock.now += 0.5
        shown.beat()
        shown.step_finished(step, {"play/illegal_rate": 0.0})
    shown.close()
    assert not [line for line in out.getvalue().splitlines() if line.startswith("playing")]
    assert len([line for line in out.getvalue().splitlines() if line.startswith("step")]) >= 5


def test_a_terminal_shows_a_bar_for_what_takes_long_only():
    """Under the table; a phase of less than two seconds is not drawn."""
    clock = Clock()
    out = io.StringIO()
    console = Console(file=out, width=80, force_terminal=True, color_system=None)
    shown = Terminal(console, clock)
    shown.progress(Phase("playing", 32, "games", lambda: 8))
    clock.now = 1.0
    assert shown._picture().renderables == []
    clock.now = 4.0
    text, bar = shown._picture().renderables
    assert text == "playing: 8 of 32 games, 2 games/s, 4 s"
    assert (bar.total, bar.completed) == (32, 8)
    shown.close()


def test_a_quiet_run_says_nothing_and_starts_no_thread():
    out = io.StringIO()
    shown = Terminal(Console(file=out, quiet=True))
    shown.progress(Phase("loading"))
    assert shown._thread.ident is None
    shown.close()
    assert out.getvalue() == ""
