"""R7: what `Rollouts.play` itself costs a turn, over an engine that answers at the next step.

The cost of the games (the same moves played by a bare loop) and of the stand-in engine (fed the same requests) are
measured beside it and taken off. A profile shows where the rest goes; its shares are right and its times
are not, since the profiler makes small functions look dearer.
"""

from __future__ import annotations

import cProfile
import pstats
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any, Protocol, cast

from perf.measure import Figure, Timing, alternate, spread
from perf.parts import Ids, Parts, make_parts, num_turns
from spiral.api.games import Enumerable, Game
from spiral.api.records import Completion, Episode, PolicyId, Request
from spiral.models.prompt_cache import Prompter

TARGET_US = 20.0
CASES = {"kuhn_poker": 1024, "tic_tac_toe": 384}
"""Game -> games a play."""
REPEATS = 9

_PARTS = {
    "line-ups": ("_matches", "seat", "choose", "_check_line_up", "__contains__", "bot_of", "is_external"),
    "seeds": ("child", "derive"),
    "prompts": ("encode", "read", "request", "completer_of"),
    "submit": ("_ask", "submit", "step", "answers", "completed"),
    "records": ("_record", "_reply_turn", "_episode", "_forfeit_returns"),
    "loop": ("play", "_continue", "resume", "_until_asked", "try_move", "is_void", "num_waiting", "answered", "check"),
    "game": ("reset", "reset_to", "current_player", "observe", "returns", "_finish_round", "_prefix", "_shown"),
}
"""Part -> the functions whose own time it is; the file tells `play` of a game from `Rollouts.play`."""


class EnumerableGame(Game, Enumerable, Protocol):
    """A game whose deals can be listed."""


class InstantEngine:
    """Answers every request at the next step with one of the legal replies to its prompt, by the request's seed."""

    def __init__(self, replies: Mapping[Ids, Sequence[Ids]]) -> None:
        self._replies = replies
        self._logprobs = {reply: (-0.5,) * len(reply) for options in replies.values() for reply in options}
        self._waiting: list[Request] = []
        self.asked: list[Request] = []

    def submit(self, request: Request) -> None:
        self._waiting.append(request)

    def step(self) -> list[Completion]:
        asked, self._waiting = self._waiting, []
        self.asked += asked
        done = []
        for request in asked:
            options = self._replies[request.prompt]
            reply = options[request.seed % len(options)]
            done.append(Completion(request.id, reply, self._logprobs[reply], "stop", 0))
        return done

    def load_weights(self, policy: PolicyId, weights: Any, version: int) -> None:
        """It has none."""

    def drop(self, policy: PolicyId) -> None:
        """It has none."""


def figures() -> Iterator[Figure]:
    """One figure a game."""
    for name, num_games in CASES.items():
        parts = make_parts(f"games={name}", "model=byte-0.1m")
        yield _measure(name, num_games, parts)


def _measure(name: str, num_games: int, parts: Parts) -> Figure:
    factory = parts.setup.games[name]
    engine = InstantEngine(legal_replies(factory, parts.prompter))
    rollouts = parts.rollouts(engine)
    episodes = rollouts.play(num_games, (1,))
    requests = list(engine.asked)

    def play() -> None:
        engine.asked.clear()
        rollouts.play(num_games, (1,))

    def answer() -> None:
        engine.asked.clear()
        for request in requests:
            engine.submit(request)
        engine.step()

    times = alternate([play, lambda: bare(factory, episodes), answer], REPEATS, warm_up=2)
    turns = num_turns(episodes)
    cost = [_us([t], turns) for t in times[0]]
    game, fake = ([_us([t], turns) for t in row] for row in times[1:])
    own = spread(a - b - c for a, b, c in zip(cost, game, fake, strict=True))
    shares = profile(play)
    return Figure(
        f"R7 {name}",
        own["median"],
        "us a turn",
        TARGET_US,
        at_least=False,
        detail={
            "own_us": own,
            "with_game_and_engine_us": spread(cost),
            "game_us": spread(game),
            "stand_in_engine_us": spread(fake),
            "times_the_bare_game": spread(a / b for a, b in zip(cost, game, strict=True)),
            "turns_a_game": turns / num_games,
            "profile_shares": shares,
            "profile_us": {part: share * spread(cost)["median"] for part, share in shares.items()},
        },
    )


def _us(timings: Sequence[Timing], turns: int) -> float:
    return 1e6 * sum(t.cpu for t in timings) / turns


def bare(factory: Callable[[], Game], episodes: Sequence[Episode]) -> None:
    """The same matches with nothing around them."""
    for episode in episodes:
        game = factory()
        game.reset(random.Random(episode.deal))
        moves = [iter(t.turns) for t in episode.trajectories]
        while (player := game.current_player()) is not None:
            game.observe(player)
            game.play(next(moves[player]).move or "")
        game.returns()


def legal_replies(factory: Callable[[], Game], prompter: Prompter) -> dict[Ids, list[Ids]]:
    """Prompt -> the replies that are legal moves, for every decision of an enumerable game."""
    replies: dict[Ids, list[Ids]] = {}
    for _, deal in cast(Enumerable, factory()).deals():
        game = cast(EnumerableGame, factory())
        game.reset_to(deal)
        seen: set[str] = set()
        todo = [game]
        while todo:
            game = todo.pop()
            player = game.current_player()
            if player is None or game.observe(player) in seen:
                continue
            seen.add(game.observe(player))
            moves = game.legal_moves() or []
            prompt = prompter.encode(game.rules, game.observe(player))
            replies[prompt] = [reply for move in moves if (reply := prompter.reply(move)) is not None]
            for move in moves:
                after = deepcopy(game)
                after.play(move)
                todo.append(after)
    return replies


def profile(work: Callable[[], None]) -> dict[str, float]:
    """Each part's share of the time; what a built-in takes belongs to the part that called it."""
    profiler = cProfile.Profile()
    profiler.runcall(work)
    total = dict.fromkeys([*_PARTS, "other"], 0.0)
    for function, (_, _, own, _, callers) in pstats.Stats(profiler).stats.items():  # type: ignore[attr-defined]
        part = _part(function)
        if part != "other" or not callers:
            total[part] += own
            continue
        for caller, (_, _, share, _) in callers.items():
            total[_part(caller)] += share
    everything = sum(total.values())
    return {part: own / everything for part, own in total.items()}


def _part(function: tuple[str, int, str]) -> str:
    file, _, name = function
    if "spiral_games" in file:
        return "game"
    if name == "__init__" and file == "<string>":
        return "records"
    return next((part for part, names in _PARTS.items() if name in names and file.endswith(".py")), "other")
