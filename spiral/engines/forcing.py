"""Replies that are sampled in parts, with ids between them that a prompt format puts there: a thought that is too long
is closed for the policy, which then answers (budget forcing: Muennighoff et al. 2025, arXiv 2501.19393).

Around any engine, so that what asks for a reply and what samples one know nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

from spiral.api.errors import PluginError
from spiral.api.records import Completion, Continuation, PolicyId, Request
from spiral.api.training import Engine, check_room
from spiral.seeds import child


@dataclass(slots=True)
class _Reply:
    """What there is of a reply."""

    request: Request
    ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    forced: list[int] = field(default_factory=list)
    """Places in `ids`."""
    num_parts: int = 0
    """Asked for so far."""
    versions: list[int] = field(default_factory=list)
    """Of the weights that produced each id, as far as it is known: ids that were put there are of those that followed
    them."""


class ForcingEngine:
    """An `Engine` around another, whose optional members it has too; see `spiral.api.training.Engine`."""

    def __init__(self, engine: Engine, continuation: Callable[[Sequence[int]], Continuation]) -> None:
        """`continuation`: of a prompt format, see `spiral.api.training.PromptFormat`."""
        self._engine, self._continuation = engine, continuation
        self._replies: dict[int, _Reply] = {}
        """By request, those in flight."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._engine, name)

    def submit(self, request: Request) -> None:
        """See `Engine`."""
        # For the whole reply: what the other engine is asked for first is shorter.
        check_room(self._engine, len(request.prompt), request.sampling.max_new_tokens)
        reply = _Reply(request)
        if not self._ask(reply):
            raise PluginError(
                f"the prompt format begins a reply with {len(reply.ids)} ids of its own or more, and a reply has "
                f"{request.sampling.max_new_tokens}; raise rollout.max_new_tokens"
            )
        self._replies[request.id] = reply

    def step(self) -> list[Completion]:
        """See `Engine`; a reply that goes on is asked for again in the same step, so its policy stays in flight."""
        found = (self._advanced(completion) for completion in self._engine.step())
        return [completion for completion in found if completion is not None]

    def load_weights(self, policy: PolicyId, weights: Mapping[str, Any], version: int) -> None:
        """See `Engine`."""
        self._engine.load_weights(policy, weights, version)

    def drop(self, policy: PolicyId) -> None:
        """See `Engine`."""
        self._engine.drop(policy)

    def _advanced(self, part: Completion) -> Completion | None:
        """The whole reply, if `part` is its last; None where it goes on."""
        reply = self._replies[part.request_id]
        reply.ids += part.ids
        reply.logprobs += part.logprobs
        own = [version for num, version in part.older for _ in range(num)]
        own += [part.version] * (len(part.ids) - len(own))
        reply.versions += [own[0]] * (len(reply.ids) - len(own) - len(reply.versions)) + own
        has_room = len(reply.ids) < reply.request.sampling.max_new_tokens
        if part.finish == "length" and has_room and self._ask(reply):
            return None
        del self._replies[part.request_id]
        stretches = [(len([*same]), version) for version, same in groupby(reply.versions)]
        return replace(
            part, ids=reply.ids, logprobs=reply.logprobs, forced=tuple(reply.forced), older=tuple(stretches[:-1])
        )

    def _ask(self, reply: _Reply) -> bool:
        """Ask for the next part of a reply; False where there is no room for one."""
        request, sampling = reply.request, reply.request.sampling
        then, num = self._continuation(reply.ids), len(reply.ids)
        room = sampling.max_new_tokens - num - len(then.forced)
        if room < 1:
            return False
        if then.num_tokens is not None and then.num_tokens < 1:
            raise PluginError(f"the prompt format continued a reply with {then.num_tokens} tokens; ask for 1 or more")
        reply.ids += then.forced
        reply.logprobs += (0.0,) * len(then.forced)
        reply.forced += range(num, len(reply.ids))
        most = room if then.num_tokens is None else min(room, then.num_tokens)
        # Each part draws from a seed of its own: one drawn twice would correlate the ids of two parts.
        seed = child(request.seed, reply.num_parts) if reply.num_parts else request.seed
        reply.num_parts += 1
        self._engine.submit(
            replace(
                request, prompt=request.prompt + reply.ids, sampling=replace(sampling, max_new_tokens=most), seed=seed
            )
        )
        return True
