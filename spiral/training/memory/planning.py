"""The plan of a config: its model without weights, what it keeps of it, and the devices; the refusal before a run."""

from __future__ import annotations

import os
from typing import Any

from accelerate.utils import parse_flag_from_env

from spiral.api.errors import RunError
from spiral.api.text import printable_logger
from spiral.config.loading import resolved
from spiral.config.schema import Config
from spiral.plugins.registry import Plugins
from spiral.policies.loading import prepared
from spiral.training.memory.architecture import Adapter, Architecture
from spiral.training.memory.devices import GB, Devices, found_devices
from spiral.training.memory.plan import Plan, Remedy, cheapest_change
from spiral.training.memory.settings import PROMPT_TOKENS, settings_of

log = printable_logger(__name__)


def plan_of(
    config: Config,
    plugins: Plugins,
    devices: Devices,
    shards: int = 1,
    prompt_tokens: int = PROMPT_TOKENS,
) -> Plan:
    """What a run of `config` takes of each of `devices`, the learner being sharded over `shards` of them, for texts
    whose prompts have at most `prompt_tokens`. Raises SpiralError for a model that its plug-in cannot describe."""
    model = skeleton(config, plugins)
    architecture = Architecture.of(model)  # before its learner may wrap it
    adapter = Adapter.of(prepared(model, config, plugins))
    learner, engine = settings_of(config, architecture.context, adapter, prompt_tokens, devices.is_gpu)
    return Plan(architecture, learner, engine, devices, shards)


def skeleton(config: Config, plugins: Plugins) -> Any:
    """The model of a config without its weights, on the meta device; made as it is where its plug-in has no member
    `skeleton` that says how."""
    if make := getattr(plugins.find("model", config.model.name).factory, "skeleton", None):
        return make(**resolved(config.model.args))
    model, _ = plugins.make("model", config.model.name, **config.model.args)
    return model


def check_memory(config: Config, plugins: Plugins) -> None:
    """Raise RunError for a run that cannot fit the GPUs of this machine; where there are none, warn of one that may not
    fit its memory, since an operating system can move some of it to disk.

    Counts what is certain alone: a prompt of one token, and the whole of a GPU. A model whose plug-in cannot describe
    it without weights is not made for it.
    """
    if not hasattr(plugins.find("model", config.model.name).factory, "skeleton"):
        return
    devices = found_devices()
    plan = plan_of(config, plugins, devices, shards_of_launcher(), prompt_tokens=1)
    if plan.needed_bytes <= devices.num_bytes:
        return
    of = "each GPU" if devices.is_gpu else "memory"
    sentence = (
        f"this run needs {plan.needed_bytes / GB:.1f} GB of {of}, and {devices.num_bytes / GB:.1f} GB of it is free; "
        f"{remedy_text(cheapest_change(plan))} (`spiral plan` lists all parts)"
    )
    if devices.is_gpu:
        raise RunError(sentence)
    log.warning("%s", sentence)


def shards_of_launcher() -> int:
    """How many processes accelerate's FSDP spreads the learner over, as its launcher says; 1 without it."""
    if parse_flag_from_env("ACCELERATE_USE_FSDP"):
        return int(os.environ.get("WORLD_SIZE", "1"))
    return 1


def remedy_text(remedy: Remedy | None) -> str:
    """What to do, for the end of a sentence."""
    if remedy is None:
        return "no setting makes it fit: choose a smaller model, or larger or more GPUs"
    steps = [" ".join(remedy.overrides)] if remedy.overrides else []
    if remedy.shards > 1:
        steps.append(f"the learner sharded over {remedy.shards} GPUs (FSDP)")
    return f"with {' and '.join(steps)} it takes {remedy.plan.needed_bytes / GB:.1f} GB"
