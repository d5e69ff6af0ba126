"""Games of other policies as the learner's own turns: prompt and reply in its own prompt format, split and shuffled.

The same code turns random legal play into the examples of a warm start, see `random_play`; what differs is who chose
the moves.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from spiral.api.errors import PromptTooLong, SpiralError
from spiral.api.progress import Phase, Progress, no_progress
from spiral.api.records import LEARNER, Ending, Episode, PolicyId, Trajectory, Turn
from spiral.api.text import printable_logger
from spiral.config.sources import ExamplesConfig
from spiral.policies.completer import Completer
from spiral.seeds import derive
from spiral.selfplay.examples import Example, by_game

log = printable_logger(__name__)


class Unfit(SpiralError):
    """An example cannot be a reply of the learner."""


@dataclass(frozen=True)
class LeftOut:
    """What of a file the learner cannot be trained on."""

    examples: int
    trajectories: int
    reason: str
    """Of the first one, with its place."""


class RecordedGames:
    """The games of a file of examples.

    `left_out`: the trajectories with a turn that has no room or cannot be written, None without any. They are left out
    whole: a transcript cannot go on behind a turn that is missing.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        completer: Completer,
        config: ExamplesConfig,
        seed: int,
        with_legal_replies: bool = False,
        progress: Progress = no_progress,
    ) -> None:
        """`with_legal_replies`: keep those of each turn, for an anchor. Raises SpiralError if no game is left."""
        self._completer, self._config, self._seed = completer, config, seed
        self._with_legal_replies = with_legal_replies
        games = by_game(examples)
        self.left_out: LeftOut | None = None
        fitting = self._fitting(games, progress)
        held_out = self._draw_held_out([of_game[0].number for of_game in fitting])
        self._train = [of_game for of_game in fitting if of_game[0].number not in held_out]
        self._held_out = [of_game for of_game in fitting if of_game[0].number in held_out]
        self._order: tuple[int, list[int]] = (-1, [])

    @property
    def num_games(self) -> int:
        """Games that are trained on."""
        return len(self._train)

    @property
    def num_held_out(self) -> int:
        return len(self._held_out)

    def of_step(self, step: int, num_games: int) -> list[Episode]:
        """The games of a step: the next `num_games` of all epochs, each of which has every game once, in an order of
        its own. A function of the step, so a resumed run needs no state."""
        places = range(step * num_games, (step + 1) * num_games)
        return [self._episode(self._train[self._place(place)]) for place in places]

    def held_out(self) -> list[Episode]:
        """The games that are never trained on."""
        return [self._episode(of_game) for of_game in self._held_out]

    def _place(self, place: int) -> int:
        epoch, within = divmod(place, len(self._train))
        if self._order[0] != epoch:
            order = list(range(len(self._train)))
            random.Random(derive(self._seed, "examples", epoch)).shuffle(order)
            self._order = epoch, order
        return self._order[1][within]

    def _draw_held_out(self, numbers: Sequence[int]) -> set[int]:
        """By games and not by turns: turns of one game share a deal, and the end of one tells of its beginning."""
        num = min(round(self._config.held_out * len(numbers)), self._config.max_held_out, len(numbers) - 1)
        if self._config.held_out and len(numbers) > 1:
            num = max(1, num)
        return {*random.Random(derive(self._seed, "held out")).sample(sorted(numbers), num)}

    def _fitting(self, games: Sequence[Sequence[Example]], progress: Progress) -> list[list[Example]]:
        """The games without the trajectories that are left out."""
        found: list[list[Example]] = []
        num_examples = num_trajectories = 0
        first = ""
        progress(Phase("reading examples", len(games), "games", lambda: len(found)))
        for of_game in games:
            kept: list[Example] = []
            for of_player in _by_player(of_game):
                try:
                    self._turns(of_player)
                except (PromptTooLong, Unfit) as error:
                    first = first or f"game {of_game[0].number}, player {of_player[0].player}: {error}"
                    num_examples, num_trajectories = num_examples + len(of_player), num_trajectories + 1
                else:
                    kept += of_player
            if kept:
                found.append(kept)
        if num_trajectories:
            total = sum(map(len, games))
            self.left_out = LeftOut(num_examples, num_trajectories, first)
            what = f"{num_examples:,} of {total:,} examples cannot be learned from; the first: {first}"
            if not found:
                raise SpiralError(what)
            log.warning("%s. They are left out, each with its player's whole game.", what)
        return found

    def _episode(self, of_game: Sequence[Example]) -> Episode:
        """A game as the learner's: the other players have no turns."""
        e = of_game[0]
        turns = {of_player[0].player: self._turns(of_player) for of_player in _by_player(of_game)}
        policies: list[PolicyId] = [LEARNER if player in turns else name for player, name in enumerate(e.policies)]
        deal = e.deal or 0
        return Episode(
            e.game,
            deal,
            tuple(policies),
            tuple(e.returns),
            tuple(
                Trajectory(e.game, player, policy, e.returns[player], tuple(turns.get(player, ())), deal)
                for player, policy in enumerate(policies)
            ),
            tuple(example.player for example in of_game),
            _ending(e),
        )

    def _turns(self, of_player: Sequence[Example]) -> list[Turn]:
        turns: list[Turn] = []
        for e in of_player:
            turns.append(self._turn(e, turns))
        return turns

    def _turn(self, e: Example, before: Sequence[Turn]) -> Turn:
        """A decision as the learner would be asked for it. Raises PromptTooLong where it could not be asked, and Unfit
        where it could not answer so."""
        completer = self._completer
        prompter = completer.prompter
        moves = e.legal_moves if prompter.lists_moves else None
        prompt, left_out = completer.fitting(e.rules, e.observation, moves, before)
        reply = prompter.write(e.move, e.thoughts if self._config.thoughts else "")
        if reply is None:
            raise Unfit(
                f"the prompt format of this run gives no way to write the move {e.move!r} of {e.game}; choose another, "
                "such as prompt=plain or prompt=chat"
            )
        if len(reply) > completer.max_new_tokens:
            raise Unfit(
                f"a reply takes {len(reply)} tokens with its end, and one is cut after {completer.max_new_tokens}; set "
                f"rollout.max_new_tokens={len(reply)} or more"
            )
        legal = e.legal_moves if self._with_legal_replies else None
        return Turn(
            e.observation, prompt, reply, (0.0,) * len(reply), e.move, True, "stop", 0,
            legal_replies=None if legal is None else prompter.legal_replies(legal),
            legal_moves=None if moves is None else tuple(moves), left_out=left_out,
        )  # fmt: skip


def _by_player(of_game: Sequence[Example]) -> list[list[Example]]:
    counted: Counter[int] = Counter(example.player for example in of_game)
    return [[example for example in of_game if example.player == player] for player in sorted(counted)]


def _ending(e: Example) -> Ending:
    return "cut" if e.ending == "cut" else "illegal" if e.ending == "illegal" else "finished"
