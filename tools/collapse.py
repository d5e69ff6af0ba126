"""Runs self-play with and without its cures and writes docs/guides/collapse.md: python -m tools.collapse [run|write].

`run` trains what is missing under runs/collapse (about half an hour on one core); `write` draws what is there.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tools.curves import Curve, read, svg

ROOT = Path(__file__).parents[1]
RUNS, PAGE, FIGURES = ROOT / "runs" / "collapse", ROOT / "docs" / "guides" / "collapse.md", ROOT / "docs" / "figures"
SEEDS = (0, 1, 2)

GAMES: dict[str, list[str]] = {
    "kuhn_poker": ["steps=400", "evaluate.every=25"],
    "tic_tac_toe": [
        "games=tic_tac_toe", "steps=200", "evaluate.every=50", "rollout={episodes: 256, max_new_tokens: 8}",
        "warm_start.batch=256", "evaluate={opponents: [perfect, random], matches: 100}",
    ],
}  # fmt: skip
MAGNET = {
    "kuhn_poker": "learner={kl: 0.8, kl_end: 0.25, anchor: 0.05}",
    "tic_tac_toe": "learner={kl: 0.4, kl_end: 0.5, reference_every: 100, reference_ema: 0.98, anchor: 0.1}",
}
BARE = ["advantage=rae", "learner.kl=0", "learner.anchor=0"]
VARIANTS: dict[str, list[str]] = {
    "mirror": BARE,
    "magnet": ["advantage=rae", "learner.anchor=0"],
    "anchor": ["learner.kl=0"],
    "default": [],
}
FIXED = ["loggers=[]", "checkpoint.every=100", "checkpoint.episodes=2"]
Z = 4.303
"""Student's t for a 95% interval of the mean of three."""


def command(game: str, variant: str, seed: int) -> list[str]:
    """The words of one run."""
    words = [*GAMES[game], MAGNET[game], *FIXED, *VARIANTS[variant], f"seed={seed}"]
    return ["spiral", "train", *words, "--run-dir", str(_run_dir(game, variant, seed).relative_to(ROOT))]


def run() -> None:
    """Train what is missing, one after another; a run that was cut off goes on."""
    for game in GAMES:
        for seed in SEEDS:
            for variant in VARIANTS:
                directory = _run_dir(game, variant, seed)
                if (directory / "done").exists():
                    continue
                words = [sys.executable, "-m", *command(game, variant, seed)]
                if (directory / "config.yaml").exists():
                    words = [*words[:4], "--run-dir", str(directory), "--resume"]
                print(" ".join(words[2:]), flush=True)
                subprocess.run(words, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
                (directory / "done").touch()


def write() -> None:
    """The page and its figures."""
    parts = [HEAD]
    for game, (title, metrics) in SHOWN.items():
        parts.append(f"## {title}\n\n{FINDINGS[game]}")
        for metric, name in metrics.items():
            curves = {v: [read(_run_dir(game, v, s), metric) for s in _done(game, v)] for v in VARIANTS}
            drawn = {v: _mean(several) for v, several in curves.items() if several}
            bands = {v: _band(several) for v, several in curves.items() if several}
            file = FIGURES / f"collapse-{game}-{metric.rsplit('/', 1)[-1]}{_player(metric)}.svg"
            file.write_text(svg(drawn, name, bands), encoding="utf-8")
            parts.append(f"![{name}](../figures/{file.name})\n")
            parts.append(_table(name, curves))
        parts.append(_events(game))
    parts.append(_commands())
    PAGE.write_text("\n".join(parts), encoding="utf-8")


def _done(game: str, variant: str) -> list[int]:
    return [seed for seed in SEEDS if (_run_dir(game, variant, seed) / "done").exists()]


def _run_dir(game: str, variant: str, seed: int) -> Path:
    return RUNS / f"{game}-{variant.replace(' + ', '-')}-{seed}"


def _player(metric: str) -> str:
    return next((f"-{part}" for part in metric.split("/") if part in ("p0", "p1")), "")


def _mean(curves: Sequence[Curve]) -> Curve:
    steps = [x for x, _ in curves[0]]
    return [(x, sum(dict(curve)[x] for curve in curves) / len(curves)) for x in steps]


def _band(curves: Sequence[Curve]) -> list[tuple[float, float, float]]:
    """(step, lowest, highest) of the seeds."""
    by_step = [(x, [dict(curve)[x] for curve in curves]) for x, _ in curves[0]]
    return [(x, min(values), max(values)) for x, values in by_step]


def _table(name: str, curves: dict[str, list[Curve]]) -> str:
    """Each seed's last value, and the mean with a 95% interval."""
    rows = [
        f"| {name} at the end | " + " | ".join(f"seed {s}" for s in SEEDS) + " | mean, 95% |",
        "|---|---|---|---|---|",
    ]
    for variant, several in curves.items():
        ends = [curve[-1][1] for curve in several]
        mean = sum(ends) / max(1, len(ends))
        spread = math.sqrt(sum((e - mean) ** 2 for e in ends) / max(1, len(ends) - 1))
        half = Z * spread / math.sqrt(len(SEEDS))
        cells = [f"{e:.3f}" for e in ends] + ["-"] * (len(SEEDS) - len(ends))
        # Three equal ends say nothing of a fourth, so no interval is shown.
        interval = f"{mean:.3f} +- {half:.3f}" if len(ends) == len(SEEDS) and len({*cells}) > 1 else "-"
        rows.append(f"| {variant} | " + " | ".join(cells) + f" | {interval} |")
    return "\n".join(rows) + "\n"


def _events(game: str) -> str:
    """What the detector reported of each run."""
    rows = ["What the collapse detector reported, with the step at which it was certain:\n"]
    rows += ["| | " + " | ".join(f"seed {s}" for s in SEEDS) + " |", "|---|---|---|---|"]
    for variant in VARIANTS:
        cells = []
        for seed in SEEDS:
            path = _run_dir(game, variant, seed) / "events.jsonl"
            events = (
                [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
            )
            collapses = "; ".join(f"{e['kind']} @{e['step']}" for e in events if e["severity"] == "collapse")
            warned = sum(e["severity"] != "collapse" for e in events)
            cells.append((collapses or "nothing") + (f" ({warned} warnings)" if warned else ""))
        rows.append(f"| {variant} | " + " | ".join(cells) + " |")
    return "\n".join(rows) + "\n"


def _commands() -> str:
    lines = [" ".join(_quoted(w) for w in command(game, variant, 0)) for game in GAMES for variant in VARIANTS]
    return "## The commands, for seed 0\n\n```sh\n" + "\n".join(lines) + "\n```\n"


def _quoted(word: str) -> str:
    return f"'{word}'" if set(word) & set("{}[] ") else word


SHOWN = {
    "kuhn_poker": ("Kuhn poker", {"eval/kuhn_poker/nash_conv": "NashConv"}),
    "tic_tac_toe": (
        "Tic-tac-toe",
        {
            "eval/tic_tac_toe/nash_conv": "NashConv",
            "eval/tic_tac_toe/rare_moves": "share of the legal moves below a chance of 0.001",
            "eval/tic_tac_toe/vs/perfect/p0/draw": "draws against perfect play, as X",
        },
    ),
}

FINDINGS = {
    "kuhn_poker": """\
Without magnet and anchor every run has collapsed by step 25: always bet, always call, NashConv 2/3. Past snapshots and
a random player in the pool do not prevent that (measured 2026-11-22: .667 on three seeds with `pfsp` and with a
mixture): they punish the same habits too little, and once the entropy is gone no other move is sampled that could teach
anything else. The magnet alone holds play open, but of ten seeds of 1,000 steps three did not arrive. The anchor alone
keeps every move alive and lets play circle: NashConv falls to about .2 and rises again. Together they arrive, on each
of twenty seeds of `recipes/kuhn_poker`. So the default of `spiral train` is mirror self-play with both.

What still collapses with the new default: nothing of this page. A magnet or an anchor that is too weak for a game's
stakes does: both are weighed against returns, so Leduc poker, with pots of 13 chips, needs more of them
([its page](../games/leduc_poker.md)).
""",
    "tic_tac_toe": """\
200 steps of 256 games are too few to learn to hold a draw, and enough to collapse. Mirror self-play has NashConv 2 from
step 50 on, the highest there is: a best response wins every game as either player. By the end 40% to 62% of the legal
moves, over all 4,520 decisions, have a chance below one in a thousand, so play no longer samples what would punish its
habits. With the magnet, the anchor or both no move is that rare. The magnet holds play close to the random one that it
began with, and so does the default, whose magnet is the same; the anchor alone lets it move, for the better against
perfect play as X and for the worse in NashConv. [A longer run](../games/tic_tac_toe.md) therefore has the anchor alone,
and learns.

The detector named none of the three collapsed runs: random play has a NashConv of 1.93 already, so there is little room
to see a fall, and five evaluations are too few to call it a standstill.
""",
}
"""What the runs of 2026-11-29 showed; to be written again with them."""

HEAD = """<!-- written by `python -m tools.collapse`; edit that instead -->
# Collapse, and what cures it

Mirror self-play rewards whatever beats the policy's own present habits. Nothing in it asks for play that holds against
other opponents, so a policy can collapse while its own games look perfect: no illegal moves, steady returns, a falling
loss. Only an outside measurement shows it: exact exploitability (NashConv: what best responses of all players would
gain, 0 at a Nash equilibrium), or matches against an opponent that punishes mistakes.

Each line below is the mean of three seeds and the band its lowest and highest; the averaged weights are measured, at
temperature 1. All runs of a game differ in nothing but what their name says:

- **mirror**: the learner plays every player, no regulariser.
- **magnet**: mirror, with the KL term that pulls towards a slowly moving reference.
- **anchor**: mirror, with the forward KL from random legal play instead, and the baseline by state (`nested`).
- **default**: mirror with magnet, anchor and state baseline, as `spiral train` has it.

Reproduce everything with `python -m tools.collapse`, which runs the commands at the end of this page.
"""


if __name__ == "__main__":
    if sys.argv[1:] in ([], ["run"]):
        run()
    if sys.argv[1:] in ([], ["write"]):
        write()
