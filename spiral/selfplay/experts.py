"""Makes a collection from the words of a command line: every mistake in them is found before a model is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from spiral.api.errors import ConfigError, SpiralError
from spiral.api.games import Game
from spiral.api.progress import Phase, Progress, no_progress
from spiral.api.records import PolicyId
from spiral.config.loading import load, parse_plugin
from spiral.config.schema import Config, PluginConfig
from spiral.plugins.pretrained import find_model
from spiral.plugins.registry import Plugins, label
from spiral.policies.identity import content_of
from spiral.policies.loading import PolicyLoader, open_run
from spiral.policies.pool import Pool
from spiral.policies.reference import PolicyRef
from spiral.selfplay.bot_faults import BotFault
from spiral.selfplay.collection import Collection, Keep, Request, line_ups
from spiral.selfplay.setup import Players, check_room_of
from spiral.selfplay.validation import started_game, try_bot


@dataclass(frozen=True)
class Asked:
    """The words of a collection."""

    policies: Sequence[str]
    opponents: Sequence[str] = ()
    games: Sequence[str] = ()
    """NAME or NAME:key=value; empty for those of the first run among the policies."""
    keep: Keep = "wins"
    num: int = 1000
    seed: int = 0


def make_collection(asked: Asked, path: Path, plugins: Plugins, progress: Progress = no_progress) -> Collection:
    """Load who plays. Raises SpiralError for a word that names nothing, and for a policy that cannot play a game."""
    refs = _found([*asked.policies, *asked.opponents], plugins)
    configs = [open_run(ref.path)[1] for ref in refs if ref.kind == "run"]
    chosen = _games(asked.games, configs, plugins)
    games = {label(game.name, game.args): plugins.bound("game", game.name, game.args) for game in chosen}
    started = {name: started_game(name, make) for name, make in games.items()}
    models = [{"model": str(ref.path)} for ref in refs if ref.kind == "model"]
    config = configs[0] if configs else load(overrides=models[:1], find_model=find_model(plugins))
    pool = Pool(plugins)
    pool.keep_in(path.with_name(f"{path.name}.bots"))
    loader = PolicyLoader(config, plugins, pool)
    players = Players(games, pool, loader, config.rollout.max_turns)
    policies: dict[str, PolicyId] = {}
    for ref in sorted(refs, key=lambda ref: ref.kind != "bot"):  # bots first: a mistake shows before a model loads
        progress(Phase(f"loading {ref}"))
        policies[str(ref)] = _loaded(ref, players, config, started)
    num = len(asked.policies)
    of_request = Request(
        [str(ref) for ref in refs[:num]], [str(ref) for ref in refs[num:]], list(games), asked.keep, asked.num,
        asked.seed, content_of(refs),
    )  # fmt: skip
    seats = {name: game.num_players for name, game in started.items()}
    loaded = [policies[str(ref)] for ref in refs]
    who = line_ups(seats, loaded[:num], loaded[num:])
    return Collection(of_request, who, games, pool, config.rollout, path, progress)


def _found(words: Sequence[str], plugins: Plugins) -> list[PolicyRef]:
    found, problems = [], []
    for word in words:
        try:
            found.append(PolicyRef.found(word, plugins).resolved())
        except SpiralError as error:
            problems.append(str(error))
    if problems:
        raise SpiralError("\n".join(problems))
    return found


def _games(words: Sequence[str], configs: Sequence[Config], plugins: Plugins) -> list[PluginConfig]:
    if not words:
        known = [config.games for config in configs if config.games]
        if not known:
            raise SpiralError("no game is named, and no run among the policies tells which; give --games")
        return [PluginConfig(game.name, game.args) for game in known[0]]
    games = [parse_plugin(word) for word in words]
    if problems := [p for game in games if (p := plugins.problem("game", game.name, game.args))]:
        raise ConfigError("\n".join(problems))
    return games


def _loaded(ref: PolicyRef, players: Players, config: Config, started: dict[str, Game]) -> PolicyId:
    if ref.has_weights:
        import torch

        torch.set_num_threads(config.threads)
    policy = players.loader.load_ref(ref)
    bot = players.pool.bot_of(policy)
    if bot is None:
        check_room_of(policy, players)
        return policy
    for name, game in started.items():
        try:
            try_bot(bot, game)
        except BotFault as fault:
            raise SpiralError(f"{ref} cannot play {name}: it {fault}; mend that bot, or name another") from fault
        except SpiralError as error:
            raise SpiralError(f"{ref} cannot play {name}: {error}") from error
    return policy
