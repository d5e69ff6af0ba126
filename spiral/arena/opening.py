"""Opens an arena: its games, the players of the house, its database and the processes in which games are played."""

from __future__ import annotations

import contextlib
import os
import random
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from spiral.api.errors import SpiralError
from spiral.api.policies import is_external
from spiral.arena.database import MAX_NAME, Database
from spiral.arena.game_process import GameHost
from spiral.arena.game_worker import installed
from spiral.arena.house import BotChooser, Chooser, HousePlayer, PolicyChooser
from spiral.arena.lobby import TRIAL_SEED, GameInfo, Lobby
from spiral.arena.skills import with_skills
from spiral.arena.store import Store
from spiral.config.loading import parse_plugin
from spiral.config.schema import PluginConfig
from spiral.plugins.registry import Plugins, label
from spiral.policies.reference import PolicyRef, short_name
from spiral.selfplay.bot_faults import BotFault, choose


@dataclass
class OpenArena:
    """An arena that is ready to be served."""

    lobby: Lobby
    house: list[str]
    """Its players, with the number of games that each plays."""
    _closing: contextlib.ExitStack

    def close(self) -> None:
        """End the processes, keep what is being written, and close the database."""
        self._closing.close()


def open_arena(
    games: Sequence[str],
    house: Sequence[str],
    url: str,
    clock_s: float,
    num_processes: int,
    tell: Callable[[str], None],
    skills: Path | None = None,
) -> OpenArena:
    """`games`: NAME or NAME:key=value, or none for all games of two or more players that need no argument. `house`:
    policies as elsewhere, or none for all bots that need no argument. `tell`: is told what is being done. `skills`: a
    file that says which skills games ask for, in place of what they declare. Raises SpiralError for what is not there,
    and where nothing is left to be played."""
    plugins = Plugins.installed()
    asked = [parse_plugin(text) for text in games] or _plain(plugins, "game")
    for game in asked:
        if (problem := plugins.problem("game", game.name, game.args)) is not None:
            raise SpiralError(problem)
    with contextlib.ExitStack() as closing:
        database = Database(url, serves=True)
        closing.callback(database.close)
        store = Store(database, replaced=_end)
        closing.callback(store.close)
        host = GameHost(installed(asked), num_processes)
        closing.callback(host.close)
        infos = [info for game in asked if (info := _info(host, game, bool(games))) is not None]
        infos = infos if skills is None else with_skills(skills, infos)
        found, told = _house(house, plugins, infos, host, store, tell)
        return OpenArena(Lobby(store, host, infos, found, clock_s), told, closing.pop_all())


def _end() -> None:
    """Ask this process to end, as its administrator would."""
    os.kill(os.getpid(), signal.SIGTERM)


def _house(
    house: Sequence[str],
    plugins: Plugins,
    infos: Sequence[GameInfo],
    host: GameHost,
    store: Store,
    tell: Callable[[str], None],
) -> tuple[dict[str, list[HousePlayer]], list[str]]:
    """The players of the house by game, and a word on each."""
    found, told = dict[str, list[HousePlayer]](), []
    for ref in [PolicyRef.found(word, plugins) for word in house] or _bots(plugins):
        tell(f"opening {short_name(ref.policy)}")
        chooser, plays = _chooser(ref, plugins, infos, host)
        if not plays:
            if house:
                raise SpiralError(f"{ref} plays none of {', '.join(i.name for i in infos)}; name one of its games")
            continue
        player = HousePlayer(store.house_player(short_name(ref.policy)), chooser)
        for name in plays:
            found.setdefault(name, []).append(player)
        told.append(f"{player.player.name} ({len(plays)})")
    return found, told


def _plain(plugins: Plugins, kind: str) -> list[PluginConfig]:
    """What of a kind can be made by its name alone."""
    named = [r for r in plugins.registrations() if r.kind == kind and not r.members and not is_external(r.factory)]
    return [PluginConfig(r.name) for r in named if plugins.problem(kind, r.name, {}) is None]


def _bots(plugins: Plugins) -> list[PolicyRef]:
    return [PolicyRef("bot", one.name) for one in _plain(plugins, "bot")]


def _info(host: GameHost, game: PluginConfig, is_asked: bool) -> GameInfo | None:
    """A game as the arena shows it; None for one that was not asked for and is for one player."""
    name = label(game.name, game.args)
    if len(name) > MAX_NAME:
        raise SpiralError(f"{name[:80]}… has a label of {len(name)} characters, and {MAX_NAME} are kept; give it fewer")
    info = GameInfo.of(host, name, "; leave it out of --games")
    if info.num_players > 1:
        return info
    if is_asked:
        raise SpiralError(f"{info.name} is a game for one player, and the arena pairs players; leave it out of --games")
    return None


def _chooser(ref: PolicyRef, plugins: Plugins, games: Sequence[GameInfo], host: GameHost) -> tuple[Chooser, list[str]]:
    """What decides for a policy, and the games of the arena that it plays."""
    if not ref.has_weights:
        bot = plugins.make("bot", ref.name, **ref.args)
        plays = [game.name for game in games if is_external(bot) or _plays(bot, host, game.name)]
        return BotChooser(bot, ref.name), plays
    from spiral.evaluation.loaded_policy import LoadedPolicy  # which loads torch
    from spiral.training.session import configure

    if ref.kind == "run":
        loaded = LoadedPolicy.of_run(ref.path, ref.step)
        plays = [game.name for game in games if game.name in loaded.players.games]
        return PolicyChooser(loaded.setup.completer, loaded.policy), plays
    named = [parse_plugin(game.name) for game in games]
    asked = configure({"model": str(ref.path)}, games=[{"name": one.name, "args": one.args} for one in named])
    loaded = LoadedPolicy.of_model(ref.path, asked)
    return PolicyChooser(loaded.setup.completer, loaded.policy), [game.name for game in games]


def _plays(bot: object, host: GameHost, game: str) -> bool:
    """Whether a bot makes a first move."""
    host.open(0, game, TRIAL_SEED)
    copied = host.copy(0)
    host.close_match(0)
    player = copied.current_player()
    try:
        choose(bot, copied, player or 0, random.Random(TRIAL_SEED))  # type: ignore[arg-type]
    except (SpiralError, BotFault):
        return False
    return True
