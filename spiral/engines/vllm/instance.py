"""One vLLM engine and the policies that it serves: its faults are named, and it can be made anew.

What is replayed after a fault gives the same replies, up to rounding, since every request brings its own seed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from torch import Tensor

from spiral.api.errors import RunError, SpiralError
from spiral.api.records import Completion, Finish, PolicyId, Request, Sampling
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

    def add(self, key: str, policy: PolicyId, prompt: Sequence[int], salt: str, sampling: Sampling, seed: int) -> None:
        """Queue a request of a policy that has weights. Prompts of different salts share nothing."""

    def step(self) -> list[Finished]:
        """One step; the requests that it ended."""

    def load(self, policy: PolicyId, weights: Iterable[tuple[str, Tensor]]) -> None:
        """Give a policy weights, its first or in place of those that it had, while it has no request in flight; others
        may have. Nothing that the old ones computed is used any more."""

    def drop(self, policy: PolicyId) -> None:
        """Forget a policy that has no request in flight."""

    def sleep(self) -> None:
        """Give the device's memory away, weights kept elsewhere."""

    def wake(self) -> None:
        """Take it back."""

    def close(self) -> None:
        """Free everything."""


@dataclass
class _Loaded:
    """What a policy was given."""

    version: int | None = None
    """That of its weights; None before the first load and during one."""
    kept: dict[str, Tensor] = field(default_factory=dict)
    """The weights, for an engine that may be made anew."""


class Instance:
    """See `spiral.engines.vllm.engine`; a policy's weights are loaded when it has no request in flight."""

    def __init__(self, make: Callable[[], Backend], restart: int, deadline_s: float) -> None:
        """`restart`: how often the engine is made anew after a fault; weights are then kept in main memory too.
        Raises SpiralError if vLLM is not installed, or refuses the model or an option."""
        self._make, self._restarts_left, self._deadline_s = make, restart, deadline_s
        self._requests: dict[str, Request] = {}
        self._finished: deque[Finished] = deque()
        """Filled by the thread, so that a step whose wait was interrupted loses nothing."""
        self._loaded: dict[PolicyId, _Loaded] = {}
        self.cached_tokens = 0
        """Of prompts, those that were read from the prefix cache."""
        self._start()

    @property
    def busy(self) -> bool:
        """Whether a request is in flight."""
        return bool(self._requests)

    @property
    def num_policies(self) -> int:
        """Those that it was given weights of."""
        return len(self._loaded)

    def submit(self, request: Request) -> None:
        """Queue a request that fits the context. Raises RunError if the weights are half loaded, or vLLM refuses it."""
        if (loaded := self._loaded.get(request.policy)) is None or loaded.version is None:
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

    def load(self, policy: PolicyId, weights: Mapping[str, Tensor], version: int) -> None:
        """Give a policy weights, tensor by tensor. Raises SpiralError while a request of its is in flight, RunError if
        vLLM did not take each of them."""
        self._check_idle(policy, "weights of '{}' were loaded")
        # Without a version: a load that fails half way leaves weights that nothing may ask.
        loaded = self._loaded[policy] = _Loaded()
        if self._restarts_left:
            # Copies: the learner goes on to change its own, and a snapshot's are needed as they were.
            loaded.kept = {name: tensor.detach().to("cpu", copy=True) for name, tensor in weights.items()}
        try:
            self._call("a load of weights", self._backend.load, policy, weights.items())
        except Exception as error:
            self._restart(error, f"as version {version} of the weights was loaded")
        loaded.version = version

    def drop(self, policy: PolicyId) -> None:
        """Forget a policy. Raises SpiralError while a request of its is in flight."""
        self._check_idle(policy, "'{}' was dropped")
        del self._loaded[policy]
        try:
            self._call("forgetting a policy", self._backend.drop, policy)
        except Exception as error:
            self._restart(error, f"as '{policy}' was dropped")

    def sleep(self) -> None:
        """Give the device's memory away. Raises SpiralError while a request is in flight, which would be lost."""
        if self.busy:
            raise SpiralError("vLLM was sent to sleep while requests were in flight; finish them first")
        self._call("going to sleep", self._backend.sleep)

    def wake(self) -> None:
        """Take it back."""
        self._call("waking", self._backend.wake)

    def _check_idle(self, policy: PolicyId, what: str) -> None:
        if any(request.policy == policy for request in self._requests.values()):
            raise SpiralError(f"{what.format(policy)} while its requests were in flight; finish them first")

    def close(self) -> None:
        """Free what the engine holds, and its thread; nothing is asked of it afterwards."""
        try:
            self._call("its end", self._backend.close)
        except Exception as error:
            log.warning("vLLM did not end cleanly (%s)", told(error))
        self._thread.close()

    def _end(self, fault: Exception) -> None:
        """Make room for the next engine; one that hangs cannot be asked to free anything."""
        if isinstance(fault, Hung):
            self._thread.close()
        else:
            self.close()

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
                for policy, loaded in self._loaded.items():
                    self._call("a load of weights", self._backend.load, policy, loaded.kept.items())
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
        policy, sampling = request.policy, request.sampling
        salt = f"{policy}@{self._loaded[policy].version}"
        self._call(
            "taking a request", self._backend.add, str(request.id), policy, request.prompt, salt, sampling, request.seed
        )

    def _step(self) -> None:
        self._finished.extend(self._backend.step())

    def _completion(self, finished: Finished) -> Completion:
        if finished.reason not in FINISHES:
            raise RunError(f"vLLM ended a reply with '{finished.reason}', neither at a stop id nor at its length")
        request = self._requests.pop(finished.key)
        self.cached_tokens += finished.num_cached
        version = self._loaded[request.policy].version
        assert version is not None
        finish = cast(Finish, finished.reason)
        return Completion(request.id, finished.ids, finished.logprobs, finish, version)

    def _call(self, doing: str, function: Callable[..., Any], *args: Any) -> Any:
        return self._thread.call(self._deadline_s, doing, function, *args)


def told(error: BaseException) -> str:
    """An exception in one line."""
    text = " ".join(str(error).split()).partition(" [type=")[0]  # pydantic adds the input and an address
    return f"{type(error).__name__}: {text[:400]}" if text else type(error).__name__
