"""The catalogue of OpenSpiel's games: which of them can be played here, which cannot and why, and how one is loaded.

Nothing here imports pyspiel before it is asked for a game: the package is an extra of this distribution.
"""

import difflib
import functools
import importlib
import json
import re
from dataclasses import dataclass, field
from typing import Any

from spiral import SpiralError
from spiral_games.similar_names import similar_names

BROKEN: dict[str, str] = {"crossword": "OpenSpiel does not list its actions"}
"""Games that keep to every rule below and still cannot be played, each with what OpenSpiel 2.0 does."""

HISTORY_COUNTS = {
    "2048",
    "amazons",
    "antichess",
    "banqi",
    "checkers",
    "chess",
    "chinese_checkers",
    "crazyhouse",
    "cursor_go",
    "einstein_wurfelt_nicht",
    "go",
    "lines_of_action",
    "morpion_solitaire",
    "oware",
    "shogi",
    "xiangqi",
}
"""Games of perfect information whose text does not tell what may follow: positions that may not or must not come back
(go, chess, oware), moves since the last capture (checkers), lines drawn (morpion_solitaire), the piece just taken up
(amazons), the die (einstein_wurfelt_nicht), what was paid (2048), or the length of the match so far."""


def pyspiel() -> Any:
    """The module `pyspiel`. Raises SpiralError when it is not installed."""
    try:
        return importlib.import_module("pyspiel")
    except ImportError as error:
        raise SpiralError(
            f"openspiel needs the package open_spiel, and it cannot be imported ({error}); "
            "run pip install 'spiral-games[openspiel]'"
        ) from error


@dataclass(frozen=True)
class Loaded:
    """A game of OpenSpiel, every player to move alone."""

    name: str
    params: str
    """The parameters, as sorted JSON: with `name`, all it takes to load the game again."""
    game: Any = field(repr=False, compare=False)
    perfect_information: bool
    turned: bool
    """Whether players choose at once in turn, and what the others have just chosen is all that is hidden."""
    sight: str
    """What a player sees: OpenSpiel's `information` state, its `observation`, the observation with the `history` of the
    match, or a `transcript` of observations."""

    @property
    def num_players(self) -> int:
        return int(self.game.num_players())

    @property
    def zero_sum(self) -> bool:
        return bool(self.game.get_type().utility == pyspiel().GameType.Utility.ZERO_SUM)

    @property
    def stochastic(self) -> bool:
        return bool(self.game.get_type().chance_mode != pyspiel().GameType.ChanceMode.DETERMINISTIC)

    @property
    def title(self) -> str:
        return str(self.game.get_type().long_name)


def game_names() -> list[str]:
    """The games of OpenSpiel that can be played without parameters, sorted; [] when it is not installed."""
    try:
        library = pyspiel()
    except SpiralError:
        return []
    return sorted(t.short_name for t in library.registered_games() if t.default_loadable and not _refusal(t))


def excluded_names() -> dict[str, str]:
    """Every other game of OpenSpiel, with the reason."""
    return {
        t.short_name: _refusal(t) or "it wraps another game or reads a file, so it needs params"
        for t in pyspiel().registered_games()
        if not t.default_loadable or _refusal(t)
    }


def load(name: str, params: dict[str, Any] | None = None) -> Loaded:
    """A game by its OpenSpiel name; simultaneous moves become turns. Loaded once a process.

    Raises SpiralError for an unknown name or parameter, and for a game that cannot be played here.
    """
    return reload(name, json.dumps(params or {}, sort_keys=True))


@functools.lru_cache(maxsize=256)
def reload(name: str, params: str) -> Loaded:
    """The same from `Loaded.name` and `Loaded.params`."""
    library = pyspiel()
    types = {t.short_name: t for t in library.registered_games()}
    if name not in types:
        near = similar_names(name, game_names())
        hint = f"near are {', '.join(near)}" if near else "see docs/games/openspiel.md"
        raise SpiralError(f"OpenSpiel has no game '{name}' ({len(game_names())} are known); {hint}")
    given = _typed(name, json.loads(params), types[name].parameter_specification)
    if not given and not types[name].default_loadable:
        raise SpiralError(
            f"OpenSpiel's {name} needs parameters; give params with some of: "
            + ", ".join(sorted(types[name].parameter_specification))
        )
    try:
        original = library.load_game(name, given)
        at_once = original.get_type().dynamics == library.GameType.Dynamics.SIMULTANEOUS
        game = library.convert_to_turn_based(original) if at_once else original
    except library.SpielError as error:
        raise SpiralError(f"OpenSpiel cannot load {name} with {params}: {' '.join(str(error).split())}") from error
    refusal = BROKEN.get(name) or _refusal(game.get_type())
    if refusal:
        raise SpiralError(f"OpenSpiel's {name} cannot be played here: {refusal}")
    turned = at_once and original.get_type().information != library.GameType.Information.IMPERFECT_INFORMATION
    return _loaded(name, params, game, turned)


def _loaded(name: str, params: str, game: Any, turned: bool) -> Loaded:
    kind = game.get_type()
    alone = turned and game.num_players() == 1  # no other player chooses, so nothing is hidden, though the type says so
    # The information state remembers all that a player saw and did, so it is preferred; with perfect information it is
    # a history of moves, and the observation is the position, which is shorter and shows all; or nearly all, and then
    # the history goes with it, since a text that does not determine the future is not perfect information.
    perfect = alone or kind.information == pyspiel().GameType.Information.PERFECT_INFORMATION
    if perfect or (turned and not kind.provides_information_state_string):
        sight = "observation" if kind.provides_observation_string else "information"
        if HISTORY_COUNTS.intersection(re.findall(r"\w+", str(game))):  # the game itself, or one inside it
            sight = "history"
    else:
        sight = "information" if kind.provides_information_state_string else "transcript"
    return Loaded(name, params, game, perfect, turned, sight)


def _typed(name: str, params: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """The parameters as OpenSpiel wants them: floats for floats, and games inside games parsed."""
    typed: dict[str, Any] = {}
    for key, value in params.items():
        if key not in defaults:
            near = difflib.get_close_matches(key, defaults, n=1)
            hint = f"did you mean '{near[0]}'? " if near else ""
            takes = ", ".join(sorted(defaults)) or "none"
            raise SpiralError(f"OpenSpiel's {name} has no parameter '{key}'; {hint}it takes: {takes}")
        default = defaults[key]
        if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if isinstance(default, dict) and isinstance(value, str):
            value = pyspiel().game_parameters_from_string(value)
        if default is not None and type(value) is not type(default):
            raise SpiralError(
                f"OpenSpiel's {name} got {key}={value!r}; it takes {type(default).__name__}, such as {default!r}"
            )
        typed[key] = value
    return typed


def _refusal(kind: Any) -> str | None:
    """Why a type of game cannot be played here; None if it can."""
    types = pyspiel().GameType
    if kind.short_name in BROKEN:
        return BROKEN[kind.short_name]
    if kind.dynamics == types.Dynamics.MEAN_FIELD:
        return "a mean-field game has a population in place of single players"
    if kind.default_loadable and kind.chance_mode == types.ChanceMode.SAMPLED_STOCHASTIC:
        return "it draws its chance from a generator of its own, so a seed of the run cannot repeat a match"
    if kind.short_name.endswith("_ir"):
        return f"its players forget what they saw; take {kind.short_name.removesuffix('_ir')}, the game with memory"
    if not kind.provides_information_state_string and not kind.provides_observation_string:
        return "it has no text for what a player sees"
    return None
