"""One vLLM engine and the version of the weights that it serves: its faults are named, and it can be made anew.

What is replayed after a fault gives the same replies, up to rounding, since every request brings its own seed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

from torch import Tensor

from spiral.api.errors import RunError, SpiralError
from spiral.api.records import Completion, Finish, Request, Sampling
from spiral.api.text import printable_logger
from spiral.engines.vllm.watched_thread import Hung, WatchedThread

log = printable_logger(__name__)

FINISHES = ("stop", "length")


@dataclass(frozen=True)
class Finished:
    """A request that is over."""

    key: str
    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    """One for each id."""
    reason: str
    """As vLLM names it: `stop`, `length`, or that of a fault."""
    num_cached: int = 0
    """Ids of the prompt that were read from the prefix cache."""


class Backend(Protocol):
    """What is asked of vLLM; any exception is a fault of its."""

    def add(self, key: str, prompt: Sequence[int], salt: str, sampling: Sampling, seed: int) -> None:
        """Queue a request. Prompts of different salts share nothing."""

    def step(self) -> list[Finished]:
        """One step; the requests that it ended."""

    def load(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        """Replace the weights, and forget what the old ones computed."""

    def sleep(self) -> None:
        """Give the device's memory away, weights kept elsewhere."""

    def wake(self) -> None:
        """Take it back."""

    def close(self) -> None:
        """Free everything."""


class Instance:
    """See `spiral.engines.vllm.engine`; requests are queued in vLLM, weights are loaded when none is in flight."""

    def __init__(self, make: Callable[[], Backend], restart: int, deadline_s: float) -> None:
        """`restart`: how often the engine is made anew after a fault; weights are then kept in main memory too.
        Raises SpiralError if vLLM is not installed, or refuses the model or an option."""
        self._make, self._restarts_left, self._deadline_s = make, restart, deadline_s
        self._requests: dict[str, Request] = {}
        self._finished: deque[Finished] = deque()
        """Filled by the thread, so that a step whose wait was interrupted loses nothing."""
        self._version: int | None = None
        """That of the weights; None before the first load and during one."""
        self._kept: dict[str, Tensor] = {}
        self.cached_tokens = 0
        """Of prompts, those that were read from the prefix cache."""
        self._start()

    @property
    def busy(self) -> bool:
        """Whether a request is in flight."""
        return bool(self._requests)

    def submit(self, request: Request) -> None:
        """Queue a request that fits the context. Raises RunError if the weights are half loaded, or vLLM refuses it."""
        if self._version is None:
            raise RunError(f"vLLM holds no whole weights of '{request.policy}', since their last load failed")
        try:
            self._add(request)
        except SpiralError:
            raise
        except Exception as error:  # of this request alone: others go on
            raise RunError(
                f"vLLM refused a request of '{request.policy}' with a prompt of {len(request.prompt)} tokens and "
                f"{request.sampling.max_new_tokens} to sample: {told(error)}"
            ) from error
        self._requests[str(request.id)] = request

    def step(self) -> list[Completion]:
        """One step of vLLM; the replies that it ended."""
        try:
            self._call("a step", self._step)
            return [self._completion(self._finished.popleft()) for _ in range(len(self._finished))]
        except Exception as error:
            self._restart(error, f"with {len(self._requests)} requests in flight")
            return []

    def load(self, weights: Mapping[str, Tensor], version: int) -> None:
        """Replace the weights, tensor by tensor. Raises RunError if vLLM did not take each of them."""
        self._version = None  # a load that fails half way leaves a model that nothing may ask
        if self._restarts_left:
            # Copies: the learner goes on to change its own, and a snapshot's are needed as they were.
            self._kept = {name: tensor.detach().to("cpu", copy=True) for name, tensor in weights.items()}
        try:
            self._call("a load of weights", self._backend.load, weights.items())
        except Exception as error:
            self._restart(error, f"as version {version} of the weights was loaded")
        self._version = version

    def sleep(self) -> None:
        """Give the device's memory away. Raises SpiralError while a request is in flight, which would be lost."""
        if self.busy:
            raise SpiralError("vLLM was sent to sleep while requests were in flight; finish them first")
        self._call("going to sleep", self._backend.sleep)

    def wake(self) -> None:
        """Take it back."""
        self._call("waking", self._backend.wake)

    def _end(self, fault: Exception) -> None:
        """Free what the engine holds, so that the next one has room; what hangs cannot be asked to."""
        if not isinstance(fault, Hung):
            try:
                self._call("its end", self._backend.close)
            except Exception as error:
                log.warning("vLLM did not end cleanly (%s)", told(error))
        self._thread.close()

    def _start(self) -> None:
        self._thread = WatchedThread("vllm")
        self._backend = self._call("its start", self._make)

    def _restart(self, fault: Exception, when: str) -> None:
        """Make the engine anew with its weights and requests. Raises RunError if no restart is left, or it fails."""
        while self._restarts_left:
            self._restarts_left -= 1
            log.warning("vLLM failed %s (%s); it is made anew, %d more times", when, told(fault), self._restarts_left)
            try:
                self._finished.clear()
                self._end(fault)
                self._start()
                self._call("a load of weights", self._backend.load, self._kept.items())
                for request in self._requests.values():
                    self._add(request)
                return
            except Exception as again:
                fault = again
        if isinstance(fault, SpiralError):
            raise fault
        raise RunError(
            f"vLLM failed {when} ({told(fault)}); see its log, give it less at once (engine.args.max_num_seqs), or let "
            "it be made anew with engine.args.restart=1"
        ) from fault

    def _add(self, request: Request) -> None:
        # The salt keeps what one version computed from being read by the next, should a reset ever be missed.
        salt = f"{request.policy}@{self._version}"
        self._call(
            "taking a request", self._backend.add, str(request.id), request.prompt, salt, request.sampling, request.seed
        )

    def _step(self) -> None:
        self._finished.extend(self._backend.step())

    def _completion(self, finished: Finished) -> Completion:
        if finished.reason not in FINISHES:
            raise RunError(f"vLLM ended a reply with '{finished.reason}', neither at a stop id nor at its length")
        request = self._requests.pop(finished.key)
        self.cached_tokens += finished.num_cached
        assert self._version is not None
        finish = cast(Finish, finished.reason)
        return Completion(request.id, finished.ids, finished.logprobs, finish, self._version)

    def _call(self, doing: str, function: Callable[..., Any], *args: Any) -> Any:
        return self._thread.call(self._deadline_s, doing, function, *args)


def told(error: BaseException) -> str:
    """An exception in one line."""
    text = " ".join(str(error).split()).partition(" [type=")[0]  # pydantic adds the input and an address
    return f"{type(error).__name__}: {text[:400]}" if text else type(error).__name__
