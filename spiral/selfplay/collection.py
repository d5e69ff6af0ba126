"""Plays policies against each other and keeps what they decided as examples: the experts' games of supervised training.

A collection is a sequence of batches, one line-up after another, each a function of the seed, of its place and of what
was kept before it. After each batch the file and then the record beside it are on disk, so a kill costs one batch, and
the file comes out as it would have without.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from spiral.api.answers import thoughts_before
from spiral.api.errors import SpiralError
from spiral.api.games import Game
from spiral.api.progress import Phase, Progress, no_progress
from spiral.api.records import Episode, PolicyId, Turn, outcome_of, outcome_word
from spiral.api.training import Stateful
from spiral.config.schema import RolloutConfig
from spiral.policies.pool import Pool
from spiral.runs.files import append, make_directory, write_atomic
from spiral.runs.lock import locked
from spiral.selfplay.examples import Example, line_of, read_record, record_path
from spiral.selfplay.fixed_seats import FixedSeats
from spiral.selfplay.replay import positions
from spiral.selfplay.rollouts import Rollouts

Keep = Literal["wins", "all"]

BATCH = 128
"""Games that a line-up plays at a time: what a kill loses, and what an engine has in flight."""
PATIENCE = 500
"""Games of a line-up of which none gave anything to keep, after which it is given up."""
VOIDED = 3
"""Voided games a game of a batch after which the collection stops."""


@dataclass(frozen=True)
class LineUp:
    """Who plays which game."""

    game: str
    policies: tuple[PolicyId, ...]
    """One a player."""
    kept: tuple[int, ...]
    """The players whose decisions are examples."""


@dataclass(frozen=True)
class Request:
    """What is asked of a collection; JSON values, and all that its file is a function of."""

    policies: list[str]
    """As the command names them, a run with its step."""
    opponents: list[str]
    games: list[str]
    keep: Keep
    num: int
    """Games to keep."""
    seed: int
    read_from: dict[str, str] = field(default_factory=dict)
    """What policies with weights were read from: policy -> fingerprint."""


def line_ups(
    games: Mapping[str, int], policies: Sequence[PolicyId], opponents: Sequence[PolicyId] = ()
) -> list[LineUp]:
    """Every line-up once: `games` maps each to its number of players.

    One policy alone plays itself. Several play each other, each against each and in every seat, with one of the two in
    all other seats of a larger game. With `opponents` each policy plays each of those instead, in every seat, and only
    its own decisions are kept.
    """
    found: dict[LineUp, None] = {}
    for game, num in games.items():
        everyone = tuple(range(num))
        if opponents and num > 1:
            for policy in policies:
                for other in opponents:
                    for seat in everyone:
                        found[LineUp(game, tuple(policy if s == seat else other for s in everyone), (seat,))] = None
        elif len(policies) == 1 or num == 1:
            for policy in policies:
                found[LineUp(game, (policy,) * num, everyone)] = None
        else:
            for policy in policies:
                for other in policies:
                    for seat in everyone if policy != other else ():
                        seats = tuple(policy if s == seat else other for s in everyone)
                        found[LineUp(game, seats, everyone)] = None
    return list(found)


@dataclass
class _Progress:
    """How far a collection is. JSON values."""

    kept: list[int]
    """Games kept, by line-up."""
    played: list[int]
    batches: list[int]
    bytes: int = 0
    voided: int = 0
    bots: dict[str, Any] = field(default_factory=dict)
    """States of bots that keep one."""


class Collection:
    """One collection into one file."""

    def __init__(
        self,
        request: Request,
        line_ups: Sequence[LineUp],
        games: Mapping[str, Callable[[], Game]],
        pool: Pool,
        rules: RolloutConfig,
        path: Path,
        progress: Progress = no_progress,
    ) -> None:
        """`rules`: how games are played."""
        self.request, self._line_ups, self._games, self._pool = request, list(line_ups), games, pool
        self._rules, self._path, self._show = replace(rules, group_size=1), path, progress
        share, rest = divmod(request.num, len(self._line_ups))
        self._quotas = [share + (place < rest) for place in range(len(self._line_ups))]
        num = len(self._line_ups)
        self._done = _Progress([0] * num, [0] * num, [0] * num)
        self._hash = hashlib.sha256()

    @property
    def num_kept(self) -> int:
        """Games kept so far."""
        return sum(self._done.kept)

    @property
    def num_played(self) -> int:
        """Games played so far."""
        return sum(self._done.played)

    @property
    def num_voided(self) -> int:
        """Games voided and replaced so far."""
        return self._done.voided

    def run(self) -> None:
        """Play until every line-up has its share of the games.

        The file is locked meanwhile. Raises SpiralError for one that holds something else, was changed, or is being
        written by another process, and for a line-up whose games give nothing to keep.
        """
        with locked(self._path, "being collected", "--out", beside=True):
            self._open()  # not before: the other process may have gone on since
            self._play()

    def _play(self) -> None:
        self._show(
            Phase("collecting", self.request.num, "games", lambda: self.num_kept, lambda: f"{self.num_played:,} played")
        )
        done = self._done
        while behind := [p for p, quota in enumerate(self._quotas) if done.kept[p] < quota]:
            # By what is on record, and not by a loop's own place, which a kill would lose.
            self._batch(min(behind, key=lambda place: done.batches[place]))

    def _batch(self, place: int) -> None:
        line_up, done, wanted = self._line_ups[place], self._done, self._quotas[place] - self._done.kept[place]
        seats = FixedSeats(line_up.game, line_up.policies)
        num = self._batch_size(place, wanted)
        rules = replace(self._rules, max_voided=VOIDED * num)
        rollouts = Rollouts(self._games, seats, seats, self._pool, rules, progress=no_progress)
        seed: tuple[int | str, ...] = (
            self.request.seed,
            "collect",
            line_up.game,
            *line_up.policies,
            done.played[place],
        )
        episodes = rollouts.play(num, seed)
        text = bytearray()
        for episode in episodes:
            examples = list(self._kept(episode, line_up, self.num_kept)) if wanted else []
            done.played[place] += 1
            if examples:
                wanted -= 1
                done.kept[place] += 1
                text += b"".join(map(line_of, examples))
        done.voided += len(rollouts.voided)
        done.batches[place] += 1
        self._write(bytes(text))
        if not done.kept[place] and done.played[place] >= PATIENCE:
            raise self._nothing(line_up, done.played[place])

    def _nothing(self, line_up: LineUp, num: int) -> SpiralError:
        kept = " or ".join(dict.fromkeys(line_up.policies[player] for player in line_up.kept))
        wins = self.request.keep == "wins"
        what = f"was won by {kept}" if wins else f"has a legal move of {kept}"
        remedy = "take --keep all, or other opponents" if wins else "name another policy, or another game"
        return SpiralError(
            f"none of the first {num} games of {line_up.game} between {', '.join(line_up.policies)} {what}, so there "
            f"is nothing to keep; {remedy}"
        )

    def _batch_size(self, place: int, wanted: int) -> int:
        """About as many games as give what is wanted, by the share that was kept so far."""
        if self.request.keep == "all":
            return min(BATCH, wanted)
        share = (self._done.kept[place] + 1) / (self._done.played[place] + 1)
        return min(BATCH, math.ceil(wanted / share))

    def _kept(self, episode: Episode, line_up: LineUp, number: int) -> Iterator[Example]:
        """The examples of a game: the legal turns of each player that is kept, in the order of play."""
        results = [outcome_word(outcome_of(episode.returns, player)) for player in range(len(episode.returns))]
        wins = self.request.keep == "wins"
        players = {p for p in line_up.kept if not wins or (results[p] == "win" and episode.ending != "illegal")}
        if not players:
            return
        turns = [iter(trajectory.turns) for trajectory in episode.trajectories]
        made = [(player, turn) for player in episode.players if (turn := next(turns[player])).legal]
        moves = [turn.move or "" for _, turn in made]
        known = positions(self._games[episode.game], episode.deal, moves)
        for place, ((player, turn), game) in enumerate(zip(made, known, strict=False)):
            if player in players:
                thoughts, reply = self._said(episode.policies[player], turn)
                yield Example(
                    game=episode.game, number=number, deal=episode.deal, player=player,
                    policy=episode.policies[player], policies=list(episode.policies), returns=list(episode.returns),
                    outcome=results[player], ending=episode.ending, turn=place, turns=len(made), history=moves[:place],
                    rules=game.rules, observation=turn.observation, legal_moves=game.legal_moves(), thoughts=thoughts,
                    move=moves[place], reply=reply,
                )  # fmt: skip

    def _said(self, policy: PolicyId, turn: Turn) -> tuple[str, str | None]:
        """What a policy wrote before its answer, and all that it wrote."""
        text = turn.said
        if self._pool.bot_of(policy) is None:
            text = self._pool.completer_of(policy).text(turn.reply)
        return thoughts_before(text, turn.move or ""), text or None

    def _open(self) -> None:
        """Go on where an earlier process was, if the file is its."""
        record = record_path(self._path)
        if not record.exists():
            if self._path.exists():
                raise SpiralError(f"{self._path} exists, and no collection left it there; give another --out")
            make_directory(self._path.parent)
            self._write(b"")
            return
        told = read_record(record)
        if told["request"] != json.loads(json.dumps(asdict(self.request))):
            changed = [key for key, value in asdict(self.request).items() if told["request"].get(key) != value]
            raise SpiralError(
                f"{self._path} was begun with other {', '.join(changed)}; ask for the same again, or give another --out"
            )
        self._done, self._hash = _Progress(**told["progress"]), hashlib.sha256()
        data = self._path.read_bytes()[: self._done.bytes] if self._path.exists() else b""
        self._hash.update(data)
        if self._hash.hexdigest() != told["sha256"]:
            raise SpiralError(f"{self._path} was changed since it was collected; give another --out, or delete it")
        os.truncate(self._path, self._done.bytes)  # what a kill left of a batch that is not on record
        self._pool.state = self._pool.state | {"bots": self._done.bots}

    def _write(self, lines: bytes) -> None:
        """The lines first, then the record that they count by."""
        append(self._path, lines, sync=True)
        self._hash.update(lines)
        self._done.bytes += len(lines)
        bots = self._pool.bots().items()
        self._done.bots = {policy: bot.state for policy, bot in bots if isinstance(bot, Stateful)}
        told = {
            "request": asdict(self.request),
            "kept": self.num_kept,
            "bytes": self._done.bytes,
            "sha256": self._hash.hexdigest(),
            "progress": asdict(self._done),
        }
        write_atomic(record_path(self._path), json.dumps(told, indent=1) + "\n")
