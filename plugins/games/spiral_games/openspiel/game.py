"""The adapter of OpenSpiel: any of its games that can be played here, as a game of spiral."""

import contextlib
import copy
import functools
import json
import random
from collections.abc import Iterable
from typing import Any, Literal

from spiral import IllegalMove, SpiralError
from spiral_games.openspiel import chance
from spiral_games.openspiel.catalogue import Loaded, load, reload
from spiral_games.openspiel.observations import SHORT, changes, history, words
from spiral_games.openspiel.resampling import Unresampled, resampler

Style = Literal["full", "short"]


class OpenSpielGame:
    """A match. Games that can be dealt up front are a `DealtOpenSpielGame`, others that can be redrawn a
    `ResampledOpenSpielGame`.

    Moves are OpenSpiel's action strings, and what a player sees is OpenSpiel's text, behind `p0 ` or `p1 ` ...
    """

    def __init__(self, loaded: Loaded, style: Style = "full") -> None:
        self.loaded, self.style = loaded, style
        self.num_players = loaded.num_players
        self.zero_sum = loaded.zero_sum
        self.perfect_information = loaded.perfect_information
        self.worst_return = float(loaded.game.min_utility())
        self.rules = _rules(loaded)
        self._counted = loaded.perfect_information and chance.shape(loaded).returning
        self.state: Any = None
        """OpenSpiel's state, never at a chance node. Read it freely; `play` alone may change it."""
        self._chance: random.Random | None = None  # searching bots take a generator for chance still to come
        self._deal: chance.Deal | None = None
        self._seen: list[tuple[str, ...]] = []  # for each player, its last observation's lines
        self._transcripts: list[str] = []  # for each player, the transcript
        self._made: tuple[str, ...] = ()  # what players and chance did
        self._actions: dict[str, int] | None = None

    def reset(self, rng: random.Random) -> None:
        """Start a match; chance that comes later is drawn from a generator seeded by `rng` now."""
        self._begin(random.Random(rng.getrandbits(64)) if self.loaded.stochastic else None, None)

    def current_player(self) -> int | None:
        return None if self.state.is_terminal() else int(self.state.current_player())

    def observe(self, player: int) -> str:
        """OpenSpiel's text with the player before it; the number of the move in games that can go in circles, and all
        that was done in games whose text does not tell what may follow."""
        if self.loaded.sight == "transcript":
            return f"p{player} {self._transcripts[player]}"
        if self.loaded.sight == "information":
            text = str(self.state.information_state_string(player))
            return f"p{player} {SHORT[self.loaded.name](text) if self.style == 'short' else text}"
        if self.loaded.sight == "history":
            return f"p{player} {self.state.observation_string(player).rstrip()}\n{', '.join(self._made) or '-'}"
        number = f"{self.state.move_number()} " if self._counted else ""
        return f"p{player} {number}{self.state.observation_string(player)}"

    def legal_moves(self) -> list[str]:
        return list(self.actions())

    def play(self, move: str) -> None:
        legal = self.actions()
        if move not in legal:
            raise IllegalMove(_why_not(move, list(legal)))
        player = self.state.current_player()
        self.state.apply_action(legal[move])
        self._made += (move,)
        if self.loaded.sight == "transcript":
            self._transcripts[player] += f"> {move}\n"
        self._settle()

    def returns(self) -> list[float]:
        return [float(amount) for amount in self.state.returns()]

    def judge(self) -> list[float]:
        """What each player has been paid so far; 0 in the many games that pay at the end alone."""
        paid = self.returns()
        # Repeated Leduc poker pays the winner of a hand before it takes from the loser.
        surplus = sum(paid) / len(paid) if self.zero_sum else 0.0
        return [amount - surplus for amount in paid]

    def actions(self) -> dict[str, int]:
        """The legal moves with OpenSpiel's numbers for them."""
        if self._actions is None:
            player = self.current_player()
            actions = [] if player is None else self.state.legal_actions()
            self._actions = dict(zip(words(self.state, player or 0, actions), actions, strict=True))
        return self._actions

    def show(self, state: Any) -> None:
        """Put another state of the same game in the place of the present one, as a walk through all states does."""
        self.state, self._actions = state, None
        if self.loaded.sight == "history":
            self._made = history(self.loaded.game, state)

    def _begin(self, rng: random.Random | None, deal: chance.Deal | None) -> None:
        self._chance, self._deal = rng, deal
        self.state = self.loaded.game.new_initial_state()
        self._seen, self._transcripts = [()] * self.num_players, [""] * self.num_players
        self._made = ()
        self._settle()

    def _settle(self) -> None:
        """Play the chance nodes up to the next decision, then record what each player sees of it."""
        self._actions = None  # the cached moves of the position before
        while self.state.is_chance_node():
            action = self._draw()
            if self.loaded.sight == "history":
                self._made += tuple(words(self.state, self.state.current_player(), [action]))
            self.state.apply_action(action)
        if self.loaded.sight == "transcript":
            for player in range(self.num_players):
                text = self.state.observation_string(player)
                self._transcripts[player] += "".join(f"{line}\n" for line in changes(self._seen[player], text))
                self._seen[player] = tuple(text.splitlines())

    def _draw(self) -> int:
        # A dealt match takes its outcomes from the deal in order and has no generator. `_redraw` replaces what is left
        # of a deal by a generator: in another match other outcomes may be left.
        if self._deal:
            action, self._deal = self._deal[0], self._deal[1:]
            return action
        assert self._chance is not None
        actions, weights = zip(*self.state.chance_outcomes(), strict=True)
        return int(self._chance.choices(actions, weights)[0])

    def __deepcopy__(self, memo: dict[int, Any]) -> "OpenSpielGame":
        """A copy of the state and of the generator; the loaded game is shared, it never changes."""
        twin = copy.copy(self)
        twin._seen, twin._transcripts = list(self._seen), list(self._transcripts)
        if self._chance is not None:
            twin._chance = random.Random(0)
            twin._chance.setstate(self._chance.getstate())
        if self.state is not None:
            twin.state = self.state.clone()
        return twin

    def __copy__(self) -> "OpenSpielGame":
        twin = type(self).__new__(type(self))
        twin.__dict__.update(self.__dict__)
        return twin

    def __getstate__(self) -> dict[str, Any]:
        """OpenSpiel's objects do not pickle: the game goes as its name and parameters, the state as its history."""
        plain = {key: value for key, value in self.__dict__.items() if key not in ("loaded", "state", "_actions")}
        history = None if self.state is None else self.state.history()
        return plain | {"loaded": (self.loaded.name, self.loaded.params), "state": history}

    def __setstate__(self, plain: dict[str, Any]) -> None:
        self.__dict__.update(plain)
        self._actions = None
        self.loaded = reload(*plain["loaded"])
        if plain["state"] is not None:
            self.state = self.loaded.game.new_initial_state()
            for action in plain["state"]:
                self.state.apply_action(action)


class ResampledOpenSpielGame(OpenSpielGame):
    """A match with hidden information that can be redrawn."""

    def resample(self, player: int, rng: random.Random) -> None:
        """Redraw what `player` does not know; where no other match is found in time, only the chance to come."""
        _redraw(self, player, rng)


class DealtOpenSpielGame(OpenSpielGame):
    """A match whose chance does not depend on the moves, so that its deals can be listed and exact theory applies."""

    def deals(self) -> Iterable[tuple[float, chance.Deal]]:
        """(probability, deal): the outcomes of all chance nodes in their order, as OpenSpiel numbers them."""
        return chance.deals(self.loaded)

    def reset_to(self, deal: chance.Deal) -> None:
        self._begin(None, tuple(deal))

    def resample(self, player: int, rng: random.Random) -> None:
        """Redraw what `player` does not know, as far as it is found in time; with perfect information nothing."""
        if not self.perfect_information:
            _redraw(self, player, rng)


def open_spiel_game(game: str, params: dict[str, Any] | None = None, style: Style = "full") -> OpenSpielGame:
    """A game of OpenSpiel by its name there, such as leduc_poker; `params` are OpenSpiel's.

    style: `full` is OpenSpiel's own text; `short` a few characters with the same content, where there is one.
    Raises SpiralError for an unknown name or parameter, and for a game that cannot be played here.
    """
    loaded = load(game, params)
    if style == "short" and game not in SHORT:
        raise SpiralError(f"openspiel/{game} has no short style, only {', '.join(SHORT)} has; take style=full")
    return _kind(loaded)(loaded, style)


@functools.lru_cache(maxsize=256)
def _kind(loaded: Loaded) -> type[OpenSpielGame]:
    """The class whose promises this game can keep."""
    if loaded.sight == "transcript":
        return OpenSpielGame
    # Hidden information that cannot be redrawn rules out a dealt game too: its `deals` would be right, but a
    # `DealtOpenSpielGame` also promises `resample`.
    hidden = not loaded.perfect_information
    if hidden and resampler(loaded) is None:
        return OpenSpielGame
    if not chance.listing(loaded).refusal:
        return DealtOpenSpielGame
    return ResampledOpenSpielGame if hidden else OpenSpielGame


def _redraw(game: OpenSpielGame, player: int, rng: random.Random) -> None:
    """Put another match in the place of this one, with other chance to come."""
    redraw = resampler(game.loaded)
    assert redraw is not None  # `_kind` gives the two classes that are redrawn only to games with a resampler
    with contextlib.suppress(Unresampled):
        game.show(redraw(game.state, player, rng))
    game._deal = None
    game._chance = random.Random(rng.getrandbits(64)) if game.loaded.stochastic else None


def _rules(loaded: Loaded) -> str:
    """The game's name and parameters, its players and what moves look like; OpenSpiel has no text of rules."""
    moves = chance.shape(loaded).moves
    some = "are" if len(moves) <= 12 else "look like"
    players = " and ".join(f"p{player}" for player in range(loaded.num_players))
    given = ", ".join(f"{key}={value}" for key, value in json.loads(loaded.params).items())
    return f"{loaded.title}{f' ({given})' if given else ''} for {players}. Moves {some}: {' | '.join(moves[:12])}"


def _why_not(move: str, legal: list[str]) -> str:
    if not legal:
        return "the match is over"
    more = f" and {len(legal) - 8} more" if len(legal) > 8 else ""
    return f"the moves now are {', '.join(legal[:8])}{more}"
