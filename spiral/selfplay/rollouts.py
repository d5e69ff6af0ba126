"""Plays many games at once, without lock step: a game moves on as soon as its own reply is there.

Kinds of failure are kept apart. An illegal move of a model or a person is the player's fault and is scored. A program
that plays is tested, not trained against: its illegal move, or any other promise that it breaks, is the bot's fault.
An exception or returns of the wrong shape are the game's; a remote player that does not answer is an outage: each of
the three voids the match, which is replaced and reported with its deal and moves. A match of too many turns is none of
these: it is cut, and worth what `rollout.cut` says. A match that a bot declines is played by another line-up. An
engine that goes silent stops the run.
"""

from __future__ import annotations

import contextlib
import itertools
import random
from collections.abc import Callable, Iterator, Mapping, Sequence

from spiral.api.errors import PluginError, PromptTooLong, RunError, SpiralError
from spiral.api.games import Game
from spiral.api.policies import Declined, HearsEnds, HearsStarts, OpponentSampler, Unavailable, is_external
from spiral.api.progress import Phase, Progress, no_progress
from spiral.api.records import Completion, Episode, PolicyId, Turn, VoidedGame
from spiral.api.text import printable_logger
from spiral.api.training import GameSampler
from spiral.config.schema import RolloutConfig
from spiral.engines.waiting import Deadline
from spiral.plugins.faults import blamed
from spiral.policies.line_up import line_up
from spiral.policies.pool import Pool
from spiral.seeds import child, derive
from spiral.selfplay.bot_faults import CHANGED, ILLEGAL, NO_TEXT, RAISED, BotFault
from spiral.selfplay.match import NO_RECORD, Group, Match, TooManyTurns, TurnRecord
from spiral.selfplay.scheduler import Scheduler
from spiral.selfplay.time_limit import TimeLimit

TOO_MANY_TURNS = "too many turns"
"""The cause of matches that were cut and voided."""
_REMEDIES = {
    "game": "fix the game; ",
    TOO_MANY_TURNS: "raise rollout.max_turns, set rollout.cut=draw, which scores such games; ",
    "prompt too long": "",
} | dict.fromkeys((ILLEGAL, NO_TEXT, RAISED, CHANGED), "mend the bot, which spiral check tests, or choose another; ")
"""Cause of too many voided games -> what to do, before the advice that holds for all."""
MAX_REDRAWN = 100
"""Line-ups drawn for a group of matches after which one that a bot declines is voided: there may be no other."""
_NO_TIME_LIMIT = contextlib.nullcontext()
log = printable_logger(__name__)

OnFailure = Callable[[PolicyId, str], None]
"""on_failure(policy, cause): a policy gave no move, and its match was voided for that."""


class Rollouts:
    """Plays games between the policies of a pool; `voided` lists the matches that the last `play` voided."""

    _numbers = itertools.count()
    """Of requests: no two of a process are alike, since rollouts may share an engine."""

    def __init__(
        self,
        games: Mapping[str, Callable[[], Game]],
        curriculum: GameSampler,
        opponents: OpponentSampler,
        pool: Pool,
        config: RolloutConfig,
        on_failure: OnFailure = lambda policy, cause: None,
        record: TurnRecord = NO_RECORD,
        forfeit: bool = False,
        names: tuple[str, str] = ("the curriculum", "the opponent sampler"),
        progress: Progress = no_progress,
    ) -> None:
        """`forfeit`: a bot's fault loses it the match, as in a tournament, instead of voiding it. `names`: how errors
        call the curriculum and the opponent sampler."""
        self._games, self._curriculum, self._opponents = games, curriculum, opponents
        self._pool, self._config, self._on_failure, self._record = pool, config, on_failure, record
        self._forfeit, self._names, self._progress = forfeit, names, progress
        self.voided: list[VoidedGame] = []

    def play(self, num_games: int, seed: Sequence[int | str], rank: int = 0, world: int = 1) -> list[Episode]:
        """`num_games` finished episodes in the order of the games' numbers, whatever order they ended in.

        The games are a function of `seed` and the weights, unless a person or another process plays. With `world`
        processes, each plays every world-th group of games, and all together play what one alone would, up to rounding
        in the engine. Raises RunError when too many games had to be voided, or no answer comes for `deadline_s`.
        """
        self.voided = []
        groups = [Group(index) for index in range(rank, num_games // self._config.group_size, world)]
        scheduler = Scheduler(derive(*seed), TimeLimit(self._config.turn_deadline_s), self._pool.engines())
        scheduler.ready.extend(match for group in groups for match in self._matches(group, scheduler.root))
        deadline = Deadline(self._config.deadline_s, "raise rollout.deadline_s")
        num_here = len(groups) * self._config.group_size
        self._progress(
            Phase(
                "playing",
                num_here,
                "games",
                lambda: sum(len(group.episodes) for group in groups),
                lambda: f"{len(scheduler.asked)} replies awaited",
            )
        )
        scheduler.time_limit.start()
        try:
            while scheduler.ready or scheduler.num_waiting:
                # New matches before answers: an engine is faster the more requests it holds.
                while scheduler.ready and scheduler.num_waiting < self._config.max_concurrent:
                    self._continue(scheduler, scheduler.ready.popleft(), None)
                    deadline.answered()  # games and quick bots have time limits of their own
                answers = scheduler.answers()
                for match, answer in answers:
                    self._continue(scheduler, match, answer)
                if answers:
                    deadline.answered()
                if scheduler.num_waiting:
                    deadline.check(f"{len(scheduler.asked)} requests and {len(scheduler.bot_threads)} slow bots")
        finally:
            scheduler.time_limit.close()
            scheduler.bot_threads.close()
        return [episode for group in groups for _, episode in sorted(group.episodes.items())]

    def _matches(self, group: Group, root: int) -> Iterator[Match]:
        """The matches of a group: one game, deal and line-up, so that the returns of a player can be compared."""
        place = child(child(root, group.index), group.attempt)
        rng = random.Random(place)
        name = self._chosen_game(rng)
        deal = rng.getrandbits(63)
        game = self._games[name]()
        learner = self._pool.learner_of(group.index)
        policies = line_up(self._opponents, self._names[1], name, game.num_players, self._pool, rng, learner)
        bots = {policy: bot for policy in policies if (bot := self._pool.bot_of(policy)) is not None}
        # A person at the terminal moves inside the game's own code, and may think for longer than a game may loop.
        has_time_limit = not (bots and any(map(is_external, bots.values())))
        shown = [p for p in {*policies} - bots.keys() if self._pool.completer_of(p).prompter.lists_moves]
        for index in range(self._config.group_size):
            game = self._games[name]() if index else game
            seed = child(place, index)
            bots_rng = random.Random(seed) if bots else None
            turns: list[list[Turn]] = [[] for _ in policies]
            match = Match(
                group, group.attempt, index, game, name, policies, deal, seed, self._config, bots, bots_rng,
                has_time_limit, self._record, shown, turns=turns,
            )  # fmt: skip
            _tell_start(match)
            yield match

    def _chosen_game(self, rng: random.Random) -> str:
        """The next game. Raises PluginError for a curriculum that names none of the run's."""
        with blamed(self._names[0]):
            name: object = self._curriculum.choose(rng)
        if not isinstance(name, str) or name not in self._games:
            raise PluginError(f"{self._names[0]} chose {name!r}, which is no game of the run: {', '.join(self._games)}")
        return name

    def _continue(self, scheduler: Scheduler, match: Match, answer: Completion | str | Exception | None) -> None:
        """Take one match from an answer (None: from its start) to its next question, its end, or its replacement."""
        # Of a group that was voided while the answer was on the way. Not a property of the match: this runs every turn.
        if match.attempt != match.group.attempt:
            return _tell_end(match, None)
        if isinstance(answer, Completion):
            # Before the `try`: what a prompt format raises is an error of the program, never of the game.
            match.move = self._pool.completer_of(match.policies[match.player]).read(answer)
        try:
            with scheduler.time_limit if match.has_time_limit else _NO_TIME_LIMIT:
                episode = match.resume(answer)
        # The order of these arms is the error model: an outage is never the game's fault, an error of the set-up stops
        # the run, a bot's fault is not the game's, and whatever else is raised is.
        except Unavailable as error:
            return self._unavailable(scheduler, match, error)
        except BotFault as fault:
            if not self._forfeit:
                policy = match.policies[match.player]
                return self._replace(scheduler, match, f"{policy} {fault}", f"{policy}: {fault.fault}")
            episode = match.forfeit(fault.fault)
        except SpiralError:
            raise
        except TooManyTurns as cut:
            return self._replace(scheduler, match, str(cut), TOO_MANY_TURNS)
        except Exception as error:
            return self._replace(scheduler, match, f"{type(error).__name__}: {error}", "game")
        if episode is not None:
            match.group.episodes[match.index] = episode
            return _tell_end(match, episode)
        try:
            return self._ask(scheduler, match)
        except PromptTooLong as error:
            return self._fail(scheduler, match, str(error), "prompt too long")

    def _ask(self, scheduler: Scheduler, match: Match) -> None:
        policy = match.policies[match.player]
        bot = match.bots.get(policy) if match.bots else None
        if bot is not None:
            assert match.rng is not None
            scheduler.bot_threads.submit(match, bot, match.game, match.player, match.rng)
            return
        completer, number = self._pool.completer_of(policy), next(self._numbers)
        # A reply's seed depends on its place in the match alone, so the order of answers changes nothing.
        seed = child(match.seed, match.num_asked)
        turns, legal_moves = match.turns[match.player], match.legal_moves
        match.prompt, match.left_out = completer.fitting(match.rules, match.observation, legal_moves, turns)
        match.legal_replies, match.other_prompts = None, ()
        if self._record.other_prompts and policy in self._record.learners:
            seen = (match.game.observe(player) for player in range(match.game.num_players) if player != match.player)
            match.other_prompts = tuple(completer.fitting(match.rules, text, None, ())[0] for text in seen)
        if legal_moves is not None and self._record.legal_moves and policy in self._record.learners:
            match.legal_replies = completer.prompter.legal_replies(legal_moves)
        completer.engine.submit(completer.request(number, policy, match.prompt, seed))
        scheduler.asked[number] = match
        match.num_asked += 1

    def _unavailable(self, scheduler: Scheduler, match: Match, error: Unavailable) -> None:
        """Play a match that was declined by another line-up, unless there seems to be none; void any other."""
        if isinstance(error, Declined) and match.group.attempt < MAX_REDRAWN:
            return self._again(scheduler, match)
        return self._fail(scheduler, match, str(error), error.cause)

    def _fail(self, scheduler: Scheduler, match: Match, reason: str, cause: str) -> None:
        """Void a match in which the policy to move gave no move."""
        self._on_failure(match.policies[match.player], cause)
        self._replace(scheduler, match, reason, cause)

    def _replace(self, scheduler: Scheduler, match: Match, reason: str, cause: str) -> None:
        """Report a match and play its group again. Raises RunError when there were too many."""
        self.voided.append(VoidedGame(match.name, match.deal, match.moves, reason, cause))
        check_voided(self.voided, self._config)
        self._again(scheduler, match)

    def _again(self, scheduler: Scheduler, match: Match) -> None:
        """Play the group of a match again, with a line-up that is drawn anew."""
        # The whole group: its other matches are recognised by their attempt when their answers come.
        match.group.attempt += 1
        match.group.episodes.clear()
        _tell_end(match, None)
        scheduler.ready.extendleft(self._matches(match.group, scheduler.root))


def _tell_start(match: Match) -> None:
    """Tell the bots of a match that want to know which game it is."""
    for policy, bot in match.bots.items():
        if isinstance(bot, HearsStarts):
            try:
                bot.match_begins(match.game, match.name)
            except Exception as error:  # it is asked all the same, and fails then if it has to
                log.warning("%s raised %s in match_begins: %s", policy, type(error).__name__, error)


def _tell_end(match: Match, episode: Episode | None) -> None:
    """Tell the bots of a match that want to know; None for one that was voided."""
    for policy, bot in match.bots.items():
        if isinstance(bot, HearsEnds):
            try:
                bot.match_over(match.game, episode)
            except Exception as error:  # what it does with the news is no part of the game
                log.warning("%s raised %s in match_over: %s", policy, type(error).__name__, error)


def check_voided(games: Sequence[VoidedGame], config: RolloutConfig) -> None:
    """Raise RunError if more games of one step were voided than the config allows."""
    if len(games) > config.max_voided:
        last = games[-1]
        remedy = _REMEDIES.get(last.cause.rpartition(": ")[2], "check that the remote players respond; ")
        raise RunError(
            f"{len(games)} games of one step had to be voided, the last one {last.game} with deal {last.deal} after "
            f"moves {list(last.moves)}: {last.reason}; {remedy}or raise rollout.max_voided"
        )
