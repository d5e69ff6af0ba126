"""The adapter of TextArena: any of its environments as a game of spiral, as the catalogue describes it.

Every match has an environment object of its own and draws its chance from generators of its own (`chance`). Moves are
plain text: `4` stands for the `[4]` that most environments want, and `[4]` is read alike. What the environment calls
invalid raises `IllegalMove` with its reason and leaves no trace, and never counts towards an elimination: what an
illegal move costs is for the run to say. The reason is not put into the observation, since an illegal move must leave
the match as it was, and what players see is part of the match; a run that allows retries has it from the exception.
"""

from __future__ import annotations

import copy
import inspect
import pickle
import random
import re
from collections.abc import Sequence
from typing import Any

from spiral import IllegalMove, SpiralError
from spiral_games.skills import skills_of
from spiral_games.textarena import catalogue, dictionaries, importing, legal_moves, sampling
from spiral_games.textarena.chance import Chance
from spiral_games.textarena.messages import ACTION, GAME, Log, Message, Style, read, with_quoted_tags, without_tags

NEVER = 10**9
"""More errors than any player makes: the environment's own allowance never ends a match."""
_REASON = re.compile(r"attempted an invalid move\. Reason: (.*?)\s*Please resubmit a valid move", re.DOTALL)


class TextArenaGame:
    """One match of the environment `env`, such as `TicTacToe-v0`.

    `style` says what players see (`messages.Style`). `players` is for environments that take several numbers of
    players, `env_args` are keyword arguments of the environment's class. A match of `max_turns` turns is cut there
    and gives 0 to every player. Returns are the environment's rewards; a player it gives none has 0. Environments whose
    rewards are wrong are mended where that takes a few lines (`mends`); `as_shipped` plays them as they are.

    Raises SpiralError for an environment that does not exist or cannot be played, and for arguments it does not take.
    """

    rules = ""  # the environment's prompt, which says who one is and so differs by player, is part of the observation

    def __init__(
        self,
        env: str,
        style: Style = "messages",
        max_turns: int | None = None,
        players: int | None = None,
        env_args: dict[str, Any] | None = None,
        as_shipped: bool = False,
    ) -> None:
        row = catalogue.find(env)
        self.num_players = row.num_players if players is None else players
        if not row.num_players <= self.num_players <= row.max_players:
            several = f"{row.num_players} to {row.max_players}"
            takes = several if row.max_players > row.num_players else row.num_players
            raise SpiralError(f"TextArena's '{env}' is for {takes} players; players={players} does not fit.")
        if max_turns is not None and max_turns < 1:
            raise SpiralError(f"max_turns={max_turns} leaves no turn to play; it must be at least 1.")
        self.max_turns = row.max_turns * self.num_players // row.num_players if max_turns is None else max_turns
        self.perfect_information = row.perfect_information and style != "board"
        self.worst_return = row.worst_return
        self.skills = skills_of(f"textarena/{env.partition('-v')[0]}")
        self._row = row
        self._style = style
        self._args = env_args or {}
        self._as_shipped = as_shipped
        _check_args(env, self._args)
        self._bind()
        # The catalogue was measured on what is played by default; two environments pay both players 1 as shipped.
        measured = self._made is importing.environment_class(env, as_shipped=False)
        self.zero_sum = row.zero_sum and self.num_players == 2 and measured

    def _bind(self) -> None:
        """Keep the environment's class and what follows from it."""
        self._made = made = importing.environment_class(self._row.env_id, self._as_shipped)
        self._lister = legal_moves.lister(made)
        self._can_give_up = made.__name__ in legal_moves.CAN_GIVE_UP

    def reset(self, rng: random.Random) -> None:
        """A new environment; all its chance comes from one number drawn from `rng`."""
        self._begin(rng.getrandbits(31))  # numpy takes seeds of 32 bits

    def _begin(self, seed: int) -> None:
        self._chance = Chance(seed)
        with self._chance:
            self._env = importing.make(self._row.env_id, self._args, self._as_shipped)
            self._env.reset(num_players=self.num_players, seed=seed)
        state = self._env.state
        state.error_allowance = NEVER
        self._num_turns = 0
        self._logs = [Log(player) for player in range(self.num_players)]
        self._tags = tuple(str(role) for role in state.role_mapping.values())
        self._deliver("")

    def current_player(self) -> int | None:
        if self._env.state.done or self._num_turns >= self.max_turns:
            return None
        return int(self._env.state.current_player_id)

    def observe(self, player: int) -> str:
        """The messages to the player, in the match's style."""
        return self._logs[player].show(self._style)

    def messages(self, player: int) -> Sequence[Message]:
        """The messages to the player, typed: for prompts and viewers that lay them out themselves."""
        return tuple(self._logs[player].messages)

    def legal_moves(self) -> list[str] | None:
        """All legal moves where the environment's state tells them exactly, else None."""
        if self._lister is None:
            return None
        if self._env.state.done or self._num_turns >= self.max_turns:
            return []
        moves = self._lister(self._env)
        # Some environments leave a player no legal move; there such a player loses by an invalid one.
        return [legal_moves.GIVE_UP] if moves == [] else moves

    def sample_move(self, rng: random.Random) -> str:
        """A random legal move, found by trying likely ones on copies. Raises ValueError if none is found."""
        moves = self.legal_moves()
        if moves is not None:
            return rng.choice(moves)
        player = self.current_player()
        if player is None:
            raise ValueError("the match is over")
        likely = sampling.Likely(self._logs[player].messages, self._env, self._row.brackets)
        move = sampling.sample(self, likely, rng)
        if move is None and self._can_give_up:
            return legal_moves.GIVE_UP
        if move is None:
            raise ValueError(f"no legal move of '{self._row.env_id}' was found among likely ones")
        return move

    def play(self, move: str) -> None:
        player = self.current_player()
        if player is None:
            raise IllegalMove("the match is over")
        action = self._action(move)
        before = None
        if self._row.restore:
            before = copy.deepcopy((self._env, self._chance), dictionaries.sharing(self._env))
        state = self._env.state
        # Without an allowance the invalid move below ends the match, as upstream does for a player who is stuck.
        if action == legal_moves.GIVE_UP:
            state.error_allowance = 0
        with self._chance:
            self._env.step(action)
        # The allowance never runs out, so a refused move shows in the count alone: the match has not ended by it.
        if state.error_count > 0:
            reason = self._refusal(player)
            self._undo(before)
            raise IllegalMove(reason)
        self._num_turns += 1
        self._deliver(action)

    def returns(self) -> list[float]:
        """The environment's rewards; 0 for every player in a match that was cut."""
        rewards = self._env.state.rewards or {}
        return [float(rewards.get(player) or 0.0) for player in range(self.num_players)]

    def __getattr__(self, name: str) -> Any:
        # Only games that can redraw what a player does not know have the method: `spiral check` looks for it.
        if name == "resample" and "_made" in self.__dict__ and self._made.__name__ in legal_moves.RESAMPLERS:
            return self._resample
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def _resample(self, player: int, rng: random.Random) -> None:
        """Redraw all that `player` does not know: what others have just chosen, and the chance to come."""
        legal_moves.RESAMPLERS[self._made.__name__](self._env, player, rng)
        self._chance = Chance(rng.getrandbits(31))

    def _action(self, move: str) -> str:
        """What the environment is given. Raises IllegalMove for a move that is not on the list, where there is one."""
        moves = self.legal_moves()
        if moves is not None:
            listed = legal_moves.chosen(move, moves)
            if listed is None:
                some = ", ".join(moves[:12]) + (", ..." if len(moves) > 12 else "")
                raise IllegalMove(f"that is not a legal move now; legal: {some}")
            move = listed
        if move == legal_moves.GIVE_UP and (moves is not None or self._can_give_up):
            return move
        return f"[{move}]" if self._row.brackets and "[" not in move and "]" not in move else move

    def _refusal(self, player: int) -> str:
        """The environment's reason for refusing the move just made."""
        for observation in reversed(self._env.state.observations[player]):
            match = _REASON.search(str(read(observation).text))
            # Some environments pass the penalty where the reason belongs.
            if match and not _is_number(match[1]):
                return match[1]
        return "the environment gives no reason"

    def _undo(self, before: tuple[Any, Chance] | None) -> None:
        """Forget a refused move."""
        if before is not None:
            self._env, self._chance = before
            return
        # Most environments check a move before they change anything: clearing the marks of the refusal is then enough,
        # and spares a copy of the environment at every move.
        state = self._env.state
        state.error_count = 0
        state.made_invalid_move = state.done = False
        state.rewards = None
        state.logs.clear()
        for observations in state.observations.values():
            observations.clear()

    def _deliver(self, action: str) -> None:
        """Move the environment's new observations to the players' logs."""
        state = self._env.state
        state.logs.clear()  # the environment's own transcript: it is not read, and every copy would carry it
        # Environments that override `get_observation` write the present board only when it is asked for.
        if self._made.get_observation.__module__ != "textarena.core" and not state.done:
            state.observations[state.current_player_id] = self._env.get_observation()[1]
        tagged = any(f"[{tag}]" in action for tag in self._tags)
        for player, observations in state.observations.items():
            if not 0 <= player < self.num_players:
                continue
            for observation in observations:
                message = read(observation)
                # TextArena deletes `[role]` from what players write; the text is put back, with the tags made harmless.
                if tagged and message.kind == ACTION and message.text == without_tags(action, self._tags):
                    message = message._replace(text=with_quoted_tags(action, self._tags))
                self._logs[player].add(message, self._name(message.sender))
            state.observations[player] = []

    def _name(self, sender: int) -> str:
        return "GAME" if sender == GAME else str(self._env.state.role_mapping.get(sender, f"Player {sender}"))

    def __getstate__(self) -> dict[str, Any]:
        # The environment is pickled by itself: its module may have to be made importable before it is read.
        state = self.__dict__.copy()
        if "_env" in state:
            state["_env"] = pickle.dumps(state["_env"])
        del state["_lister"], state["_made"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._bind()
        if "_env" in state:
            self._env = pickle.loads(state["_env"])

    def __deepcopy__(self, memo: dict[int, Any]) -> TextArenaGame:
        other = TextArenaGame.__new__(TextArenaGame)
        memo[id(self)] = other
        other.__dict__.update(self.__dict__)
        memo.update(dictionaries.sharing(self.__dict__.get("_env")))
        for name in ("_env", "_chance", "_logs"):
            if name in self.__dict__:
                setattr(other, name, copy.deepcopy(getattr(self, name), memo))
        return other


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).replace("-", "", 1).isdigit()


def _check_args(env: str, args: dict[str, Any]) -> None:
    """Raise SpiralError for arguments that the environment's class does not take."""
    if not args:
        return
    known = inspect.signature(importing.environment_class(env).__init__).parameters
    names = [name for name in known if name != "self"]
    unknown = [name for name in args if name not in names]
    if unknown:
        takes = f"takes {', '.join(names)}" if names else "takes none"
        raise SpiralError(f"TextArena's '{env}' has no argument '{unknown[0]}'; it {takes}.")
