"""The plug-ins of the core itself, registered through the public hooks; heavy imports wait for the factories."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from spiral.api.hooks import Register, hookimpl
from spiral.api.training import LearnerSetup
from spiral.arena.extra import arena_extra
from spiral.models.chat import chat
from spiral.models.paper_prompts import llama_instruct, octothinker, qwen3, r1_distill
from spiral.models.prompts import PlainFormat
from spiral.reports.trackers import TRACKERS
from spiral.selfplay.curriculum import Weighted
from spiral.selfplay.task_game import FAMILY, benchmark_names, task_game


def torch_engine(model: Any, tokenizer: Any, max_rows: int = 256, prefill_tokens: int = 16384) -> Any:
    """Continuous batching in plain torch, in this process and on its GPU where there is one: deterministic on a CPU."""
    from spiral.engines.torch.engine import TorchEngine

    return TorchEngine(model, tokenizer, max_rows, prefill_tokens)


def vllm_engine(
    model: Any, tokenizer: Any, capacity: int | None = None, restart: int = 0, deadline_s: float = 600.0, **options: Any
) -> Any:
    """vLLM in this process: continuous batching with shared prefixes, for large models and GPUs.

    capacity: policies with weights of their own at once; 2, or 8 adapters of one model. restart: times that it is made
    anew after a fault. deadline_s: the longest wait for one call of it. options: arguments of vLLM's engine, by name.
    """
    from spiral.engines.vllm.engine import VllmEngine

    return VllmEngine(model, capacity, restart, deadline_s, **options)


def full(setup: LearnerSetup) -> Any:
    """Trains every weight of the model."""
    from spiral.learning.full_learner import FullLearner

    s = setup
    return FullLearner(s.model, s.config, s.num_steps, s.accelerator, s.progress, s.engine_dtype, s.seed, s.is_async)


def lora(
    setup: LearnerSetup, rank: int = 16, alpha: int = 32, targets: list[str] | None = None, rslora: bool = False
) -> Any:
    """Trains a low-rank adapter over the frozen model; snapshots, checkpoints and weight loads are adapters.

    rank: of its matrices. alpha: their product is multiplied with alpha / rank. targets: layers by the ends of their
    names, such as q_proj; every linear layer but the head without it. rslora: multiplied with alpha / sqrt(rank).
    """
    return full(setup)  # the weights of a model that `prepare` wrapped are its adapter's


def prepare_lora(model: Any, **args: Any) -> Any:
    """See `spiral.learning.lora.prepare`."""
    from spiral.learning.lora import prepare

    return prepare(model, **args)


# Optional members of a learner's factory. Adapters learn best at about ten times the rate of full training: Schulman et
# al. 2025, "LoRA Without Regret", supervised and reinforcement learning alike.
lora.prepare = prepare_lora  # type: ignore[attr-defined]
lora.lr_factor = 10.0  # type: ignore[attr-defined]


def web(port: int = 8080, clock: float = 60.0, host: str = "127.0.0.1") -> Any:
    """People, at a page that the run serves: who waits there gets the next match; without any, another policy plays it.

    port: of the page; 0 for a free one, which is told as the run begins. clock: seconds for one move, less than
    rollout.deadline_s. host: the address to listen at; 0.0.0.0 for all.
    """
    with arena_extra("bot web"):
        from spiral.arena.web_bot import WebBot
    return WebBot(port, clock, host)


web.external = True  # type: ignore[attr-defined]  # no check tries it out: people decide


def tensorboard(run_dir: Path) -> Any:
    """Every metric of every step as a TensorBoard scalar, in RUN/tensorboard."""
    from spiral.reports.tensorboard import TensorBoard

    return TensorBoard(run_dir)


def tracker(name: str) -> Callable[..., Any]:
    """The factory of one of accelerate's trackers."""

    def make(run_dir: Path, project: str = "spiral", **options: Any) -> Any:
        from spiral.reports.trackers import Tracker

        return Tracker(name, run_dir, project, **options)

    make.__doc__ = f"The run's config, and every metric of every step, in {name}; `options` are for its own start."
    return make


@hookimpl
def register_games(register: Register) -> None:
    register(FAMILY, task_game, members=benchmark_names)


@hookimpl
def register_bots(register: Register) -> None:
    register("web", web)


@hookimpl
def register_engines(register: Register) -> None:
    register("torch", torch_engine)
    register("vllm", vllm_engine)


@hookimpl
def register_learners(register: Register) -> None:
    register("full", full)
    register("lora", lora)


@hookimpl
def register_prompts(register: Register) -> None:
    register("plain", PlainFormat)
    register("chat", chat)
    register("qwen3", qwen3)
    register("octothinker", octothinker)
    register("r1-distill", r1_distill)
    register("llama-instruct", llama_instruct)


@hookimpl
def register_curricula(register: Register) -> None:
    register("weighted", Weighted)


@hookimpl
def register_loggers(register: Register) -> None:
    register("tensorboard", tensorboard)
    for name in TRACKERS:
        register(name, tracker(name))
