"""How well a policy says what other policies said in games that it was not trained on."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from spiral.api.records import Episode, Turn
from spiral.evaluation.move_probabilities import reply_logits
from spiral.learning.samples import Sample
from spiral.models.logits import TokenLogits
from spiral.runs import metric_names


@dataclass
class HeldOut:
    """Of one game's replies; sums in nats."""

    turns: int = 0
    tokens: int = 0
    nll: float = 0.0
    """Negative log-likelihood of the replies."""
    right: int = 0
    """Turns of which each token of the answer is the likeliest one after those before it."""

    @property
    def loss(self) -> float:
        """Nats a token of the replies."""
        return self.nll / max(1, self.tokens)

    @property
    def perplexity(self) -> float:
        """exp of the loss: of a token, as for any language model."""
        return math.exp(min(self.loss, 700.0))

    @property
    def accuracy(self) -> float:
        """Share of the turns whose move the policy would say at temperature 0, after the thoughts of the example."""
        return self.right / max(1, self.turns)


@torch.inference_mode()
def held_out(
    lm: TokenLogits, episodes: Sequence[Episode], num_answer: Callable[[Turn], int], micro_batch_tokens: int
) -> dict[str, HeldOut]:
    """By game. `num_answer`: of a turn's reply, how many ids at its end say the move."""
    found: dict[str, HeldOut] = {}
    games: dict[str, list[Turn]] = {}
    for episode in episodes:
        turns = (turn for trajectory in episode.trajectories for turn in trajectory.turns)
        games.setdefault(episode.game, []).extend(turn for turn in turns if turn.reply)
    for game, turns_of_game in sorted(games.items()):
        found[game] = _of_game(lm, turns_of_game, num_answer, micro_batch_tokens)
    return found


def _of_game(
    lm: TokenLogits, turns: Sequence[Turn], num_answer: Callable[[Turn], int], micro_batch_tokens: int
) -> HeldOut:
    samples: dict[tuple[tuple[int, ...], tuple[int, ...]], Sample] = {}
    answers: dict[tuple[tuple[int, ...], tuple[int, ...]], int] = {}
    for turn in turns:
        key = turn.prompt, turn.reply
        samples.setdefault(key, Sample(*key, (0.0,) * len(turn.reply))).count += 1
        answers[key] = num_answer(turn)
    keys = sorted(samples, key=lambda key: (key[0] + key[1], len(key[0])))
    device = lm.model.device
    nll, wrong = torch.zeros(len(keys), device=device), torch.zeros(len(keys), device=device)
    from_end = torch.tensor([answers[key] for key in keys], device=device)
    for batch, logits in reply_logits(lm, [samples[key] for key in keys], micro_batch_tokens):
        said = logits.gather(-1, batch.targets[:, None])[:, 0]
        nll.index_add_(0, batch.samples, logits.logsumexp(-1) - said)  # without a second copy of the logits
        _, places, lengths = torch.unique_consecutive(batch.samples, return_inverse=True, return_counts=True)
        starts = lengths.cumsum(0) - lengths
        left = lengths[places] - (torch.arange(len(places), device=device) - starts[places])
        missed = (logits.argmax(-1) != batch.targets) & (left <= from_end[batch.samples])
        wrong.index_add_(0, batch.samples, missed.float())
    counts = torch.tensor([samples[key].count for key in keys], device=device)
    return HeldOut(
        turns=len(turns),
        tokens=sum(len(turn.reply) for turn in turns),
        nll=float((nll.double() * counts).sum()),
        right=int((counts * (wrong == 0)).sum()),
    )


def held_out_metrics(found: dict[str, HeldOut]) -> dict[str, float]:
    """Loss, perplexity and accuracy of each game."""
    metrics: dict[str, float] = {}
    for game, one in found.items():
        name = functools.partial(metric_names.of_game, "eval", game)
        metrics |= {
            name("held_out_loss"): one.loss,
            name("held_out_perplexity"): one.perplexity,
            name("held_out_accuracy"): one.accuracy,
        }
    return metrics
