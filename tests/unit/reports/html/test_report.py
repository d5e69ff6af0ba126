"""The page of a run: complete, bounded, safe against what games and models say, and indifferent to missing files."""

import html.parser
import itertools
import json
import math
import os
import random
import re
import shutil
import subprocess
import time

import pytest

from spiral.api.errors import RunError
from spiral.api.text import printable
from spiral.reports.html.curves import MAX_POINTS, downsample
from spiral.reports.html.document import SCRIPTS, asset, embed, render, write_report
from spiral.reports.html.records import (
    MAX_EPISODES,
    MAX_EVENTS,
    MAX_GAME_CHARS,
    MAX_RATED,
    MAX_SAMPLED_STEPS,
    MAX_STATES,
    MAX_TURNS,
    MAX_VOIDED,
    collect,
)
from spiral.runs.metric_names import match, of_game

HOSTILE = "</script><script>alert(1)</script><!-- {{data}} \u2028 \u202e & <img src=x onerror=alert(1)>"
CONFIG = """games:
- name: {games}
  args: {{}}
  weight: 1.0
opponents:
  name: mirror
  args:
    name: no_model
model:
  name: byte-0.1m
  args: {{}}
learner:
  lr: 0.001
steps: {steps}
seed: 0
"""


def lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def metrics(rng, steps, games, exact, opponents, every=25):
    """Rows like a trainer's: noisy learning curves that go where such curves go."""
    for step in range(steps):
        done = step / max(1, steps - 1)
        fall, noise = math.exp(-5 * done), lambda size: rng.gauss(0, size)
        row = {
            "step": step, "play/turns_per_game": 2.4 + 0.3 * done + noise(0.04), "play/reply_tokens": 5.2 + noise(0.05),
            "play/illegal_rate": max(0, 0.02 * fall + noise(0.002)), "play/voided": float(step == steps // 3),
            "learner/objective": noise(0.02), "learner/surrogate": noise(0.02), "learner/clipped": 0.0,
            "learner/entropy": 0.3 + 0.5 * fall + noise(0.015), "learner/entropy_per_token": 0.06 + 0.1 * fall,
            "learner/kl": 0.03 * fall * ((step % 100) / 100 + 0.1) + abs(noise(0.0006)),
            "learner/ratio_gap": 3e-6 + abs(noise(1e-6)), "learner/grad_norm": abs(0.5 + 0.8 * fall + noise(0.15)),
            "learner/lr": 1e-3 * (1 - 0.95 * done), "learner/refused": 0.0, "learner/reply_tokens": 7000.0 + noise(90),
            "learner/computed_tokens": 310.0 + noise(12), "advantage/mean_abs": 1.1 + noise(0.03),
            "advantage/zero_share": 0.0, "time/step_s": 0.19 + abs(noise(0.02)),
            "time/rollout_s": 0.09 + abs(noise(0.01)), "time/learner_s": 0.08 + abs(noise(0.01)),
            "speed/games_per_s": 5500 + noise(300), "speed/sampled_tokens_per_s": 81000 + noise(3000),
            "speed/trained_tokens_per_s": 90000 + noise(3000),
        }  # fmt: skip
        for game in games:
            value = noise(0.08) - 0.055
            row |= {f"play/{game}/return_p0": value, f"play/{game}/return_p1": -value, f"play/{game}/turns": 2.5}
            row |= {f"play/{game}/games": 512.0 / len(games), f"play/{game}/illegal_rate": max(0, 0.02 * fall)}
            row |= {f"health/{game}/{name}": number for name, number in signs(rng, fall).items()}
        if step % every == 0 or step == steps - 1:
            row |= evaluation(rng, games, exact, opponents, done) | {"time/eval_s": 0.3 + abs(noise(0.03))}
        yield row


def signs(rng, fall):
    """Vital signs of a run whose opponents are itself, its past and a bot."""
    edge, old, new = rng.gauss(0, 0.08) - 0.1, 0.7 - 0.2 * fall, 0.55 - 0.05 * fall
    row = {"edge": edge, "edge_low": edge - 0.2, "edge_high": edge + 0.2, "win_p0": 0.48, "win_p1": 0.52,
           "draw_rate": 0.1, "illegal_p0": 0.02 * fall, "illegal_p1": 0.01 * fall, "cut_off": 0.0, "zero_share": 0.0,
           "first_moves": 2.0, "openings": 3.5, "score_old": old, "games_old": 60.0, "score_new": new,
           "games_new": 60.0, "score_bots": 0.6, "games_bots": 60.0}  # fmt: skip
    for p in range(2):
        row |= {f"entropy_p{p}": 0.3 + 0.4 * fall + rng.gauss(0, 0.02), f"reply_tokens_p{p}": 5.0 + p}
    return row


def evaluation(rng, games, exact, opponents, done):
    row = {}
    for game in games:
        if game in exact:
            gap = 0.9 * math.exp(-6 * done) + 0.02 + abs(rng.gauss(0, 0.008))
            row |= {f"eval/{game}/nash_conv": gap, f"eval/{game}/nash_conv_live": gap * 1.3 + abs(rng.gauss(0, 0.03)),
                    f"eval/{game}/illegal_mass": 0.02 * math.exp(-6 * done),
                    f"eval/{game}/illegal_mass_live": 0.03 * math.exp(-6 * done),
                    f"eval/{game}/value_p0": -0.06 + 0.1 * gap,
                    f"eval/{game}/value_p1": 0.06 - 0.1 * gap, f"eval/{game}/gain_p0": gap * 0.6,
                    f"eval/{game}/gain_p1": gap * 0.4}  # fmt: skip
        for opponent in opponents:
            for p in range(2):
                win = min(0.98, 0.45 + 0.4 * done - 0.08 * p + rng.gauss(0, 0.02))
                at, half = f"eval/{game}/vs/{opponent}/p{p}", 1.96 * math.sqrt(win * (1 - win) / 100)
                row |= {f"{at}/win": win, f"{at}/win_low": win - half, f"{at}/win_high": min(1, win + half),
                        f"{at}/draw": 0.1 * (1 - win), f"{at}/loss": 0.9 * (1 - win),
                        f"{at}/return": win - 0.5}  # fmt: skip
    return row


def episode(rng, step, game, illegal=False):
    turns = []
    for k, (card, word) in enumerate(zip(rng.sample("JQK", 2), ("bet", "call"), strict=True)):
        p = rng.uniform(0.05, 0.99)
        bad = illegal and k == 1
        turns.append({
            "player": k, "observation": f"kuhn p{k} {card}" + (" bet" if k else ""), "legal": not bad, "finish": "stop",
            "reply": "be bet!<|eot|>" if bad else f"{word}<|eot|>", "move": None if bad else word,
            "logprob": math.log(p), "token_logprobs": [math.log(p) / 5] * 5, "advantage": rng.gauss(0, 1),
        })  # fmt: skip
    win = rng.choice([-2.0, 2.0])
    return {"step": step, "game": game, "deal": rng.getrandbits(64), "policies": ["learner", "learner"],
            "returns": [win, -win], "ending": "illegal" if illegal else "finished", "offender": 1 if illegal else None,
            "turns": turns}  # fmt: skip


def make_run(path, steps=1000, games=("kuhn_poker",), exact=("kuhn_poker",), opponents=("random",), per_step=16):
    """A run directory as the trainer leaves it. Also what the screenshots of the page are taken from."""
    rng = random.Random(0)
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.yaml").write_text(CONFIG.format(games="\n- name: ".join(games), steps=steps))
    (path / "plugins.json").write_text(json.dumps({"spiral-games": "0.1.0", "spiral-selfplay": "0.1.0"}))
    lines(path / "metrics.jsonl", metrics(rng, steps, games, exact, opponents))
    lines(
        path / "episodes.jsonl",
        (episode(rng, step, rng.choice(games), rng.random() < 0.01) for step in range(steps) for _ in range(per_step)),
    )
    reason = "ZeroDivisionError: division by zero (in returns)"
    lines(
        path / "voided.jsonl",
        [{"step": steps // 3, "game": games[0], "deal": 5, "moves": ["bet", "pass"], "reason": reason}],
    )
    name_it(path, steps, games[0])
    states = {
        f"kuhn p{p} {card}{past}": p
        for card in "JQK"
        for p, past in ((0, ""), (0, " pass bet"), (1, " bet"), (1, " pass"))
    }
    table = {
        state: dict(
            zip(("call", "fold") if "bet" in state else ("bet", "pass"), (q := rng.random(), 1 - q), strict=True)
        )
        for state in states
    }
    mass = {state: rng.random() * 1e-3 for state in table}
    (path / "policy.json").write_text(json.dumps({games[0]: {"step": steps - 1, "table": table, "illegal_mass": mass}}))
    return path


def name_it(path, steps, game):
    """A warning, a collapse, and the ratings of a pool."""
    at = steps // 2
    event = {"kind": "one player wins", "game": game, "sentence": "player 0 wins 99%, since step 3.", "since": at // 2}
    lines(
        path / "events.jsonl",
        [
            event | {"step": at // 3, "since": at // 3, "kind": "no signal", "severity": "warning", "action": ""},
            event | {"step": at, "severity": "collapse", "action": "rollback"},
        ],
    )
    rated = [("snapshot:0", 22.0), ("learner", 27.5), ("bot:random", 19.0)]
    rows = [{"policy": policy, "mu": mu, "sigma": 1.0 + i} for i, (policy, mu) in enumerate(rated)]
    rows[0] |= {"score": 0.7, "games": 120.4}
    (path / "pool.json").write_text(json.dumps({game: rows}))


class Page(html.parser.HTMLParser):
    """What a browser's parser makes of the page: its elements, and the text of each script."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.scripts, self.inside = [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.inside = tag == "script"
        if self.inside:
            self.scripts.append("")

    def handle_endtag(self, tag):
        self.inside = False

    def handle_data(self, data):
        if self.inside:
            self.scripts[-1] += data

    @property
    def data(self):
        return json.loads(self.scripts[0])


def written(path):
    return Page(write_report(path).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "demo", steps=120, per_step=4)


def test_the_embedded_data_is_what_was_collected(run):
    page = written(run)
    assert page.data == json.loads(json.dumps(collect(run)))
    assert page.data["run"] == "demo"
    [game] = page.data["games"]
    assert (game["name"], page.data["model"], page.data["steps"]) == ("kuhn_poker", "byte-0.1m", 120)
    assert page.data["done"] == 120
    assert page.data["totals"]["play/voided"] == 1
    series = page.data["series"][game["exact"]["whole"]["nash_conv"]]
    assert series["x"] == [0, 25, 50, 75, 100, 119]


def test_one_file_that_asks_the_network_for_nothing(run):
    text = write_report(run).read_text(encoding="utf-8")
    page = Page(text)
    assert not [attrs for _, attrs in page.tags if {"src", "href", "srcset", "data"} & attrs.keys()]
    assert set(re.findall(r"https?://[^\s\"'`]+", text)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(
        r"url\(|@import|fetch\(|XMLHttpRequest|innerHTML|insertAdjacentHTML|document\.write|eval\(", text
    )
    [policy] = [attrs["content"] for tag, attrs in page.tags if attrs.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy


def test_same_files_same_bytes_and_nothing_left_beside(run):
    first = write_report(run).read_bytes()
    before = {path.name for path in run.iterdir()}
    assert write_report(run).read_bytes() == first
    assert {path.name for path in run.iterdir()} == before
    assert str(run.parent).encode() not in first


def test_a_failure_leaves_the_old_page_and_no_half_of_a_new_one(run, monkeypatch):
    old = write_report(run).read_bytes()
    monkeypatch.setattr("spiral.runs.files.os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk")))
    with pytest.raises(OSError, match="disk"):
        write_report(run)
    assert (run / "report.html").read_bytes() == old
    assert not list(run.glob(".report*"))


def test_hostile_text_stays_text(tmp_path):
    """A page loads nothing and runs no script but its own, whatever the files of a run say.

    A name, an observation, a reply, a reason or a config cannot end the script that holds it.
    """
    run = hostile_run(tmp_path / "a&<b>{{style}}")
    page = written(run)
    assert [tag for tag, _ in page.tags].count("script") == 2
    assert "img" not in [tag for tag, _ in page.tags]
    assert page.data["episodes"][0]["turns"][0]["reply"] == printable(HOSTILE)
    assert page.data["config"] == printable(HOSTILE)
    assert page.data["run"] == "a&<b>{{style}}"
    assert "alert" not in page.scripts[1]


@pytest.mark.parametrize("text", [HOSTILE, "<!--<script", "]]>", "\ud800", "\x00\x7f", "é漢"])
def test_embedded_json_is_ascii_without_a_tag_and_parses_back(text):
    inside = embed({text: [text]})
    assert inside.isascii()
    assert not set("<>&") & set(inside)
    assert json.loads(inside) == {printable(text): [printable(text)]}


def hostile_run(path):
    """A run in which every text that comes from outside tries to become markup."""
    run = make_run(path, steps=3, per_step=0)
    row = episode(random.Random(0), 0, HOSTILE)
    row |= {"policies": [HOSTILE, HOSTILE], "ending": HOSTILE, "deal": HOSTILE}
    row["turns"][0] |= {"observation": HOSTILE, "reply": HOSTILE, "move": HOSTILE}
    lines(run / "episodes.jsonl", [row])
    lines(run / "metrics.jsonl", [{"step": 0, f"play/{HOSTILE}/return_p0": 1.0, HOSTILE: 2.0}])
    lines(run / "samples.jsonl", [{"step": 0, "prompt": HOSTILE, "text": HOSTILE}, {"step": HOSTILE, "text": 3}])
    lines(run / "voided.jsonl", [{"step": 0, "game": HOSTILE, "deal": 1, "moves": [HOSTILE], "reason": HOSTILE}])
    (run / "policy.json").write_text(json.dumps({HOSTILE: {"table": {HOSTILE: {HOSTILE: 1.0}}}}))
    event = dict.fromkeys(("kind", "game", "sentence", "severity", "action"), HOSTILE)
    lines(run / "events.jsonl", [event | {"step": 0, "since": HOSTILE}])
    (run / "pool.json").write_text(json.dumps({HOSTILE: [{"policy": HOSTILE, "mu": 25.0, "sigma": HOSTILE}]}))
    (run / "plugins.json").write_text(json.dumps({HOSTILE: HOSTILE}))
    (run / "config.yaml").write_text(HOSTILE)
    return run


BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
# Charts are drawn once their size is known, in a frame after the page was loaded.
QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--no-first-run",
    "--virtual-time-budget=3000",
)


def dumped(path, tmp_path):
    """The elements of a page as a browser drew them, without the scripts."""
    assert BROWSER is not None
    command = [BROWSER, *QUIET, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", path.as_uri()]
    text = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    return text.split('id="data"')[0]


@pytest.mark.skipif(BROWSER is None, reason="no chromium to draw the page in")
def test_a_browser_draws_the_page_and_runs_nothing_else(tmp_path):
    """The policy admits our own script and style; hostile text ends up visible, and in no element of its own."""
    assert BROWSER is not None
    for run in (hostile_run(tmp_path / "hostile"), make_run(tmp_path / "run", steps=60, per_step=2)):
        url = write_report(run).as_uri()
        command = [BROWSER, *QUIET, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", url]
        page = Page(subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout)
        tags = [tag for tag, _ in page.tags]
        assert {"section", "figure", "article", "table", "ol"} <= set(tags)
        assert {"health", "pool"} <= {attrs.get("id") for _, attrs in page.tags}
        assert "img" not in tags
        assert tags.count("script") == 2


@pytest.mark.skipif(BROWSER is None, reason="no chromium to draw the page in")
def test_what_was_named_is_listed_and_stands_on_the_charts(tmp_path):
    """A rule on each chart of health and on that of NashConv, the sentence below; without events neither."""
    run = make_run(tmp_path / "run", steps=60, per_step=1)
    for named in (True, False):
        text = dumped(write_report(run), tmp_path)
        page = Page(text)
        classes = [attrs.get("class") for _, attrs in page.tags]
        charts = len(re.findall("<figure", text[text.index('<section id="health"') : text.index('<section id="play"')]))
        assert charts == 9
        assert classes.count("mark severe") == (10 if named else 0)
        assert ("player 0 wins 99%, since step 3." in text) is named
        assert ("Done: the run went back to its last healthy checkpoint" in text) is named
        assert ("Collapsed: one player wins in kuhn_poker" in text) is named
        (run / "events.jsonl").unlink(missing_ok=True)


def test_events_and_ratings_are_bounded_and_of_any_shape(tmp_path):
    lines(
        tmp_path / "events.jsonl", [{"step": i, "sentence": "x" * 5000, "since": None} for i in range(MAX_EVENTS + 9)]
    )
    rows = [{"policy": f"p{i}", "mu": float(-i)} for i in range(MAX_RATED + 30)]
    odd = [None, 3, {}, {"policy": ["x"], "mu": "25"}, {"mu": 1, "policy": None, "sigma": math.inf}]
    (tmp_path / "pool.json").write_text(
        json.dumps({"g": [*rows, {"policy": "learner", "mu": -999}], "h": odd, "i": {"mu": 1}, "j": None})
    )
    data = written(tmp_path).data
    assert data["num_events"] == MAX_EVENTS + 9
    assert [event["step"] for event in data["events"]] == list(range(9, MAX_EVENTS + 9))
    assert max(len(event["sentence"]) for event in data["events"]) < 1100
    table = data["pool"]["g"]
    assert [row["policy"] for row in table["rows"]] == [f"p{i}" for i in range(MAX_RATED)] + ["learner"]
    assert table["num_rows"] == MAX_RATED + 31
    assert data["pool"]["h"]["rows"] == [{"policy": "", "mu": 1, "sigma": None, "score": None, "games": None}]
    assert (data["pool"]["i"]["rows"], data["pool"]["j"]["rows"]) == ([], [])


def test_the_script_takes_no_name_of_a_metric_apart():
    """It finds names in the index: no template holds a stage, and no regular expression or prefix looks for one."""
    for name in SCRIPTS:
        script = asset(name)
        assert not re.search(r"`(?:eval|play|health|pool)/", script)
        assert not re.search(r"/\^?(?:eval|play|health|pool)\\/", script)
        assert not re.search(r"startsWith|endsWith|RegExp|\.exec\(|\.match\(", script)


def ambiguous_run(path):
    """Two games of which one is named like the other's matches, and an opponent with a slash."""
    path.mkdir()
    games, opponents = ("x", "x/vs/y", "2048"), ("y", "model:org/name")
    rows = [
        {"step": step, "play/voided: bot:chat(model='org%2Fname')": 1.0}
        | {match(g, o, p, q): 0.1 * step for g in games for o in opponents for p in (1, 0) for q in ("win", "return")}
        | {of_game("play", g, f"return_p{p}"): 0.5 - p for g in games for p in range(2)}
        for step in range(3)
    ]
    lines(path / "metrics.jsonl", rows)
    return path


def test_a_game_named_like_another_ones_matches_has_its_own(tmp_path):
    data = written(ambiguous_run(tmp_path / "run")).data
    assert [game["name"] for game in data["games"]] == ["x", "x/vs/y", "2048"]
    for game in data["games"]:
        assert [m["opponent"] for m in game["matches"]] == ["y", "model:org/name"]
        assert [row["player"] for m in game["matches"] for row in m["by_player"]["win"]] == [0, 1] * 2
        assert [row["name"] for row in game["matches"][0]["by_player"]["win"]] == [
            match(game["name"], "y", p, "win") for p in range(2)
        ]
    assert data["voided_metrics"] == ["play/voided: bot:chat(model='org%2Fname')"]


@pytest.mark.skipif(BROWSER is None, reason="no chromium to draw the page in")
def test_a_browser_charts_each_of_such_games_and_leaves_none_over(tmp_path):
    drawn = dumped(write_report(ambiguous_run(tmp_path / "run")), tmp_path)
    for game in ("x", "x/vs/y", "2048"):
        assert f'<div class="name">Games won against y, {game}</div>' in drawn
        assert f"<h3>{game}</h3>" in drawn
    assert drawn.count("<wbr>name</span>") == 6  # won and return against model:org/name, in three games
    assert 'id="others"' not in drawn


def text_run(path):
    """A run that learned from text, with samples of twenty steps."""
    path.mkdir()
    bits = {"eval/bits_per_byte_gzip": 2.5, "eval/bits_per_byte_xz": 2.25}
    lines(path / "metrics.jsonl", [{"step": n, "eval/bits_per_byte": 4 - n / 10, **bits} for n in range(20)])
    samples = [{"step": n, "prompt": prompt, "text": f"written at {n}"} for n in range(20) for prompt in ("", "It is")]
    lines(path / "samples.jsonl", samples)
    (path / "config.yaml").write_text("games: []\nmodel:\n  name: byte-3m\nsteps: 19\n")
    return path


def test_samples_of_text_are_spread_over_the_run(tmp_path):
    """The first and the last step, all prompts of each; what is no sample is left out."""
    run = text_run(tmp_path / "run")
    data = written(run).data
    steps = [sample["step"] for sample in data["samples"]]
    assert (len(steps), steps[:2], steps[-2:]) == (2 * MAX_SAMPLED_STEPS, [0, 0], [19, 19])
    assert data["samples"][1] == {"step": 0, "prompt": "It is", "text": "written at 0"}
    assert written(hostile_run(tmp_path / "hostile")).data["samples"] == [
        {"step": 0, "prompt": printable(HOSTILE), "text": printable(HOSTILE)}
    ]


@pytest.mark.skipif(BROWSER is None, reason="no chromium to draw the page in")
def test_a_browser_shows_bits_per_byte_beside_compressors_and_the_newest_samples(tmp_path):
    drawn = dumped(write_report(text_run(tmp_path / "run")), tmp_path)
    assert '<div class="name">Bits per byte of held-out text</div><div class="big">2.1</div>' in drawn
    assert "gzip -9: 2.5, xz -9: 2.25" in drawn
    assert "<dt>Learns from</dt><dd>text</dd>" in drawn
    assert '<dd class="text">written at 19</dd>' in drawn
    assert "written at 18" not in drawn
    assert 'id="others"' not in drawn


def test_the_page_itself_cannot_end_its_script(run):
    script = Page(render(collect(run))).scripts[1]
    assert "</script" not in script.lower()
    assert "<!--" not in script


def test_an_empty_directory_makes_a_page(tmp_path):
    data = written(tmp_path).data
    assert (data["done"], data["series"], data["episodes"], data["policy"]) == (0, {}, [], {})


def test_a_directory_whose_name_is_no_text_makes_a_page(tmp_path):
    run = tmp_path / os.fsdecode(b"run-\xff")
    run.mkdir()
    assert r"<title>run-\udcff · spiral</title>" in write_report(run).read_text(encoding="utf-8")


def test_voided_games_are_counted_by_cause_and_the_last_ones_kept(tmp_path):
    rows = [{"step": i, "game": "g", "cause": "deadline" if i % 2 else "game"} for i in range(MAX_VOIDED + 10)]
    lines(tmp_path / "voided.jsonl", rows)
    data = written(tmp_path).data
    assert (data["num_voided"], data["voided_causes"]) == (MAX_VOIDED + 10, {"game": 30, "deadline": 30})
    assert [game["step"] for game in data["voided"]] == list(range(10, MAX_VOIDED + 10))


def test_no_directory_is_a_user_error(tmp_path):
    with pytest.raises(RunError, match="no run directory"):
        write_report(tmp_path / "gone")


@pytest.mark.parametrize(
    "name",
    [
        "metrics.jsonl",
        "episodes.jsonl",
        "voided.jsonl",
        "config.yaml",
        "plugins.json",
        "policy.json",
        "events.jsonl",
        "pool.json",
        "samples.jsonl",
    ],
)
def test_any_file_may_be_missing_empty_or_noise(tmp_path, name):
    for i, content in enumerate([None, b"", b"\xff\x00{[", b"[1]\n3\nnull\n", b"[" * 100_000]):
        run = make_run(tmp_path / str(i), steps=3, per_step=1)
        (run / name).unlink(missing_ok=True)
        if content is not None:
            (run / name).write_bytes(content)
        assert written(run).data["run"] == str(i)


def test_half_a_last_line_loses_only_itself(tmp_path):
    run = make_run(tmp_path, steps=10, per_step=2)
    for name in ("metrics.jsonl", "episodes.jsonl"):
        text = (run / name).read_bytes()
        (run / name).write_bytes(text[: len(text) - 40])
    data = written(run).data
    assert (data["done"], len(data["episodes"])) == (9, 19)
    assert data["unreadable"] == {"metrics.jsonl": 1, "episodes.jsonl": 1}


@pytest.mark.parametrize("row", [
    {"turns": None}, {"turns": [None, {}]}, {"turns": {"player": 0}}, {"policies": "learner"},
    {"returns": [None, "1", math.nan]},
    {"turns": [{"logprob": -math.inf, "advantage": "big", "move": 3, "observation": ["x"], "player": "1"}]}, {},
])  # fmt: skip
def test_records_of_another_shape_are_shown_as_far_as_they_go(tmp_path, row):
    lines(tmp_path / "episodes.jsonl", [row])
    lines(tmp_path / "voided.jsonl", [row])
    (tmp_path / "policy.json").write_text(json.dumps({"a": row, "b": {"table": {"s": {"m": "x"}, "t": 1}}, "c": 3}))
    [shown] = written(tmp_path).data["episodes"]
    assert shown.keys() >= {"step", "game", "turns", "returns"}


def test_values_that_are_not_finite_are_counted_and_left_out(tmp_path):
    lines(tmp_path / "metrics.jsonl", [{"step": i, "x": v, "on": True, "note": "text"}
                                       for i, v in enumerate([1.0, math.nan, -math.inf, 10**400, 2.0])])  # fmt: skip
    series = written(tmp_path).data["series"]
    assert (series["x"]["x"], series["x"]["y"], series["x"]["not_finite"]) == ([0, 4], [1.0, 2.0], 3)
    assert series.keys() == {"x", "on"}


def test_a_resumed_run_counts_each_step_once(tmp_path):
    lines(
        tmp_path / "metrics.jsonl",
        [{"step": s, "x": v, "learner/refused": 1.0} for s, v in [(0, 1), (1, 2), (2, 3), (1, 20), (2, 30)]],
    )
    one = episode(random.Random(0), 1, "kuhn_poker")
    lines(tmp_path / "episodes.jsonl", [one, episode(random.Random(1), 2, "kuhn_poker"), one])
    data = written(tmp_path).data
    assert data["series"]["x"]["y"] == [1, 20, 30]
    assert data["totals"]["learner/refused"] == 3
    assert len(data["episodes"]) == data["num_episodes"] == 2


@pytest.mark.parametrize("count", [0, 1, 2, MAX_POINTS, MAX_POINTS + 1, 12_345])
def test_downsampling_keeps_ends_and_extremes(count):
    rng = random.Random(count)
    points = [(step, rng.gauss(0, 1)) for step in range(count)]
    if count > 700:
        points[count // 2], points[count // 3] = (count // 2, 99.0), (count // 3, -99.0)
    kept = downsample(points)
    assert len(kept) == min(count, len(kept)) <= MAX_POINTS
    assert set(kept) <= set(points)
    assert kept == sorted(kept)
    if count:
        assert (kept[0], kept[-1]) == (points[0], points[-1])
        assert min(v for _, v in kept) == min(v for _, v in points)
        assert max(v for _, v in kept) == max(v for _, v in points)


def test_the_thick_line_is_the_mean_of_all_points_not_of_the_kept(tmp_path):
    lines(tmp_path / "metrics.jsonl", [{"step": s, "x": 100.0 if s % 50 == 0 else 1.0} for s in range(6000)])
    series = written(tmp_path).data["series"]["x"]
    assert max(series["y"]) == 100
    assert series["mean_y"] == pytest.approx([(98 + 2 * 100) / 100] * 60, abs=1e-4)


def test_games_are_capped_spread_over_the_run_and_rare_endings_kept(tmp_path):
    rng = random.Random(0)
    rows = [episode(rng, step, "kuhn_poker", illegal=step in (5, 2500)) for step in range(3000)]
    lines(tmp_path / "episodes.jsonl", rows)
    data = written(tmp_path).data
    steps = [row["step"] for row in data["episodes"]]
    assert len(steps) == MAX_EPISODES
    assert steps == sorted(steps)
    assert {5, 2500, 2999} <= set(steps)
    assert max(b - a for a, b in itertools.pairwise(steps)) < 40
    assert data["num_episodes"] == 3000
    assert data["episodes"][-1]["deal"] == str(rows[-1]["deal"])


def test_long_games_and_texts_are_cut_in_the_middle(tmp_path):
    def turn(size):
        return {
            "player": 0,
            "observation": "first" + "x" * size + "last",
            "reply": "y" * size,
            "move": "m",
            "legal": True,
        }

    rows = [{"step": 0, "game": "g", "turns": turns} for turns in ([turn(50_000)], [turn(1000)] * 900)]
    lines(tmp_path / "episodes.jsonl", rows)
    short, long = written(tmp_path).data["episodes"]
    assert len(short["turns"][0]["observation"]) < MAX_GAME_CHARS + 100
    assert short["turns"][0]["observation"].startswith("first")
    assert short["turns"][0]["observation"].endswith("last")
    assert "26009 characters left out" in short["turns"][0]["observation"]
    assert [t["number"] for t in long["turns"]] == [*range(MAX_TURNS // 2), *range(900 - MAX_TURNS // 2, 900)]
    assert long["num_turns"] == 900
    assert len(json.dumps(long)) < 3 * MAX_GAME_CHARS + 300 * MAX_TURNS


def test_a_very_large_episodes_file_is_read_in_parts(tmp_path, monkeypatch):
    rng = random.Random(0)
    lines(tmp_path / "episodes.jsonl", [episode(rng, step, "kuhn_poker") for step in range(2000)])
    monkeypatch.setattr("spiral.reports.html.records.MAX_READ", 100_000)
    data = written(tmp_path).data
    steps = [row["step"] for row in data["episodes"]]
    assert data["num_episodes"] is None
    assert data["unreadable"] == {}
    assert steps[0] < 40
    assert steps[-1] == 1999
    assert max(b - a for a, b in itertools.pairwise(steps)) < 100


def test_a_large_policy_table_is_cut(tmp_path):
    table = {f"state {i:05}": {"a": 0.25, "b": 0.75} for i in range(MAX_STATES + 7)}
    (tmp_path / "policy.json").write_text(json.dumps({"g": {"step": 4, "table": table, "illegal_mass": {}}}))
    shown = written(tmp_path).data["policy"]["g"]
    assert (len(shown["rows"]), shown["num_rows"]) == (MAX_STATES, MAX_STATES + 7)
    assert shown["rows"][0] == ["state 00000", [["b", 0.75], ["a", 0.25]], None]


def test_a_full_run_is_quick_and_small(tmp_path):
    run = make_run(tmp_path)
    begin = time.perf_counter()
    path = write_report(run)
    assert time.perf_counter() - begin < 3  # about 0.4 s alone; shared machines are slower
    assert path.stat().st_size < 2_500_000
