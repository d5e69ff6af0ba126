"""Loads the policies that references name into a pool, so that they can play."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spiral.api.errors import RunError, SpiralError
from spiral.api.policies import is_external
from spiral.api.records import PolicyId
from spiral.api.training import Engine
from spiral.config.loading import references, resolved
from spiral.config.schema import Config, PluginConfig
from spiral.models.adapter_folder import is_adapter
from spiral.models.fingerprint import fingerprint
from spiral.models.prompt_cache import Prompter
from spiral.models.tokens import Vocabulary
from spiral.plugins.faults import blamed
from spiral.plugins.pretrained import folder_reader, takes_path
from spiral.plugins.registry import Plugins
from spiral.policies.completer import Completer
from spiral.policies.pool import Pool
from spiral.policies.reference import PolicyRef
from spiral.runs.directory import RunDir
from spiral.seeds import derive

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Asked:
    """What policies must have in common to share an engine and a prompt format; their weights may differ."""

    model: PluginConfig
    in_bf16: bool
    read_from: Mapping[str, str]
    """Fingerprints of what the model's plug-in read, by path: a folder may hold another tokenizer by now."""
    method: PluginConfig
    """What prepared the model."""
    drawn: int | None
    """The seed of weights that a policy does not bring, as an adapter does not bring its base; None where it brings
    all, or where they were read."""
    prompt: PluginConfig
    max_new_tokens: int
    reads_cut: bool
    """See `Completer`."""

    @classmethod
    def by(cls, config: Config, read_from: Mapping[str, str], plugins: Plugins) -> Asked:
        """`read_from`: of the run, of which some may be its pool's."""
        own = {path: read_from[path] for path in map(str, resolved(config.model.args).values()) if path in read_from}
        method = config.learner.method
        prepared = hasattr(plugins.find("learner", method.name).factory, "prepare")
        drawn = config.seed if prepared and not names_path(config.model, plugins) else None
        in_bf16 = config.learner.precision == "bf16"
        tokens, reads_cut = config.rollout.max_new_tokens, _reads_cut(config)
        return cls(config.model, in_bf16, own, method, drawn, config.prompt, tokens, reads_cut)


class PolicyLoader:
    """Loads policies into `pool`; `config` is the run's own, whose completer policies of its model share."""

    def __init__(
        self, config: Config, plugins: Plugins, pool: Pool, read_from: Mapping[str, str] | None = None
    ) -> None:
        """`read_from`: what the model of `pool.default` was read from, see `spiral.models.fingerprint`."""
        self._config, self._plugins, self._pool = config, plugins, pool
        self._completers: list[tuple[Asked, Completer]] = []
        if pool.default is not None:
            self._completers.append((Asked.by(config, read_from or {}, plugins), pool.default))

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

    def is_outside(self, ref: PolicyRef) -> bool:
        """Whether a reference names something outside of a run's directory and of this program: another run, a saved
        model, a bot that asks a person or another process. Raises SpiralError for a bot that cannot be made."""
        return ref.has_weights or self._is_external(ref)

    def _is_external(self, ref: PolicyRef) -> bool:
        factory = self._plugins.find("bot", ref.name).factory
        if is_external(factory):
            return True
        return is_external(self._pool.bot_of(self.load_ref(ref)))

    def _load_run(self, ref: PolicyRef) -> PolicyId:
        from spiral.runs.checkpoints import evaluated_weights

        if ref.policy not in self._pool:
            run, config = open_run(ref.path)
            completer = self._completer_of(config, run.read_from(), ref.checkpoint())
            assert ref.step is not None
            _load_weights(completer, ref, evaluated_weights(ref.checkpoint()), ref.step)
            self._pool.add_weights(ref.policy, completer)
        return ref.policy

    def _completer_of(self, config: Config, read_from: Mapping[str, str], checkpoint: Path) -> Completer:
        """The completer of a run: one for all runs of the same model and prompt, so that they share an engine."""
        asked = Asked.by(config, read_from, self._plugins)
        for known, completer in self._completers:
            if known == asked:
                return completer
        own = model_of_checkpoint(config.model, checkpoint, read_from, self._plugins)
        model, tokenizer = make_model(own, config, self._plugins)
        completer = make_completer(model, tokenizer, config, self._plugins)
        self._completers.append((asked, completer))
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


def open_run(path: Path) -> tuple[RunDir, Config]:
    """The run at `path`, whose policy is to be used, and its config.

    Raises RunError for a directory that is none, and for a run of which a plug-in would be given something of this
    machine's environment: the run may be another's, and its config may ask for a secret.
    """
    run, config = RunDir.open(path)
    if found := references([*config.games, config.model, config.engine, config.prompt]):
        raise RunError(
            f"the config of {path} reads {', '.join(sorted(found))} from the environment, which only its own training "
            "does; write the value into its config.yaml to measure or play it"
        )
    return run, config


def make_model(named: PluginConfig, config: Config, plugins: Plugins) -> tuple[Any, Any]:
    """The model that the plug-in `named` makes, as the learner of `config` trains and plays it, and its tokenizer.

    What is drawn descends from the seed of `config`: a policy may be an adapter over weights that no checkpoint holds.
    """
    import torch

    torch.manual_seed(derive(config.seed, "model"))
    model, tokenizer = plugins.make("model", named.name, **named.args)
    return prepared(model, config, plugins), tokenizer


def prepared(model: Any, config: Config, plugins: Plugins) -> Any:
    """A model as the learner of `config` trains it."""
    method = config.learner.method
    if prepare := getattr(plugins.find("learner", method.name).factory, "prepare", None):
        with blamed(f"learner '{method.name}', as it prepared the model,"):
            model = prepare(model, **resolved(method.args))
    return model


MakeEngine = Callable[[Any, Any], Engine]
"""make_engine(model, tokenizer) -> what generates for the model."""


def make_completer(
    model: Any, tokenizer: Any, config: Config, plugins: Plugins, make_engine: MakeEngine | None = None
) -> Completer:
    """A new engine and prompt format for a model, as `config` says; the model moves to this process's device.
    `make_engine`: makes another engine than `config` names.

    Raises SpiralError for a model that would play and learn as another one than it is.
    """
    from accelerate import PartialState

    from spiral.models.bfloat16 import to_bfloat16
    from spiral.models.own_forward import check_own_forward

    model.to(PartialState().device).eval()
    check_own_forward(model)  # in float32, whose rounding hides nothing
    if config.learner.precision == "bf16":
        to_bfloat16(model)
    engine = (make_engine or partial(probed_engine, config=config, plugins=plugins))(model, tokenizer)
    return completer_around(engine, Vocabulary.of(model, tokenizer), config, plugins)


def completer_around(engine: Engine, vocabulary: Vocabulary, config: Config, plugins: Plugins) -> Completer:
    """The prompt format of `config` and an engine that is there."""
    tokenizer = vocabulary.tokenizer
    made = plugins.make("prompt", config.prompt.name, tokenizer, **config.prompt.args)
    prompter = Prompter(made, vocabulary.stop_ids)
    decode = partial(tokenizer.decode, skip_special_tokens=False)
    tokens, reads_cut = config.rollout.max_new_tokens, _reads_cut(config)
    return Completer.of(engine, prompter, tokens, reads_cut, lambda ids: str(decode(ids)))


def probed_engine(model: Any, tokenizer: Any, config: Config, plugins: Plugins) -> Engine:
    """The engine that `config` names, which proves after each load that it answers with the weights it was given."""
    from spiral.engines.probe import ProbedEngine

    return ProbedEngine(plugins.make("engine", config.engine.name, model, tokenizer, **config.engine.args), model)


def _reads_cut(config: Config) -> bool:
    return config.rollout.cut_replies == "train"


def pretrained_plugin(path: Path, plugins: Plugins) -> PluginConfig:
    """The installed model plug-in that takes a path, with `path` as its argument. Raises RunError without one."""
    reader = folder_reader(plugins)
    if reader is None:
        raise RunError(f"model:{path} cannot be loaded: no installed model plug-in takes a path; install one that does")
    return PluginConfig(reader.name, {"path": str(path)})


def model_of_checkpoint(
    model: PluginConfig, checkpoint: Path, read_from: Mapping[str, str], plugins: Plugins
) -> PluginConfig:
    """A run's model, read from its own checkpoint where the plug-in reads one.

    The path in the run's config may be one of another machine, and is not the run's to name on this one. Only the base
    of an adapter is read there, which no checkpoint holds, and only if its content is what the run began with
    (`read_from`). Raises RunError if it is not.
    """
    if not takes_path(plugins.find("model", model.name)):
        return model
    if not is_adapter(checkpoint / "model"):
        return PluginConfig(model.name, {**model.args, "path": str(checkpoint / "model")})
    path = str(resolved(model.args)["path"])
    if not Path(path, "config.json").is_file() or fingerprint(Path(path)) != read_from.get(path):
        raise RunError(
            f"{checkpoint} holds an adapter, and {path} holds no model that is the one it was trained over; put that "
            "one back there, or merge the adapter where it is (spiral export) and use what that writes"
        )
    return model


def names_path(model: PluginConfig, plugins: Plugins) -> bool:
    """Whether a model's config names a folder to read it from."""
    return "path" in model.args and takes_path(plugins.find("model", model.name))


def _load_weights(completer: Completer, ref: PolicyRef, weights: Mapping[str, torch.Tensor], version: int) -> None:
    try:
        completer.engine.load_weights(ref.policy, weights, version)
    except SpiralError as error:
        raise RunError(f"{ref} does not fit the model that its run was configured with: {error}") from error
