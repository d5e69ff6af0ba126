"""What a language policy would do at a decision, exactly: the probability of each legal move's reply."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from spiral.api.errors import PromptTooLong, SpiralError
from spiral.learning.packing import MicroBatch, pack_samples
from spiral.learning.samples import Sample
from spiral.models.logits import TokenLogits, context_length
from spiral.policies.completer import Completer
from spiral.theory.game_tree import Decision

TRANSCRIPT = (
    "this prompt format holds a player's earlier turns, so what it does depends on the way to a decision and has no "
    "probability there; set prompt.args.history=fresh, or measure by matches (spiral eval, spiral best-response)"
)
Probabilities = dict[str, dict[str, float]]
"""observation -> {legal move: probability}"""


def move_probabilities(
    lm: TokenLogits,
    completer: Completer,
    rules: str,
    decisions: Sequence[Decision],
    micro_batch_tokens: int = 8192,
) -> tuple[Probabilities, dict[str, float]]:
    """Probabilities of the legal moves at temperature 1, and the mass of all other replies, by observation.

    A move's probability is that of its one reply, the stop id included, renormalised over the legal moves: play takes
    no other reply for it. Raises SpiralError for a prompt format in which many replies say one move, and for a reply
    that `completer` would cut.
    """
    if completer.prompter.has_history:
        raise SpiralError(TRANSCRIPT)
    samples: dict[tuple[tuple[int, ...], tuple[int, ...]], tuple[str, str]] = {}
    for decision in decisions:
        prompt = completer.prompter.encode(rules, decision.observation, decision.moves)
        for move in decision.moves:
            reply = completer.prompter.reply(move)
            if reply is None:
                raise SpiralError(
                    "this prompt format lets many replies say one move, so move probabilities cannot be enumerated; "
                    "use prompt=plain, or measure by matches (spiral eval)"
                )
            completer.check_reply(move)
            samples[prompt, reply] = decision.observation, move
    keys = sorted(samples)
    prompt, reply = max(keys, key=lambda key: len(key[0]) + len(key[1]))
    if len(prompt) + len(reply) > (context := context_length(lm.model)):
        raise PromptTooLong(
            f"a prompt of {len(prompt)} tokens and a move of {len(reply)} do not fit the model's context of {context}, "
            "so that move has no probability; take a longer context (model.args.context), or set "
            "evaluate.exploitability=false"
        )
    logprobs = sequence_logprobs(lm, [Sample(p, r, (0.0,) * len(r), count=1) for p, r in keys], micro_batch_tokens)
    raw: Probabilities = {}
    for key, logprob in zip(keys, logprobs.double().exp().tolist(), strict=True):
        observation, move = samples[key]
        raw.setdefault(observation, {})[move] = logprob
    return {o: _normalised(row) for o, row in raw.items()}, {o: 1 - sum(row.values()) for o, row in raw.items()}


@torch.inference_mode()
def sequence_logprobs(lm: TokenLogits, samples: Sequence[Sample], micro_batch_tokens: int) -> Tensor:
    """The log-probability of each sample's reply given its prompt, nats, (number of samples,); sorted samples only."""
    total = torch.zeros(len(samples), device=lm.model.device)
    for batch, logits in reply_logits(lm, samples, micro_batch_tokens):
        logprobs = torch.log_softmax(logits, -1).gather(-1, batch.targets[:, None])[:, 0]
        total.index_add_(0, batch.samples, logprobs)
    return total.cpu()


def reply_logits(
    lm: TokenLogits, samples: Sequence[Sample], micro_batch_tokens: int
) -> Iterator[tuple[MicroBatch, Tensor]]:
    """Micro-batches of sorted samples with the float32 logits, (N, V), that their reply tokens were predicted from."""
    for cpu_batch in pack_samples(samples, micro_batch_tokens):
        batch = cpu_batch.to(lm.model.device)
        yield batch, lm(batch.ids, batch.positions, batch.mask, batch.rows, batch.columns).float()


def _normalised(row: Mapping[str, float]) -> dict[str, float]:
    total = sum(row.values())
    if total <= 0:  # no legal move has any chance that a float can hold
        return {move: 1 / len(row) for move in row}
    return {move: p / total for move, p in row.items()}
