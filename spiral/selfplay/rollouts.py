"""Plays many games at once over one engine, without lock step: a game moves on as soon as its own reply is there.

Kinds of failure are kept apart. An illegal move is the player's fault and is scored; an exception, an endless match or
returns of the wrong shape are the game's fault, and a remote player who does not answer is nobody's: the match is
voided, replaced, and reported with its deal and moves; an engine that goes silent stops the run. Knows nothing of
advantages or of tensors.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from spiral.api.errors import PromptTooLong, RunError, SpiralError
from spiral.api.policies import Unavailable
from spiral.api.games import Game, try_move, worst_return
from spiral.api.policies import OpponentSampler
from spiral.api.training import Engine, GameSampler
from spiral.api.records import Completion, Ending, Episode, Fault, PolicyId, Request, Sampling, Trajectory, Turn
from spiral.config.schema import RolloutConfig
from spiral.models.prompts import Prompter
from spiral.policies.pool import Pool, Voice
from spiral.seeds import child, derive
from spiral.api.policies import max_concurrent
from spiral.selfplay.scheduler import Group, Hall, Match
from spiral.selfplay.time_limit import Watchdog

_NO_DEADLINE = contextlib.nullcontext()


class Rollouts:
    """Plays the games of a run; `faults` lists the matches that the last `play` voided."""

    _numbers = itertools.count()
    """Of requests: no two of a process are alike, since rollouts may share an engine."""

    def __init__(
        self,
        games: Mapping[str, Callable[[], Game]],
        curriculum: GameSampler,
        opponents: OpponentSampler,
        pool: Pool,
        engine: Engine,
        prompter: Prompter,
        config: RolloutConfig,
    ) -> None:
        self._games, self._curriculum, self._opponents = games, curriculum, opponents
        self._pool, self._config = pool, config
        self._voice = Voice(engine, prompter, Sampling(config.max_new_tokens, prompter.stop_ids))
        self.faults: list[Fault] = []

    def play(self, num_games: int, seed: Sequence[int | str], rank: int = 0, world: int = 1) -> list[Episode]:
        """`num_games` finished episodes in the order of the games' numbers, whatever order they ended in.

        The games are a function of `seed` and the weights, unless somebody outside this process plays. With `world`
        processes, each plays every world-th group of games, and all together play what one alone would, up to rounding
        in the engine. Raises RunError when too many games had to be voided or nobody answers for `deadline_s`.
        """
        self.faults = []
        groups = [Group(index) for index in range(rank, num_games // self._config.games_per_deal, world)]
        engines = [self._voice.engine, *(voice.engine for voice in self._pool.voices.values())]
        hall = Hall(derive(*seed), Watchdog(self._config.turn_deadline_s), engines)
        hall.ready.extend(match for group in groups for match in self._seat(group, hall.root))
        last_answer = time.monotonic()
        hall.watchdog.start()
        try:
            while hall.ready or hall.num_waiting:
                while hall.ready and hall.num_waiting < self._config.concurrent:
                    self._continue(hall, hall.ready.popleft(), None)
                    last_answer = time.monotonic()  # games and quick bots think on their own time
                for match, answer in hall.answers():
                    self._continue(hall, match, answer)
                    last_answer = time.monotonic()
                if hall.num_waiting and time.monotonic() - last_answer > self._config.deadline_s:
                    slow = f" and {len(hall.thinkers)} to slow bots" if hall.thinkers else ""
                    raise RunError(
                        f"the engine finished no reply for {self._config.deadline_s:g} s with {len(hall.asked)} "
                        f"requests in flight{slow}; see its log, or raise rollout.deadline_s"
                    )
        finally:
            hall.watchdog.close()
            hall.thinkers.close()
        return [episode for group in groups for _, episode in sorted(group.episodes.items())]

    def _seat(self, group: Group, root: int) -> Iterator[Match]:
        """The matches of a group: one game, one deal, one seating, so that a player's returns can be compared."""
        place = child(child(root, group.index), group.attempt)
        rng = random.Random(place)
        name = self._curriculum.choose(rng)
        deal = rng.getrandbits(63)
        game = self._games[name]()
        policies = self._opponents.seat(name, game.num_players, self._pool, rng)
        self._check_seats(policies, game)
        bots = [self._pool.bots[policy] for policy in policies if policy in self._pool.bots]
        patient = any(getattr(bot, "external", False) for bot in bots)
        for index in range(self._config.games_per_deal):
            game = self._games[name]() if index else game
            seed = child(place, index)
            bots_rng = random.Random(seed) if bots else None
            turns: list[list[Turn]] = [[] for _ in policies]
            match = Match(group, group.attempt, index, game, name, policies, deal, seed, bots_rng, turns=turns)
            match.has_deadline = not patient
            yield match

    def _check_seats(self, policies: list[PolicyId], game: Game) -> None:
        unknown = [p for p in policies if p not in self._pool]
        if len(policies) != game.num_players or unknown:
            raise SpiralError(
                f"the opponent sampler seated {policies} at a table for {game.num_players}"
                + (f"; nobody is called {unknown[0]}" if unknown else "; it must name one policy a chair")
            )

    def _continue(self, hall: Hall, match: Match, answer: Completion | str | Exception | None) -> None:
        """Take one match from an answer (None: from its start) to its next question, its end, or its replacement."""
        if match.attempt != match.group.attempt:
            return  # voided while the answer was on the way
        if isinstance(answer, Completion):  # here, since what a prompt format raises is not the game's fault
            read = self._voice_of(match).prompter.read
            match.move = read(answer.ids) if answer.finish == "stop" else None
        try:
            with hall.watchdog if match.has_deadline else _NO_DEADLINE:
                episode = self._resume(match, answer)
        except Unavailable as error:
            return self._replace(hall, match, str(error), error.cause)
        except SpiralError:
            raise
        except Exception as error:
            return self._replace(hall, match, f"{type(error).__name__}: {error}", "game")
        if episode is not None:
            match.group.episodes[match.index] = episode
            return None
        try:
            return self._ask(hall, match)
        except PromptTooLong as error:
            return self._replace(hall, match, str(error), "prompt too long")

    def _replace(self, hall: Hall, match: Match, reason: str, cause: str) -> None:
        self._void(match, reason, cause)
        hall.ready.extendleft(self._seat(match.group, hall.root))

    def _voice_of(self, match: Match) -> Voice:
        """How the player to move is asked, who is no bot."""
        return self._pool.voices.get(match.policies[match.player], self._voice)

    def _ask(self, hall: Hall, match: Match) -> None:
        policy = match.policies[match.player]
        bot = self._pool.bots.get(policy)
        if bot is not None:
            assert match.rng is not None
            hall.thinkers.ask(match, bot, match.game, match.player, match.rng)
            return
        voice = self._voice_of(match)
        match.prompt = voice.prompter.encode(match.rules, match.observation)
        seed = child(match.seed, match.num_asked)
        number = next(self._numbers)
        voice.engine.submit(Request(number, policy, match.prompt, voice.sampling, seed))
        hall.asked[number] = match
        match.num_asked += 1

    # What follows runs the game's own code: whatever it raises is the game's fault.

    def _resume(self, match: Match, answer: Completion | str | Exception | None) -> Episode | None:
        """Start the match or play what was answered, and go on until somebody must be asked (None) or it is over."""
        if isinstance(answer, Exception):
            raise answer
        if answer is None:
            match.game.reset(random.Random(match.deal))
            match.rules = match.game.rules
            return self._until_asked(match)
        turn = self._bot_turn(match, answer) if isinstance(answer, str) else self._reply_turn(match, answer)
        return self._record(match, turn) or self._until_asked(match)

    def _reply_turn(self, match: Match, reply: Completion) -> Turn:
        legal = match.move is not None and try_move(match.game, match.move)
        ids, logprobs, finish = reply.ids, reply.logprobs, reply.finish
        return Turn(match.observation, match.prompt, ids, logprobs, match.move, legal, finish, reply.version)

    def _bot_turn(self, match: Match, move: str) -> Turn:
        match.move = move
        return Turn(match.observation, (), (), (), move, try_move(match.game, move), "stop", 0)

    def _record(self, match: Match, turn: Turn) -> Episode | None:
        """Keep a turn; the episode if it was illegal once too often."""
        match.move = None
        match.turns[match.player].append(turn)
        match.players.append(match.player)
        if turn.legal:
            match.retries = 0
        elif match.retries < self._config.retries:
            match.retries += 1
        else:
            return self._episode(match, self._punish(match), "illegal")
        return None

    def _until_asked(self, match: Match) -> Episode | None:
        """Let quick bots move until anybody else must be asked (None) or the match is over."""
        game, bots = match.game, self._pool.bots
        while (player := game.current_player()) is not None:
            if len(match.players) >= self._config.max_turns:
                raise TimeoutError(f"not over after {len(match.players)} turns; rollout.max_turns allows no more")
            if player not in range(game.num_players):
                raise ValueError(f"current_player() gave {player!r} at a table for {game.num_players}")
            match.player, match.observation = player, game.observe(player)
            if not isinstance(match.observation, str):
                raise TypeError(f"observe({player}) gave a {type(match.observation).__name__}, not text")
            bot = bots.get(match.policies[player])
            if bot is None or max_concurrent(bot):
                return None
            assert match.rng is not None
            turn = self._bot_turn(match, bot.choose(game, player, match.rng))
            if episode := self._record(match, turn):
                return episode
        return self._episode(match, [float(r) for r in game.returns()], "finished")

    def _episode(self, match: Match, returns: list[float], ending: Ending) -> Episode:
        if len(returns) != match.game.num_players or not all(map(math.isfinite, returns)):
            raise ValueError(f"returns() gave {returns} for {match.game.num_players} players")
        seats = zip(match.policies, returns, match.turns, strict=True)
        trajectories = tuple(
            [
                Trajectory(match.name, player, policy, reward, tuple(turns), match.deal)
                for player, (policy, reward, turns) in enumerate(seats)
            ]
        )
        offender = match.player if ending == "illegal" else None
        return Episode(
            match.name,
            match.deal,
            tuple(match.policies),
            tuple(returns),
            trajectories,
            tuple(match.players),
            ending,
            offender,
        )

    def _punish(self, match: Match) -> list[float]:
        """The returns when a player could not move; zero-sum stays zero-sum unless `penalty` says otherwise."""
        num = match.game.num_players
        if self._config.illegal == "penalty":
            mine, theirs = self._config.penalty
        else:
            mine = worst_return(match.game)
            theirs = -mine / max(1, num - 1)
        return [mine if player == match.player else theirs for player in range(num)]

    def _void(self, match: Match, reason: str, cause: str) -> None:
        """Report a match and give its group a new attempt. Raises RunError when there were too many."""
        turns = [iter(turns) for turns in match.turns]
        moves = tuple(next(turns[player]).move or "" for player in match.players)
        moves += () if match.move is None else (match.move,)
        fault = Fault(match.name, match.deal, moves, reason, cause)
        self.faults.append(fault)
        match.group.attempt += 1
        match.group.episodes.clear()
        if len(self.faults) > self._config.max_voided:
            mend = {"game": "mend the game; ", "prompt too long": ""}.get(
                cause, "see that whoever plays outside answers; "
            )
            raise RunError(
                f"{len(self.faults)} games of one step had to be voided, the last one {fault.game} with deal "
                f"{fault.deal} after moves {list(moves)}: {reason}; {mend}or raise rollout.max_voided"
            )


def in_order(parts: Sequence[Sequence[Episode]], per_deal: int) -> list[Episode]:
    """The episodes of several processes, each given what `play` returned there, in the order of the games' numbers."""
    groups = [[part[i : i + per_deal] for i in range(0, len(part), per_deal)] for part in parts]
    rounds = itertools.zip_longest(*groups, fillvalue=())
    return [episode for by_rank in rounds for group in by_rank for episode in group]
