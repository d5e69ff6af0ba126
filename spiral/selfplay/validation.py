"""Checks the plug-ins and policies that a config names, all of them before anything heavy is made."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from copy import deepcopy
from pathlib import Path

from spiral.api.errors import ConfigError, SpiralError
from spiral.api.games import Game, IllegalMove
from spiral.api.policies import Bot, OpponentSampler, is_external, needs_pool, uses_members
from spiral.api.records import PolicyId
from spiral.api.training import min_group_size
from spiral.config.schema import Config
from spiral.plugins.kinds import named_in
from spiral.plugins.registry import Plugins, label
from spiral.policies.line_up import line_up
from spiral.policies.loading import PolicyLoader
from spiral.policies.pool import Pool
from spiral.policies.reference import PolicyRef, problem_with, trained_on_others
from spiral.selfplay.bot_faults import BotFault, choose, illegal_move
from spiral.selfplay.examples import read_examples
from spiral.selfplay.replay import check_examples
from spiral.selfplay.setup import (
    TrainingSetup,
    estimators,
    learner_shares,
    make_games,
    make_training_setup,
    sampler_names,
)


def check(config: Config, plugins: Plugins, problems: Sequence[str] = ()) -> None:
    """Raise ConfigError with `problems` and all that is wrong with the plug-ins a config names; makes no model."""
    if config.games and plugins.lacks("game"):  # spiral was installed bare: one sentence, not one a kind
        plugins.find("game", config.games[0].name)
    found = [*problems]
    found += [p for kind, plugin in named_in(config) if (p := plugins.problem(kind.name, plugin.name, plugin.args))]
    found += _unknown_policies(config, plugins)
    found += [f"text.paths: {path} does not exist" for path in config.text.paths if not Path(path).exists()]
    labels = Counter(label(game.name, game.args) for game in config.games)
    found += [f"games: {name} is listed {n} times; raise its weight instead" for name, n in labels.items() if n > 1]
    if not found:  # what is named wrongly cannot be made
        found += _unusable(config, plugins)
    if not found and config.examples.path:
        found += _unusable_examples(config, plugins)
    if found:
        raise ConfigError("\n".join(found))


TO_ANSWER = ("model", "engine", "learner", "prompt")
"""Kinds of plug-ins that a policy with weights needs to reply to anything."""


def check_to_play(config: Config, plugins: Plugins, needed: Collection[str] = ("game", *TO_ANSWER)) -> None:
    """Raise ConfigError with what is wrong with the plug-ins that a policy needs to play and not to learn."""
    named = [(kind, plugin) for kind, plugin in named_in(config) if kind.name in needed]
    if found := [p for kind, plugin in named if (p := plugins.problem(kind.name, plugin.name, plugin.args))]:
        raise ConfigError("\n".join(found))


def started_game(name: str, make: Callable[[], Game]) -> Game:
    """A match that has begun. Raises SpiralError for a game that fails as it is made or starts."""
    try:
        game = make()
        game.reset(random.Random(0))
        return game
    except SpiralError:
        raise
    except Exception as error:
        raise failed_to_start(name, error) from error


def failed_to_start(name: str, error: Exception) -> SpiralError:
    """The sentence for a game whose own code raised."""
    what = f"{type(error).__name__}: {error}"
    return SpiralError(f"game {name} failed as it was started ({what}); run: spiral check {name.partition('(')[0]}")


def try_bot(bot: Bot, game: Game) -> None:
    """Let a bot make its first move in a copy of a game that was started. Raises SpiralError if it refuses the game,
    BotFault if it breaks a promise.

    One that asks a person or another process is left alone: a call may cost money, or a person's time.
    """
    player, game = game.current_player(), deepcopy(game)
    if player is None or is_external(bot):
        return
    move = choose(bot, game, player, random.Random(0))
    try:
        game.play(move)
    except IllegalMove as reason:
        raise illegal_move(move, reason) from reason


def _unknown_policies(config: Config, plugins: Plugins) -> Iterator[str]:
    """Policies that a config names and that cannot be found, or play none of its games."""
    labels = [label(game.name, game.args) for game in config.games]
    for key, members in (("evaluate.opponents", config.evaluate.opponents), ("pool.members", config.pool.members)):
        for member in members:
            unknown = [game for game in member.games if game not in labels]
            # A run that is resumed needs its pool as it was; what it is measured against may be newer.
            problem = problem_with(member.policy, plugins, exact=key == "pool.members")
            if problem is None and not unknown:
                problem = trained_on_others(member.policy, member.games or labels)
            if problem is not None:
                yield f"{key}: {problem}"
            for game in unknown:
                yield f"{key}: {member.policy} plays {game}, which is none of the run's games: {', '.join(labels)}"


def _unusable(config: Config, plugins: Plugins) -> list[str]:
    """Problems that show when the light plug-ins are made once, and a line-up is asked for in each game."""
    try:
        setup = make_training_setup(config, plugins)
        pool = _pool_without_weights(config, plugins)
    except SpiralError as error:
        return [str(error)]
    samplers = setup.fallback.samplers if setup.fallback else (setup.opponents,)
    problems = [*_mismatched(config, setup, samplers)]
    for name, make in make_games(config, plugins).items():
        try:
            game = make()
            for sampler, called in zip(samplers, sampler_names(config), strict=True):
                _check_line_up(sampler, called, name, game.num_players, pool)
            game.reset(random.Random(0))
            for policy, bot in sorted(pool.bots().items()) if game.num_players > 1 else ():
                if _plays(config, policy, name):
                    try:
                        try_bot(bot, game)
                    except BotFault as fault:
                        problems.append(
                            f"game {name}: {policy} {fault}; mend that bot, which spiral check tests, name another, or "
                            "limit it to its own games with {policy: ..., games: [...]}"
                        )
        except SpiralError as error:
            problems.append(f"game {name}: {error}")
        except Exception as error:
            problems.append(str(failed_to_start(name, error)))
    return problems


def _unusable_examples(config: Config, plugins: Plugins) -> list[str]:
    try:
        path = Path(config.examples.path)
        check_examples(read_examples(path), make_games(config, plugins), str(path))
    except SpiralError as error:
        return [f"examples: {error}"]
    return []


def _plays(config: Config, policy: PolicyId, game: str) -> bool:
    """Whether a policy may be asked to play a game: unless the config names it for other games alone."""
    named = [
        m for m in (*config.pool.members, *config.evaluate.opponents) if PolicyRef.parse(m.policy).policy == policy
    ]
    return not named or any(not member.games or game in member.games for member in named)


def _mismatched(config: Config, setup: TrainingSetup, samplers: Sequence[OpponentSampler]) -> Iterator[str]:
    """Plug-ins that need what the rest of the config does not give them."""
    for name, sampler in zip(sampler_names(config), samplers, strict=True):
        if needs_pool(sampler) and not (config.pool.every or config.pool.members):
            yield (
                f"{name} needs a pool, and the pool is empty; set pool.every=50 to keep "
                "snapshots of the learner, or list opponents in pool.members"
            )
    if config.pool.members and not any(map(uses_members, samplers)):
        yield (
            f"pool.members lists {', '.join(member.policy for member in config.pool.members)}, whom "
            f"{' and '.join(sampler_names(config))} never seats; choose one that does, such as opponents=mixture, or "
            "leave the members out"
        )
    for estimator, named in zip(setup.advantages.values(), estimators(config).values(), strict=True):
        needed = min_group_size(estimator)
        if needed > config.rollout.group_size:
            yield (
                f"advantage {named.name} compares games of one deal: rollout.group_size is "
                f"{config.rollout.group_size}, and must be at least {needed}"
            )


def _check_line_up(sampler: OpponentSampler, name: str, game: str, num_players: int, pool: Pool) -> None:
    for learner in pool.learners:
        found = line_up(sampler, name, game, num_players, pool, random.Random(0), learner)
        if {*pool.learners}.isdisjoint(found):
            raise SpiralError(f"{name} gave a line-up without the learner; one player at least must be it")


def _pool_without_weights(config: Config, plugins: Plugins) -> Pool:
    """The pool as the run will have it, but with no weights: those are not loaded yet."""
    pool = Pool(plugins, learners=learner_shares(config))
    loader = PolicyLoader(config, plugins, pool)
    policies: Mapping[str, PolicyRef] = {
        member.policy: PolicyRef.parse(member.policy) for member in (*config.evaluate.opponents, *config.pool.members)
    }
    for ref in policies.values():
        if ref.has_weights:
            pool.add_weights(ref.policy)
        else:
            loader.load_ref(ref)
    for member in config.pool.members:
        pool.add_member(policies[member.policy].policy, member.games, member.policy)
    if config.pool.every:
        for learner in pool.learners:
            pool.add_snapshot(0, config.pool.size, config.pool.keep, learner)
    return pool
