"""Runs from Python: train or load one, and read, evaluate or play what it learned; the command line is built on it."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spiral.api.errors import RunError, SpiralError
from spiral.api.progress import Phase, Progress, no_progress
from spiral.api.text import printable
from spiral.plugins.registry import Plugins
from spiral.policies.reference import PolicyRef
from spiral.runs.directory import RunDir, step_of

if TYPE_CHECKING:
    import pandas as pd

    from spiral.config.schema import Config
    from spiral.evaluation.loaded_policy import LoadedPolicy
    from spiral.training.components import Components

Json = dict[str, Any]


class Policy:
    """A policy: a checkpoint of a run, a saved model or a bot. It is loaded when it is first used."""

    def __init__(self, ref: PolicyRef, config: Config | None = None, progress: Progress = no_progress) -> None:
        """`config`: for a saved model or a bot, the games it plays and how it is asked. `progress` is told what takes
        long."""
        self.ref, self._progress = ref, progress
        self._config = config
        self._loaded: LoadedPolicy | None = None

    @classmethod
    def named(cls, word: str, game: str | None, progress: Progress = no_progress) -> Policy:
        """The policy that a word of the command line names: a run or `RUN@STEP`, a saved model, a bot.

        `game`: what a saved model or a bot plays, NAME or NAME:key=value; a run knows its games. Raises SpiralError.
        """
        from spiral.config.loading import parse_plugin

        ref = PolicyRef.found(word, Plugins.installed())
        if ref.kind == "run":
            return cls(ref.resolved(), progress=progress)
        if game is None:
            raise SpiralError(f"no game is named, and {word} is no run that tells which; give --game")
        plugin = parse_plugin(game)
        asked = {"model": str(ref.path)} if ref.kind == "model" else {}  # by the defaults that follow that model
        return cls(ref, configure(asked, games=[{"name": plugin.name, "args": plugin.args}]), progress)

    def __repr__(self) -> str:
        return f"<spiral.Policy {self.ref}>"

    @property
    def loaded(self) -> LoadedPolicy:
        """The policy in an engine. Raises SpiralError if it cannot be loaded."""
        if self._loaded is None:
            self._progress(Phase(f"loading {self.ref}"))
            from spiral.evaluation.loaded_policy import LoadedPolicy

            if self._config is None:
                self._loaded = LoadedPolicy.of_ref(self.ref)
            elif self.ref.kind == "model":
                self._loaded = LoadedPolicy.of_model(self.ref.path, self._config)
            else:
                self._loaded = LoadedPolicy.of_bot(self.ref, self._config)
        return self._loaded

    def evaluate(self, *opponents: str, game: str | None = None, matches: int = 500) -> list[Json]:
        """Matches against each opponent, as each player: one row each, with 95% intervals.

        `opponents`: as `pool.members` names them. Without any, those of the run's config that are bots of this program:
        what is outside of the run is used if it is named here only. `game`: one of its games; all without it. Raises
        SpiralError for an opponent or a game that is not there.
        """
        from spiral.evaluation.measurements import match_rows

        if wrong := [opponent for opponent in opponents if not isinstance(opponent, str)]:
            raise SpiralError(f"an opponent is named by text, such as 'random' or 'run:runs/a', not by {wrong[0]!r}")
        if matches < 1:
            raise SpiralError(f"matches is {matches}, and must be at least 1")
        named = [str(PolicyRef.of_command_line(opponent)) for opponent in opponents]
        rows = match_rows(self.loaded, game, named, matches, self._progress)
        if not rows:
            raise SpiralError(f"there is no opponent for {self.ref}; name some, such as random (--opponent random)")
        return rows

    def exploitability(self, game: str | None = None, samples: int | None = None) -> Json:
        """NashConv of a game that can be enumerated, with each player's value and gain, and the policy's table.

        Exact; or, with `samples` replies asked at each decision, with a 95% interval. Raises SpiralError for a game
        that is too large, or for a policy whose moves cannot be scored without samples.
        """
        from spiral.evaluation.measurements import exact_row, sampled_row

        if samples is None:
            row, table = exact_row(self.loaded, game, progress=self._progress)
        else:
            row, table = sampled_row(self.loaded, game, samples, self._progress)
        return {**row, "table": table}

    def play(self, game: str | None = None, player: int = 0, seed: int | None = None) -> list[float]:
        """Play one match here, by `input` and `print`; the returns, or [] if the policy forfeited it."""
        from spiral.evaluation.against_person import play_against

        seed = random.SystemRandom().getrandbits(31) if seed is None else seed
        return play_against(
            self.loaded, game, player, seed, lambda text: print(printable(text)), lambda: input("you> ")
        )


class Run:
    """A run on disk, finished or not. Its metrics, episodes and checkpoints are read anew at each call."""

    def __init__(self, path: str | Path) -> None:
        """Raises RunError if there is no run at `path`."""
        self._dir, self.config = RunDir.open(Path(path))

    def __repr__(self) -> str:
        return f"<spiral.Run {self.path}, checkpoints {self.steps}>"

    @property
    def path(self) -> Path:
        return self._dir.path

    @property
    def report(self) -> Path:
        """The page to open in a browser."""
        return self.path / "report.html"

    @property
    def steps(self) -> list[int]:
        """Of the checkpoints that are kept, ascending."""
        return [step_of(path) for path in self._dir.checkpoint_paths()]

    def metrics(self) -> pd.DataFrame:
        """All metrics: a row a step, a column a metric. Needs pandas."""
        try:
            import pandas as pd
        except ImportError as error:
            raise SpiralError('metrics as a frame need pandas: pip install "spiral-selfplay[frames]"') from error
        frame = pd.DataFrame(self._dir.metrics())
        return frame.set_index("step") if len(frame) else frame

    def episodes(self) -> list[Json]:
        """The games that were kept, turn by turn, with the probability and the advantage of each move."""
        return self._dir.episodes()

    def policy(self, step: int | None = None) -> Policy:
        """The averaged weights of a checkpoint, the newest without `step`. Raises RunError if it is not there; the
        first use does too, if a run that is still training deleted it meanwhile (`checkpoint.keep`)."""
        return Policy(PolicyRef("run", path=self.path, step=step).resolved())

    def evaluate(self, *opponents: str, game: str | None = None, matches: int = 500) -> list[Json]:
        """`Policy.evaluate` of the newest checkpoint."""
        return self.policy().evaluate(*opponents, game=game, matches=matches)

    def exploitability(self, game: str | None = None, samples: int | None = None) -> Json:
        """`Policy.exploitability` of the newest checkpoint."""
        return self.policy().exploitability(game, samples)

    def play(self, game: str | None = None, player: int = 0, seed: int | None = None) -> list[float]:
        """`Policy.play` against the newest checkpoint."""
        return self.policy().play(game, player, seed)


def configure(config: str | Path | Mapping[str, Any] | Config | None = None, **overrides: Any) -> Config:
    """A run's configuration: the defaults, under a YAML file, a mapping or a finished one, under keyword arguments.

    Keys may be nested mappings or dotted: `learner={"lr": 1e-3}` and `**{"learner.lr": 1e-3}` say the same. Every
    problem is found before anything heavy is made. Raises ConfigError with all of them, a sentence each.
    """
    from spiral.training.launch import checked_config

    path, layers = _layers(config, overrides)
    return checked_config(path, layers, Plugins.installed())


def build(config: Config) -> Components:
    """The parts of a run for a training loop of one's own: games, engine, pool, rollouts, estimator, learner.

    The model has its initial weights, after the warm start that `config` asks for; nothing is written to a run.
    Raises SpiralError for what cannot be made.
    """
    from spiral.config.schema import Config
    from spiral.selfplay.validation import check
    from spiral.training.components import make_components

    if not isinstance(config, Config):
        raise SpiralError(f"build takes what spiral.configure returns, not a {type(config).__name__}")
    plugins = Plugins.installed()
    check(config, plugins)
    return make_components(config, plugins, no_progress, fresh=True)


def train(
    config: str | Path | Mapping[str, Any] | Config | None = None,
    *,
    run_dir: str | Path | None = None,
    resume: bool = False,
    quiet: bool = False,
    **overrides: Any,
) -> Run:
    """Train to the last step, and return the run; see `configure` for `config` and `overrides`.

    `run_dir`: where the run is kept, runs/GAME-TIME without it. `resume`: continue the run in `run_dir` with its own
    config and `overrides`. `quiet`: print nothing. torch's CPU threads are set to the config's `threads`. Raises
    SpiralError for what cannot be trained; a run that was interrupted can be resumed.
    """
    from spiral.training.launch import launch

    path, layers = _layers(config, overrides)
    run = launch(path, layers, None if run_dir is None else Path(run_dir), resume, quiet=quiet)
    return Run(run.path)


def load(path: str | Path, **overrides: Any) -> Run | Policy:
    """A run by its directory, one of its checkpoints as `DIR@STEP`, or a model that transformers saved.

    A saved model plays the games, and is asked as, `overrides` say; see `configure`. Raises SpiralError if there is
    nothing of that name.
    """
    text = str(path)
    if (Path(text) / "config.json").is_file():
        return Policy(PolicyRef("model", path=Path(text)), configure({"model": text}, **overrides))
    if overrides:
        raise SpiralError(f"{text} is no saved model, and a run keeps its own config; omit {', '.join(overrides)}")
    if (Path(text) / "config.yaml").is_file():
        return Run(text)
    if "@" in text:
        return Policy(PolicyRef.run(text).resolved())
    what = "holds neither a run nor a saved model" if Path(text).exists() else "does not exist"
    raise RunError(f"{text} {what}; give the directory that spiral.train wrote, DIR@STEP, or a saved model's folder")


def _layers(
    config: str | Path | Mapping[str, Any] | Config | None, overrides: Mapping[str, Any]
) -> tuple[Path | None, list[Mapping[str, Any]]]:
    """The file and the mappings that a configuration is read from, each over the one before."""
    if config is None:
        return None, [overrides]
    if isinstance(config, str | Path):
        return Path(config), [overrides]
    if isinstance(config, Mapping):
        return None, [config, overrides]
    if not is_dataclass(config):
        raise SpiralError(f"a configuration is a file's path, a mapping or a Config, not a {type(config).__name__}")
    return None, [asdict(config), overrides]
