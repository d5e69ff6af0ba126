"""Opens an arena: its games, the players of the house, its database and the processes in which games are played."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from spiral.api.errors import SpiralError
from spiral.api.policies import Bot, is_external
from spiral.arena.database import MAX_NAME, Database
from spiral.arena.game_names import NamedGame, named_games
from spiral.arena.game_process import GameHost
from spiral.arena.game_worker import installed
from spiral.arena.house import BotChooser, Chooser, HousePlayer, PolicyChooser
from spiral.arena.lobby import TRIAL_SEED, GameInfo, Lobby
from spiral.arena.skills import with_skills
from spiral.arena.store import Store
from spiral.config.loading import parse_plugin
from spiral.plugins.registry import Plugins, label
from spiral.policies.reference import PolicyRef, short_name
from spiral.selfplay.bot_faults import BotFault, choose
from spiral.selfplay.time_limit import limited

TRIAL_S = 2.0
"""What a bot of the house may take for a first move: a search that is too large for a game is not waited for."""
TELL_S = 5.0
"""Between two words on how far it is."""


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
    """`games`: as `named_games` takes them, none for all that are of no family and need no argument. `house`: policies
    as elsewhere, or none for all bots that need no argument. `tell`: is told what is being done. `skills`: a file that
    says which skills games ask for, in place of what they declare. Raises SpiralError for what is not there, and where
    nothing is left to be played."""
    plugins = Plugins.installed()
    asked = named_games(plugins, games)
    with contextlib.ExitStack() as closing:
        database = Database(url, serves=True)
        closing.callback(database.close)
        store = Store(database, replaced=_end)
        closing.callback(store.close)
        host = GameHost(installed([one.game for one in asked]), num_processes)
        closing.callback(host.close)
        infos = _infos(host, asked, tell)
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
        choosers = _choosers(ref, plugins, infos, host, tell)
        if not choosers:
            if house:
                raise SpiralError(f"{ref} plays none of {', '.join(i.name for i in infos)}; name one of its games")
            continue
        player = store.house_player(short_name(ref.policy))
        for name, chooser in choosers.items():
            found.setdefault(name, []).append(HousePlayer(player, chooser))
        told.append(f"{player.name} ({len(choosers)})")
    return found, told


def _bots(plugins: Plugins) -> list[PolicyRef]:
    """Those that can be made by their names alone."""
    named = [r for r in plugins.registrations() if r.kind == "bot" and not r.members and not is_external(r.factory)]
    return [PolicyRef("bot", r.name) for r in named if plugins.problem("bot", r.name, {}) is None]


def _infos(host: GameHost, asked: Sequence[NamedGame], tell: Callable[[str], None]) -> list[GameInfo]:
    """The games as the arena shows them. One that is unfit is left out where a pattern found it, and told."""
    found: list[GameInfo] = []
    unfit: list[str] = []
    for one in asked:
        name = label(one.game.name, one.game.args)
        if len(name) > MAX_NAME:
            raise SpiralError(
                f"{name[:80]}… has a label of {len(name)} characters, and {MAX_NAME} are kept; give it fewer"
            )
        try:
            info = GameInfo.of(host, name, "; leave it out of --games")
            if info.num_players < 2:
                raise SpiralError(f"{name} is for one player, and the arena pairs players; leave it out of --games")
        except SpiralError:
            if not one.pattern:
                raise
            unfit.append(name)
        else:
            found.append(info)
    if unfit:
        some = ", ".join(unfit[:3]) + (", ..." if len(unfit) > 3 else "")
        tell(f"left out {len(unfit)} that are for one player or cannot be started: {some}")
    if not found:
        raise SpiralError("no game of two or more players is left; name others by --games")
    return found


def _choosers(
    ref: PolicyRef, plugins: Plugins, games: Sequence[GameInfo], host: GameHost, tell: Callable[[str], None]
) -> dict[str, Chooser]:
    """What decides for a policy in each of the arena's games that it plays."""
    names = [game.name for game in games]
    if not ref.has_weights:
        return _bots_by_game(ref, plugins, names, host, tell)
    from spiral.evaluation.loaded_policy import LoadedPolicy  # which loads torch
    from spiral.training.session import configure

    if ref.kind == "run":
        loaded = LoadedPolicy.of_ref(ref)
        plays = [name for name in names if name in loaded.players.games]
        return dict.fromkeys(plays, PolicyChooser(loaded.setup.completer, loaded.policy))
    named = [parse_plugin(name) for name in names]
    asked = configure({"model": str(ref.path)}, games=[{"name": one.name, "args": one.args} for one in named])
    loaded = LoadedPolicy.of_model(ref.path, asked)
    return dict.fromkeys(names, PolicyChooser(loaded.setup.completer, loaded.policy))


def _bots_by_game(
    ref: PolicyRef, plugins: Plugins, games: Sequence[str], host: GameHost, tell: Callable[[str], None]
) -> dict[str, Chooser]:
    bot = plugins.make("bot", ref.name, **ref.args)
    if is_external(bot):  # one for all games: what it may ask for at once, or in all, is counted in it
        return dict.fromkeys(games, BotChooser(bot, ref.name))
    # One a game: a bot that remembers what it solved may be full of another game, and refuse this one.
    found: dict[str, Chooser] = {}
    told = time.monotonic()
    for number, game in enumerate(games):
        if time.monotonic() - told > TELL_S:
            tell(f"opening {ref.name}: {number} of {len(games)} games tried")
            told = time.monotonic()
        bot = plugins.make("bot", ref.name, **ref.args)
        if _plays(bot, host, game):
            found[game] = BotChooser(bot, ref.name)
    return found


def _plays(bot: Bot, host: GameHost, game: str) -> bool:
    """Whether a bot makes a first move within `TRIAL_S`."""
    host.open(0, game, TRIAL_SEED)
    copied = host.copy(0)
    host.close_match(0)
    player = copied.current_player()
    try:
        with limited(TRIAL_S):
            choose(bot, copied, player or 0, random.Random(TRIAL_SEED))
    except (SpiralError, BotFault, TimeoutError):  # the last where its time ended behind its answer
        return False
    return True
