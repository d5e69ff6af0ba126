"""What a person reads while a run trains, and what `spiral plugins` tells."""

import io
from dataclasses import asdict

from click.testing import CliRunner
from rich.console import Console

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
