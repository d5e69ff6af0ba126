"""`spiral plan`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from spiral.api.errors import SpiralError
from spiral.commands.options import AS_JSON
from spiral.commands.output import echo
from spiral.commands.train import split_words

if TYPE_CHECKING:
    from spiral.config.schema import Config
    from spiral.plugins.registry import Plugins
    from spiral.training.memory.plan import Plan, Remedy


@click.command(short_help="What a run would take of a GPU's memory, and whether it fits.")
@click.argument("words", nargs=-1, metavar="[CONFIG.yaml] [key=value ...]")
@click.option("--gpus", metavar="8x80GB", help="The GPUs to plan for.  [default: what this machine has]")
@click.option(
    "--shards", type=click.IntRange(min=1), metavar="N", default=1, help="GPUs that FSDP spreads the learner over."
)
@click.option(
    "--prompt-tokens",
    type=click.IntRange(min=1),
    metavar="N",
    default=1024,
    help="The longest prompt.  [default: 1024]",
)
@click.option("--cluster", metavar="4x8x80GB", help="Nodes to plan for, of a config with cluster=ray: what fits where.")
@AS_JSON
@click.pass_context
def plan(
    ctx: click.Context,
    words: tuple[str, ...],
    gpus: str | None,
    shards: int,
    prompt_tokens: int,
    cluster: str | None,
    as_json: bool,
) -> None:
    """What a run would take of each device's memory, before anything is loaded; exit 1 if it does not fit, with the
    cheapest change that makes it fit.

    A model's folder needs its config.json alone. Planned for the largest micro-batch, all of its tokens trained.
    """
    from spiral.plugins.registry import Plugins
    from spiral.training.launch import checked_config
    from spiral.training.memory.devices import found_devices, parse_gpus
    from spiral.training.memory.plan import cheapest_change
    from spiral.training.memory.planning import plan_of

    plugins = Plugins.installed()
    path, overrides = split_words(words)
    devices = parse_gpus(gpus) if gpus is not None else None
    config = checked_config(path, overrides, plugins)
    if cluster is not None:
        ctx.exit(_plan_cluster(config, plugins, cluster, prompt_tokens, as_json))
    devices = devices or found_devices()
    if shards > devices.num:
        raise SpiralError(f"--shards {shards} asks for more GPUs than there are, {devices}; lower it, or give --gpus")
    planned = plan_of(config, plugins, devices, shards, prompt_tokens)
    remedy = None if planned.fits else cheapest_change(planned)
    row = _row(planned, config, remedy)
    for line in [json.dumps(row, indent=2)] if as_json else _lines(planned, config, row, remedy):
        echo(line)
    ctx.exit(0 if planned.fits else 1)


def _plan_cluster(config: Config, plugins: Plugins, word: str, prompt_tokens: int, as_json: bool) -> int:
    """Print what fits where on a cluster; the exit code. Raises SpiralError."""
    from spiral.cluster.settings import ray_settings
    from spiral.training.memory.cluster_plan import ClusterPlan, Nodes
    from spiral.training.memory.planning import plan_of

    nodes, settings = Nodes.parsed(word), ray_settings(config)
    if settings is None:
        raise SpiralError("--cluster plans a run on Ray, and this config has none; add cluster=ray with its arguments")
    planned = ClusterPlan(plan_of(config, plugins, nodes.gpu, 1, prompt_tokens), settings, nodes)
    row = {
        "nodes": [{"learners": n.learners, "engines": n.engines, "idle_gpus": n.idle_gpus} for n in planned.placed],
        "problems": planned.problems,
        "fits": not planned.problems,
    }
    for line in [json.dumps(row, indent=2)] if as_json else planned.lines():
        echo(line)
    return 1 if planned.problems else 0


def _row(planned: Plan, config: Config, remedy: Remedy | None) -> dict[str, Any]:
    """All of a plan, as JSON values; bytes are of one device."""
    change = None
    if remedy is not None:
        change = {
            "overrides": list(remedy.overrides),
            "shards": remedy.shards,
            "needed_bytes": remedy.plan.needed_bytes,
        }
    a, devices = planned.architecture, planned.devices
    return {
        "model": a.name,
        "parameters": a.num_parameters,
        "trained_parameters": planned.num_trained,
        "devices": {"num": devices.num, "bytes": devices.num_bytes, "kind": "gpu" if devices.is_gpu else "cpu"},
        "shards": planned.shards,
        "parts": [{"holder": p.holder, "name": p.name, "bytes": p.num_bytes, "when": p.when} for p in planned.parts],
        "row_tokens": planned.learner.row_tokens,
        "text_tokens": planned.engine.text_tokens,
        "tokens_a_step": config.rollout.episodes * planned.engine.text_tokens,
        "texts_at_once": planned.texts_at_once,
        "needed_bytes": planned.needed_bytes,
        "usable_bytes": devices.usable_bytes,
        "fits": planned.fits,
        "change": change,
    }


def _lines(planned: Plan, config: Config, row: dict[str, Any], remedy: Remedy | None) -> Iterator[str]:
    from spiral.training.memory.planning import remedy_text

    a, learner = planned.architecture, planned.learner
    trained = "all trained" if learner.adapter is None else f"{planned.num_trained:,} of an adapter trained"
    yield f"{a.name}, {a.num_parameters:,} parameters, {trained}"
    each = ", of each" if planned.devices.num > 1 else ""
    sharded = f", the learner sharded over {planned.shards}" if planned.shards > 1 else ""
    yield f"{planned.devices}{each}{sharded}:"
    for part in planned.parts:
        during = "" if part.when == "always" else f", while {part.when}"
        yield f"  {_size(part.num_bytes):>11}  {part.holder}: {part.name}{during}"
    yield f"  {_size(planned.needed_bytes):>11}  in all at once, of {_size(planned.devices.usable_bytes)}"
    yield (
        f"tokens: {learner.row_tokens:,} a micro-batch, {row['text_tokens']:,} a text (prompt and reply), "
        f"{row['texts_at_once']:,} texts at once; up to {row['tokens_a_step']:,} a step for each decision of its "
        f"{config.rollout.episodes:,} games"
    )
    yield "it fits" if planned.fits else f"it does not fit: {remedy_text(remedy)}"


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 2**30:.2f} GB" if num_bytes >= 2**30 else f"{num_bytes / 2**20:.1f} MB"
