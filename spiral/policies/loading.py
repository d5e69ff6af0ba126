"""The policies that a text names: bots, checkpoints of runs, saved models; checks the text before anything is made.

`NAME`, `NAME:key=value,key=value`: a bot. `run:DIR`, `run:DIR@STEP`: the averaged weights of a run's checkpoint, asked
with that run's own prompt. `model:PATH`: a model saved by transformers, asked with this run's prompt.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spiral.api.errors import RunError, SpiralError
from spiral.api.records import PolicyId, Sampling
from spiral.config.loading import parse_plugin
from spiral.config.schema import Config, PluginConfig
from spiral.models.prompts import Prompter
from spiral.plugins.registry import Plugins
from spiral.policies.pool import Pool, Voice

if TYPE_CHECKING:
    import torch

RUN, MODEL = "run:", "model:"


def fault(text: str, plugins: Plugins, exact: bool) -> str | None:
    """What is wrong with the name of a policy, as one sentence; None if it can be invited.

    `exact`: whether a checkpoint must be named by its step, as where a run may be resumed later.
    """
    try:
        if text.startswith(RUN):
            path = _checkpoint(text)
            if exact and "@" not in text:
                step = path.name.removeprefix("step-").lstrip("0") or "0"
                return f"{text} names no step, and the newest changes as that run goes on; write {text}@{step}"
        elif text.startswith(MODEL):
            _saved_model(text)
        else:
            bot = parse_plugin(text)
            return plugins.fault("bot", bot.name, bot.args)
    except SpiralError as error:
        return str(error)
    return None


class Guests:
    """Invites policies to a pool; `config` is the run's own, whose engine they share where their model is the same."""

    def __init__(self, config: Config, plugins: Plugins, pool: Pool, home: Voice | None) -> None:
        self._config, self._plugins, self._pool, self._home = config, plugins, pool, home
        self._voices: list[tuple[Config, Voice]] = [] if home is None else [(config, home)]

    def invite(self, text: str) -> PolicyId:
        """The id of the policy that `text` names, ready to play. Raises SpiralError with what is wrong."""
        if text.startswith(RUN):
            return self._run(text)
        if text.startswith(MODEL):
            return self._model(text)
        bot = parse_plugin(text)
        return self._pool.bot(bot.name, **bot.args)

    def _run(self, text: str) -> PolicyId:
        from spiral.runs.checkpoints import averaged_weights, step_of
        from spiral.runs.directory import RunDir

        path = _checkpoint(text)
        step = step_of(path)
        policy = f"{RUN}{_run_dir(text)}@{step}"
        if policy in self._pool:
            return policy
        _, theirs = RunDir.open(_run_dir(text))
        voice = self._voice_of(theirs)
        if voice is not self._home:
            self._pool.voices[policy] = voice
        _load(voice, policy, averaged_weights(path), step, text)
        self._pool.weighted.add(policy)
        return policy

    def _voice_of(self, theirs: Config) -> Voice:
        """The voice of a run: one for all runs of the same model and prompt, so that they share an engine's batch."""
        for config, voice in self._voices:
            if _same_voice(theirs, config):
                return voice
        voice = _voice(theirs, self._plugins, theirs.model)
        self._voices.append((theirs, voice))
        return voice

    def _model(self, text: str) -> PolicyId:
        if text not in self._pool:
            model, tokenizer = _pretrained(_saved_model(text), self._plugins)
            voice = self._pool.voices[text] = _around(model, tokenizer, self._config, self._plugins)
            from spiral.models.logits import parameters

            _load(voice, text, parameters(model), 0, text)
            self._pool.weighted.add(text)
        return text


def _run_dir(text: str) -> Path:
    return Path(text.removeprefix(RUN).rpartition("@")[0] if "@" in text else text.removeprefix(RUN))


def _checkpoint(text: str) -> Path:
    """The directory of the checkpoint that `run:DIR@STEP` names. Raises SpiralError if there is none."""
    from spiral.runs.checkpoints import found, latest, step_of
    from spiral.runs.directory import RunDir

    run, _ = RunDir.open(_run_dir(text))
    if "@" not in text:
        return latest(run.path)
    asked = text.rpartition("@")[2]
    steps = {str(step_of(path)): path for path in found(run.checkpoints)}
    if asked not in steps:
        raise RunError(
            f"{text}: run {run.path} has no checkpoint of step {asked}; it has: {', '.join(steps) or 'none'}"
        )
    return steps[asked]


def _saved_model(text: str) -> Path:
    path = Path(text.removeprefix(MODEL))
    if not (path / "config.json").is_file():
        raise RunError(
            f"{text}: {path} holds no saved model (no config.json); give a folder that save_pretrained wrote"
        )
    return path


def _same_voice(one: Config, other: Config) -> bool:
    return (one.model, one.prompt, one.rollout.max_new_tokens) == (
        other.model,
        other.prompt,
        other.rollout.max_new_tokens,
    )


def _voice(config: Config, plugins: Plugins, model: PluginConfig) -> Voice:
    made, tokenizer = plugins.make("model", model.name, **model.args)
    return _around(made, tokenizer, config, plugins)


def _around(model: Any, tokenizer: Any, config: Config, plugins: Plugins) -> Voice:
    """An engine and a prompt format for a model."""
    from accelerate import PartialState

    model.to(PartialState().device).eval()
    engine = plugins.make("engine", config.engine.name, model, tokenizer, **config.engine.args)
    prompter = Prompter(plugins.make("prompt", config.prompt.name, tokenizer, **config.prompt.args))
    return Voice(engine, prompter, Sampling(config.rollout.max_new_tokens, prompter.stop_ids))


def _pretrained(path: Path, plugins: Plugins) -> tuple[Any, Any]:
    """A model and its tokenizer, by the installed model plug-in that takes a path."""
    for registration in plugins.registrations():
        if registration.kind == "model" and "path" in inspect.signature(registration.factory).parameters:
            model, tokenizer = plugins.make("model", registration.name, path=str(path))
            return model, tokenizer
    raise RunError(f"model:{path} cannot be loaded: no installed model plug-in takes a path; install one that does")


def _load(voice: Voice, policy: PolicyId, weights: Mapping[str, torch.Tensor], version: int, text: str) -> None:
    try:
        voice.engine.load_weights(policy, weights, version)
    except SpiralError as error:
        raise RunError(f"{text} does not fit the model that its run was configured with: {error}") from error
