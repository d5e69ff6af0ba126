"""Supervised training on random legal play, so that self-play starts from a policy that knows how a move is written.

It teaches the format and which moves are legal, not which are good: labels are uniform over the legal moves, so
exploration stays whole. An untrained byte model would write a legal move about once in 10^8 replies.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from spiral.api.errors import SpiralError
from spiral.api.games import Game
from spiral.api.records import LEARNER, Request
from spiral.api.training import check_room
from spiral.config.schema import WarmStartConfig
from spiral.engines.waiting import Deadline, completions
from spiral.learning.random_play import RandomDecision, random_decisions
from spiral.learning.supervised import Example, check_dropout, cross_entropy_step, set_dropout
from spiral.models.logits import TokenLogits, parameters
from spiral.policies.completer import Completer
from spiral.seeds import child, derive

NUM_CHECKED = 256
"""Fresh decisions on which the share of legal replies is measured."""

DEADLINE_S = 600.0
"""Longest wait for an engine that finishes no reply."""

Progress = Callable[[int, int, float], None]
"""progress(update, max_updates, share of legal replies when last measured)"""


@dataclass(frozen=True)
class WarmStarted:
    """What the warm start came to."""

    updates: int
    legal: float
    """Share of legal replies on fresh decisions when it stopped."""
    cached: bool


class WarmStart:
    """Trains `model` in place; `completer` asks it, as the learner."""

    def __init__(
        self,
        model: Any,
        games: Mapping[str, Callable[[], Game]],
        weights: Mapping[str, float],
        completer: Completer,
        config: WarmStartConfig,
        seed: int,
        progress: Progress = lambda update, max_updates, legal: None,
    ) -> None:
        """`weights`: how often each game is played, relative to the others."""
        self.model, self.config = model, config
        self._games, self._weights, self._completer = games, weights, completer
        self._seed, self._progress = seed, progress

    def train(self) -> WarmStarted:
        """Train until `config.legal` of the replies are legal, or for `config.max_steps` updates.

        Raises SpiralError for a prompt format in which a move has no reply of its own, or for a move that does not fit
        the model's context.
        """
        model, config = self.model, self.config
        check_dropout(model, config.dropout)
        lm = TokenLogits(model)
        optimizer = torch.optim.AdamW(
            model.parameters(), lr=config.lr, betas=(0.9, 0.95), weight_decay=0.0, foreach=True
        )
        decisions, fresh = self._decisions("train"), self._decisions("check")
        for update in range(config.max_steps + 1):
            if update % config.check_every == 0 or update == config.max_steps:
                legal = self._share_of_legal([next(fresh) for _ in range(NUM_CHECKED)], update)
                self._progress(update, config.max_steps, legal)
                if legal >= config.legal or update == config.max_steps:
                    break
            fraction = update / config.max_steps
            set_dropout(model, config.dropout, fraction, self._seed, update)
            examples = Counter(self._example(next(decisions)) for _ in range(config.batch))
            for group in optimizer.param_groups:
                group["lr"] = config.lr * (1 - fraction)
            cross_entropy_step(lm, optimizer, examples)
            model.eval()
        if config.dropout:
            model.set_dropout(0.0)
        return WarmStarted(update, legal, cached=False)

    def legal_share(self) -> float:
        """The share of the model's sampled replies that are legal moves, on the first decisions `train` checks."""
        fresh = self._decisions("check")
        return self._share_of_legal([next(fresh) for _ in range(NUM_CHECKED)], 0)

    def _decisions(self, purpose: str) -> Iterator[RandomDecision]:
        rng = random.Random(derive(self._seed, "warm_start", purpose))
        return random_decisions(self._games, self._weights, self._completer, rng)

    def _example(self, decision: RandomDecision) -> Example:
        reply = self._completer.prompter.reply(decision.move)
        if reply is None:
            raise SpiralError(
                "a warm start needs a prompt format in which a move has one reply, such as prompt=plain; with this one "
                "set warm_start.max_steps=0 and start from a pretrained model"
            )
        check_room(self._completer.engine, len(decision.prompt), len(reply))
        return decision.prompt, reply

    def _share_of_legal(self, decisions: Sequence[RandomDecision], update: int) -> float:
        engine, seed = self._completer.engine, derive(self._seed, "warm_start", update)
        engine.load_weights(LEARNER, parameters(self.model), 0)
        for number, decision in enumerate(decisions):
            engine.submit(Request(number, LEARNER, decision.prompt, self._completer.sampling, child(seed, number)))
        deadline = Deadline(DEADLINE_S, "set warm_start.max_steps=0 to start without a warm start")
        legal = 0
        for completion in completions(engine, len(decisions), deadline):
            move = self._completer.read(completion)
            legal += move is not None and decisions[completion.request_id].admits(move)
        return legal / len(decisions)
