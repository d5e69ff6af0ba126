"""Tournaments that are really played: balanced chairs, shared deals, true results, and whatever goes wrong on the way."""

import copy
import html.parser
import io
import itertools
import json
import random
import re
import shutil
import subprocess
import time
from collections import Counter
from dataclasses import replace

import pytest
import torch
from click.testing import CliRunner
from rich.console import Console
from safetensors.torch import save_file

from spiral import IllegalMove, hookimpl
from spiral.api.errors import SpiralError
from spiral.api.policies import Unavailable
from spiral.api.text import printable
from spiral.commands.main import main
from spiral.config import loading as config
from spiral.evaluation.tournament import crosstable
from spiral.evaluation.tournament.crosstable import Extent, PairResults, Result, cells
from spiral.evaluation.tournament.entrants import load_participants, parse_entrants, tournament_game
from spiral.evaluation.tournament.pairing import head_to_head, next_pair, round_robin
from spiral.evaluation.tournament.record import keep_record, run_tournament, tournament_record
from spiral.evaluation.tournament.tournament import Tournament, TournamentConfig
from spiral.models.logits import parameters
from spiral.plugins.registry import Plugins
from spiral.reports.html.tournament_page import tournament_page
from spiral.reports.tournament import print_record
from spiral.runs.directory import RunDir


class Bids:
    """Everybody names a number once. The highest wins 1 from all others; a deal's lucky chair has half a point more."""

    zero_sum = True
    started: list = []  # noqa: RUF012

    def __init__(self, players: int = 2):
        self.num_players, self.worst_return = players, -1.0
        self.rules = ""

    def reset(self, rng):
        self.lucky = rng.randrange(self.num_players)
        self.bids = []
        self.started.append(self)

    def current_player(self):
        return len(self.bids) if len(self.bids) < self.num_players else None

    def observe(self, player):
        return f"{player} {self.lucky}"

    def legal_moves(self):
        return list("0123456789") if len(self.bids) < self.num_players else []

    def play(self, move):
        if move == "crash":
            raise RuntimeError("the board broke")
        if move not in self.legal_moves():
            raise IllegalMove("a digit")
        self.bids.append(int(move))

    def returns(self):
        worth = [bid + 0.5 * (player == self.lucky) for player, bid in enumerate(self.bids)]
        best = max(worth)
        winners = worth.count(best)
        lost = self.num_players - winners
        return [lost / winners if w == best else -1.0 for w in worth]


class Alone(Bids):
    """One number; its value is the return, plus the deal's luck from 0 to 9."""

    def __init__(self):
        super().__init__(1)

    def reset(self, rng):
        super().reset(rng)
        self.lucky = rng.randrange(10)

    def returns(self):
        return [float(self.bids[0] + self.lucky)]


class Bidder:
    """Says `word`, or one of several words at random."""

    def __init__(self, word: str = "5"):
        self.words = word.split("|")

    def choose(self, game, player, rng):
        return rng.choice(self.words)


class Flaky:
    """Somebody outside, who fails in `failing` of 10 calls, by `cause`."""

    max_concurrent = 2
    external = True

    def __init__(self, failing: int = 3, cause: str = "timeout"):
        self.failing, self.cause, self.calls = failing, cause, itertools.count()

    def choose(self, game, player, rng):
        if next(self.calls) % 10 < self.failing:
            raise Unavailable(self.cause, "no answer")
        return "5"


class Broken:
    """Breaks a promise in most of its moves: each in its own way, its first one too."""

    def choose(self, game, player, rng):
        does = rng.randrange(5)
        if does == 1:
            game.bids.append(9)
        if does == 2:
            raise KeyError("my plan")
        return {0: None, 3: "ten"}.get(does, "5")


class RockPaperScissors(Bids):
    def legal_moves(self):
        return list("rps") if len(self.bids) < 2 else []

    def play(self, move):
        self.bids.append("rps".index(move))

    def returns(self):
        won = (self.bids[0] - self.bids[1]) % 3
        return [[0.0, 0.0], [1.0, -1.0], [-1.0, 1.0]][won]


class Local:
    @hookimpl
    def register_games(self, register):
        register("bids", Bids)
        register("alone", Alone)
        register("rps", RockPaperScissors)

    @hookimpl
    def register_bots(self, register):
        register("bidder", Bidder)
        register("flaky", Flaky)
        register("broken", Broken)


@pytest.fixture(autouse=True)
def plugins(monkeypatch):
    found = Plugins.installed()
    found.add(Local(), "local", "1.0")
    monkeypatch.setattr(Plugins, "installed", classmethod(lambda cls: found))
    monkeypatch.setattr(crosstable, "NUM_SAMPLES", 200)
    monkeypatch.setattr(crosstable, "NUM_NASH_SAMPLES", 10)
    return found


def quiet(done, total, who):
    pass


def start(words, game, **terms):
    found = parse_entrants(words, plugins := Plugins.installed())
    return Tournament(
        load_participants(found, tournament_game(game, found, plugins), plugins), TournamentConfig(**terms)
    )


def played(words, game, **terms):
    tournament = start(words, game, **terms)
    tournament.play(quiet)
    return tournament_record(tournament)


def cell(record, row, column):
    names = [player["name"] for player in record["players"]]
    return next(c for c in record["cells"] if (names[c["row"]], names[c["column"]]) == (row, column))


def player(record, name):
    return next(p for p in record["players"] if p["name"] == name)


def bidder(word):
    return f"bidder:word='{word}'"


# Who meets whom


@pytest.mark.parametrize("num_chairs", [2, 3, 5])
def test_in_a_pair_both_sit_at_every_chair_equally_often(num_chairs):
    """And of the line-ups none is played twice: two chairs have 2, N have 2N."""
    line_ups = head_to_head(0, 1, num_chairs)
    assert len(set(line_ups)) == len(line_ups) == (2 if num_chairs == 2 else 2 * num_chairs)
    for chair in range(num_chairs):
        assert Counter(line_up[chair] for line_up in line_ups)[0] == len(line_ups) / 2


@pytest.mark.parametrize(("num_players", "num_chairs"), [(4, 2), (4, 3), (3, 3), (5, 4)])
def test_in_a_round_robin_all_sit_at_every_chair_equally_often(num_players, num_chairs):
    """Every pair in blocks of its own, and with more chairs mixed tables: all counted, each player and chair alike."""
    blocks = round_robin([f"p{i}" for i in range(num_players)], num_chairs, 40)
    seats = Counter(
        (player, chair) for b in blocks for line_up in b.line_ups * b.num_deals for chair, player in enumerate(line_up)
    )
    assert len(seats) == num_players * num_chairs
    assert len(set(seats.values())) == 1
    pairs = {b.players for b in blocks if not b.name.startswith("table")}
    assert pairs == set(itertools.combinations(range(num_players), 2))
    assert all(b.num_games >= 40 for b in blocks if b.players in pairs and not b.name.startswith("table"))


def test_a_rating_matched_schedule_prefers_who_played_least_then_who_is_near():
    rng = random.Random(0)
    ratings = {0: 10.0, 1: 30.0, 2: 32.0, 3: 45.0}
    assert next_pair([0, 1, 2, 3], ratings, {0: 8, 1: 4, 2: 8, 3: 8}, {}, rng) == (1, 2)
    assert next_pair([0, 1, 2, 3], ratings, {0: 0, 1: 4, 2: 4, 3: 4}, {}, rng) == (0, 1)
    # Old acquaintances seem farther apart: 10 meetings of 1 and 2 send 1 to somebody else.
    assert next_pair([0, 1, 2, 3], ratings, {0: 8, 1: 4, 2: 8, 3: 8}, {(1, 2): 10}, rng) == (1, 3)


# Played truly


def test_both_seatings_are_played_from_the_same_deals():
    """Equal bids: the lucky chair wins every game. Each deal is a win and a loss for both, so every deal's score is 1/2;
    40 games are 20 deals, each dealt twice."""
    Bids.started = []
    record = played([bidder(5), bidder("5|5")], "bids", games=40)
    found = record["cells"][0]
    assert (found["games"], found["deals"], found["wins"], found["losses"]) == (40, 20, 20, 20)
    z2 = 1.959964**2
    assert found["score_high"] == pytest.approx(0.5 + z2 / 2 / (20 + z2))
    first, second = (chair["score"] for chair in found["by_player"])
    assert first + second == pytest.approx(1.0)
    assert first not in (0.5, 1.0)


def test_every_pair_has_deals_of_its_own_and_a_seed_has_others():
    """Three pairs of equals: their luck differs from pair to pair and from seed to seed, and repeats with the seed."""
    words = [bidder(5), bidder("5|5"), bidder("5|5|5")]
    lucky = [
        [c["by_player"][0]["score"] for c in played(words, "bids", games=60, seed=seed)["cells"]] for seed in (0, 1, 0)
    ]
    assert len(set(lucky[0])) > 2
    assert lucky[0] == lucky[2] != lucky[1]


def test_random_against_perfect_at_tic_tac_toe():
    """Perfect loses nothing from either chair, is rated higher, and is the Nash average; nothing was illegal."""
    record = played(["random", "perfect"], "tic_tac_toe", games=60)
    found = cell(record, "perfect", "random")
    assert found["losses"] == 0
    assert found["wins"] > 40
    assert [chair["games"] for chair in found["by_player"]] == [30, 30]
    assert found["score"] == pytest.approx((found["wins"] + found["draws"] / 2) / 60)
    assert cell(record, "random", "perfect")["score"] == pytest.approx(1 - found["score"])
    best, worst = player(record, "perfect"), player(record, "random")
    assert best["elo"] - worst["elo"] > 200
    assert best["elo"] + worst["elo"] == pytest.approx(0)
    assert best["mu"] - 3 * best["sigma"] > worst["mu"]
    assert (best["nash"], worst["nash"]) == pytest.approx((1.0, 0.0))
    assert not record["graded"]
    assert record["cycles"] == []


def _exact_margin(game, first, second):
    """What `first` wins from `second` at Kuhn poker on average over both chairs, by enumeration."""

    def value(state, chairs, seat):
        mover = state.current_player()
        if mover is None:
            return state.returns()[seat]
        chances = chairs[mover](state, mover)
        total = 0.0
        for move, chance in chances.items():
            after = copy.deepcopy(state)
            after.play(move)
            total += chance * value(after, chairs, seat)
        return total

    total = 0.0
    for chance, deal in game.deals():
        for chairs, seat in (((first, second), 0), ((second, first), 1)):
            game.reset_to(deal)
            total += chance / 2 * value(copy.deepcopy(game), chairs, seat)
    return total


def test_margins_at_kuhn_poker_are_the_exact_ones():
    """Equilibrium against random over 4000 hands: the interval holds what enumeration gives, and equilibrium is worth
    more although random wins as many hands."""
    from spiral_games.bots.kuhn_equilibrium import Equilibrium
    from spiral_games.native.kuhn_poker import KuhnPoker

    record = played(["random", "equilibrium"], "kuhn_poker", games=4000)
    exact = _exact_margin(
        KuhnPoker(),
        Equilibrium().probabilities,
        lambda game, _: dict.fromkeys(game.legal_moves(), 1 / len(game.legal_moves())),
    )
    found = cell(record, "equilibrium", "random")
    assert found["margin_low"] < exact < found["margin_high"]
    assert found["margin_high"] - found["margin_low"] < 0.15
    assert found["margin"] == pytest.approx(found["return"])
    assert found["beats"]
    assert record["graded"]
    assert player(record, "equilibrium")["worth_low"] > 0 > player(record, "random")["worth_high"]
    assert player(record, "equilibrium")["nash"] == pytest.approx(1)
    assert any("differ in size" in note for note in record["notes"])


def test_rock_paper_scissors_is_a_cycle_and_a_uniform_average():
    record = played([bidder("r"), bidder("p"), bidder("s"), bidder("r|p|s")], "rps", games=40)
    assert [ring["players"] for ring in record["cycles"]] == [[0, 2, 1]]
    assert record["cycles"][0]["strength"] == 1.0
    assert record["groups"] == [[0, 1, 2]]
    weights = [p["nash"] for p in record["players"]]
    assert sum(weights) == pytest.approx(1)
    for p in record["players"][:3]:
        assert p["elo"] == pytest.approx(record["players"][3]["elo"], abs=80)
        assert p["against_nash"] <= 0.5 + 1e-6


def test_illegal_moves_are_counted_with_whoever_made_them():
    record = played([bidder("x"), bidder(5)], "bids", games=10)
    assert player(record, bidder("x"))["illegal"] == 1.0
    assert player(record, bidder(5))["illegal"] == 0.0
    assert cell(record, bidder(5), bidder("x"))["score"] == 1.0


def test_cut_games_are_drawn_and_shown_beside_the_result():
    """Tic-tac-toe cut after 4 moves, where no one can have won."""
    words, game = ["random", "perfect"], "tic_tac_toe"
    participants = start(words, game, games=8).participants
    tournament = Tournament(
        replace(participants, config=config.load(None, ["rollout.max_turns=4"])), TournamentConfig()
    )
    tournament.play(quiet)
    record = tournament_record(tournament)
    found = cell(record, "perfect", "random")
    assert (found["cut"], found["draws"], found["score"]) == (1.0, found["games"], 0.5)
    assert player(record, "random")["cut"] == 1.0
    assert (record["rules"]["cut"], record["num_voided"]) == ("draw", 0)
    out = io.StringIO()
    print_record(record, Console(file=out, width=200))
    assert "cut" in out.getvalue()
    assert "100.0%" in out.getvalue()


def test_the_anchor_has_zero():
    tournament = start([bidder(2), bidder("4|5"), bidder(7)], "bids", games=30, anchor=1)
    tournament.play(quiet)
    record = tournament_record(tournament)
    assert [record["players"][1][key] for key in ("elo", "elo_low", "elo_high")] == [0, 0, 0]
    assert record["players"][0]["elo"] < 0 < record["players"][2]["elo"]
    assert record["players"][0]["elo_low"] is None
    assert record["players"][2]["elo_high"] is None


def test_the_same_seed_gives_the_same_record():
    words = ["random", "equilibrium", "equilibrium:alpha=0.0"]
    first, second, other = (json.dumps(played(words, "kuhn_poker", games=30, seed=seed)) for seed in (0, 0, 1))
    assert first == second
    assert json.loads(first)["cells"] != json.loads(other)["cells"]


# More and fewer chairs than two


def test_three_at_a_table():
    """Scores are compared chair by chair. One 9 beats two 5s: 1. Of two 9s the lucky one beats the other too, who has
    then drawn with the 5: 3/4, but 1 where luck sits with the 5, a third of the seatings. In all (1 + 5/6) / 2."""
    record = played([bidder(9), bidder(5), bidder(1)], "bids(players=3)", games=36)
    assert record["game_players"] == 3
    assert cell(record, bidder(9), bidder(5))["score"] == pytest.approx(11 / 12)
    assert cell(record, bidder(5), bidder(9))["score"] == pytest.approx(1 / 12)
    assert cell(record, bidder(9), bidder(5))["wins"] == 36
    assert [chair["games"] for chair in cell(record, bidder(9), bidder(5))["by_player"]] == [18, 18, 18]
    elos = [p["elo"] for p in record["players"]]
    assert elos == sorted(elos, reverse=True)
    # 36 games of each of two pairs, and 3 mixed tables of 4 deals and 3 rotations, where all sit.
    assert [p["games"] for p in record["players"]] == [36 + 36 + 36] * 3


def test_alone_all_play_the_same_deals():
    """Returns are the bid and luck that all share, so 6 beats 5 in every deal; 9 or 0 at random has the widest margin."""
    record = played([bidder(6), bidder(5), bidder("0|9")], "alone", games=40)
    found = cell(record, bidder(6), bidder(5))
    assert (found["games"], found["wins"], found["score"], found["margin"]) == (40, 40, 1.0, 0.5)
    assert record["games"] == 120
    assert record["graded"]
    worths = {p["name"]: p["worth"] for p in record["players"]}
    assert worths[bidder(6)] - worths[bidder(5)] == pytest.approx(0.5, abs=0.01)
    assert player(record, bidder(6))["mu"] > player(record, bidder(5))["mu"]


def test_a_table_for_one_cannot_be_matched_by_rating():
    with pytest.raises(SpiralError, match="has one player"):
        start([bidder(1), bidder(2)], "alone", schedule="rating-matched")


# By rating


def test_rating_matched_spends_its_budget_evenly_and_on_neighbours():
    """200 deals of 2 games: nobody plays more than two batches over the others, and the two nearest in strength meet more
    often than the two farthest."""
    words = [bidder("0|1|2"), bidder("0|1|2|3"), bidder("4|5|6"), bidder("7|8|9"), bidder("8|9|9")]
    record = played(words, "bids", schedule="rating-matched", budget=400)
    assert record["games"] == 400
    games = [p["games"] for p in record["players"]]
    assert max(games) - min(games) <= 16
    met = {(c["row"], c["column"]): c["games"] for c in record["cells"]}
    assert met[3, 4] > 2 * met.get((0, 4), 0)
    assert [p["elo"] for p in record["players"]] == sorted(p["elo"] for p in record["players"])


def test_pairs_that_never_met_are_guessed_and_said_so():
    record = played([bidder(i) for i in range(6)], "bids", schedule="rating-matched", budget=24)
    assert any("never met" in note for note in record["notes"])
    assert sum(p["nash"] for p in record["players"]) == pytest.approx(1)


# What goes wrong


def test_a_failing_player_voids_only_its_own_games():
    """3 of 10 calls fail: all games are played in the end, from other deals, and the failures counted by cause."""
    record = played(["flaky:failing=3", bidder(5), bidder(4)], "bids", games=40)
    assert record["games"] == 120
    flaky = player(record, "flaky:failing=3")
    assert set(flaky["voided"]) == {"timeout"}
    assert 10 < flaky["voided"]["timeout"] < 80
    assert player(record, bidder(5))["voided"] == {}
    assert not flaky["withdrawn"]
    assert record["num_voided"] == 0


def test_a_player_who_never_answers_is_withdrawn_and_the_others_play_on():
    record = played(["flaky:failing=10,cause='http 429'", bidder(5), bidder(4)], "bids", games=40)
    dead = record["players"][0]
    assert dead["withdrawn"]
    assert dead["games"] == 0
    assert dead["voided"]["http 429"] > 0
    assert "elo" not in dead
    assert cell(record, bidder(5), bidder(4))["games"] == 40
    assert any("was withdrawn" in note and "http 429" in note for note in record["notes"])
    buffer = io.StringIO()
    print_record(record, Console(file=buffer, width=200))
    assert "http 429" in buffer.getvalue()
    assert "tournament" in tournament_page({**record, "command": "", "versions": {}, "times": {}})


class Person:
    """Thinks for longer than a game may take."""

    external = True

    def choose(self, game, player, rng):
        time.sleep(0.25)
        return "5"


def test_a_person_who_thinks_long_is_not_the_games_fault(plugins):
    """The time limit is for games and programs: `external` reaches the rollouts of a tournament."""
    plugins.add(type("Door", (), {"register_bots": hookimpl(lambda self, register: register("person", Person))})(), "p")
    tournament = start(["person", bidder(4)], "bids", games=4)
    config = tournament.participants.config
    rules = replace(config, rollout=replace(config.rollout, turn_deadline_s=0.1))
    tournament.matches._participants = replace(tournament.participants, config=rules)
    tournament.play(quiet)
    assert (tournament.num_games, tournament.matches.voided, tournament.stopped) == (4, [], None)


def test_a_game_that_misbehaves_is_replaced_and_reported():
    """A player who makes the board raise in one game of ten: replaced, with the deal and moves to see it again."""
    record = played([bidder("crash|1|2|3|4|5|6|7|8|9"), bidder(5)], "bids", games=40)
    assert record["games"] == 40
    assert record["num_voided"] > 0
    assert "the board broke" in record["voided"][0]["reason"]
    assert player(record, bidder(5))["voided"] == {}


def test_a_bot_that_breaks_its_promises_forfeits_and_the_tournament_goes_on():
    """Nothing is voided: the table says who forfeited how often and for what, and the note says that it is the bot."""
    record = played([bidder(4), bidder(5), "broken"], "bids", games=40)
    assert (record["stopped"], record["num_voided"], record["games"]) == (None, 0, 120)
    assert all(player(record, name)["faults"] == {} for name in (bidder(4), bidder(5)))
    broken = player(record, "broken")
    assert set(broken["faults"]) == {"no text", "illegal move", "exception", "changed game"}
    assert sum(broken["faults"].values()) == round(broken["illegal"] * broken["games"])
    assert any(note.startswith("broken is a bot that breaks its contract") for note in record["notes"])
    buffer = io.StringIO()
    print_record(record, Console(file=buffer, width=200))
    assert f"{broken['faults']['changed game']} changed game" in buffer.getvalue()
    assert "changed game" in tournament_page({**record, "command": "", "versions": {}, "times": {}})


def test_a_game_that_always_misbehaves_ends_the_tournament_with_what_there_is():
    tournament = start([bidder(4), bidder(5), bidder("crash")], "bids", games=32)
    tournament.play(quiet)
    assert "the board broke" in tournament.stopped
    record = tournament_record(tournament)
    assert cell(record, bidder(4), bidder(5))["games"] == 32
    assert any("did not reach its end" in note for note in record["notes"])


def test_a_stop_by_hand_keeps_what_was_finished_with_chairs_balanced(tmp_path):
    """Stopped in the second round of batches: every chair was taken equally often, and the files are there."""

    def impatient(done, total, who):
        if done >= 100:
            raise KeyboardInterrupt

    record, out = run_tournament(
        [bidder(4), bidder("4|5"), bidder(5)],
        "bids",
        TournamentConfig(games=60),
        None,
        "spiral",
        tmp_path / "t",
        impatient,
    )
    assert record["stopped"] == "stopped by hand"
    assert 100 <= record["games"] < 180
    for found in record["cells"]:
        assert len({chair["games"] for chair in found["by_player"]}) == 1
    keep_record(record, out)
    assert json.loads((out / "tournament.json").read_text())["stopped"] == "stopped by hand"


# Runs


TINY = ["loggers=[]", "model.args.context=64"]


def tiny_run(path, seed=0, steps=(1,), words=()):
    """A run directory with untrained weights in the place of checkpoints."""
    asked = config.load(None, [*TINY, f"seed={seed}", *words])
    found = Plugins.installed()
    run = RunDir.create(path, asked, found.distributions)
    for step in steps:
        torch.manual_seed(100 * seed + step)
        made, _ = found.make("model", asked.model.name, **asked.model.args)
        directory = run.checkpoints / f"step-{step:06d}"
        directory.mkdir(parents=True)
        save_file({k: v.contiguous().clone() for k, v in parameters(made).items()}, directory / "averaged.safetensors")
        (directory / "state.json").write_text(
            json.dumps({"step": step, "tensors": ["averaged"], "sharded": False, "in_model": None})
        )
    return str(path)


def test_checkpoints_of_different_models_and_bots_meet(tmp_path):
    """Two steps of a run share an engine, a run of another size has its own; each is asked by its own completer. The game is
    the first run's, and what was typed is found again in the names."""
    a, b = tiny_run(tmp_path / "a", steps=(1, 2)), tiny_run(tmp_path / "b", 1, words=["model=byte-1m"])
    found = parse_entrants([a, f"{a}@1", b, "random"], plugins := Plugins.installed())
    assert [one.name for one in found] == [f"{a}@2", f"{a}@1", f"{b}@1", "random"]
    ready = load_participants(found, tournament_game(None, found, plugins), plugins)
    assert ready.game == "kuhn_poker"
    engines = [ready.pool.completer_of(policy).engine for policy in ready.policies[:3]]
    assert engines[0] is engines[1] is not engines[2]
    tournament = Tournament(ready, TournamentConfig(games=8))
    tournament.play(quiet)
    record = tournament_record(tournament)
    assert record["games"] == 6 * 8
    assert [(p["kind"], p["step"]) for p in record["players"]] == [("run", 2), ("run", 1), ("run", 1), ("bot", None)]
    assert all(p["illegal"] > 0.5 for p in record["players"][:3])
    assert player(record, "random")["illegal"] == 0


def test_a_game_that_no_run_learned_is_played_and_said_so(tmp_path):
    record = played([tiny_run(tmp_path / "a"), "random"], "tic_tac_toe", games=2)
    assert any("No run here was trained on tic_tac_toe" in note and "kuhn_poker" in note for note in record["notes"])


def test_a_model_whose_context_is_too_short_is_withdrawn_and_the_others_play_on(tmp_path):
    """Its prompts never fit: counted by that cause as its own, while a run with the same engine plug-in plays."""
    short = tiny_run(tmp_path / "short", words=["model.args.context=8"])
    record = played([short, tiny_run(tmp_path / "a"), "random"], "kuhn_poker", games=4)
    assert record["players"][0]["withdrawn"]
    assert set(record["players"][0]["voided"]) == {"prompt too long"}
    assert record["games"] == 4
    assert record["stopped"] is None


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["random"], "needs at least two players, and only random was given"),
        ([], "needs at least two players, and none was given"),
        (["random", "perfect"], "give --game"),
        (["random", "nobody", "--game=bids"], "nobody is neither a run directory nor a bot"),
        (["random", "randm", "--game=bids"], "did you mean 'random'"),
        (["random", "perfect", "--game=chess"], "no game named 'chess'"),
        (["random", "perfect", "--game=bids(chairs=2)"], "chairs"),
        (["random", "perfect", "--game=kuhn_poker"], "perfect cannot take part"),
        (["random", "random", "--game=bids"], "named twice"),
        (["{run}", "run:{run}@1"], "named twice"),
        (["{run}@7", "random"], "no checkpoint of step 7; it has: 1"),
        (["{empty}", "random", "--game=bids"], "no checkpoint yet"),
        (["{folder}", "random", "--game=bids"], "no config.yaml"),
        (["model:{folder}", "random", "--game=bids"], "no saved model"),
        (["random", "bidder", "--game=bids", "--anchor=you"], "no single player is called you"),
        (["random", "bidder", "--game=bids", "--budget=9"], "--budget belongs to"),
        (["random", "bidder", "--game=bids", "--schedule=rating-matched", "--budget=1"], "too small"),
    ],
)
def test_mistakes_are_one_sentence_before_any_game(words, says, tmp_path):
    """Exit code 2, no traceback, and no game begun."""
    (tmp_path / "folder").mkdir()
    if "{run}" in " ".join(words):
        tiny_run(tmp_path / "run")
    if "{empty}" in words:
        tiny_run(tmp_path / "empty", steps=())
    Bids.started = []
    words = [word.format(**{name: tmp_path / name for name in ("run", "empty", "folder")}) for word in words]
    result = CliRunner().invoke(main, ["tournament", *words, "--out", str(tmp_path / "out")], catch_exceptions=False)
    assert result.exit_code == 2
    assert says in result.output
    assert len(Bids.started) <= 1  # the one that bots are tried on
    assert not (tmp_path / "out").exists()


def test_the_command_writes_what_it_prints(tmp_path):
    """--json prints the record that is kept; nothing is overwritten by a second tournament."""
    words = ["tournament", "random", bidder(9), "--game=bids", "--games=10", "--out", str(tmp_path / "t")]
    result = CliRunner().invoke(main, [*words, "--json"], catch_exceptions=False)
    assert result.exit_code == 0
    record = json.loads(result.stdout)
    assert record == json.loads((tmp_path / "t" / "tournament.json").read_text())
    assert record["versions"]["local"] == "1.0"
    assert record["command"].startswith("spiral tournament random")
    assert "--seed=0" in record["command"]
    assert "10 of 10 games" in result.stderr
    again = CliRunner().invoke(main, words)
    assert again.exit_code == 2
    assert "give another --out" in again.output


# What is shown


HOSTILE = "</script><script>alert(1)</script>{{data}}\u202e<img src=x onerror=alert(1)>[bold]\x1b[31m"


class _Scripts(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.sources = [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.sources += [value for name, value in attributes if name in ("src", "href")]


def test_the_page_is_safe_and_complete():
    """Names that try to break out stay data: no tag beyond the template's, no address, a policy that allows two hashes."""
    record = played([bidder(4), bidder(5), "random"], "bids", games=10)
    record["players"][0]["name"] = HOSTILE
    page = tournament_page({**record, "command": HOSTILE, "versions": {}, "times": {}})
    reader = _Scripts()
    reader.feed(page)
    assert reader.tags.count("script") == 2
    assert "img" not in reader.tags
    assert reader.sources == []
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", page)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1]
    assert json.loads(data)["players"][0]["name"] == printable(HOSTILE)


BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
QUIET = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run")


@pytest.mark.skipif(BROWSER is None, reason="no chromium to draw the page in")
@pytest.mark.parametrize("game", ["rps", "kuhn_poker", "alone", "bids(players=3)"])
def test_a_browser_draws_the_page(game, tmp_path):
    """Every section, a coloured cell for each ordered pair, names as text; a player without a game does no harm."""
    words = ["random", "equilibrium"] if game == "kuhn_poker" else [bidder("r|1"), bidder("p|2"), bidder("s|3")]
    record = played([*words, "flaky:failing=10"] if game != "kuhn_poker" else words, game, games=20)
    record["players"][0]["name"] = HOSTILE
    path = tmp_path / "page.html"
    path.write_text(tournament_page({**record, "command": HOSTILE, "versions": {}, "times": {}}), encoding="utf-8")
    command = [BROWSER, *QUIET, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", path.as_uri()]
    text = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    drawn = text.split("<noscript>")[0]
    for section in ("cross", "ratings", "nash", "cycles", "pairs", "origin"):
        assert f'<section id="{section}">' in drawn
    assert drawn.count('<td class="cell') == len(record["cells"])
    assert drawn.count("--side: var(--win)") + drawn.count("--side: var(--lose)") == len(record["cells"])
    assert "<img" not in drawn
    assert r"\u202e" in drawn


FRAME = """<iframe id=f src=page.html style="width:390px;height:3000px;border:0"></iframe><script>setTimeout(() => {
const page = document.getElementById("f").contentDocument;
page.querySelectorAll("details").forEach((part) => { part.open = true; });
const { scrollWidth, clientWidth } = page.documentElement;
document.body.append(`sections ${page.querySelectorAll("section").length}, beyond ${scrollWidth - clientWidth}`);
}, 300)</script>"""


@pytest.mark.skipif(BROWSER is None, reason="no chromium to draw the page in")
def test_the_page_does_not_scroll_sideways_on_a_phone(tmp_path):
    """390 pixels, names of 80 letters without a place to break, every part unfolded: tables scroll in themselves."""
    record = played([bidder("r"), bidder("p"), bidder("s")], "rps", games=20)
    for number, player in enumerate(record["players"]):
        player["name"] = f"{number}" * 80
    page = tournament_page({**record, "command": "x" * 200, "versions": {}, "times": {}})
    (tmp_path / "page.html").write_text(page, encoding="utf-8")
    (tmp_path / "frame.html").write_text(FRAME, encoding="utf-8")
    quiet = (*QUIET, f"--user-data-dir={tmp_path / 'profile'}", "--allow-file-access-from-files")
    command = [BROWSER, *quiet, "--virtual-time-budget=2000", "--dump-dom", (tmp_path / "frame.html").as_uri()]
    drawn = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    assert "sections 6, beyond 0" in drawn.rpartition("</script>")[2]


def test_the_terminal_shows_names_as_text():
    """No markup and no escape sequence of a name acts on the terminal; results and cycles are there."""
    record = played([bidder("r"), bidder("p"), bidder("s")], "rps", games=20)
    record["players"][0]["name"] = "[bold]x\x1b[31m\u202e"
    buffer = io.StringIO()
    print_record(record, Console(file=buffer, width=200))
    text = buffer.getvalue()
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "[bold]x\\x1b[31m" in text
    assert "cycle: [bold]x" in text
    assert "1.000*" in text


# Scores by hand


def test_a_cell_by_hand():
    """Two deals, both seatings: 0 wins three games and draws one. By deal 1 and 3/4; by chair 1 and 3/4."""
    meetings = [
        (Result((0, 1), (1.0, -1.0), None), Result((1, 0), (-1.0, 1.0), 0)),
        (Result((0, 1), (1.0, -1.0), None), Result((1, 0), (0.0, 0.0), None)),
    ]
    log = [PairResults((0, 1), meetings=meetings)]
    extent = Extent.of(log)
    assert (extent.lowest, extent.highest, extent.margin, extent.graded) == (-1, 1, 1, False)
    mine, theirs = cells(log, extent)
    assert (mine["wins"], mine["draws"], mine["losses"], mine["score"], mine["return"]) == (3, 1, 0, 0.875, 0.75)
    assert (theirs["score"], theirs["margin"], theirs["illegal"]) == (0.125, -0.75, 0.25)
    assert [chair["score"] for chair in mine["by_player"]] == [1.0, 0.75]
    # Deals of 1 and 3/4: mean 7/8, variance 1/64.
    z = 1.959964
    half = z * (2 / 64 + z * z / 4) ** 0.5 / (2 + z * z)
    assert mine["score_low"] == pytest.approx((1.75 + z * z / 2) / (2 + z * z) - half)
