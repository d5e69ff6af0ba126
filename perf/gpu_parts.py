"""The measurements of `perf/gpu.sh`, each in a process of its own: `python -m perf.gpu_parts NAME [--tiny]`.

A part prints what it knows as lines of JSON as soon as it knows it, so that a part that runs out of time or memory
still says what it had measured. `--tiny` takes small shapes on the CPU through the same lines.
"""

from __future__ import annotations

import json
import math
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from accelerate import Accelerator

from perf.memory import status
from perf.negotiation import talks
from perf.shapes import QWEN3_4B, QWEN3_600M, TINY, Shape, transcripts
from spiral.api.records import LEARNER, Request, Sampling, Trajectory
from spiral.api.training import LearnerSetup
from spiral.config import loading
from spiral.config.schema import LearnerConfig, PluginConfig
from spiral.engines.torch.decoding import Record
from spiral.engines.torch.engine import TorchEngine
from spiral.learning.packing import pack
from spiral.learning.row_cost import RowCost
from spiral.models.attention import attention_of
from spiral.models.logits import TokenLogits, parameters
from spiral.plugins.registry import Plugins
from spiral.training.memory.architecture import Adapter, Architecture
from spiral.training.memory.arithmetic import learner_parts, peak
from spiral.training.memory.settings import settings_of

Result = dict[str, Any]

PEAKS = {"H100 PCIe": 756e12, "H100 NVL": 835e12, "H100": 989e12, "H200": 989e12, "A100": 312e12}
"""bf16 operations a second without sparsity by what a device's name holds, as NVIDIA states them."""


@dataclass(frozen=True)
class Sizes:
    """How much is measured, and where."""

    device: str
    dtype: torch.dtype
    small: Shape
    large: Shape
    rows: int
    row_tokens: int
    micro_batch_tokens: int
    updates: int
    prompt: int
    new_tokens: int
    sequences: tuple[int, ...]
    games: int
    reply_tokens: int
    matrix: int


FULL = Sizes(
    "cuda", torch.bfloat16, QWEN3_600M, QWEN3_4B, rows=16, row_tokens=1024, micro_batch_tokens=4096, updates=3,
    prompt=128, new_tokens=128, sequences=(1, 64, 512), games=64, reply_tokens=64, matrix=8192,
)  # fmt: skip
SMALL = Sizes(
    "cpu", torch.bfloat16, TINY, TINY, rows=4, row_tokens=24, micro_batch_tokens=48, updates=1,
    prompt=12, new_tokens=6, sequences=(1, 4), games=3, reply_tokens=6, matrix=64,
)  # fmt: skip


def synchronize(device: str) -> None:
    """Wait until the device has done all that was asked of it."""
    if device == "cuda":
        torch.cuda.synchronize()


def peak_bytes(device: str, reset: bool = False) -> int:
    """Most bytes of tensors at once on the device since the last reset; on a CPU, of the process since it began."""
    if device != "cuda":
        return status("VmHWM")
    most = torch.cuda.max_memory_allocated()
    if reset:
        torch.cuda.reset_peak_memory_stats()
    return most


def timed(work: Callable[[], object], device: str) -> float:
    """Seconds until the device has done `work`."""
    synchronize(device)
    start = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - start


class Clock:
    """Seconds by name of the works that it ran."""

    def __init__(self, device: str) -> None:
        self._device = device
        self.seconds: dict[str, float] = {}

    def run(self, name: str, work: Callable[[], Any]) -> Any:
        """What `work` returns."""
        out: list[Any] = []
        self.seconds[name] = timed(lambda: out.append(work()), self._device)
        return out[0]


def device(sizes: Sizes) -> Iterator[Result]:
    """What is measured on, and what its matrix products reach."""
    cuda = sizes.device == "cuda"
    name = torch.cuda.get_device_name() if cuda else platform.processor() or platform.machine()
    yield {
        "name": name,
        "bytes": torch.cuda.get_device_properties(0).total_memory if cuda else None,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "python": platform.python_version(),
        "stated_flops": stated_peak(name),
    }
    a, b = (torch.randn(sizes.matrix, sizes.matrix, device=sizes.device, dtype=sizes.dtype) for _ in range(2))
    torch.mm(a, b)
    seconds = min(timed(lambda: torch.mm(a, b), sizes.device) for _ in range(5))
    yield {"matrix_product_flops": 2 * sizes.matrix**3 / seconds}
    copied = timed(lambda: a.clone(), sizes.device)
    yield {"copy_bytes_a_second": 2 * a.nbytes / copied}


def stated_peak(name: str) -> float | None:
    """bf16 operations a second of the device; None for one that is not known."""
    return next((flops for known, flops in PEAKS.items() if all(word in name for word in known.split())), None)


def learner(sizes: Sizes, shape: Shape, method: str) -> Iterator[Result]:
    """Updates on rows of equal length that share nothing, half of each trained."""
    settings = LearnerConfig(
        method=PluginConfig(method), precision="bf16", lr=1e-6, ema=0.0, ratio_tolerance=math.inf,
        micro_batch_tokens=sizes.micro_batch_tokens,
    )  # fmt: skip
    made = make_learner(shape.model(sizes.device, sizes.dtype), settings)
    rows = transcripts(sizes.rows, sizes.row_tokens, shape.vocab)
    batch = pack(rows, [[t.reward] for t in rows], settings.micro_batch_tokens, cost=RowCost.of(made.model))
    yield {"shape": shape.name, "method": method, "tokens": batch.num_computed_tokens, "dtype": str(sizes.dtype)}
    yield {"attention": attention_of(made.model)}
    yield {"first_update_s": timed(lambda: made.update(batch, 0, len(rows)), sizes.device)}  # the optimiser's moments
    peak_bytes(sizes.device, reset=True)
    seconds = [timed(lambda: made.update(batch, 1, len(rows)), sizes.device) for _ in range(sizes.updates)]
    median = statistics.median(seconds)
    trained = batch.num_reply_tokens
    flops = shape.step_flops([sizes.row_tokens] * sizes.rows, trained, adapter=method == "lora")
    name = torch.cuda.get_device_name() if sizes.device == "cuda" else ""
    peak = stated_peak(name)
    yield {
        "update_s": seconds,
        "tokens_a_second": batch.num_computed_tokens / median,
        "trained_tokens_a_second": trained / median,
        "flops_a_second": flops / median,
        "model_flops_utilisation": flops / median / peak if peak else None,
        "peak_bytes": peak_bytes(sizes.device),
    }
    yield planned(shape, settings, sizes)


def make_learner(model: Any, settings: LearnerConfig, plugins: Plugins | None = None) -> Any:
    """The learner that `settings.method` names, over a model that is prepared for it."""
    plugins, method = plugins or Plugins.installed(), settings.method
    factory = plugins.find("learner", method.name).factory
    if prepare := getattr(factory, "prepare", None):
        model = prepare(model, **method.args)
    if settings.precision == "bf16":
        model.to(torch.bfloat16)  # as a run does: peft makes adapters in float32
    setup = LearnerSetup(model, settings, 100, Accelerator())
    return plugins.make("learner", method.name, setup, **method.args)


def planned(shape: Shape, settings: LearnerConfig, sizes: Sizes) -> Result:
    """What `spiral plan` says that a learner of `settings` takes at most, when all tokens of a micro-batch are
    trained."""
    model = shape.model("meta", sizes.dtype)
    described = Architecture.of(model)  # before its learner may wrap it
    plugins, method = Plugins.installed(), settings.method
    prepare = getattr(plugins.find("learner", method.name).factory, "prepare", None)
    adapter = Adapter.of(prepare(model, **method.args) if prepare else model)
    config, on_gpu = replace(loading.load(None, ()), learner=settings), sizes.device == "cuda"
    kept, _ = settings_of(config, shape.context, adapter, 1, on_gpu)
    kept = replace(kept, row_tokens=sizes.micro_batch_tokens)
    return {"planned_bytes": peak(learner_parts(described, kept, 1, on_gpu))}


def engine(sizes: Sizes, shape: Shape) -> Iterator[Result]:
    """Sampled tokens a second by number of sequences, whose prompts differ; with decoding recorded, and as it is."""
    model = shape.model(sizes.device, sizes.dtype).eval().requires_grad_(False)
    yield {"shape": shape.name, "prompt_tokens": sizes.prompt, "new_tokens": sizes.new_tokens}
    for num in sizes.sequences:
        made = TorchEngine(model, None, max_rows=num)
        made.load_weights(LEARNER, parameters(model), 0)
        requests = [
            Request(n, LEARNER, t.turns[0].prompt, Sampling(sizes.new_tokens, ()), n)
            for n, t in enumerate(transcripts(num, sizes.prompt + 1, shape.vocab, share=0.0))
        ]
        first = timed(partial(answered, made, requests), sizes.device)
        peak_bytes(sizes.device, reset=True)
        again = timed(partial(answered, made, requests), sizes.device)
        tokens = num * sizes.new_tokens
        found = {
            "tokens_a_second": tokens / again,
            "while_recording": tokens / first,
            "cache_bytes": made.cache_bytes,
            "peak_bytes": peak_bytes(sizes.device),
        }
        made.drop(LEARNER)
        plain = TorchEngine(model, None, max_rows=num, record=_unrecorded)
        plain.load_weights(LEARNER, parameters(model), 0)
        found["tokens_a_second_unrecorded"] = tokens / timed(partial(answered, plain, requests), sizes.device)
        plain.drop(LEARNER)
        yield {f"sequences_{num}": found}


def _unrecorded() -> Record:
    """Passes of the same shapes, launched kernel by kernel."""
    return lambda work: work


def answered(engine: TorchEngine, requests: Sequence[Request]) -> dict[int, tuple[float, ...]]:
    """The log-probabilities of the replies by request, once all are there."""
    for request in requests:
        engine.submit(request)
    done: dict[int, tuple[float, ...]] = {}
    while len(done) < len(requests):
        done |= {c.request_id: c.logprobs for c in engine.step()}
    return done


def agreement(sizes: Sizes, shape: Shape) -> Iterator[Result]:
    """Log-probabilities at sampling against those of one forward pass of the learner over the whole replies."""
    model = shape.model(sizes.device, sizes.dtype).eval().requires_grad_(False)
    with torch.no_grad():  # random weights say about the same of every id; louder ones do not
        model.get_output_embeddings().weight.mul_(8)
    talk = talks(shape, model, TorchEngine(model, None), sizes.games, sizes.reply_tokens)
    yield {"shape": shape.name, **talk.counts}
    gaps = torch.cat(list(_gaps(model, talk.trajectories, sizes)))
    ratio = gaps.exp()
    yield {
        "tokens": gaps.numel(),
        "largest_gap_nats": float(gaps.abs().max()),
        "mean_gap_nats": float(gaps.abs().mean()),
        "mean_ratio": float(ratio.mean()),
        "share_beyond_a_hundredth": float((gaps.abs() > 0.01).double().mean()),
        "kl_k3": float((ratio - 1 - gaps).mean()),
    }


@torch.inference_mode()
def _gaps(model: Any, trajectories: Sequence[Trajectory], sizes: Sizes) -> Iterator[torch.Tensor]:
    """Of each micro-batch, (N,) float64: the learner's log-probability minus the engine's."""
    lm = TokenLogits(model)
    batch = pack(trajectories, [[1.0] * len(t.turns) for t in trajectories], sizes.micro_batch_tokens)
    for cpu_batch in batch.micro_batches:
        micro = cpu_batch.to(torch.device(sizes.device))
        logits = lm(micro.ids, micro.positions, micro.mask, micro.rows, micro.columns)
        logprobs = torch.log_softmax(logits.float(), -1).gather(-1, micro.targets[:, None])[:, 0]
        yield (logprobs.double() - micro.logprobs.double()).cpu()


def step(sizes: Sizes, shape: Shape) -> Iterator[Result]:
    """Games, credit, update and the load of the new weights: a whole step of self-play, its second time."""
    settings = LearnerConfig(
        precision="bf16", lr=1e-6, ema=0.0, ratio_tolerance=math.inf, micro_batch_tokens=sizes.micro_batch_tokens
    )  # fmt: skip
    made = make_learner(shape.model(sizes.device, sizes.dtype), settings)
    torch_engine = TorchEngine(made.model, None)
    for turn in range(2):
        clock = Clock(sizes.device)
        play = partial(talks, shape, made.model, torch_engine, sizes.games, sizes.reply_tokens, turn)
        talk = clock.run("play", play)
        rows = talk.trajectories
        mean = statistics.fmean(t.reward for t in rows)
        advantages = [[t.reward - mean] * len(t.turns) for t in rows]
        batch = clock.run("pack", partial(pack, rows, advantages, settings.micro_batch_tokens))
        stats = clock.run("update", partial(made.update, batch, turn, sizes.games))
        clock.run("load", partial(torch_engine.load_weights, LEARNER, made.weights(), turn + 1))
        yield {
            "shape": shape.name,
            "step_s": clock.seconds,
            **talk.counts,
            "sampled_tokens_a_second": talk.counts["sampled_tokens"] / clock.seconds["play"],
            "trained_tokens_a_second": batch.num_reply_tokens / clock.seconds["update"],
            "largest_gap_nats": stats["learner/ratio_gap"],
            "peak_bytes": peak_bytes(sizes.device),
        }


PARTS: dict[str, Callable[[Sizes], Iterator[Result]]] = {
    "device": device,
    "learner_small_full": lambda sizes: learner(sizes, sizes.small, "full"),
    "learner_large_full": lambda sizes: learner(sizes, sizes.large, "full"),
    "learner_small_lora": lambda sizes: learner(sizes, sizes.small, "lora"),
    "learner_large_lora": lambda sizes: learner(sizes, sizes.large, "lora"),
    "engine_small": lambda sizes: engine(sizes, sizes.small),
    "engine_large": lambda sizes: engine(sizes, sizes.large),
    "agreement": lambda sizes: agreement(sizes, sizes.small),
    "step": lambda sizes: step(sizes, sizes.small),
}


def main(arguments: Sequence[str]) -> None:
    """Print what a part finds, one line of JSON for each thing that it knows."""
    sizes = SMALL if "--tiny" in arguments else FULL
    for result in PARTS[arguments[0]](sizes):
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
