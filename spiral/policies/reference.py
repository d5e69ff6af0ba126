"""The texts that name policies, parsed once; checked before any model is loaded.

`NAME`, `NAME:key=value,key=value`: a bot. `run:DIR`, `run:DIR@STEP`: the averaged weights of a run's checkpoint, asked
with that run's own prompt; `run:DIR@POLICY`, `run:DIR@POLICY:STEP`: of a policy that the run trains beside its main
one, by its name in `learners`. `model:PATH`: a model saved by transformers. On a command line the folder of a run or of
a model needs no `run:` or `model:`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from spiral.api.errors import RunError, SpiralError
from spiral.api.records import PolicyId
from spiral.config.loading import parse_plugin
from spiral.models.adapter_folder import is_adapter
from spiral.plugins.argument_text import argument_text
from spiral.plugins.registry import Plugins, label
from spiral.runs.directory import RunDir, check_name, policy_folder, step_of

_RUN, _MODEL, _BOT = "run:", "model:", "bot:"
_ASKED = re.compile(r"([0-9]+)|([A-Za-z]\w*)(?::([0-9]+))?")
"""What may follow the `@`: a step, or the name of a policy and perhaps its step."""


@dataclass(frozen=True)
class PolicyRef:
    """What a text names; its `str` parses to an equal reference."""

    kind: Literal["bot", "run", "model"]
    name: str = ""
    """Of a bot."""
    args: Mapping[str, Any] = field(default_factory=dict)
    """Of a bot."""
    path: Path = Path()
    """Of a run or a saved model."""
    step: int | None = None
    """Of a run's checkpoint; None for its newest."""
    learner: str = ""
    """Of a run: the policy that it trains, by its name in the config; empty for the main one."""

    @classmethod
    def parse(cls, text: str) -> PolicyRef:
        """Read a text; nothing is looked up but whether a directory's own name holds an `@`. Raises SpiralError."""
        if text.startswith(_RUN):
            return cls.run(text.removeprefix(_RUN))
        if text.startswith(_MODEL):
            return cls("model", path=Path(text.removeprefix(_MODEL)))
        bot = parse_plugin(text)
        return cls("bot", bot.name, bot.args)

    @classmethod
    def of_bot(cls, policy: PolicyId) -> PolicyRef:
        """Read the id of a bot. Raises SpiralError for another policy's."""
        ref = cls.parse(policy.removeprefix(_BOT))
        if ref.policy != policy:
            raise SpiralError(f"{policy} is no bot that can be made by its name")
        return ref

    @classmethod
    def run(cls, text: str) -> PolicyRef:
        """Read `DIR`, `DIR@STEP`, `DIR@POLICY` or `DIR@POLICY:STEP`; a directory of that whole name comes first. Raises
        RunError for another text after the `@`."""
        directory, at, asked = text.rpartition("@")
        if not at or "/" in asked or Path(text).is_dir():  # an `@` before a slash belongs to a folder's name
            return cls("run", path=Path(text))
        found = _ASKED.fullmatch(asked)
        if found is None:
            raise RunError(
                f"{text} asks for '{asked}', which is neither a step nor a policy of a run; write DIR, DIR@STEP, "
                "DIR@POLICY or DIR@POLICY:STEP"
            )
        step, learner, its_step = found.groups()
        number = step or its_step
        return cls("run", path=Path(directory), step=None if number is None else int(number), learner=learner or "")

    @classmethod
    def of_command_line(cls, word: str) -> PolicyRef:
        """As `parse`, but the folder of a run or a saved model needs no prefix. Raises SpiralError."""
        if word.startswith((_RUN, _MODEL)):
            return cls.parse(word)
        if (Path(word) / "config.json").is_file():
            return cls("model", path=Path(word))
        directory = word.rpartition("@")[0]
        if any((Path(path) / "config.yaml").is_file() for path in (word, directory) if path):
            return cls.run(word)
        return cls.parse(word)

    @classmethod
    def named_run(cls, word: str, otherwise: str) -> PolicyRef:
        """The run that a word of a command line names. Raises RunError for a saved model; `otherwise` ends that
        sentence, with what is taken instead."""
        ref = cls.of_command_line(word)
        if ref.kind == "model":
            raise RunError(f"{word} is a saved model{otherwise}")
        return cls.run(word) if ref.kind == "bot" else ref  # which says, once it is opened, why it is no run

    @classmethod
    def found(cls, word: str, plugins: Plugins) -> PolicyRef:
        """The policy that a word of a command line names. Raises SpiralError for one that cannot be loaded."""
        check_name(Path(word))
        ref = cls.of_command_line(word)
        reason = ref.problem(plugins, exact=False)
        if reason is None:
            return ref
        if ref.has_weights:
            raise RunError(reason)
        path = Path(word.rpartition("@")[0] or word)
        if path.is_dir():
            raise RunError(f"{word} is no run: {path} has no config.yaml; give the directory that `spiral train` wrote")
        raise RunError(f"{word} is neither a run directory nor a bot: {reason}")

    def __str__(self) -> str:
        if self.kind == "model":
            return f"{_MODEL}{self.path}"
        if self.kind == "run":
            # The slash keeps an `@` in the folder's own name from being read as the step's.
            asked = ":".join(filter(None, (self.learner, "" if self.step is None else str(self.step))))
            end = f"@{asked}" if asked else "/" if "@" in self.path.name else ""
            return f"{_RUN}{self.path}{end}"
        return f"{self.name}:{argument_text(self.args)}" if self.args else self.name

    @property
    def place(self) -> str:
        """Of a run's policy, as a command line takes it."""
        return str(self).removeprefix(_RUN)

    @property
    def has_weights(self) -> bool:
        """Whether an engine plays for it; a bot has none."""
        return self.kind != "bot"

    @property
    def policy(self) -> PolicyId:
        """What episodes call it; of a run, `resolved` comes first."""
        return f"{_BOT}{label(self.name, dict(self.args))}" if self.kind == "bot" else str(self)

    def resolved(self) -> PolicyRef:
        """The same with a run's newest step filled in. Raises RunError if the run or its checkpoint is not there."""
        if self.kind != "run":
            return self
        return replace(self, step=step_of(RunDir.open(self.path)[0].checkpoint(self.step)))

    def checkpoint(self) -> Path:
        """The directory of the policy in the checkpoint that a run's reference names. Raises RunError if there is
        none."""
        run, _ = RunDir.open(self.path)
        return policy_folder(run.checkpoint(self.step), self.learner)

    def saved_model(self) -> Path:
        """The folder of a saved model. Raises RunError if it holds none."""
        check_name(self.path)
        if not (self.path / "config.json").is_file():
            if is_adapter(self.path):
                raise RunError(
                    f"{self}: {self.path} holds an adapter, which plays over its base alone; name its run "
                    "(run:DIR@STEP), or what spiral export wrote of it"
                )
            raise RunError(
                f"{self}: {self.path} holds no saved model (no config.json); give a folder that save_pretrained wrote"
            )
        return self.path

    def problem(self, plugins: Plugins, exact: bool) -> str | None:
        """What keeps the policy from being loaded, as one sentence; None if nothing does.

        `exact`: whether a checkpoint must be named by its step, as where a run may be resumed later.
        """
        try:
            if self.kind == "bot":
                return plugins.problem("bot", self.name, dict(self.args))
            if self.kind == "model":
                self.saved_model()
            elif exact and self.step is None:
                return f"{self} names no step, and the newest changes as that run goes on; write {self.resolved()}"
            else:
                self.checkpoint()
        except SpiralError as error:
            return str(error)
        return None


def problem_with(text: str, plugins: Plugins, exact: bool) -> str | None:
    """What is wrong with a text that should name a policy, as one sentence; see `PolicyRef.problem`."""
    try:
        return PolicyRef.parse(text).problem(plugins, exact)
    except SpiralError as error:
        return str(error)


def trained_on_others(text: str, games: Iterable[str]) -> str | None:
    """A sentence if a text names a run's checkpoint, or the model in one, that was trained on none of `games`.

    `games`: labels; a game with other arguments is the same one. Of any other model nothing is known.
    """
    ref = PolicyRef.parse(text)
    # RUN/checkpoints/step-N/model is what a checkpoint keeps for other tools.
    path = ref.path.joinpath(*[".."] * 3) if ref.kind == "model" else ref.path
    if ref.kind == "bot" or not (path / "config.yaml").is_file():
        return None
    trained = {game.name for game in RunDir.open(path)[1].games}
    wrong = [name for name in games if name.partition("(")[0] not in trained]
    if not wrong:
        return None
    known = ", ".join(sorted(trained)) or "text"
    return (
        f"{text} was trained on {known} and not on {', '.join(wrong)}, where it would forfeit each match; name a "
        "policy of that game, or limit this one to its own with {policy: ..., games: [...]}"
    )


def is_bot_id(policy: PolicyId) -> bool:
    """Whether a policy's id is that of a bot."""
    return policy.startswith(_BOT)


def short_name(policy: PolicyId) -> str:
    """What tables and metrics call a policy: a bot by its name alone."""
    return policy.removeprefix(_BOT)
