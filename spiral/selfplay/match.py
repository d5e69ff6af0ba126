"""One match in play: from an answer to the next question, or to its episode.

Everything here runs the game's and the quick bots' own code. What it raises is the game's fault, unless it is a
`BotFault` or an outage; `Rollouts` decides what follows.
"""

from __future__ import annotations

import math
import random
from collections.abc import Container, Mapping
from dataclasses import dataclass, field, replace

from spiral.api.games import Game, IllegalMove, cut_returns, joint_state, try_move, worst_return
from spiral.api.policies import Bot, SaidMove, is_external, max_concurrent
from spiral.api.records import LEARNER, Completion, Ending, Episode, PolicyId, Trajectory, Turn
from spiral.config.schema import RolloutConfig
from spiral.selfplay import bot_faults
from spiral.selfplay.draws import Draw


class TooManyTurns(Exception):
    """A match was cut, and the config voids those."""


@dataclass(slots=True)
class Group:
    """The games of one deal, voided together so that a group estimator never sees a part of one."""

    draw: Draw
    """The latest; it may be drawn anew."""
    episodes: dict[int, Episode] = field(default_factory=dict)
    is_given_up: bool = False


@dataclass(frozen=True, slots=True)
class TurnRecord:
    """What the turns of learners keep beside the reply; each costs time in every turn, so only where it is asked
    for."""

    joint_state: bool = False
    """For estimators whose baseline depends on it."""
    legal_moves: bool = False
    """For an objective that compares the policy with random legal play."""
    learners: frozenset[PolicyId] = frozenset({LEARNER})
    """Whose turns."""
    other_prompts: bool = False
    """For estimators that value a turn by what all players see."""


NO_RECORD = TurnRecord()


@dataclass(slots=True)
class Match:
    """One game in play."""

    group: Group
    attempt: int
    """The attempt of the group's draw that this match belongs to; a later one means that it was voided."""
    index: int
    game: Game
    name: str
    policies: list[PolicyId]
    deal: int
    seed: int
    config: RolloutConfig
    bots: Mapping[PolicyId, Bot]
    """Those among its policies that are bots."""
    rng: random.Random | None
    """For its bots."""
    has_time_limit: bool = True
    """False where a person or another process decides at once, such as a person at the terminal."""
    record: TurnRecord = NO_RECORD
    shown_moves: Container[PolicyId] = ()
    """The policies whose prompts name the legal moves."""
    rules: str = ""
    player: int = 0
    observation: str = ""
    joint_state: str = ""
    other_prompts: tuple[tuple[int, ...], ...] = ()
    legal_moves: list[str] | None = None
    """Where `record` or the prompt of the policy to move asks for them."""
    prompt: tuple[int, ...] = ()
    left_out: int = 0
    """The player's oldest turns that `prompt` leaves out."""
    legal_replies: tuple[tuple[int, ...], ...] | None = None
    move: str | None = None
    """The move that is being played."""
    retries: int = 0
    num_asked: int = 0
    players: list[int] = field(default_factory=list)
    """Who made each turn so far."""
    turns: list[list[Turn]] = field(default_factory=list)
    """Each player's turns."""

    @property
    def moves(self) -> tuple[str, ...]:
        """All moves so far, the one that is being played last."""
        turns = [iter(turns) for turns in self.turns]
        made = tuple(next(turns[player]).move or "" for player in self.players)
        return made if self.move is None else (*made, self.move)

    def resume(self, answer: Completion | str | Exception | None) -> Episode | None:
        """Start the match (None) or play what was answered, until a policy must be asked (None) or it is over."""
        if isinstance(answer, Exception):
            raise answer
        if answer is None:
            self.game.reset(random.Random(self.deal))
            self.rules = self.game.rules
            return self._until_asked()
        turn = self._bot_turn(answer) if isinstance(answer, str) else self._reply_turn(answer)
        return self._record(turn) or self._until_asked()

    def _reply_turn(self, reply: Completion) -> Turn:
        legal = self.move is not None and try_move(self.game, self.move)
        ids, logprobs, finish = reply.ids, reply.logprobs, reply.finish
        named = self.legal_moves if self.policies[self.player] in self.shown_moves else None
        return Turn(
            self.observation, self.prompt, ids, logprobs, self.move, legal, finish, reply.version,
            joint_state=self.joint_state, other_prompts=self.other_prompts, legal_replies=self.legal_replies,
            legal_moves=None if named is None else tuple(named), left_out=self.left_out,
            trained=finish == "stop" or self.config.cut_replies != "mask", forced=reply.forced,
            older=reply.older,
        )  # fmt: skip

    def _bot_turn(self, move: str) -> Turn:
        """The turn of a bot's move. Raises BotFault for an illegal one, unless a person or a remote model decided."""
        # Kept on the match while the game plays it: if that raises, the report of the voided game must hold the move.
        self.move, legal = move, True
        try:
            self.game.play(move)
        except IllegalMove as reason:
            legal = False
            if not is_external(self.bots[self.policies[self.player]]):
                raise bot_faults.illegal_move(move, reason) from reason
        said = move.reply if isinstance(move, SaidMove) else ""
        return Turn(self.observation, (), (), (), str(move), legal, "stop", 0, said=said)

    def forfeit(self, fault: str) -> Episode:
        """The episode of a match that ends here by a fault of the bot to move."""
        self.turns[self.player].append(Turn(self.observation, (), (), (), self.move, False, "stop", 0))
        self.players.append(self.player)
        return replace(self._episode(self._forfeit_returns(), "illegal"), fault=fault)

    def _record(self, turn: Turn) -> Episode | None:
        """Keep a turn; the episode if it was illegal once too often."""
        self.move = None
        self.turns[self.player].append(turn)
        self.players.append(self.player)
        if turn.legal:
            self.retries = 0
        elif self.retries < self.config.retries:
            self.retries += 1
        else:
            return self._episode(self._forfeit_returns(), "illegal")
        return None

    def _until_asked(self) -> Episode | None:
        """Let quick bots move until another policy must be asked (None) or the match is over."""
        game = self.game
        while (player := game.current_player()) is not None:
            if len(self.players) >= self.config.max_turns:
                return self._cut()
            if player not in range(game.num_players):
                raise ValueError(f"current_player() gave {player!r} in a match of {game.num_players} players")
            self.player, self.observation = player, game.observe(player)
            if not isinstance(self.observation, str):
                raise TypeError(f"observe({player}) gave a {type(self.observation).__name__}, not text")
            bot = self.bots.get(self.policies[player])
            if bot is None or max_concurrent(bot):
                self._keep_record()
                return None
            assert self.rng is not None
            turn = self._bot_turn(bot_faults.choose(bot, game, player, self.rng))
            if episode := self._record(turn):
                return episode
        return self._episode([float(r) for r in game.returns()], "finished")

    def _keep_record(self) -> None:
        """What the turn is to keep of the state before it, or its prompt to name."""
        policy = self.policies[self.player]
        is_learner = policy in self.record.learners
        if self.record.joint_state:
            self.joint_state = joint_state(self.game, self.player, self.observation) if is_learner else ""
        asked = (self.record.legal_moves and is_learner) or policy in self.shown_moves
        self.legal_moves = self.game.legal_moves() if asked else None

    def _cut(self) -> Episode:
        if self.config.cut == "void":
            raise TooManyTurns(f"not over after {len(self.players)} turns, and rollout.max_turns allows no more")
        return self._episode(cut_returns(self.game, self.config.cut == "judge"), "cut")

    def _episode(self, returns: list[float], ending: Ending) -> Episode:
        if len(returns) != self.game.num_players or not all(map(math.isfinite, returns)):
            what = "judge" if ending == "cut" else "returns"
            raise ValueError(f"{what}() gave {returns} for {self.game.num_players} players")
        by_player = zip(self.policies, returns, self.turns, strict=True)
        trajectories = tuple(
            [
                Trajectory(self.name, player, policy, reward, tuple(turns), self.deal)
                for player, (policy, reward, turns) in enumerate(by_player)
            ]
        )
        return Episode(
            self.name,
            self.deal,
            tuple(self.policies),
            tuple(returns),
            trajectories,
            tuple(self.players),
            ending,
            offender=self.player if ending == "illegal" else None,
        )

    def _forfeit_returns(self) -> list[float]:
        """The returns when a player could not move; zero-sum stays zero-sum unless `penalty` says otherwise."""
        num = self.game.num_players
        if self.config.illegal == "penalty":
            own, others = self.config.penalty
        else:
            own = worst_return(self.game)
            others = -own / max(1, num - 1)
        return [own if player == self.player else others for player in range(num)]
