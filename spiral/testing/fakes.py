"""A scripted engine and bot that remember their calls, and makers of turns, trajectories and episodes, for tests."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from spiral.api.errors import SpiralError
from spiral.api.games import Game
from spiral.api.records import LEARNER, Completion, Episode, PolicyId, Request, Trajectory, Turn

Replies = Callable[[Request], Sequence[int]] | Mapping[tuple[int, ...], Sequence[int]]
"""Request -> the ids of its reply, or prompt -> the ids of its reply."""


class ScriptedEngine:
    """An `Engine` without a model: every reply comes from `replies`, `delay` calls of `step` late.

    `requests` holds every request in the order of submission, `loaded` every (policy, version) of `load_weights`.
    Every id gets the log-probability `logprob`. A reply is cut at `sampling.max_new_tokens`, and its finish is `stop`
    if it ends with a stop id. The policies named in `policies` have weights of version 0 from the start.

    Example: `ScriptedEngine(lambda request: [7, 9], delay=1)` answers 7 9 to every request, one step late.
    """

    def __init__(
        self, replies: Replies, *, delay: int = 0, logprob: float = -0.5, policies: Iterable[PolicyId] = (LEARNER,)
    ) -> None:
        self.requests: list[Request] = []
        self.loaded: list[tuple[PolicyId, int]] = []
        self._replies, self._delay, self._logprob = replies, delay, logprob
        self._versions = dict.fromkeys(policies, 0)
        self._waiting: list[tuple[int, Request]] = []

    def submit(self, request: Request) -> None:
        """Queue one request. Raises SpiralError for a policy without weights, ValueError for an id in flight."""
        if request.policy not in self._versions:
            known = ", ".join(sorted(self._versions)) or "none"
            raise SpiralError(f"the engine has no weights for '{request.policy}' (it has: {known}); load_weights first")
        if any(request.id == other.id for _, other in self._waiting):
            raise ValueError(f"request {request.id} is already in flight; give each its own id")
        self.requests.append(request)
        self._waiting.append((self._delay, request))

    def step(self) -> list[Completion]:
        """The replies whose delay is over, in the order of submission."""
        due = [request for steps_left, request in self._waiting if steps_left <= 0]
        self._waiting = [(steps_left - 1, request) for steps_left, request in self._waiting if steps_left > 0]
        return [self._complete(request) for request in due]

    def load_weights(self, policy: PolicyId, weights: Mapping[str, Any], version: int) -> None:
        """Remember the version. Raises SpiralError while a request of the policy is in flight."""
        if any(request.policy == policy for _, request in self._waiting):
            raise SpiralError(f"weights of '{policy}' were loaded while its requests were in flight; finish them first")
        self.loaded.append((policy, version))
        self._versions[policy] = version

    def _complete(self, request: Request) -> Completion:
        replies = self._replies
        ids = tuple(replies(request) if callable(replies) else replies[request.prompt])
        ids = ids[: request.sampling.max_new_tokens]
        stopped = ids[-1:] != () and ids[-1] in request.sampling.stop_ids
        return Completion(
            request.id,
            ids,
            (self._logprob,) * len(ids),
            "stop" if stopped else "length",
            self._versions[request.policy],
        )


class ScriptedBot:
    """A `Bot` that makes the given moves one after another, in any game; `asked` holds (player, observation) of each.

    Example: `ScriptedBot(["bet", "fold"])`
    """

    def __init__(self, moves: Iterable[str]) -> None:
        self.asked: list[tuple[int, str]] = []
        self._moves = iter(moves)

    def choose(self, game: Game, player: int, rng: object) -> str:
        """The next move. Raises SpiralError when all have been made."""
        self.asked.append((player, game.observe(player)))
        move = next(self._moves, None)
        if move is None:
            raise SpiralError(
                f"the scripted bot was asked for move {len(self.asked)} and has only {len(self.asked) - 1}; give more"
            )
        return move


def make_turn(move: str | None = "move", *, legal: bool = True, num_tokens: int = 2, version: int = 0) -> Turn:
    """A turn with a prompt and a reply of `num_tokens` ids each, log-probabilities of -0.5."""
    ids = tuple(range(1, num_tokens + 1))
    return Turn("observation", ids, ids, (-0.5,) * num_tokens, move, legal, "stop", version)


def make_trajectory(
    reward: float = 1.0,
    *,
    game: str = "game",
    player: int = 0,
    policy: PolicyId = LEARNER,
    num_turns: int = 1,
    deal: int = 0,
) -> Trajectory:
    """One player's turns of one game, `num_turns` equal ones, with `reward` for the whole."""
    return Trajectory(game, player, policy, reward, (make_turn(),) * num_turns, deal)


def make_episode(
    returns: Sequence[float] = (1.0, -1.0),
    *,
    game: str = "game",
    policies: Sequence[PolicyId] | None = None,
    num_turns: int = 1,
    deal: int = 0,
) -> Episode:
    """A finished game in which each player had `num_turns` turns, one after another from player 0.

    `policies`: one a player, the learner for all by default. Example: `make_episode((1.0, -1.0), policies=[LEARNER,
    "bot:random"])` is a game that the learner won.
    """
    by_player = tuple(policies or [LEARNER] * len(returns))
    trajectories = tuple(
        make_trajectory(reward, game=game, player=player, policy=by_player[player], num_turns=num_turns, deal=deal)
        for player, reward in enumerate(returns)
    )
    players = tuple(range(len(returns))) * num_turns
    return Episode(game, deal, by_player, tuple(returns), trajectories, players, "finished")
