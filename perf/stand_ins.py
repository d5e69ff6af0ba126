"""Stand-ins for parts of a run: engines that record or wait, and prompters that a bench needs and no run does."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, cast

from spiral.api.records import Completion, PolicyId, Request, Turn
from spiral.api.training import Engine, PromptFormat
from spiral.models.prompt_cache import Prompter
from spiral.models.prompts import PlainFormat

_LETTERS = "etaoin shrdlucmfwypvbgkjqxz.,?!0"

Ids = tuple[int, ...]


class Recorder:
    """An engine that passes everything on, and remembers the requests and what the steps cost."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.clear()

    def clear(self) -> None:
        """Forget."""
        self.requests: list[Request] = []
        self.replies: dict[int, Ids] = {}
        self.num_steps, self.step_cpu = 0, 0.0

    def submit(self, request: Request) -> None:
        self.requests.append(request)
        self._engine.submit(request)

    def step(self) -> list[Completion]:
        start = time.process_time()
        done = self._engine.step()
        self.step_cpu += time.process_time() - start
        self.num_steps += 1
        for completion in done:
            self.replies[completion.request_id] = completion.ids
        return done

    def load_weights(self, policy: PolicyId, weights: Any, version: int) -> None:
        self._engine.load_weights(policy, weights, version)

    def drop(self, policy: PolicyId) -> None:
        self._engine.drop(policy)


class LockStep:
    """The schedule that the rollouts avoid: hands out replies only when every request has its own."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self._num_waiting = engine, 0

    def submit(self, request: Request) -> None:
        self._num_waiting += 1
        self._engine.submit(request)

    def step(self) -> list[Completion]:
        done: list[Completion] = []
        while len(done) < self._num_waiting:
            done += self._engine.step()
        self._num_waiting = 0
        return done

    def load_weights(self, policy: PolicyId, weights: Any, version: int) -> None:
        self._engine.load_weights(policy, weights, version)

    def drop(self, policy: PolicyId) -> None:
        self._engine.drop(policy)


class Salted(Prompter):
    """Puts three ids of its own into every prompt, so that no two are equal and sharing saves nothing."""

    def __init__(self, tokenizer: Any) -> None:
        super().__init__(cast(PromptFormat, PlainFormat(tokenizer)))
        self._num = 0

    def encode(
        self, rules: str, observation: str, moves: Sequence[str] | None = None, turns: Sequence[Turn] = ()
    ) -> Ids:
        ids = super().encode(rules, observation)
        self._num += 1
        mixed = self._num * 40_503 % (1 << 18)  # odd, so 2**18 prompts pass before one comes again
        return (ids[0], 64 + (mixed & 63), 64 + (mixed >> 6 & 63), 64 + (mixed >> 12), *ids[1:])


class FreeText:
    """Reads any reply as chat, so that an untrained model can hold a long match; ten more ids end a reply.

    Replies of an untrained model are then about 25 ids long, and of very different lengths.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._plain = PlainFormat(tokenizer)
        self.stop_ids: tuple[int, ...] = (*self._plain.stop_ids, *range(10))

    def encode(
        self, rules: str, observation: str, moves: Sequence[str] | None = None, turns: Sequence[Turn] = ()
    ) -> list[int]:
        return self._plain.encode(rules, observation)

    def reply(self, move: str) -> None:
        """Many replies say one move."""
        return None

    def read(self, reply: Sequence[int]) -> str | None:
        """As many letters as there were ids."""
        return "".join(_LETTERS[i % 32] for i in reply[:-1]).strip() or "."


def free_text(tokenizer: Any) -> Prompter:
    """A prompter of `FreeText`."""
    return Prompter(FreeText(tokenizer))
