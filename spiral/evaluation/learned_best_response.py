"""A learned best responder: what `spiral exploit` trains, and the lower bound on NashConv that it proves.

Training itself is an ordinary run; here is its config, made from that of the run to be exploited, and the measurement
after it. Knows nothing of how a step is taken.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import NormalDist, fmean, variance
from typing import Any

import yaml

from spiral.api.errors import RunError, SpiralError
from spiral.api.games import Game, is_zero_sum, worst_return
from spiral.api.records import Episode, PolicyId
from spiral.config.loading import read
from spiral.config.schema import Config
from spiral.evaluation.evaluator import Arena
from spiral.evaluation.loaded_run import Inspected, checkpoint_of, exact_row, game_label
from spiral.plugins.registry import label
from spiral.policies.loading import RUN
from spiral.runs.checkpoints import found, step_of
from spiral.runs.directory import RunDir
from spiral.theory.game_tree import GameTree

OVERLAY = Path(__file__).with_name("best_response.yaml")
"""What an exploiter's config says whatever the run's says; the second file of the core that names plug-ins."""

OWN = ("games", "opponents", "pool", "rewards")
"""Keys that make the run an exploiter's."""

RETRIES = 4
"""How often an illegal reply is asked again when the bound is measured: what is to be exploited is how the frozen
policy plays, not how it spells, as in the exact number."""

ONE_SIDED = NormalDist().inv_cdf(0.95)
TWO_SIDED = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True)
class Target:
    """The frozen policy: the averaged weights of a run at a step."""

    run: Path
    step: int

    @classmethod
    def of(cls, text: str) -> Target:
        """`RUN`, its newest checkpoint, or `RUN@STEP`. Raises RunError if there is none."""
        path, at, asked = text.rpartition("@")
        if not at or Path(text).is_dir():
            path, asked = text, ""
        elif not asked.isdecimal():
            raise RunError(f"{text} asks for step '{asked}', which is no number; write RUN or RUN@STEP")
        run, _ = RunDir.open(Path(path))
        return cls(run.path, step_of(checkpoint_of(run, int(asked) if asked else None)))

    @classmethod
    def in_config(cls, config: Config) -> Target:
        """Whom an exploiter's run is trained against. Raises RunError for another kind of run."""
        members = [member.policy for member in config.pool.members]
        if len(members) != 1 or not members[0].startswith(RUN):
            raise RunError("this run was not started by `spiral exploit`; give its --run-dir, or leave out --resume")
        path, _, step = members[0].removeprefix(RUN).rpartition("@")
        return cls(Path(path), int(step))

    def check_resumed(self, asked: str, game: str | None, config: Config) -> None:
        """Raise RunError if the run that is resumed exploits another policy than `asked`, or another game."""
        (label_,) = (label(g.name, g.args) for g in config.games)
        path, _, step = asked.rpartition("@") if not Path(asked).is_dir() else (asked, "", "")
        if Path(path).resolve() != self.run.resolve() or step not in ("", str(self.step)):
            raise RunError(f"--resume continues the exploiter of {self.run}@{self.step}, not of {asked}; give that one")
        if game is not None and game_label([label_], game) != label_:
            raise RunError(f"--resume continues in {label_}, not in {game}; leave out --game")

    @property
    def policy(self) -> str:
        """As a pool's member is named."""
        return f"{RUN}{self.run}@{self.step}"


def configure(target: Target, game: str | None, overrides: Sequence[str]) -> tuple[Config, list[str]]:
    """The exploiter's config and its faults: the run's own, `best_response.yaml` over it, and `overrides` over both."""
    _, theirs = RunDir.open(target.run)
    games = {label(g.name, g.args): g for g in theirs.games}
    chosen = asdict(games[game_label(list(games), game)]) | {"weight": 1.0}
    layers = {**yaml.safe_load(OVERLAY.read_text(encoding="utf-8")), "games": [chosen]}
    layers["pool"] |= {"members": [{"policy": target.policy}]}
    words = [f"{key}={json.dumps(value)}" for key, value in layers.items()]
    path = target.run / "config.yaml"
    config, faults = read(path, [*words, *overrides])
    made, _ = read(path, words)
    changed = [key for key in OWN if getattr(config, key) != getattr(made, key)]
    if config.rollout.illegal != made.rollout.illegal:
        changed.append("rollout.illegal")
    if changed:
        faults.append(f"spiral exploit sets {', '.join(changed)} itself; leave that out, or use spiral train")
    return config, faults


def measure(run_dir: Path, num_games: int) -> dict[str, Any]:
    """Play the exploiter against the frozen policy and write exploit.json; its record, see `Bound` for the statistics.

    Where a run keeps several checkpoints, the best one of each chair is chosen on games of their own: the games that
    are reported saw no choice, so their mean needs no correction.
    """
    inspected = Inspected.open(run_dir)
    config, p = inspected.config, inspected.players
    target = Target.in_config(config)
    frozen = p.guests.invite(target.policy)
    (game,) = p.games
    one = p.games[game]()
    rollout = replace(config.rollout, retries=RETRIES)
    table = Table(Arena(p.games, p.pool, p.engine, p.prompter, rollout), game, one.num_players, frozen)
    steps = {p.guests.invite(f"{RUN}{run_dir}@{step}"): step for step in _steps(run_dir)}
    responders = table.choose(list(steps), max(1, num_games // 4), (config.seed, "exploit", "choose"))
    own, against = table.measure(responders, num_games, (config.seed, "exploit", "measure"))
    bound = Bound.of(own, against, worst_return(one) if is_zero_sum(one) and one.num_players == 2 else None)
    record = {
        "game": game,
        "frozen": target.policy,
        "responder": str(run_dir),
        "steps": inspected.step,
        "games": num_games,
        "players": [
            {"checkpoint": steps[policy], **asdict(chair)}
            for policy, chair in zip(responders, bound.chairs, strict=True)
        ],
        "bound": bound.estimate,
        "lower_95": bound.lower,
        "lower_95_any_returns": bound.lower_any,
        "illegal": sum(e.ending == "illegal" for episodes in (own, *against) for e in episodes),
        "exact": _exact(target, game, one, config.evaluate.max_nodes),
    }
    RunDir(run_dir).write("exploit.json", json.dumps(record, indent=2) + "\n")
    return record


@dataclass(frozen=True)
class Table:
    """The frozen policy at all chairs of a game but one."""

    arena: Arena
    game: str
    num_players: int
    frozen: PolicyId

    def play(self, policy: PolicyId, chair: int, num_games: int, seed: Sequence[int | str]) -> list[Episode]:
        """Games with `policy` at one chair. Equal seeds are equal deals, whoever sits where."""
        seats = [policy if player == chair else self.frozen for player in range(self.num_players)]
        return self.arena.play(self.game, seats, num_games, seed)

    def choose(self, candidates: Sequence[PolicyId], num_games: int, seed: Sequence[int | str]) -> list[PolicyId]:
        """For each chair, the candidate with the highest mean return there; a later one where they tie."""
        if len(candidates) == 1:
            return [candidates[0]] * self.num_players
        chosen = []
        for chair in range(self.num_players):
            means = [
                fmean(e.returns[chair] for e in self.play(candidate, chair, num_games, seed))
                for candidate in candidates
            ]
            chosen.append(max(zip(means, range(len(means)), candidates, strict=True))[2])
        return chosen

    def measure(
        self, responders: Sequence[PolicyId], num_games: int, seed: Sequence[int | str]
    ) -> tuple[list[Episode], list[list[Episode]]]:
        """The frozen policy among itself, and each chair's responder against it, all from the same deals."""
        own = self.play(self.frozen, 0, num_games, seed)
        return own, [self.play(policy, chair, num_games, seed) for chair, policy in enumerate(responders)]


@dataclass(frozen=True)
class Chair:
    """What a responder gets at one chair; errors are half the widths of 95% intervals (normal approximation)."""

    player: int
    mean_return: float
    return_error: float
    frozen_return: float
    """What the frozen policy gets there against itself."""
    gain: float
    """The difference, deal by deal: no more, but for chance, than a best response would gain."""
    gain_error: float


@dataclass(frozen=True)
class Bound:
    """The lower bound on NashConv that responders prove.

    NashConv is the sum over players of (best response value - own value), and no responder is worth more than a best
    response: the sum over chairs of the responders' gains is at most NashConv, for any number of players and any sum.
    With two players and zero sum the own values cancel, and what remains is the sum of the responders' returns.
    """

    chairs: tuple[Chair, ...]
    estimate: float
    """The sum of the gains."""
    lower: float
    """One-sided 95% confidence bound by the normal approximation of the mean over deals."""
    lower_any: float | None
    """One-sided 95% confidence bound for any distribution of returns in their range (the empirical Bernstein
    inequality, Maurer and Pontil 2009, theorem 4); None where the range is not known."""

    @classmethod
    def of(cls, own: Sequence[Episode], against: Sequence[Sequence[Episode]], worst: float | None) -> Bound:
        """From games that began from the same deals. `worst`: the lowest return of a two-player zero-sum game."""
        gains = [
            [theirs.returns[chair] - mine.returns[chair] for theirs, mine in zip(games, own, strict=True)]
            for chair, games in enumerate(against)
        ]
        sums = [sum(deal) for deal in zip(*gains, strict=True)]
        chairs = tuple(_chair(player, own, games, gains[player]) for player, games in enumerate(against))
        lower = fmean(sums) - ONE_SIDED * _standard_error(sums)
        return cls(chairs, fmean(sums), lower, None if worst is None else _bernstein(sums, 4 * abs(worst)))


def _chair(player: int, own: Sequence[Episode], games: Sequence[Episode], gains: Sequence[float]) -> Chair:
    returns = [episode.returns[player] for episode in games]
    return Chair(
        player,
        fmean(returns),
        TWO_SIDED * _standard_error(returns),
        fmean(episode.returns[player] for episode in own),
        fmean(gains),
        TWO_SIDED * _standard_error(gains),
    )


def _standard_error(values: Sequence[float]) -> float:
    return math.sqrt(variance(values) / len(values)) if len(values) > 1 else math.inf


def _bernstein(values: Sequence[float], width: float, delta: float = 0.05) -> float:
    """Below the mean of the distribution with probability 1 - delta, for values in an interval of this width."""
    if len(values) < 2:
        return -math.inf
    log = math.log(2 / delta)
    spread = math.sqrt(2 * variance(values) * log / len(values))
    return fmean(values) - spread - 7 * width * log / (3 * (len(values) - 1))


def _steps(run_dir: Path) -> list[int]:
    return [step_of(path) for path in found(run_dir / "checkpoints")]


def _exact(target: Target, name: str, game: Game, max_nodes: int) -> float | None:
    """The frozen policy's NashConv; None for a game that is too large, or a policy that thinks before it moves."""
    try:
        tree = GameTree.of(game, max_nodes)
    except SpiralError:
        return None
    inspected = Inspected.open(target.run, target.step)
    if inspected.thinks(tree):
        return None
    nash_conv: float = exact_row(inspected, name, tree)[0]["nash_conv"]
    return nash_conv
