"""Plays a number of games to their end in this process; `spiral.selfplay.play` has what happens in between."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing

from spiral.api.errors import RunError
from spiral.api.games import Game
from spiral.api.policies import OpponentSampler
from spiral.api.progress import Phase, Progress, no_progress
from spiral.api.records import Episode, VoidedGame
from spiral.api.training import GameSampler
from spiral.config.schema import RolloutConfig
from spiral.engines.waiting import Deadline
from spiral.policies.pool import Pool
from spiral.seeds import derive
from spiral.selfplay.bot_faults import CHANGED, ILLEGAL, NO_TEXT, RAISED
from spiral.selfplay.draws import Draws
from spiral.selfplay.match import NO_RECORD, Group, TurnRecord
from spiral.selfplay.play import TOO_MANY_TURNS, OnFailure, Play

_REMEDIES = {
    "game": "fix the game; ",
    TOO_MANY_TURNS: "raise rollout.max_turns, set rollout.cut=draw, which scores such games; ",
    "prompt too long": "",
} | dict.fromkeys((ILLEGAL, NO_TEXT, RAISED, CHANGED), "mend the bot, which spiral check tests, or choose another; ")
"""Cause of too many voided games -> what to do, before the advice that holds for all."""


class Rollouts:
    """Plays games between the policies of a pool; `voided` lists the matches that the last `play` voided, and `draws`
    decides what is played."""

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
        self._games, self._pool, self._config, self._on_failure, self._record = games, pool, config, on_failure, record
        self.draws = Draws(games, curriculum, opponents, pool, names)
        self._forfeit, self._progress = forfeit, progress
        self.voided: list[VoidedGame] = []

    def play(self, num_games: int, seed: Sequence[int | str], rank: int = 0, world: int = 1) -> list[Episode]:
        """`num_games` finished episodes in the order of the games' numbers, whatever order they ended in.

        The games are a function of `seed` and the weights, unless a person or another process plays. With `world`
        processes, each plays every world-th group of games, and all together play what one alone would, up to rounding
        in the engine. Raises RunError when too many games had to be voided, or no answer comes for `deadline_s`.
        """
        self.voided = []
        root, config = derive(*seed), self._config

        def again(group: Group) -> None:
            play.restart(group, self.draws.draw(root, group.draw.index, group.draw.attempt + 1))

        def on_voided(_: Group, voided: VoidedGame) -> None:
            self.voided.append(voided)
            check_voided(self.voided, config)

        play = Play(self._games, self._pool, config, again, on_voided, self._on_failure, self._record, self._forfeit)
        indices = range(rank, num_games // config.group_size, world)
        groups = [play.start(self.draws.draw(root, index)) for index in indices]
        self._progress(
            Phase(
                "playing",
                len(groups) * config.group_size,
                "games",
                lambda: sum(len(group.episodes) for group in groups),
                lambda: f"{play.num_asked} replies awaited",
            )
        )
        deadline = Deadline(config.deadline_s, "raise rollout.deadline_s")
        with closing(play), play:
            while play.busy:
                if play.advance():
                    deadline.answered()
                elif play.busy:
                    deadline.check(play.waits_for)
        return [episode for group in groups for _, episode in sorted(group.episodes.items())]


def check_voided(games: Sequence[VoidedGame], config: RolloutConfig) -> None:
    """Raise RunError if more games of one step were voided than the config allows."""
    if len(games) > config.max_voided:
        last = games[-1]
        remedy = _REMEDIES.get(last.cause.rpartition(": ")[2], "check that the remote players respond; ")
        raise RunError(
            f"{len(games)} games of one step had to be voided, the last one {last.game} with deal {last.deal} after "
            f"moves {list(last.moves)}: {last.reason}; {remedy}or raise rollout.max_voided"
        )
