"""A learned best response: the config of its run, made from that of the policy it is trained against, and its bound.

Training itself is an ordinary run, so that it resumes, reports and is measured like one.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from spiral.api.errors import RunError, SpiralError
from spiral.api.games import Game
from spiral.api.progress import Progress, no_progress
from spiral.api.records import Ending, Episode
from spiral.config.loading import read
from spiral.config.schema import Config
from spiral.evaluation.loaded_policy import LoadedPolicy, game_label
from spiral.evaluation.lower_bound import FrozenOpponents, LowerBound
from spiral.evaluation.matches import MatchRunner, return_bounds
from spiral.evaluation.measurements import exact_row
from spiral.plugins.registry import Plugins, label
from spiral.policies.loading import names_path, open_run
from spiral.policies.reference import PolicyRef
from spiral.runs.directory import RunDir, step_of
from spiral.theory.game_tree import GameTree

OVERLAY = Path(__file__).with_name("best_response.yaml")
"""What a best response's config says, whatever the run's says; the second file of the core that names plug-ins."""

OWN = ("games", "opponents", "pool", "rewards")
"""Keys that make the run a best response's."""

RETRIES = 4
"""How often an illegal reply is asked again when the bound is measured: what is to be exploited is how the frozen
policy plays, not how it spells, as in the exact number."""


@dataclass(frozen=True)
class Target:
    """The frozen policy: the averaged weights of a run at a step."""

    run: Path
    step: int
    learner: str = ""
    """See `PolicyRef`."""

    @classmethod
    def of(cls, text: str) -> Target:
        """`RUN`, its newest checkpoint, or `RUN@STEP`. Raises RunError if there is none."""
        return cls._from(_named_run(text).resolved())

    @classmethod
    def in_config(cls, config: Config) -> Target:
        """The policy that a best response's run is trained against. Raises RunError for another kind of run."""
        members = [PolicyRef.parse(member.policy) for member in config.pool.members]
        if len(members) != 1 or members[0].kind != "run":
            raise RunError("this run was not started by `spiral best-response`; give its --run-dir, or omit --resume")
        return cls._from(members[0])

    @classmethod
    def _from(cls, ref: PolicyRef) -> Target:
        assert ref.step is not None
        return cls(ref.path, ref.step, ref.learner)

    def check_resumed(self, asked: str, game: str | None, config: Config) -> None:
        """Raise RunError if the run that is resumed is trained against another policy than `asked`, or another game."""
        (trained_on,) = (label(g.name, g.args) for g in config.games)
        ref = _named_run(asked)
        same_policy = ref.path.resolve() == self.run.resolve() and ref.learner == self.learner
        if not same_policy or ref.step not in (None, self.step):
            raise RunError(f"--resume continues the best response to {self._ref.place}, not to {asked}; give that one")
        if game is not None and game_label([trained_on], game) != trained_on:
            raise RunError(f"--resume continues in {trained_on}, not in {game}; omit --game")

    @property
    def policy(self) -> str:
        """As a pool's member is named."""
        return str(self._ref)

    @property
    def _ref(self) -> PolicyRef:
        return PolicyRef("run", path=self.run, step=self.step, learner=self.learner)


def _named_run(text: str) -> PolicyRef:
    return PolicyRef.named_run(text, "; spiral best-response takes games and prompt from a run, so name one")


def configure(target: Target, game: str | None, overrides: Sequence[str], plugins: Plugins) -> tuple[Config, list[str]]:
    """A best response's config and its problems: the run's own, `best_response.yaml` over it, `overrides` over both.

    What the run's config names outside of the run is used if an override names it: `best_response.yaml` takes out its
    loggers and opponents, and a path to a pretrained model is a problem.
    """
    _, run_config = open_run(target.run)
    games = {label(g.name, g.args): g for g in run_config.games}
    chosen = asdict(games[game_label(list(games), game)]) | {"weight": 1.0}
    layers = {**yaml.safe_load(OVERLAY.read_text(encoding="utf-8")), "games": [chosen]}
    layers["pool"] |= {"members": [{"policy": target.policy}]}
    path = target.run / "config.yaml"
    config, problems = read(path, [layers, *overrides])
    made, _ = read(path, [layers])
    changed = [key for key in OWN if getattr(config, key) != getattr(made, key)]
    if config.rollout.illegal != made.rollout.illegal:
        changed.append("rollout.illegal")
    if changed:
        problems.append(f"spiral best-response sets {', '.join(changed)} itself; omit that, or use spiral train")
    if not any(re.match(r"model[.=]", word) for word in overrides) and names_path(config.model, plugins):
        word = shlex.quote(f"model.args.path={config.model.args['path']}")
        problems.append(f"only the config of {target.run} names the model to start from; to use it, add {word}")
    return config, problems


def measure(run_dir: Path, num_games: int, progress: Progress = no_progress) -> dict[str, Any]:
    """Play the best response against the frozen policy and write best_response.json; see `LowerBound` for the
    statistics.

    Where a run keeps several checkpoints, the best one for each player is chosen on games of their own: the games that
    are reported saw no choice, so their mean needs no correction.
    """
    loaded = LoadedPolicy.of_run(run_dir)
    config, setup = loaded.config, loaded.setup
    target = Target.in_config(config)
    frozen = setup.loader.load(target.policy)
    (game,) = setup.games
    one = setup.games[game]()
    runner = MatchRunner(setup.games, setup.pool, replace(config.rollout, retries=RETRIES), progress)
    opponents = FrozenOpponents(runner, game, one.num_players, frozen)
    run = RunDir(run_dir)
    steps = {
        setup.loader.load_ref(PolicyRef("run", path=run_dir, step=step)): step
        for step in map(step_of, run.checkpoint_paths())
    }
    responders = opponents.choose(list(steps), max(1, num_games // 4), (config.seed, "exploit", "choose"))
    own, against = opponents.measure(responders, num_games, (config.seed, "exploit", "measure"))
    bound = LowerBound.of(own, against, return_bounds(one))
    record = {
        "game": game,
        "frozen": target.policy,
        "responder": str(run_dir),
        "steps": loaded.step,
        "games": num_games,
        "players": [
            {"checkpoint": steps[policy], **asdict(response)}
            for policy, response in zip(responders, bound.responses, strict=True)
        ],
        "bound": bound.estimate,
        "lower_95": bound.lower,
        "lower_95_any_returns": bound.lower_any,
        "illegal": _num_ended("illegal", own, *against),
        "cut": _num_ended("cut", own, *against),
        "exact": _exact(target, game, one, config.evaluate.max_nodes),
    }
    run.write("best_response.json", json.dumps(record, indent=2) + "\n")
    return record


def _num_ended(ending: Ending, *games: Sequence[Episode]) -> int:
    """How many of the games ended in this way."""
    return sum(episode.ending == ending for episodes in games for episode in episodes)


def _exact(target: Target, name: str, game: Game, max_nodes: int) -> float | None:
    """The frozen policy's NashConv; None for a game that is too large, or a policy whose moves have many replies."""
    try:
        tree = GameTree.of(game, max_nodes)
    except SpiralError:
        return None
    loaded = LoadedPolicy.of_run(target.run, target.step, target.learner)
    if not loaded.has_unique_replies(tree):
        return None
    nash_conv: float = exact_row(loaded, name, tree)[0]["nash_conv"]
    return nash_conv
