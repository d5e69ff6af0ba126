"""Stand-ins for parts of a run: engines that record or wait, and prompters that a bench needs and no run does."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, cast

import torch
from transformers import GenerationConfig

from spiral.api.records import Completion, PolicyId, Request, Sampling, Turn
from spiral.api.training import Engine, PromptFormat, has_history
from spiral.models.prompt_cache import Prompter
from spiral.models.prompts import PlainFormat

_SPEECH_ENDS = ("!", "?", "\n", "\n\n", ".\n", "!\n", "?\n")
_NO_BRACKETS = str.maketrans("", "", "[]")
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

    def __init__(self, prompt_format: PromptFormat, ends: Sequence[int] = range(10)) -> None:
        """`ends`: ids that end a reply, besides the format's own."""
        self._format = prompt_format
        self.stop_ids: tuple[int, ...] = (*prompt_format.stop_ids, *ends)
        self.has_history = has_history(prompt_format)

    def encode(
        self, rules: str, observation: str, moves: Sequence[str] | None = None, turns: Sequence[Turn] = ()
    ) -> list[int]:
        return self._format.encode(rules, observation, None, turns)

    def reply(self, move: str) -> None:
        """Many replies say one move."""
        return None

    def read(self, reply: Sequence[int]) -> str | None:
        """As many letters as there were ids."""
        return "".join(_LETTERS[i % 32] for i in reply[:-1]).strip() or "."


class Speech(FreeText):
    """Reads what a pretrained model said as chat; its first line, question or exclamation is a reply."""

    def __init__(self, prompt_format: PromptFormat, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        encoded = [tokenizer.encode(end, add_special_tokens=False) for end in _SPEECH_ENDS]
        super().__init__(prompt_format, [ids[0] for ids in encoded if len(ids) == 1])

    def read(self, reply: Sequence[int]) -> str | None:
        """Its text, without the brackets around which games have rules."""
        text = str(self._tokenizer.decode(list(reply), skip_special_tokens=True))
        return text.translate(_NO_BRACKETS).strip() or "."


def free_text(tokenizer: Any) -> Prompter:
    """A prompter of `FreeText` around the observation alone."""
    return Prompter(FreeText(cast(PromptFormat, PlainFormat(tokenizer))))


class LeftPadded:
    """Prompts as one batch that transformers' `generate` continues, padded on the left, which is its best case."""

    def __init__(self, prompts: Sequence[Ids], sampling: Sampling, pad: int) -> None:
        self._width = max(map(len, prompts))
        self._ids = torch.tensor([[pad] * (self._width - len(p)) + list(p) for p in prompts])
        self._mask = torch.tensor([[0] * (self._width - len(p)) + [1] * len(p) for p in prompts])
        self._settings = GenerationConfig(  # type: ignore[no-untyped-call]
            do_sample=True,
            top_k=0,
            top_p=1.0,
            temperature=sampling.temperature,
            max_new_tokens=sampling.max_new_tokens,
            eos_token_id=list(sampling.stop_ids) or None,
            pad_token_id=pad,
        )

    def sampled_by(self, model: Any) -> torch.Tensor:
        """(B, T) what follows each prompt, filled up with pads."""
        with torch.inference_mode():
            out: torch.Tensor = model.generate(self._ids, attention_mask=self._mask, generation_config=self._settings)
        return out[:, self._width :]


class Generate:
    """An engine that is transformers' `generate`: one batch of all that was asked, padded on the left, to its end."""

    def __init__(self, model: Any, pad: int) -> None:
        self._model, self._pad = model, pad
        self._asked: list[Request] = []

    def submit(self, request: Request) -> None:
        self._asked.append(request)

    def step(self) -> list[Completion]:
        asked, self._asked = self._asked, []
        if not asked:
            return []
        batch = LeftPadded([request.prompt for request in asked], asked[0].sampling, self._pad)
        replies = batch.sampled_by(self._model).tolist()
        return [_ended(request, reply) for request, reply in zip(asked, replies, strict=True)]

    def load_weights(self, policy: PolicyId, weights: Any, version: int) -> None:
        """The model's own are used."""

    def drop(self, policy: PolicyId) -> None:
        """Nothing is kept."""


def _ended(request: Request, sampled: list[int]) -> Completion:
    """What was sampled up to the first stop id, without log-probabilities."""
    ends = [place for place, token in enumerate(sampled) if token in request.sampling.stop_ids]
    ids = tuple(sampled[: ends[0] + 1] if ends else sampled)
    return Completion(request.id, ids, (0.0,) * len(ids), "stop" if ends else "length", 0)
