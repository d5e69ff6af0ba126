"""How a policy with weights is asked for a move: policies of one model and prompt share a completer and its engine."""

from __future__ import annotations

from dataclasses import dataclass

from spiral.api.errors import SpiralError
from spiral.api.records import Completion, PolicyId, Request, Sampling
from spiral.api.training import Engine, check_room
from spiral.models.prompt_cache import Prompter


@dataclass(frozen=True)
class Completer:
    """An engine, a prompt format and the limits of sampling, which belong together."""

    engine: Engine
    prompter: Prompter
    sampling: Sampling

    @classmethod
    def of(cls, engine: Engine, prompter: Prompter, max_new_tokens: int) -> Completer:
        """Training's sampling, temperature 1 over the full distribution, with the prompt format's stop ids."""
        return cls(engine, prompter, Sampling(max_new_tokens, prompter.stop_ids))

    @property
    def max_new_tokens(self) -> int:
        """The longest reply."""
        return self.sampling.max_new_tokens

    def prompt(self, rules: str, observation: str) -> tuple[int, ...]:
        """Prompt ids for a decision. Raises PromptTooLong if the longest reply has no room behind them."""
        ids = self.prompter.encode(rules, observation)
        check_room(self.engine, len(ids), self.max_new_tokens)
        return ids

    def check_reply(self, move: str) -> None:
        """Raise SpiralError for a move whose one reply is cut before its end, so that it could never be made."""
        reply = self.prompter.reply(move)
        if reply is not None and len(reply) > self.max_new_tokens:
            raise SpiralError(
                f"the move {move!r} takes {len(reply)} tokens with its end, and a reply is cut after "
                f"{self.max_new_tokens}; set rollout.max_new_tokens={len(reply)} or more"
            )

    def request(self, number: int, policy: PolicyId, rules: str, observation: str, seed: int) -> Request:
        """The request `number` for one decision of `policy`; `seed` has 64 bits. Raises PromptTooLong as `prompt`."""
        return Request(number, policy, self.prompt(rules, observation), self.sampling, seed)

    def read(self, completion: Completion) -> str | None:
        """The move in a reply, or None for one that was cut off or holds no move."""
        return self.prompter.read(completion.ids) if completion.finish == "stop" else None
