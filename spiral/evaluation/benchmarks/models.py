"""The models that a bench asks: their words parsed, their weights identified by content, and one loaded at a time."""

from __future__ import annotations

import gc
import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from spiral.api.errors import RunError, SpiralError
from spiral.config.loading import load
from spiral.config.schema import Config, PluginConfig
from spiral.evaluation.benchmarks.asking import Asker
from spiral.models.fingerprint import fingerprint
from spiral.models.tokens import spelt
from spiral.plugins.pretrained import find_model
from spiral.plugins.registry import Plugins, label
from spiral.policies.completer import Completer
from spiral.policies.loading import (
    Asked,
    make_completer,
    make_model,
    model_of_checkpoint,
    open_run,
    pretrained_plugin,
)
from spiral.policies.pool import AVERAGED
from spiral.policies.reference import PolicyRef
from spiral.runs.directory import RunDir
from spiral.selfplay.validation import TO_ANSWER, check_to_play


@dataclass(frozen=True)
class BenchModel:
    """A model that is named."""

    name: str
    """What tables call it: a saved model as it was written, a run with its step."""
    ref: PolicyRef
    config: Config
    """How it is asked: of a run, but for what the command line overrides; the defaults of a pretrained model."""

    def identity(self) -> dict[str, str]:
        """What decides what it replies to a question, beside the sampling: weights, by content, and how it is asked."""
        weights = fingerprint(self.ref.saved_model() if self.ref.kind == "model" else self.ref.checkpoint())
        if self.ref.kind == "run":  # an adapter's checkpoint does not hold its base
            base = sorted(RunDir(self.ref.path).read_from().items())
            weights = hashlib.sha256(json.dumps([weights, base]).encode()).hexdigest()[:32]
        c = self.config
        named = {"prompt": c.prompt, "engine": c.engine}
        return {"weights": weights, **{key: label(one.name, one.args) for key, one in named.items()}}


def parse_models(
    words: Sequence[str], plugins: Plugins, prompt: PluginConfig | None = None, engine: PluginConfig | None = None
) -> list[BenchModel]:
    """The models that a command line names; `prompt` and `engine` replace what they bring themselves. Raises
    SpiralError with every problem, a sentence each; nothing is loaded."""
    overrides = {key: one for key, one in (("prompt", prompt), ("engine", engine)) if one is not None}
    problems = [p for kind, one in overrides.items() if (p := plugins.problem(kind, one.name, one.args))]
    found: list[BenchModel] = []
    for word in words:
        try:
            ref = PolicyRef.found(word, plugins)
            model = _with_weights(word, ref, plugins)
            config = replace(model.config, **overrides)  # type: ignore[arg-type]  # a kind is the key of its plug-in
            check_to_play(config, plugins, TO_ANSWER)
            found.append(replace(model, config=config))
        except SpiralError as error:
            problems.append(str(error))
    twice = [name for name, times in Counter(one.name for one in found).items() if times > 1]
    problems += [f"{name} is named twice; name every model once" for name in twice]
    if problems:
        raise SpiralError("\n".join(dict.fromkeys(problems)))
    return found


def _with_weights(word: str, ref: PolicyRef, plugins: Plugins) -> BenchModel:
    if ref.kind == "bot":
        raise RunError(f"{word} is a bot, which answers no question; name a run (runs/a, runs/a@300) or a saved model")
    if ref.kind == "model":
        path = ref.saved_model()
        config = load(overrides=[{"model": str(path)}], find_model=find_model(plugins))
        return BenchModel(word, ref, replace(config, model=pretrained_plugin(path, plugins)))
    ref = ref.resolved()
    _, config = open_run(ref.path)
    return BenchModel(ref.place, ref, config)


class ModelLoader:
    """Loads one model after another; those of one run, or of runs of one model, share an engine."""

    def __init__(self, plugins: Plugins) -> None:
        self._plugins = plugins
        self._loaded: _Loaded | None = None

    def asker(self, model: BenchModel) -> Asker:
        """The model in an engine; what was loaded before is gone. Raises SpiralError if it cannot be loaded."""
        import torch

        torch.set_num_threads(model.config.threads)
        completer, tokenizer = self._of_run(model) if model.ref.kind == "run" else self._of_folder(model)
        rollout = model.config.rollout
        return Asker(model.name, completer.engine, AVERAGED, completer.prompter, partial(spelt, tokenizer), rollout)

    def close(self) -> None:
        """Free what is loaded."""
        if self._loaded is not None:
            getattr(self._loaded.completer.engine, "close", lambda: None)()
            self._loaded = None
            gc.collect()

    def _of_folder(self, model: BenchModel) -> tuple[Completer, Any]:
        from spiral.models.logits import parameters

        self.close()
        made, tokenizer = make_model(model.config.model, model.config, self._plugins)
        completer = make_completer(made, tokenizer, model.config, self._plugins)
        self._loaded = _Loaded(None, completer, tokenizer)
        completer.engine.load_weights(AVERAGED, parameters(made), 0)
        return completer, tokenizer

    def _of_run(self, model: BenchModel) -> tuple[Completer, Any]:
        import torch

        from spiral.models.logits import load_parameters
        from spiral.runs.checkpoints import evaluated_weights

        config, checkpoint, run = model.config, model.ref.checkpoint(), RunDir(model.ref.path)
        made_from = Asked.by(config, run.read_from(), self._plugins), config.engine
        weights = evaluated_weights(checkpoint)
        if self._loaded is None or self._loaded.made_from != made_from:
            self.close()  # before the next one is made: two may not fit
            named = model_of_checkpoint(config.model, checkpoint, run.read_from(), self._plugins)
            made, tokenizer = make_model(named, config, self._plugins)
            with torch.no_grad():
                load_parameters(made, weights)
            self._loaded = _Loaded(made_from, make_completer(made, tokenizer, config, self._plugins), tokenizer)
        completer = self._loaded.completer
        completer.engine.load_weights(AVERAGED, weights, model.ref.step or 0)
        return completer, self._loaded.tokenizer


@dataclass(frozen=True)
class _Loaded:
    """What is in memory now."""

    made_from: tuple[Asked, PluginConfig] | None
    """What other checkpoints must have in common with it to share its engine; None for a saved model, which shares
    none."""
    completer: Completer
    tokenizer: Any
