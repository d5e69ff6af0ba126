"""Patched against flat players of as many parameters after equal time: python -m tools.tiny_players --seconds 120

Each game and seed trains both kinds from random weights, each in a process that is ended after so many seconds of
processor time, which a busy machine disturbs least; then both are measured: exactly where the game can be enumerated,
against the random player, and against each other. Results are kept in OUT as they come, and what stands there is not
measured again.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
KINDS = ("byte", "patch")
GAMES: dict[str, tuple[str, ...]] = {
    "kuhn_poker": (),
    "leduc_poker": ("recipes/leduc_poker/config.yaml",),
    "tic_tac_toe": ("recipes/tic_tac_toe/config.yaml",),
    "connect_four": (
        "recipes/tic_tac_toe/config.yaml",
        "games=connect_four",
        "evaluate.opponents=[random]",
        "rollout.episodes=128",
    ),
    "textarena/Nim-v0": ("recipes/textarena_nim/config.yaml", "games=textarena/Nim-v0", "rollout.episodes=64"),
}
"""Words of `spiral train` for each. Nim as its environment writes it, in hundreds of bytes a prompt."""
SLOW = {"connect_four": 2, "textarena/Nim-v0": 3}
"""Games of which a run takes so many times as long: the warm start alone, of the flat model, takes minutes."""
EXACT = ("kuhn_poker", "leduc_poker", "tic_tac_toe")
NUM_GAMES = 300
"""As each player, of each measurement."""
LONG = 10**6
"""Steps that no run reaches."""


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=120, help="of processor time for each run")
    parser.add_argument("--seeds", default="0,1,2", help="numbers with commas between")
    parser.add_argument("--size", default="0.1m", help="of the presets byte-SIZE and patch-SIZE")
    parser.add_argument("--games", default=",".join(GAMES), help="some of the games, with commas between")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "tiny_players")
    words = parser.parse_args(argv)
    results = words.out / f"results-{words.size}.json"
    found = json.loads(results.read_text(encoding="utf-8")) if results.exists() else {}
    for seed in map(int, words.seeds.split(",")):
        for game in words.games.split(","):
            name = f"{game} {seed}"
            if name not in found:
                found[name] = measured(game, seed, words.size, words.seconds, words.out)
                results.write_text(json.dumps(found, indent=1), encoding="utf-8")
                print(name, json.dumps(found[name]), flush=True)
    print(table(found, words.games.split(",")))


def measured(game: str, seed: int, size: str, seconds: int, out: Path) -> dict[str, Any]:
    """Both kinds of one game and seed."""
    runs, seconds = {}, seconds * SLOW.get(game, 1)
    for kind in KINDS:
        runs[kind] = out / f"{kind}-{size}-{game.replace('/', '-')}-{seed}"
        shutil.rmtree(runs[kind], ignore_errors=True)
        train(game, f"{kind}-{size}", seed, seconds, runs[kind])
    entry: dict[str, Any] = {kind: strength(game, run) for kind, run in runs.items()}
    for kind, run in runs.items():
        entry[kind]["games_per_s"] = round(num_games(run) / seconds, 1)
        entry[kind]["tokens_per_s"] = round(num_tokens(run) / seconds)
    if all(map(has_played, runs.values())):
        # The mean result of both seats, of the patched player against the flat one.
        entry["patch_against_byte"] = against(runs["patch"], str(runs["byte"]))
    return entry


def train(game: str, model: str, seed: int, seconds: int, run: Path) -> None:
    """One run that the system ends. Raises SystemExit where it ended otherwise."""
    words = ["train", *GAMES[game], f"model={model}", f"seed={seed}", f"steps={LONG}", "learner.warmup_steps=10"]
    words += ["evaluate.every=0", "checkpoint.every=2", "loggers=[]", "--run-dir", str(run)]
    log = run.parent / f"{run.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as file:
        done = subprocess.run(
            [sys.executable, "-m", "spiral", *words], stdout=file, stderr=file, check=False,
            cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"},
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds)),
        )  # fmt: skip
    if done.returncode >= 0:
        raise SystemExit(f"training {model} on {game} ended by itself; see {log}")


def strength(game: str, run: Path) -> dict[str, Any]:
    """The distance to an equilibrium, where a game can be enumerated, and the mean result against the random player;
    nothing of a run that was ended in its warm start."""
    if not has_played(run):
        return {}
    found: dict[str, Any] = {"random": against(run, "random")}
    if game in EXACT:
        found["nash_conv"] = asked("exploitability", str(run))["nash_conv"]
    return found


def against(run: Path, opponent: str) -> list[float]:
    """The mean result of a run over both seats, and half of its 95% interval."""
    seats = asked("eval", str(run), "--opponent", opponent, "--games", str(NUM_GAMES))
    halves = [(seat["return_high"] - seat["return_low"]) / 2 for seat in seats]
    means = [seat["mean_return"] for seat in seats]
    return [round(statistics.mean(means), 3), round(sum(half**2 for half in halves) ** 0.5 / len(halves), 3)]


def asked(*words: str) -> Any:
    """What a command of spiral prints as JSON."""
    done = subprocess.run(
        [sys.executable, "-m", "spiral", *words, "--json"], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return json.loads(done.stdout)


def has_played(run: Path) -> bool:
    """Whether there is a policy to be measured."""
    return any((run / "checkpoints").glob("step-*"))


def num_games(run: Path) -> float:
    """Played in all."""
    return sum(row["speed/games_per_s"] * row["time/step_s"] for row in rows_of(run))


def num_tokens(run: Path) -> float:
    """Sampled in all."""
    return sum(row["speed/sampled_tokens_per_s"] * row["time/rollout_s"] for row in rows_of(run))


def rows_of(run: Path) -> list[dict[str, float]]:
    """The steps that a run did."""
    file = run / "metrics.jsonl"
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return [row for row in map(json.loads, lines) if "speed/games_per_s" in row]


def table(found: dict[str, Any], games: Sequence[str]) -> str:
    """Means over the seeds with their range."""
    lines = [
        "| game | kind | games/s | tokens/s | NashConv | against random | patched against flat |",
        "|" + "---|" * 7,
    ]
    for game in games:
        entries = [entry for name, entry in found.items() if name.rpartition(" ")[0] == game]
        for kind in KINDS if entries else ():
            own = [entry[kind] for entry in entries]
            cells = [
                game if kind == KINDS[0] else "", kind,
                spread([one["games_per_s"] for one in own]), spread([one["tokens_per_s"] for one in own]),
                spread([one["nash_conv"] for one in own if "nash_conv" in one]),
                spread([one["random"][0] for one in own if "random" in one]),
                spread([e["patch_against_byte"][0] for e in entries if "patch_against_byte" in e and kind == KINDS[1]]),
            ]  # fmt: skip
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def spread(values: Sequence[float]) -> str:
    """The mean, and the lowest and highest."""
    if not values:
        return ""
    return f"{statistics.mean(values):.3g} ({min(values):.3g} to {max(values):.3g})"


if __name__ == "__main__":
    main()
