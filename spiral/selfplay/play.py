"""Games in play, without lock step: each moves on as soon as its own reply is there.

Kinds of failure are kept apart. An illegal move of a model or a person is the player's fault and is scored. A program
that plays is tested, not trained against: its illegal move, or any other promise that it breaks, is the bot's fault.
An exception or returns of the wrong shape are the game's; a remote player that does not answer is an outage: each of
the three voids the match, which is replaced and reported with its deal and moves. A match of too many turns is none of
these: it is cut, and worth what `rollout.cut` says. A match that a bot declines is played by another line-up.
"""

from __future__ import annotations

import contextlib
import itertools
import random
from collections import deque
from collections.abc import Callable, Iterator, Mapping

from spiral.api.errors import PromptTooLong, SpiralError
from spiral.api.games import Game
from spiral.api.policies import Declined, HearsEnds, HearsStarts, Unavailable, is_external
from spiral.api.records import Completion, Episode, PolicyId, Turn, VoidedGame
from spiral.api.text import printable_logger
from spiral.config.schema import RolloutConfig
from spiral.policies.pool import Pool
from spiral.seeds import child
from spiral.selfplay.bot_faults import BotFault
from spiral.selfplay.draws import Draw
from spiral.selfplay.match import NO_RECORD, Group, Match, TooManyTurns, TurnRecord
from spiral.selfplay.scheduler import Scheduler
from spiral.selfplay.time_limit import TimeLimit

TOO_MANY_TURNS = "too many turns"
"""The cause of matches that were cut and voided."""
MAX_REDRAWN = 100
"""Line-ups drawn for a group of matches after which one that a bot declines is voided: there may be no other."""
_NO_TIME_LIMIT = contextlib.nullcontext()
log = printable_logger(__name__)

OnFailure = Callable[[PolicyId, str], None]
"""on_failure(policy, cause): a policy gave no move, and its match was voided for that."""


class Play:
    """Groups of games between the policies of a pool; new ones may begin at any time. `with play:` around `advance`
    keeps the games to their time limits; `close` ends the threads that slow bots need."""

    _numbers = itertools.count()
    """Of requests: no two of a process are alike, since several may share an engine."""

    def __init__(
        self,
        games: Mapping[str, Callable[[], Game]],
        pool: Pool,
        config: RolloutConfig,
        again: Callable[[Group], None],
        on_voided: Callable[[Group, VoidedGame], None],
        on_failure: OnFailure = lambda policy, cause: None,
        record: TurnRecord = NO_RECORD,
        forfeit: bool = False,
    ) -> None:
        """`again` is told of a group that has to be drawn anew, whose matches were given up. `on_voided` is told of a
        match that was voided, before. `forfeit`: a bot's fault loses it the match, as in a tournament, instead of
        voiding it."""
        self._games, self._pool, self._config = games, pool, config
        self._give_back, self._on_voided, self._on_failure = again, on_voided, on_failure
        self._record, self._forfeit = record, forfeit
        self._scheduler = Scheduler(TimeLimit(config.turn_deadline_s))
        self.finished: deque[Group] = deque()
        """Groups all of whose games are over, in the order in which they ended; taken by the caller."""

    def __enter__(self) -> Play:
        self._scheduler.time_limit.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._scheduler.time_limit.close()

    def close(self) -> None:
        """Nothing is played afterwards."""
        self._scheduler.bot_threads.close()

    @property
    def busy(self) -> bool:
        """Whether a game is in play."""
        return bool(self._scheduler.ready or self._scheduler.num_waiting)

    @property
    def num_asked(self) -> int:
        """Replies that are awaited from engines."""
        return len(self._scheduler.asked)

    @property
    def waits_for(self) -> str:
        """For an error: what was asked and is not answered."""
        return f"{len(self._scheduler.asked)} requests and {len(self._scheduler.bot_threads)} slow bots"

    def start(self, draw: Draw) -> Group:
        """Begin a group of games, after those that were begun before."""
        group = Group(draw)
        self._scheduler.ready.extend(self._matches(group))
        return group

    def restart(self, group: Group, draw: Draw) -> None:
        """Begin a group that was given up, drawn anew, before all others that wait."""
        group.draw = draw
        group.episodes.clear()
        self._scheduler.ready.extendleft(self._matches(group))

    def give_up(self, group: Group) -> None:
        """Play a group no further; answers to its questions are dropped."""
        group.is_given_up = True

    def advance(self) -> bool:
        """Begin what there is room for, let the engines work once, and play what was answered; whether anything moved.
        Raises SpiralError for what no game is to blame for."""
        scheduler, moved = self._scheduler, False
        # New matches before answers: an engine is faster the more requests it holds.
        while scheduler.ready and scheduler.num_waiting < self._config.max_concurrent:
            self._continue(scheduler.ready.popleft(), None)
            moved = True  # games and quick bots have time limits of their own
        answers = scheduler.answers(self._pool.engines())
        for match, answer in answers:
            self._continue(match, answer)
        return moved or bool(answers)

    def hold(self) -> None:
        """Let the engines finish every reply in flight, and play none of them yet: weights can be loaded then."""
        scheduler = self._scheduler
        while scheduler.asked:
            scheduler.held += scheduler.replies(self._pool.engines())

    def _matches(self, group: Group) -> Iterator[Match]:
        """The matches of a group."""
        draw = group.draw
        policies = list(draw.policies)
        bots = {policy: bot for policy in policies if (bot := self._pool.bot_of(policy)) is not None}
        # A person at the terminal moves inside the game's own code, and may think for longer than a game may loop.
        has_time_limit = not (bots and any(map(is_external, bots.values())))
        shown = [p for p in {*policies} - bots.keys() if self._pool.completer_of(p).prompter.lists_moves]
        for index in range(self._config.group_size):
            seed = child(draw.seed, index)
            bots_rng = random.Random(seed) if bots else None
            turns: list[list[Turn]] = [[] for _ in policies]
            match = Match(
                group, draw.attempt, index, self._games[draw.game](), draw.game, policies, draw.deal, seed,
                self._config, bots, bots_rng, has_time_limit, self._record, shown, turns=turns,
            )  # fmt: skip
            _tell_start(match)
            yield match

    def _continue(self, match: Match, answer: Completion | str | Exception | None) -> None:
        """Take one match from an answer (None: from its start) to its next question, its end, or its replacement."""
        # Of a group that was voided while the answer was on the way. Not a property of the match: this runs every turn.
        if match.attempt != match.group.draw.attempt or match.group.is_given_up:
            return _tell_end(match, None)
        if isinstance(answer, Completion):
            # Before the `try`: what a prompt format raises is an error of the program, never of the game.
            match.move = self._pool.completer_of(match.policies[match.player]).read(answer)
        try:
            with self._scheduler.time_limit if match.has_time_limit else _NO_TIME_LIMIT:
                episode = match.resume(answer)
        # The order of these arms is the error model: an outage is never the game's fault, an error of the set-up stops
        # the run, a bot's fault is not the game's, and whatever else is raised is.
        except Unavailable as error:
            return self._unavailable(match, error)
        except BotFault as fault:
            if not self._forfeit:
                policy = match.policies[match.player]
                return self._replace(match, f"{policy} {fault}", f"{policy}: {fault.fault}")
            episode = match.forfeit(fault.fault)
        except SpiralError:
            raise
        except TooManyTurns as cut:
            return self._replace(match, str(cut), TOO_MANY_TURNS)
        except Exception as error:
            return self._replace(match, f"{type(error).__name__}: {error}", "game")
        if episode is not None:
            match.group.episodes[match.index] = episode
            if len(match.group.episodes) == self._config.group_size:
                self.finished.append(match.group)
            return _tell_end(match, episode)
        try:
            return self._ask(match)
        except PromptTooLong as error:
            return self._fail(match, str(error), "prompt too long")

    def _ask(self, match: Match) -> None:
        scheduler = self._scheduler
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

    def _unavailable(self, match: Match, error: Unavailable) -> None:
        """Play a match that was declined by another line-up, unless there seems to be none; void any other."""
        if isinstance(error, Declined) and match.group.draw.attempt < MAX_REDRAWN:
            return self._again(match)
        return self._fail(match, str(error), error.cause)

    def _fail(self, match: Match, reason: str, cause: str) -> None:
        """Void a match in which the policy to move gave no move."""
        self._on_failure(match.policies[match.player], cause)
        self._replace(match, reason, cause)

    def _replace(self, match: Match, reason: str, cause: str) -> None:
        """Report a match and play its group again."""
        self._on_voided(match.group, VoidedGame(match.name, match.deal, match.moves, reason, cause))
        self._again(match)

    def _again(self, match: Match) -> None:
        """Give a group up, all of it: its other matches are recognised when their answers come."""
        _tell_end(match, None)
        self._give_back(match.group)


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
