"""What an engine answered, against the model's own forward pass: for tests of engines and of what trains on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from spiral.api.records import LEARNER, Completion, Request, Trajectory, Turn
from spiral.api.training import Engine

if TYPE_CHECKING:
    from spiral.learning.packing import Batch

Completions = Mapping[int, Completion]
"""Request's number -> its completion."""


def answered(
    engine: Engine, requests: Sequence[Request], max_steps: int = 3000, submitted: bool = False
) -> dict[int, Completion]:
    """The completions of all requests, and of others that end meanwhile; `submitted`: they are in the engine already.

    Raises AssertionError if they are not there after `max_steps` steps.
    """
    if not submitted:
        for request in requests:
            engine.submit(request)
    done: dict[int, Completion] = {}
    wanted = {request.id for request in requests}
    for _ in range(max_steps):
        done |= {completion.request_id: completion for completion in engine.step()}
        if wanted <= done.keys():
            return done
    raise AssertionError(f"{len(done)} of {len(requests)} requests were answered in {max_steps} steps")


def forward_logprobs(model: Any, prompt: Sequence[int], reply: Sequence[int], temperature: float = 1.0) -> list[float]:
    """Log-probabilities, nats, of each id of a reply by one plain forward of the whole text."""
    import torch  # the kit needs it for models alone

    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([[*prompt, *reply]])).logits[0].float() / temperature
        logprobs = torch.log_softmax(logits, -1)
    return [logprobs[len(prompt) - 1 + place, token].item() for place, token in enumerate(reply)]


def logprob_gap(model: Any, requests: Sequence[Request], done: Completions) -> float:
    """The largest difference between the log-probabilities of completions and of `forward_logprobs`, nats."""
    return max(
        abs(one - other)
        for request in requests
        for one, other in zip(
            done[request.id].logprobs,
            forward_logprobs(model, request.prompt, done[request.id].ids, request.sampling.temperature),
            strict=True,
        )
    )


def one_turn_batch(requests: Sequence[Request], done: Completions) -> Batch:
    """A batch to learn from, in which each completion is a game of one turn, lost and won by turns."""
    from spiral.learning.packing import pack

    trajectories = []
    for request in requests:
        c = done[request.id]
        turn = Turn("", request.prompt, c.ids, c.logprobs, "move", True, c.finish, c.version, forced=c.forced)
        trajectories.append(Trajectory("game", 0, LEARNER, 1.0, (turn,), 0))
    return pack(trajectories, [[1.0 if n % 2 else -1.0] for n in range(len(trajectories))], 4096)
