"""Config -> the parts of a run: checks every name and argument before anything heavy is made, then makes them."""

from __future__ import annotations

import functools
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from spiral.api.errors import ConfigError, SpiralError
from spiral.api.games import Game
from spiral.api.policies import Bot, OpponentSampler
from spiral.api.training import AdvantageEstimator, Engine, GameSampler, RewardShaper
from spiral.api.records import LEARNER, Sampling
from spiral.config.schema import Config, PluginConfig
from spiral.models.prompts import Prompter
from spiral.plugins.registry import Plugins, label
from spiral.policies.fallback import Widened
from spiral.policies.loading import MODEL, RUN, Guests, fault
from spiral.policies.pool import Pool, Voice
from spiral.seeds import derive

Games = dict[str, Callable[[], Game]]


@dataclass
class Players:
    """What plays: made for training and for every command that uses a checkpoint."""

    games: Games
    model: Any
    tokenizer: Any
    engine: Engine
    prompter: Prompter
    pool: Pool
    guests: Guests


@dataclass
class Trainers:
    """What decides who plays what, and what it was worth."""

    curriculum: GameSampler
    opponents: OpponentSampler
    rewards: list[RewardShaper]
    advantage: AdvantageEstimator

    def stateful(self) -> dict[str, object]:
        """The plug-ins whose state a checkpoint may have to keep, by their place in the config."""
        named: dict[str, object] = {
            "curriculum": self.curriculum,
            "opponents": self.opponents,
            "advantage": self.advantage,
        }
        return named | {f"rewards.{index}": shaper for index, shaper in enumerate(self.rewards)}


def check(config: Config, plugins: Plugins, faults: Sequence[str] = ()) -> None:
    """Raise ConfigError with `faults` and all that is wrong with the plug-ins a config names; makes no model."""
    found = [*faults]
    found += [fault for kind, plugin in _named(config) if (fault := plugins.fault(kind, plugin.name, plugin.args))]
    labels = Counter(label(game.name, game.args) for game in config.games)
    found += _misnamed(config, plugins)
    found += [f"games: {name} is listed {n} times; raise its weight instead" for name, n in labels.items() if n > 1]
    if not found:
        found += _makeable(config, plugins)
    if found:
        raise ConfigError("\n".join(found))


def games(config: Config, plugins: Plugins) -> Games:
    """Label -> factory of each game of the mixture."""
    return {
        label(g.name, g.args): functools.partial(plugins.find("game", g.name).factory, **g.args) for g in config.games
    }


def players(config: Config, plugins: Plugins) -> Players:
    """Make the model, untrained or as its plug-in loads it, and everything around it."""
    import torch
    from accelerate import PartialState

    torch.set_num_threads(config.threads)
    torch.manual_seed(derive(config.seed, "model"))
    model, tokenizer = plugins.make("model", config.model.name, **config.model.args)
    model.to(PartialState().device).eval()
    engine = plugins.make("engine", config.engine.name, model, tokenizer, **config.engine.args)
    prompter = Prompter(plugins.make("prompt", config.prompt.name, tokenizer, **config.prompt.args))
    pool = Pool(plugins)
    home = Voice(engine, prompter, Sampling(config.rollout.max_new_tokens, prompter.stop_ids))
    guests = Guests(config, plugins, pool, home)
    return Players(games(config, plugins), model, tokenizer, engine, prompter, pool, guests)


def trainers(config: Config, plugins: Plugins) -> Trainers:
    """Make the plug-ins that need no model."""
    weights = {label(g.name, g.args): g.weight for g in config.games}
    opponents = plugins.make("opponents", config.opponents.name, **config.opponents.args)
    if wider := config.health.widen:
        opponents = Widened(opponents, plugins.make("opponents", wider.name, **wider.args), config.health.share)
    return Trainers(
        plugins.make("curriculum", config.curriculum.name, weights, **config.curriculum.args),
        opponents,
        [plugins.make("reward", reward.name, **reward.args) for reward in config.rewards],
        plugins.make("advantage", config.advantage.name, **config.advantage.args),
    )


def admit_members(config: Config, guests: Guests, pool: Pool) -> None:
    """Bring the members that a config names to its pool. Raises SpiralError for one that cannot come."""
    for member in config.pool.members:
        pool.admit(guests.invite(member.policy), member.games, member.policy)


def _named(config: Config) -> Iterator[tuple[str, PluginConfig]]:
    yield from (("game", game) for game in config.games)
    yield "curriculum", config.curriculum
    yield "opponents", config.opponents
    yield from [("opponents", config.health.widen)] if config.health.widen else []
    yield from (("reward", reward) for reward in config.rewards)
    yield "advantage", config.advantage
    yield "model", config.model
    yield "engine", config.engine
    yield "prompt", config.prompt
    yield from (("logger", logger) for logger in config.loggers)


def _misnamed(config: Config, plugins: Plugins) -> Iterator[str]:
    """Policies that a config names and nobody knows."""
    for text in config.evaluate.opponents:
        if reason := fault(text, plugins, exact=False):
            yield f"evaluate.opponents: {reason}"
    labels = {label(game.name, game.args) for game in config.games}
    for member in config.pool.members:
        if reason := fault(member.policy, plugins, exact=True):
            yield f"pool.members: {reason}"
        for game in set(member.games) - labels:
            yield f"pool.members: {member.policy} plays {game}, which is none of the run's games: {', '.join(labels)}"


def _makeable(config: Config, plugins: Plugins) -> list[str]:
    """Faults that show when the light plug-ins are made once and a table is seated."""
    faults = []
    pool = Pool(plugins)
    try:
        made = trainers(config, plugins)
        _seat_everybody(config, plugins, pool)
        samplers = made.opponents.samplers if isinstance(made.opponents, Widened) else (made.opponents,)
        named = [config.opponents, *([config.health.widen] if config.health.widen else [])]
        idle = [p.name for p, s in zip(named, samplers, strict=True) if getattr(s, "needs_pool", False)]
        if idle and not (config.pool.every or config.pool.members):
            faults.append(
                f"opponents {idle[0]} has nobody to choose from: set pool.every=50 to have snapshots of "
                "the learner, or name somebody in pool.members"
            )
        needed = int(getattr(made.advantage, "min_games_per_deal", 1))
        if needed > config.rollout.games_per_deal:
            faults.append(
                f"advantage {config.advantage.name} compares games of one deal: rollout.games_per_deal is "
                f"{config.rollout.games_per_deal}, and must be at least {needed}"
            )
    except SpiralError as error:
        return [str(error)]
    for name, make in games(config, plugins).items():
        try:
            game = make()
            for sampler in samplers:
                _check_seats(sampler, name, game.num_players, pool)
            playing = {*pool.bots} - {policy for policy, games in pool.restricted.items() if name not in games}
            _check_bots(game, [pool.bots[policy] for policy in sorted(playing)])
        except SpiralError as error:
            faults.append(f"game {name}: {error}")
        except Exception as error:
            what = f"{type(error).__name__}: {error}"
            faults.append(f"game {name} failed as it was started ({what}); run: spiral check {name}")
    return faults


def _check_seats(opponents: OpponentSampler, name: str, num_players: int, pool: Pool) -> None:
    if LEARNER not in opponents.seat(name, num_players, pool, random.Random(0)):
        raise SpiralError("the opponent sampler seated nobody to train; at least one chair must be the learner's")


def _check_bots(game: Game, bots: Sequence[Bot]) -> None:
    """Raise SpiralError if one of the bots cannot play this game: better now than at the first evaluation.

    One that asks somebody outside is left alone: a call may cost money, or a person's time.
    """
    rng = random.Random(0)
    game.reset(rng)
    player = game.current_player()
    for bot in bots:
        if player is not None and not getattr(bot, "external", False):
            bot.choose(game, player, rng)


def _seat_everybody(config: Config, plugins: Plugins, pool: Pool) -> None:
    """All that the config names as the pool will hold them, but with no weights: those are not loaded yet."""
    guests = Guests(config, plugins, pool, None)
    for text in (*config.evaluate.opponents, *(member.policy for member in config.pool.members)):
        if text.startswith((RUN, MODEL)):
            pool.weighted.add(text)
        else:
            guests.invite(text)
    for member in config.pool.members:
        weighted = member.policy.startswith((RUN, MODEL))
        policy = member.policy if weighted else guests.invite(member.policy)
        pool.admit(policy, member.games, member.policy)
    if config.pool.every:
        pool.add_snapshot(0, config.pool.size, config.pool.keep)
