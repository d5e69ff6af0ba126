"""Who enters a tournament, and at which game: finds every mistake in the words before a model is loaded.

Knows how players and games are written, not how a tournament is played.
"""

from __future__ import annotations

import functools
import random
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from spiral.api.errors import SpiralError
from spiral.api.games import Game
from spiral.api.records import PolicyId
from spiral.config.loading import load, parse_plugin
from spiral.config.schema import Config, PluginConfig
from spiral.plugins.registry import Plugins, label
from spiral.policies.loading import MODEL, RUN, Guests, fault
from spiral.policies.pool import Pool
from spiral.runs import checkpoints as checkpoint
from spiral.runs.directory import RunDir


@dataclass(frozen=True)
class Entrant:
    """Somebody who wants to play."""

    name: str
    """What tables call it: a bot or model as it was written, a run with its step."""
    text: str
    """What `Guests.invite` takes."""
    config: Config | None
    """Of a run."""
    step: int | None
    """Of a run's checkpoint."""

    @property
    def kind(self) -> str:
        return "run" if self.config else "model" if self.text.startswith(MODEL) else "bot"


@dataclass(frozen=True)
class Field:
    """All who play one game, ready at the table."""

    game: str
    make: Callable[[], Game]
    num_chairs: int
    entrants: list[Entrant]
    policies: list[PolicyId]
    pool: Pool
    config: Config
    """The first run's, whose rules of the table hold; the default one without a run."""


def entrants(words: Sequence[str], plugins: Plugins) -> list[Entrant]:
    """The players that a command line names. Raises SpiralError with every fault, a sentence each."""
    if len(words) < 2:
        raise SpiralError(
            f"a tournament needs two players or more, and {words[0] + ' is alone' if words else 'none is named'}; give "
            "run directories (runs/a or runs/a@300), bots, or model:PATH"
        )
    faults = [reason for word in words if (reason := _fault(word, plugins))]
    if faults:
        raise SpiralError("\n".join(faults))
    found = [_entrant(word) for word in words]
    twice = [text for text, times in Counter(_canonical(one.text) for one in found).items() if times > 1]
    if twice:
        raise SpiralError(f"{twice[0].removeprefix(RUN)} is named twice; name every player once")
    return found


def game_of(text: str | None, found: Sequence[Entrant], plugins: Plugins) -> PluginConfig:
    """The game that is asked for, or the only one of the first run. Raises SpiralError."""
    if text is None:
        first = next((one for one in found if one.config), None)
        if first is None or first.config is None:
            raise SpiralError("no game is named, and no run among the players tells which; give --game")
        if len(first.config.games) != 1:
            games = ", ".join(label(game.name, game.args) for game in first.config.games)
            raise SpiralError(f"no game is named, and {first.name} was trained on several: {games}; give --game")
        return first.config.games[0]
    written = re.fullmatch(r"([^(:]+)\((.*)\)", text)
    game = parse_plugin(f"{written[1]}:{written[2]}" if written else text)
    if reason := plugins.fault("game", game.name, game.args):
        raise SpiralError(reason)
    return game


def field(found: Sequence[Entrant], game: PluginConfig, plugins: Plugins) -> Field:
    """Bring everybody to the table. Raises SpiralError for a game or player that cannot be had, bots before models."""
    configs = [one.config for one in found if one.config]
    name = label(game.name, game.args)
    make = functools.partial(plugins.find("game", game.name).factory, **game.args)
    started = _started(name, make)
    pool = Pool(plugins)
    config = configs[0] if configs else load()
    guests = Guests(config, plugins, pool, None)
    policies: dict[str, PolicyId] = {}
    for one in sorted(found, key=lambda one: one.kind != "bot"):
        if one.kind != "bot":
            _set_threads(config)
        policies[one.name] = guests.invite(one.text)
        if one.kind == "bot":
            _check_bot(one.name, started, pool, policies[one.name])
    return Field(name, make, started.num_players, list(found), [policies[one.name] for one in found], pool, config)


def number_of(name: str, found: Sequence[Entrant]) -> int:
    """The place of a player by its name, or as it was written without the step. Raises SpiralError if it is none."""
    exact = [number for number, one in enumerate(found) if name in (one.name, one.text)]
    of_run = [number for number, one in enumerate(found) if one.config and name == one.name.rpartition("@")[0]]
    for numbers in (exact, of_run):
        if len(numbers) == 1:
            return numbers[0]
    raise SpiralError(f"no one player is called {name}; the players are: {', '.join(one.name for one in found)}")


def untrained(name: str, found: Sequence[Entrant]) -> str | None:
    """A sentence if none of the runs was trained on the game."""
    trained = {one.name: [label(g.name, g.args) for g in one.config.games] for one in found if one.config}
    if not trained or any(name in games for games in trained.values()):
        return None
    said = "; ".join(f"{run} on {', '.join(games)}" for run, games in trained.items())
    return f"No run here was trained on {name}: {said}."


def _is_run(word: str) -> bool:
    directory = word.rpartition("@")[0]
    return any((Path(path) / "config.yaml").is_file() for path in (word, directory) if path)


def _text(word: str) -> str:
    return RUN + word if not word.startswith((RUN, MODEL)) and _is_run(word) else word


def _fault(word: str, plugins: Plugins) -> str | None:
    text = _text(word)
    reason = fault(text, plugins, exact=False)
    if reason is None or text.startswith((RUN, MODEL)):
        return reason
    path = Path(word.rpartition("@")[0] or word)
    if path.is_dir():
        return f"{word} is no run: {path} has no config.yaml; give the directory that `spiral train` wrote"
    return f"{word} is neither a run directory nor a bot: {reason}"


def _entrant(word: str) -> Entrant:
    text = _text(word)
    if not text.startswith(RUN):
        return Entrant(word, text, None, None)
    path = text.removeprefix(RUN)
    directory, _, step = path.rpartition("@")
    if not step.isdigit() or not (Path(directory) / "config.yaml").is_file():
        directory, step = path, str(checkpoint.step_of(checkpoint.latest(Path(path))))
    name = f"{Path(directory)}@{step}"
    return Entrant(name, RUN + name, RunDir.open(Path(directory))[1], int(step))


def _canonical(text: str) -> str:
    if text.startswith((RUN, MODEL)):
        return text
    bot = parse_plugin(text)
    return label(bot.name, bot.args)


def _started(name: str, make: Callable[[], Game]) -> Game:
    try:
        game = make()
        game.reset(random.Random(0))
    except SpiralError:
        raise
    except Exception as error:
        raise SpiralError(
            f"game {name} failed as it was started ({type(error).__name__}: {error}); run: spiral check {name}"
        ) from error
    return game


def _check_bot(name: str, game: Game, pool: Pool, policy: PolicyId) -> None:
    """Raise SpiralError if the bot cannot play; one that asks somebody outside is left alone: a call may cost money."""
    bot, player = pool.bots[policy], game.current_player()
    if player is None or getattr(bot, "external", False):
        return
    try:
        bot.choose(game, player, random.Random(0))
    except SpiralError as error:
        raise SpiralError(f"{name} cannot take part: {error}") from error


def _set_threads(config: Config) -> None:
    import torch

    torch.set_num_threads(config.threads)
