"""The frozen records that pass between the stages: requests, completions, turns, trajectories, episodes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

PolicyId = str
"""Who decides for a player: `learner`, `bot:random`, `snapshot:120`, ..."""

LEARNER: PolicyId = "learner"
"""The policy that is being trained; the main one where a run trains several."""


def learner_id(name: str) -> PolicyId:
    """The policy that a run trains beside the main one, by its name in the config; the main one has none."""
    return f"{LEARNER}:{name}" if name else LEARNER


def learner_name(policy: PolicyId) -> str:
    """The name in the config of a policy in training; empty for the main one."""
    return policy.removeprefix(LEARNER).removeprefix(":")


Finish = Literal["stop", "length"]
"""Why an engine ended a reply: it sampled a stop id, or it ran out of tokens."""

Ending = Literal["finished", "illegal", "cut"]
"""How an episode ended: by the game's own rules, by a player who could not produce a legal move, or cut (truncated) by
the run after `rollout.max_turns` turns."""

Outcome = Literal["win", "draw", "loss"]
"""Of a finished game, for one player."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How an engine turns logits into ids. Training samples the full distribution at temperature 1."""

    max_new_tokens: int
    """The longest reply, the stop id included."""
    stop_ids: tuple[int, ...]
    """Ids that end a reply; the one sampled is the reply's last id."""
    temperature: float = 1.0
    """The log-probs are those of the tempered distribution. 0 is greedy: the likeliest id each time, the lowest of
    equals, with its log-probability at temperature 1."""
    top_p: float = 1.0
    """Below 1, for evaluation alone: from the likeliest ids of the tempered distribution, as few as hold this much of
    it; the log-probs are those of what is left. Greedy replies do without."""


@dataclass(frozen=True, slots=True)
class Request:
    """One reply asked of an engine."""

    id: int
    """Chosen by the caller, unique among the requests in flight."""
    policy: PolicyId
    prompt: tuple[int, ...]
    """Token ids, at least one."""
    sampling: Sampling
    seed: int
    """64 bits. The reply depends on this and the weights, and by rounding only on what else the engine is doing."""


@dataclass(frozen=True, slots=True)
class Continuation:
    """How a reply goes on behind what there is of it."""

    forced: tuple[int, ...] = ()
    """Ids that are put there and not sampled, none of them a stop id."""
    num_tokens: int | None = None
    """The most that are sampled behind them before the reply goes on anew, 1 or more; None for all that is left."""


@dataclass(frozen=True, slots=True)
class Completion:
    """The reply to one request."""

    request_id: int
    ids: tuple[int, ...]
    """The token ids, the stop id included when `finish` is `stop`; sampled, but for those at `forced`."""
    logprobs: tuple[float, ...]
    """Natural log-probability of each id under the distribution it was sampled from, in nats; 0 at `forced`."""
    finish: Finish
    version: int
    """The version of the weights that produced it, or its last ids where it has `older` ones."""
    forced: tuple[int, ...] = ()
    """Ascending places in `ids` of those that a prompt format put there."""
    older: tuple[tuple[int, int], ...] = ()
    """(how many, version) of the ids, from the first on, that older weights produced: some were loaded while the reply
    was in flight, and each id was sampled by the weights that were there then."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One decision. A bot's turn has no tokens: `prompt`, `reply` and `logprobs` are empty."""

    observation: str
    prompt: tuple[int, ...]
    reply: tuple[int, ...]
    logprobs: tuple[float, ...]
    move: str | None
    """The move read from the reply; None when the reply could not be read."""
    legal: bool
    finish: Finish
    version: int
    reward: float = 0.0
    """What reward plug-ins gave for this decision alone; it is part of the trajectory's `reward`."""
    joint_state: str = ""
    """Equal for two turns of a game if all players together had seen the same before them; for training alone, never
    in a prompt. Empty unless the estimator asks for it."""
    other_prompts: tuple[tuple[int, ...], ...] = ()
    """What the other players would be asked if it were their turn, in the order of the players; for training alone.
    Empty unless the estimator asks for it."""
    legal_replies: tuple[tuple[int, ...], ...] | None = None
    """The reply ids of every legal move; None unless the objective asks for them and each move has one reply."""
    legal_moves: tuple[str, ...] | None = None
    """The legal moves that `prompt` names; None where it names none."""
    left_out: int = 0
    """The player's oldest turns that `prompt` leaves out, since they had no room in the model's context."""
    trained: bool = True
    """Whether the loss takes the reply: not one that was cut off, with `rollout.cut_replies: mask`."""
    forced: tuple[int, ...] = ()
    """Ascending places in `reply` of ids that the prompt format put there, as the end of a thought that was too long.
    They were not sampled: their `logprobs` are 0, the loss leaves them out, and later ids follow them."""
    older: tuple[tuple[int, int], ...] = ()
    """See `Completion.older`."""
    said: str = ""
    """The text that a bot gave its move in, with its thoughts; empty where it gave the move alone."""

    @property
    def oldest_version(self) -> int:
        """Of the weights that produced an id of the reply."""
        return self.older[0][1] if self.older else self.version

    @property
    def num_sampled(self) -> int:
        """Ids of the reply that the policy chose."""
        return len(self.reply) - len(self.forced)


@dataclass(frozen=True, slots=True)
class Trajectory:
    """One player's turns of one game."""

    game: str
    player: int
    policy: PolicyId
    reward: float
    """The player's return of the game and what the run's reward plug-ins added, for the game and for single turns;
    nothing was subtracted from it."""
    turns: tuple[Turn, ...]
    deal: int
    """Games with the same `game` and `deal` began from the same chance events."""


@dataclass(frozen=True, slots=True)
class Episode:
    """One finished game, all players."""

    game: str
    deal: int
    """The seed of the game's own random generator."""
    policies: tuple[PolicyId, ...]
    """One a player: the policy that decided for it."""
    returns: tuple[float, ...]
    """One a player."""
    trajectories: tuple[Trajectory, ...]
    """One a player, in the order of the players."""
    players: tuple[int, ...]
    """Who made each turn, in the order of play; zip with each trajectory's turns to replay the game."""
    ending: Ending
    offender: int | None = None
    """The player whose illegal move ended the game."""
    fault: str = ""
    """Where the offender is a bot that broke its contract: how, such as `changed game`. Never in training, which voids
    such games."""


@dataclass(frozen=True, slots=True)
class VoidedGame:
    """A game that was voided; everything needed to see it again."""

    game: str
    deal: int
    moves: tuple[str, ...]
    reason: str
    cause: str = "game"
    """`game` if the game itself misbehaved, `too many turns` for one that was cut, how a policy failed, such as
    `timeout`, or a bot and its fault, such as `bot:mine: illegal move`."""


def outcome(own: float, other: float) -> float:
    """1 for a win, 0.5 for a draw, 0 for a loss, of a return against another's."""
    return 0.5 + 0.5 * ((own > other) - (own < other))


def outcome_of(returns: Sequence[float], player: int) -> float:
    """Of a player's return against the best of the others'; with one player, against 0."""
    return outcome(returns[player], max((one for n, one in enumerate(returns) if n != player), default=0.0))


def outcome_word(value: float) -> Outcome:
    """What an outcome is called."""
    return "win" if value == 1.0 else "draw" if value == 0.5 else "loss"
