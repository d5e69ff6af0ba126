"""How a policy with weights is asked for a move: policies of one model and prompt share a completer and its engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from spiral.api.errors import PromptTooLong, SpiralError
from spiral.api.records import Completion, PolicyId, Request, Sampling, Turn
from spiral.api.training import Engine, check_room
from spiral.engines.forcing import ForcingEngine
from spiral.models.prompt_cache import Prompter


@dataclass(frozen=True)
class Completer:
    """An engine, a prompt format and the limits of sampling, which belong together."""

    engine: Engine
    prompter: Prompter
    sampling: Sampling
    reads_cut: bool = False
    """Whether a move is read from a reply that was cut off at its limit; it is no move otherwise."""
    decode: Callable[[list[int]], str] | None = None
    """The tokenizer's ids -> text, special tokens by their names; None where there is no tokenizer."""

    @classmethod
    def of(
        cls,
        engine: Engine,
        prompter: Prompter,
        max_new_tokens: int,
        reads_cut: bool = False,
        decode: Callable[[list[int]], str] | None = None,
    ) -> Completer:
        """Training's sampling, temperature 1 over the full distribution, with the prompt format's stop ids.

        Raises SpiralError for replies that are too short for the prompt format.
        """
        if max_new_tokens < prompter.min_new_tokens:
            raise SpiralError(
                f"the prompt asks for replies of up to {prompter.min_new_tokens} tokens, a thought, what closes it and "
                f"an answer, and a reply is cut after {max_new_tokens}; set rollout.max_new_tokens="
                f"{prompter.min_new_tokens} or more, or a smaller prompt.args.thought_tokens"
            )
        if prompter.continuation is not None:
            engine = ForcingEngine(engine, prompter.continuation)
        return cls(engine, prompter, Sampling(max_new_tokens, prompter.stop_ids), reads_cut, decode)

    @property
    def max_new_tokens(self) -> int:
        """The longest reply."""
        return self.sampling.max_new_tokens

    def prompt(self, rules: str, observation: str, moves: Sequence[str] | None = None) -> tuple[int, ...]:
        """Prompt ids for a player's first decision, or any where prompts hold no earlier turns. Raises PromptTooLong if
        the longest reply has no room behind them."""
        return self.fitting(rules, observation, moves, ())[0]

    def fitting(
        self, rules: str, observation: str, moves: Sequence[str] | None, turns: Sequence[Turn]
    ) -> tuple[tuple[int, ...], int]:
        """Prompt ids for a decision after the player's own `turns`, and how many of those, the oldest, were left out
        for want of room. Raises PromptTooLong where the prompt format lets none leave, or all are too few."""
        turns = turns if self.prompter.has_history else ()
        # What left once does not come back, or the next prompt would not begin with this one.
        left_out = turns[-1].left_out if turns else 0
        while True:
            ids = self.prompter.encode(rules, observation, moves, turns[left_out:])
            try:
                check_room(self.engine, len(ids), self.max_new_tokens)
            except PromptTooLong:
                if left_out == len(turns) or not self.prompter.drops_turns:
                    raise
                left_out += 1
            else:
                return ids, left_out

    def check_reply(self, move: str) -> None:
        """Raise SpiralError for a move whose one reply is cut before its end, so that it could never be made."""
        reply = self.prompter.reply(move)
        if reply is not None and len(reply) > self.max_new_tokens:
            raise SpiralError(
                f"the move {move!r} takes {len(reply)} tokens with its end, and a reply is cut after "
                f"{self.max_new_tokens}; set rollout.max_new_tokens={len(reply)} or more"
            )

    def request(self, number: int, policy: PolicyId, prompt: tuple[int, ...], seed: int) -> Request:
        """The request `number` for one decision of `policy`; `seed` has 64 bits."""
        return Request(number, policy, prompt, self.sampling, seed)

    def text(self, reply: Sequence[int]) -> str:
        """What a reply says, without the id that ended it."""
        assert self.decode is not None, "this completer was made without a tokenizer"
        return self.prompter.said(reply, self.decode)

    def read(self, completion: Completion) -> str | None:
        """The move in a reply, or None for one that holds no move, or was cut off."""
        return self.prompter.read(completion.ids) if completion.finish == "stop" or self.reads_cut else None
