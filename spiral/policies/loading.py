"""Loads the policies that references name into a pool, so that they can play."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spiral.api.errors import RunError, SpiralError
from spiral.api.records import PolicyId
from spiral.config.schema import Config, PluginConfig
from spiral.models.prompt_cache import Prompter
from spiral.plugins.registry import Plugins
from spiral.policies.completer import Completer
from spiral.policies.pool import Pool
from spiral.policies.reference import PolicyRef

if TYPE_CHECKING:
    import torch


class PolicyLoader:
    """Loads policies into `pool`; `config` is the run's own, whose completer policies of its model share."""

    def __init__(self, config: Config, plugins: Plugins, pool: Pool) -> None:
        self._config, self._plugins, self._pool = config, plugins, pool
        self._completers: list[tuple[Config, Completer]] = []
        if pool.default is not None:
            self._completers.append((config, pool.default))

    def load(self, text: str) -> PolicyId:
        """The id of the policy that `text` names, ready to play. Raises SpiralError with what is wrong."""
        return self.load_ref(PolicyRef.parse(text))

    def load_ref(self, ref: PolicyRef) -> PolicyId:
        """The id of the policy of a reference, ready to play. Raises SpiralError with what is wrong."""
        if ref.kind == "run":
            return self._load_run(ref.resolved())
        if ref.kind == "model":
            return self._load_model(ref)
        return self._pool.bot(ref.name, **ref.args)

    def _load_run(self, ref: PolicyRef) -> PolicyId:
        from spiral.runs.checkpoints import averaged_weights
        from spiral.runs.directory import RunDir

        if ref.policy not in self._pool:
            _, config = RunDir.open(ref.path)
            completer = self._completer_of(config)
            assert ref.step is not None
            _load_weights(completer, ref, averaged_weights(ref.checkpoint()), ref.step)
            self._pool.add_weights(ref.policy, completer)
        return ref.policy

    def _completer_of(self, config: Config) -> Completer:
        """The completer of a run: one for all runs of the same model and prompt, so that they share an engine."""
        for known, completer in self._completers:
            if _same_completer(known, config):
                return completer
        model, tokenizer = self._plugins.make("model", config.model.name, **config.model.args)
        completer = make_completer(model, tokenizer, config, self._plugins)
        self._completers.append((config, completer))
        return completer

    def _load_model(self, ref: PolicyRef) -> PolicyId:
        if ref.policy not in self._pool:
            from spiral.models.logits import parameters

            plugin = pretrained_plugin(ref.saved_model(), self._plugins)
            model, tokenizer = self._plugins.make("model", plugin.name, **plugin.args)
            completer = make_completer(model, tokenizer, self._config, self._plugins)
            _load_weights(completer, ref, parameters(model), 0)
            self._pool.add_weights(ref.policy, completer)
        return ref.policy


def make_completer(model: Any, tokenizer: Any, config: Config, plugins: Plugins) -> Completer:
    """A new engine and prompt format for a model, as `config` says; the model moves to this process's device.

    Raises SpiralError for a model that would play and learn as another one than it is.
    """
    from accelerate import PartialState

    from spiral.models.own_forward import check_own_forward

    model.to(PartialState().device).eval()
    check_own_forward(model)
    engine = plugins.make("engine", config.engine.name, model, tokenizer, **config.engine.args)
    prompter = Prompter(plugins.make("prompt", config.prompt.name, tokenizer, **config.prompt.args))
    return Completer.of(engine, prompter, config.rollout.max_new_tokens)


def _same_completer(one: Config, other: Config) -> bool:
    def asked(config: Config) -> tuple[PluginConfig, PluginConfig, int]:
        return config.model, config.prompt, config.rollout.max_new_tokens

    return asked(one) == asked(other)


def pretrained_plugin(path: Path, plugins: Plugins) -> PluginConfig:
    """The installed model plug-in that takes a path, with `path` as its argument. Raises RunError without one."""
    for registration in plugins.registrations():
        if registration.kind == "model" and "path" in inspect.signature(registration.factory).parameters:
            return PluginConfig(registration.name, {"path": str(path)})
    raise RunError(f"model:{path} cannot be loaded: no installed model plug-in takes a path; install one that does")


def _load_weights(completer: Completer, ref: PolicyRef, weights: Mapping[str, torch.Tensor], version: int) -> None:
    try:
        completer.engine.load_weights(ref.policy, weights, version)
    except SpiralError as error:
        raise RunError(f"{ref} does not fit the model that its run was configured with: {error}") from error
