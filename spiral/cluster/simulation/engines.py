"""An engine by its rates: how long it takes for a token of every text that it holds, for prompts and for weights."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

from spiral.cluster.orders import Ticket


@dataclass(frozen=True)
class EngineRates:
    """Seconds. A pass gives one token to each text in flight."""

    pass_s: float
    """Of a pass, however few texts there are."""
    text_s: float
    """More for each text in it."""
    prompt_token_s: float = 0.0
    """For each token of a prompt, during which no other text goes on."""
    load_s: float = 0.0
    """To load a version of the weights."""


@dataclass
class SimulatedEngine:
    """Texts in flight share its passes; a game is one text, as long as all of its replies together."""

    rates: EngineRates
    version: int = 0
    now: float = 0.0
    busy_s: float = 0.0
    turns_on: int = 0
    """Counts changes of what is in flight: an end that was foreseen before one of them is not valid any more."""
    _passes: float = 0.0
    _stalled_s: float = 0.0
    _ends: list[tuple[float, int, Ticket, int]] = field(default_factory=list)

    def go_to(self, now: float) -> None:
        """Work until then; nothing may end before."""
        time = now - self.now
        self.now = now
        stalled = min(time, self._stalled_s)
        self._stalled_s -= stalled
        if self._ends:
            self.busy_s += time
            self._passes += (time - stalled) / self._pass_s
        else:
            self.busy_s += stalled

    def begin(self, ticket: Ticket, prompt_tokens: int, reply_tokens: int) -> None:
        """Take a text in."""
        self._stalled_s += prompt_tokens * self.rates.prompt_token_s
        self.turns_on += 1
        heapq.heappush(self._ends, (self._passes + reply_tokens, self.turns_on, ticket, self.version))

    def load(self, version: int) -> None:
        """Stop for new weights; what is in flight goes on with them."""
        self.version = version
        self._stalled_s += self.rates.load_s
        self.turns_on += 1

    def next_end(self) -> float | None:
        """When the next text ends if nothing changes."""
        if not self._ends:
            return None
        return self.now + self._stalled_s + max(0.0, self._ends[0][0] - self._passes) * self._pass_s

    def end(self) -> tuple[Ticket, int]:
        """The text that ends now, and the version that it began with."""
        self.turns_on += 1
        passes, _, ticket, version = heapq.heappop(self._ends)
        self._passes = max(self._passes, passes)
        return ticket, version

    @property
    def _pass_s(self) -> float:
        return self.rates.pass_s + self.rates.text_s * len(self._ends)
