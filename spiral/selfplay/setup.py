"""Makes what a config names: what plays, and the plug-ins that decide who plays what and what it was worth."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spiral.api.games import Game
from spiral.api.policies import OpponentSampler
from spiral.api.records import LEARNER, PolicyId, learner_id, learner_name
from spiral.api.training import AdvantageEstimator, GameSampler, RewardShaper, needs_joint_state, needs_other_prompts
from spiral.config.schema import Config, PluginConfig
from spiral.config.trained import config_of
from spiral.models import fingerprint
from spiral.plugins.registry import Plugins, label
from spiral.policies.completer import Completer
from spiral.policies.fallback import FallbackSampler
from spiral.policies.loading import MakeEngine, PolicyLoader, make_completer, make_model, model_of_checkpoint
from spiral.policies.pool import ONE_LEARNER, Pool
from spiral.runs.directory import run_of
from spiral.selfplay.match import TurnRecord
from spiral.selfplay.room import check_room_in_games

Games = dict[str, Callable[[], Game]]


@dataclass
class Players:
    """The games, and the policies that can play them."""

    games: Games
    pool: Pool
    loader: PolicyLoader
    max_turns: int
    """Turns of a game before it is cut."""


@dataclass
class PlaySetup(Players):
    """What plays: made for training and for every command that uses a policy with weights."""

    model: Any
    read_from: dict[str, str]
    """What the model was read from: path -> fingerprint."""
    tokenizer: Any
    completer: Completer
    """Asks the learner."""


@dataclass
class TrainingSetup:
    """The plug-ins that decide who plays what, and what it was worth."""

    curriculum: GameSampler
    opponents: OpponentSampler
    fallback: FallbackSampler | None
    """The opponent sampler itself, where a config names one to fall back on."""
    rewards: list[RewardShaper]
    advantages: dict[PolicyId, AdvantageEstimator]
    """One for each policy in training."""

    def stateful(self) -> dict[str, object]:
        """The plug-ins whose state a checkpoint may have to keep, by their place in the config."""
        named: dict[str, object] = {"curriculum": self.curriculum, "opponents": self.opponents}
        for policy, estimator in self.advantages.items():
            named[f"advantage.{learner_name(policy)}".removesuffix(".")] = estimator
        return named | {f"rewards.{index}": shaper for index, shaper in enumerate(self.rewards)}


def make_games(config: Config, plugins: Plugins) -> Games:
    """Label -> factory of each game of the mixture."""
    return {label(g.name, g.args): plugins.bound("game", g.name, g.args) for g in config.games}


def make_play_setup(
    config: Config, plugins: Plugins, checkpoint: Path | None = None, make_engine: MakeEngine | None = None
) -> PlaySetup:
    """Make the model, untrained or as its plug-in loads it, and everything around it.

    `checkpoint`: of the run whose own config this is, when its policy is opened to be used and not to be trained.
    `make_engine`: makes the engine from model and tokenizer, where it is not the one that the config names.
    Raises SpiralError for a game whose prompts or moves do not fit it (`check_room_in_games`).
    """
    import torch

    torch.set_num_threads(config.threads)
    read_from = fingerprint.read_from(config.model.args) if checkpoint is None else run_of(checkpoint).read_from()
    named = config.model if checkpoint is None else model_of_checkpoint(config.model, checkpoint, read_from, plugins)
    model, tokenizer = make_model(named, config, plugins)
    completer = make_completer(model, tokenizer, config, plugins, make_engine)
    shares = learner_shares(config) if checkpoint is None else ONE_LEARNER
    players = make_players(config, plugins, completer, shares, read_from)
    return PlaySetup(**vars(players), model=model, read_from=read_from, tokenizer=tokenizer, completer=completer)


def make_players(
    config: Config,
    plugins: Plugins,
    completer: Completer,
    shares: Mapping[PolicyId, float],
    read_from: Mapping[str, str] | None = None,
) -> Players:
    """The games of a config, and a pool whose policies with weights `completer` asks. `shares`: see `Pool`.
    `read_from`: see `PolicyLoader`. Raises SpiralError for a game whose prompts or moves do not fit it
    (`check_room_in_games`)."""
    games = make_games(config, plugins)
    check_room_in_games(games, completer, config.rollout.max_turns)
    pool = Pool(plugins, completer, shares)
    return Players(games, pool, PolicyLoader(config, plugins, pool, read_from), config.rollout.max_turns)


def make_training_setup(config: Config, plugins: Plugins) -> TrainingSetup:
    """Make the plug-ins that need no model."""
    weights = {label(g.name, g.args): g.weight for g in config.games}
    opponents = plugins.make("opponents", config.opponents.name, **config.opponents.args)
    fallback = None
    if named := config.health.fallback:
        second = plugins.make("opponents", named.name, **named.args)
        opponents = fallback = FallbackSampler(opponents, second, config.health.fallback_share, sampler_names(config))
    return TrainingSetup(
        plugins.make("curriculum", config.curriculum.name, weights, **config.curriculum.args),
        opponents,
        fallback,
        [plugins.make("reward", reward.name, **reward.args) for reward in config.rewards],
        {policy: plugins.make("advantage", own.name, **own.args) for policy, own in estimators(config).items()},
    )


def turn_record(config: Config, advantages: Mapping[PolicyId, AdvantageEstimator]) -> TurnRecord:
    """What the turns of the policies in training have to keep for their estimators and objectives."""
    configs = [config_of(config, learner_name(policy)).learner for policy in advantages]
    return TurnRecord(
        joint_state=any(map(needs_joint_state, advantages.values())),
        other_prompts=any(map(needs_other_prompts, advantages.values())),
        legal_moves=any(one.anchor > 0 and one.anchor_to == "legal" for one in configs),
        learners=frozenset(advantages),
    )


def learner_shares(config: Config) -> dict[PolicyId, float]:
    """The policies that a run trains, the main one first, and the share of the games that is played for each."""
    return {LEARNER: 1.0} | {learner_id(one.name): one.share for one in config.learners}


def estimators(config: Config) -> dict[PolicyId, PluginConfig]:
    """The estimator that each policy in training has, as the config names it."""
    return {policy: config_of(config, learner_name(policy)).advantage for policy in learner_shares(config)}


def curriculum_name(config: Config) -> str:
    """How errors call the curriculum."""
    return f"curriculum '{config.curriculum.name}'"


def sampler_names(config: Config) -> tuple[str, ...]:
    """How errors call the opponent sampler and, where there is one, its fallback."""
    named = [config.opponents, *([config.health.fallback] if config.health.fallback else [])]
    return tuple(f"opponent sampler '{plugin.name}'" for plugin in named)


def add_members(config: Config, setup: Players) -> None:
    """Load the members that a config names into the pool. Raises SpiralError for one that cannot be loaded."""
    for member in config.pool.members:
        policy = setup.loader.load(member.policy)
        setup.pool.add_member(policy, member.games, member.policy)
        check_room_of(policy, setup, member.games)


def load_opponents(config: Config, setup: PlaySetup) -> dict[str, list[PolicyId]]:
    """By game, the policies that `evaluate.opponents` names for it; none in a game for one player.

    Raises SpiralError for one that cannot be loaded.
    """
    found: dict[str, list[PolicyId]] = {name: [] for name in setup.games}
    for opponent in config.evaluate.opponents:
        policy = setup.loader.load(opponent.policy)
        check_room_of(policy, setup, opponent.games)
        for name in found:
            if setup.games[name]().num_players > 1 and (not opponent.games or name in opponent.games):
                found[name].append(policy)
    return found


def check_room_of(policy: PolicyId, setup: Players, games: Collection[str] = ()) -> None:
    """`check_room_in_games` of a loaded policy with weights, in `games`; empty for all."""
    if setup.pool.bot_of(policy) is None:
        chosen = {name: make for name, make in setup.games.items() if not games or name in games}
        check_room_in_games(chosen, setup.pool.completer_of(policy), setup.max_turns, policy)
