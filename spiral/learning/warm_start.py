"""Supervised training on random legal play, so that self-play starts from a policy that knows how a move is written.

It teaches the format and which moves are legal, not which are good: labels are uniform over the legal moves, so
exploration stays whole. An untrained byte model would write a legal move about once in 10^8 replies.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spiral.api.errors import SpiralError
from spiral.api.games import Game
from spiral.api.progress import Phase, Progress, no_progress
from spiral.api.records import LEARNER, Request
from spiral.config.schema import LearnerConfig, RolloutConfig, WarmStartConfig
from spiral.engines.waiting import Deadline, completions
from spiral.learning.dropout import Dropout
from spiral.learning.optimizers import adamw
from spiral.learning.policy_loss import PolicyLoss
from spiral.learning.random_play import RandomDecision, random_decisions
from spiral.learning.supervised import Example, likelihood_step
from spiral.models.logits import parameters
from spiral.policies.completer import Completer
from spiral.seeds import child, derive

NUM_CHECKED = 256
"""Fresh decisions, at least, on which the share of legal games is measured."""
MAX_CHECKED_TOKENS = 1 << 20
"""Prompt tokens of a measurement, about: so much it may cost to tell a rare illegal reply in long games from none."""

MAX_CUT = 1000
"""Moves one after another that may be too long for a reply."""

DEADLINE_S = 600.0
"""Longest wait for an engine that finishes no reply."""


@dataclass(frozen=True)
class WarmStarted:
    """What the warm start came to."""

    updates: int
    legal: float
    """Share of the games of random play that would end without an illegal reply, when it stopped."""
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
        progress: Progress = no_progress,
        max_turns: int = RolloutConfig.max_turns,
        micro_batch_tokens: int = LearnerConfig.micro_batch_tokens,
    ) -> None:
        """`weights`: how often each game is played, relative to the others. `max_turns`: turns of a game, at most.
        `micro_batch_tokens`: tokens of a forward pass; see `LearnerConfig`."""
        self.model, self.config = model, config
        self._games, self._weights, self._completer = games, weights, completer
        self._seed, self._progress, self._max_turns = seed, progress, max_turns
        self._micro_batch_tokens = micro_batch_tokens

    def train(self) -> WarmStarted:
        """Train until `config.legal` of the games would end legally, or for `config.max_steps` updates.

        Raises SpiralError for a prompt format in which a move has no reply of its own, or for moves that fit no
        reply.
        """
        model, config = self.model, self.config
        dropout = Dropout(model, config.dropout, self._seed, "warm_start")
        loss = PolicyLoss(model)
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]  # not an adapter's base
        optimizer = adamw(trained, config.lr, weight_decay=0.0)
        examples, fresh = self._examples(), self._matches("check")
        update, legal = 0, 0.0
        self._progress(
            Phase(
                "warm start",
                config.max_steps,
                "updates",
                lambda: update,
                lambda: f"{legal:.0%} of games would end legally",
            )
        )
        for update in range(config.max_steps + 1):
            if update % config.check_every == 0 or update == config.max_steps:
                legal = self._share_of_legal_games(fresh, update)
                if legal >= config.legal or update == config.max_steps:
                    break
            fraction = update / config.max_steps
            batch = Counter(next(examples) for _ in range(config.batch))
            for group in optimizer.param_groups:
                group["lr"] = config.lr * (1 - fraction)
            with dropout.during(fraction, update):
                likelihood_step(loss, optimizer, batch, self._micro_batch_tokens)
        return WarmStarted(update, legal, cached=False)

    def legal_share(self) -> float:
        """The share of games that would end legally, on the first decisions that `train` checks."""
        return self._share_of_legal_games(self._matches("check"), 0)

    def _decisions(self, purpose: str) -> Iterator[RandomDecision]:
        rng = random.Random(derive(self._seed, "warm_start", purpose))
        return random_decisions(self._games, self._weights, self._completer, rng, self._max_turns)

    def _matches(self, purpose: str) -> Iterator[list[RandomDecision]]:
        return (list(turns) for _, turns in itertools.groupby(self._decisions(purpose), lambda turn: turn.match))

    def _examples(self) -> Iterator[Example]:
        """Decisions without end whose moves fit a reply: a longer one would teach replies that are cut, and illegal."""
        cut = 0
        for decision in self._decisions("train"):
            reply = self._completer.prompter.reply(decision.move)
            if reply is None:
                raise SpiralError(
                    "a warm start needs a prompt format in which a move has one reply, such as prompt=plain; with this "
                    "one set warm_start.max_steps=0 and start from a pretrained model"
                )
            if len(reply) <= self._completer.max_new_tokens:
                cut = 0
                yield decision.prompt, reply
            elif (cut := cut + 1) > MAX_CUT:
                raise SpiralError(
                    f"game {decision.name}: {cut} moves one after another take more than the "
                    f"{self._completer.max_new_tokens} tokens of a reply, the last one {len(reply)}; set "
                    f"rollout.max_new_tokens={len(reply)} or more"
                )

    def _share_of_legal_games(self, fresh: Iterator[list[RandomDecision]], update: int) -> float:
        """The share of the games of random play in which every reply would be legal.

        From the share of illegal replies of each game and the lengths of its matches: whole games would be too few to
        count where they are long. No illegal reply among n bears out no less than 3 in n, so while enough are legal
        more are asked, until 3 in n would leave enough games legal, or `MAX_CHECKED_TOKENS` are spent.
        """
        asked, illegal, tokens = Counter[str](), Counter[str](), 0
        lengths: list[tuple[str, int]] = []
        while True:
            decisions: list[RandomDecision] = []
            while len(decisions) < NUM_CHECKED:
                match = next(fresh)
                decisions += match
                lengths.append((match[0].name, len(match)))
            for decision, is_legal in zip(decisions, self._legal(decisions, update, asked.total()), strict=True):
                asked[decision.name] += 1
                illegal[decision.name] += not is_legal
                tokens += len(decision.prompt)
            legal = sum((1 - illegal[name] / asked[name]) ** turns for name, turns in lengths) / len(lengths)
            # At the mean length T, 3 in n replies end 3 T / n games, which is 3 in the number of games asked.
            enough = len(lengths) * (1 - self.config.legal) >= 3
            if legal < self.config.legal or enough or tokens > MAX_CHECKED_TOKENS:
                return legal

    def _legal(self, decisions: Sequence[RandomDecision], update: int, first: int) -> list[bool]:
        """Whether the model's sampled reply to each decision is a legal move; `first`: how many were asked before."""
        engine, seed = self._completer.engine, derive(self._seed, "warm_start", update)
        engine.load_weights(LEARNER, parameters(self.model), 0)
        for number, decision in enumerate(decisions):
            sampled = child(seed, first + number)
            engine.submit(Request(number, LEARNER, decision.prompt, self._completer.sampling, sampled))
        deadline = Deadline(DEADLINE_S, "set warm_start.max_steps=0 to start without a warm start")
        legal = [False] * len(decisions)
        for completion in completions(engine, len(decisions), deadline):
            move = self._completer.read(completion)
            legal[completion.request_id] = move is not None and decisions[completion.request_id].admits(move)
        return legal
