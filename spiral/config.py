"""The schema of a run and how it is read; the only file that touches OmegaConf.

Layers, each over the one before: `defaults.yaml` (the demo), the user's file, `key=value` overrides. Every fault of
every layer is reported at once, before a plug-in is made or a model loads.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from omegaconf import OmegaConf, flag_override
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from spiral.errors import ConfigError

DEFAULTS = Path(__file__).with_name("defaults.yaml")
"""The one file of the core that names first-party plug-ins: the demo that `spiral train` runs by itself."""

SINGLE = ("curriculum", "opponents", "advantage", "model", "engine", "prompt")
SEVERAL = ("games", "rewards", "loggers")


@dataclass(frozen=True)
class PluginConfig:
    """A plug-in by name; `advantage=rae` is short for `advantage={name: rae}`."""

    name: str
    """The registered name; `spiral plugins` lists them."""
    args: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of its factory."""

    @classmethod
    def parse(cls, text: str) -> PluginConfig:
        """`name` or `name:key=value,key=value`, as the command line writes a bot."""
        name, _, rest = text.partition(":")
        args = OmegaConf.from_dotlist([part for part in rest.split(",") if part])
        return cls(name, {str(key): value for key, value in args.items()})


@dataclass(frozen=True)
class GameConfig(PluginConfig):
    """A game of the mixture."""

    weight: float = 1.0
    """How often it is played, relative to the others."""


@dataclass(frozen=True)
class RolloutConfig:
    """How games are played."""

    games: int = 512
    """Finished games a step trains on."""
    games_per_deal: int = 1
    """Games that start from the same deal; group estimators need at least 2."""
    concurrent: int = 1024
    """Games in play at once, at most."""
    max_new_tokens: int = 16
    """The longest reply."""
    max_turns: int = 200
    """A game with more turns is voided as one that never ends."""
    max_voided: int = 16
    """Voided games that a step replaces before the run stops and says why."""
    illegal: Literal["forfeit", "penalty"] = "forfeit"
    """What an illegal move costs: `forfeit`, the game's worst return, the others share the opposite; or `penalty`."""
    penalty: tuple[float, float] = (-1.5, 0.5)
    """With `illegal: penalty`, the returns of the offender and of each other player (SPIRAL's numbers)."""
    retries: int = 0
    """Illegal replies of a turn that are asked again before the move counts as illegal."""
    deadline_s: float = 600.0
    """Longest wait for an engine that finishes no reply, before the run stops and says so."""


@dataclass(frozen=True)
class LearnerConfig:
    """One update: objective, regularisers and optimiser (AdamW)."""

    lr: float = 1e-3
    """Peak learning rate."""
    lr_end: float = 0.05
    """Last learning rate as a fraction of `lr`; linear from the peak."""
    warmup_steps: int = 0
    """Steps of linear rise from 0 to `lr`."""
    weight_decay: float = 0.0
    """AdamW's decoupled decay."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm."""
    epochs: int = 1
    """Passes over a step's batch, one optimiser step each; more than 1 needs `clip`."""
    clip: float | None = None
    """PPO's epsilon on the probability ratio; null leaves it unclipped."""
    entropy: float = 0.0
    """Weight of an entropy bonus, nats summed over a reply's tokens."""
    kl: float = 0.0
    """Weight of KL(policy || reference), the magnet that keeps self-play from cycling."""
    reference_every: int = 100
    """Steps between moving the reference to the averaged weights."""
    ema: float = 0.98
    """Decay of the averaged weights, which evaluation uses."""
    micro_batch_tokens: int = 8192
    """Tokens of a forward pass; changes memory, never the result."""
    ratio_tolerance: float = 1e-3
    """Largest |log-probability now - log-probability at sampling| on a fresh batch, in nats; more stops the run."""
    dropout: float = 0.0
    """Must stay 0: with dropout the update would score another policy than the one that played."""


@dataclass(frozen=True)
class WarmStartConfig:
    """Behaviour cloning of random legal play until the format is known, before step 0."""

    max_steps: int = 1000
    """Longest warm start; 0 turns it off."""
    batch: int = 128
    """Examples an update."""
    lr: float = 2e-3
    """Learning rate, linear to 0 over `max_steps`."""
    legal: float = 0.98
    """Stop when this share of sampled replies is legal on fresh states."""
    check_every: int = 25
    """Updates between two such checks."""
    dropout: tuple[tuple[float, float], ...] = ()
    """(fraction of max_steps, rate) points, linear between them; empty for none."""
    cache: bool = True
    """Keep the result for later runs of the same games, model and seed."""


@dataclass(frozen=True)
class EvaluateConfig:
    """What is measured during training, on the averaged weights."""

    every: int = 25
    """Steps between evaluations; 0 turns them off. The last step is always evaluated otherwise."""
    exploitability: bool = True
    """Exact NashConv of each enumerable game with at most `max_nodes` nodes."""
    max_nodes: int = 20_000
    """Largest game tree that is enumerated in training."""
    opponents: tuple[str, ...] = ("random",)
    """Bots to play matches against, `name` or `name:key=value`."""
    games: int = 100
    """Games per bot, game and chair."""


@dataclass(frozen=True)
class CheckpointConfig:
    """What is kept of a run."""

    every: int = 100
    """Steps between checkpoints; the last step always has one."""
    keep: int = 2
    """Newest checkpoints that stay on disk; 0 keeps all."""
    episodes: int = 16
    """Games a step written to episodes.jsonl."""


@dataclass(frozen=True)
class Config:
    """A run."""

    games: list[GameConfig]
    """The mixture that is played."""
    opponents: PluginConfig
    """Who sits opposite."""
    advantage: PluginConfig
    """How credit is assigned."""
    model: PluginConfig
    """What is trained."""
    engine: PluginConfig
    """What generates text."""
    prompt: PluginConfig
    """The text around a game."""
    curriculum: PluginConfig
    """Which game is played next."""
    rewards: list[PluginConfig] = field(default_factory=list)
    """Shapers of returns, applied in order before credit."""
    loggers: list[PluginConfig] = field(default_factory=list)
    """Observers beside metrics.jsonl, which is always written."""
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    learner: LearnerConfig = field(default_factory=LearnerConfig)
    warm_start: WarmStartConfig = field(default_factory=WarmStartConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    steps: int = 1000
    """Learner updates."""
    seed: int = 0
    """Every random draw descends from it."""
    threads: int = 1
    """CPU threads of torch; tiny models are slower with more."""


def load(path: Path | None = None, overrides: Sequence[str] = ()) -> Config:
    """Read a run's configuration. Raises ConfigError with every fault found."""
    faults: list[str] = []
    tree = _read(DEFAULTS, faults)
    if path is not None:
        tree = _merge(tree, _read(path, faults))
    for override in overrides:
        tree = _merge(tree, _override(override, faults))
    node = OmegaConf.structured(Config)
    _fill(node, Config, tree, "", faults)
    if not faults:
        config = OmegaConf.to_object(node)
        assert isinstance(config, Config)
        faults += unsound(config)
    if faults:
        raise ConfigError("\n".join(faults))
    return config


def dump(config: Config) -> str:
    """The configuration as YAML that `load` reads back to an equal one."""
    return OmegaConf.to_yaml(OmegaConf.create(dataclasses.asdict(config)))


def unsound(config: Config) -> list[str]:
    """Values of the right type that would train something else than asked, a sentence each."""
    c, faults = config, []
    at_least = {
        "steps": (c.steps, 1), "threads": (c.threads, 1), "rollout.games": (c.rollout.games, 1),
        "rollout.games_per_deal": (c.rollout.games_per_deal, 1), "rollout.concurrent": (c.rollout.concurrent, 1),
        "rollout.max_new_tokens": (c.rollout.max_new_tokens, 1), "rollout.max_turns": (c.rollout.max_turns, 1),
        "rollout.retries": (c.rollout.retries, 0), "learner.epochs": (c.learner.epochs, 1),
        "learner.reference_every": (c.learner.reference_every, 1), "checkpoint.every": (c.checkpoint.every, 1),
        "evaluate.every": (c.evaluate.every, 0), "learner.micro_batch_tokens": (c.learner.micro_batch_tokens, 1),
        "warm_start.check_every": (c.warm_start.check_every, 1), "warm_start.batch": (c.warm_start.batch, 1),
        "rollout.max_voided": (c.rollout.max_voided, 0), "evaluate.games": (c.evaluate.games, 1),
    }  # fmt: skip
    faults += [
        f"{key} is {value}, and must be at least {low}"
        for key, (value, low) in at_least.items()
        if value < low
    ]
    if not c.games:
        faults.append("games is empty; name at least one, such as games=kuhn_poker")
    faults += [
        f"games: weight of {g.name} is {g.weight}, and must be positive" for g in c.games if g.weight <= 0
    ]
    if c.rollout.games % max(1, c.rollout.games_per_deal):
        faults.append(
            f"rollout.games is {c.rollout.games}, and must be a multiple of rollout.games_per_deal "
            f"({c.rollout.games_per_deal})"
        )
    if not 0 <= c.learner.ema < 1:
        faults.append(f"learner.ema is {c.learner.ema}, and must be at least 0 and below 1")
    if c.learner.dropout:
        faults.append(
            f"learner.dropout is {c.learner.dropout}, and must be 0: the update would score another policy than the "
            "one that played, so every probability ratio would be wrong; use warm_start.dropout instead"
        )
    if c.learner.epochs > 1 and c.learner.clip is None:
        faults.append(
            f"learner.epochs is {c.learner.epochs} without learner.clip: later passes are off-policy; set "
            "learner.clip=0.2 or learner.epochs=1"
        )
    return faults


def _read(path: Path, faults: list[str]) -> dict[str, Any]:
    try:
        tree = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    except OSError as error:
        faults.append(f"config {path} cannot be read ({error.strerror}); give the path of a YAML file")
        return {}
    except (OmegaConfBaseException, YAMLError, UnicodeDecodeError) as error:
        faults.append(f"config {path} is not valid YAML: {str(error).splitlines()[0]}")
        return {}
    if not isinstance(tree, dict):
        faults.append(f"config {path} holds a {type(tree).__name__}, not keys and values")
        return {}
    return _long_form({str(k): v for k, v in tree.items()})


def _override(text: str, faults: list[str]) -> dict[str, Any]:
    # One at a time: from_dotlist loses `advantage=x` when `advantage.args.k=1` follows in the same list.
    if "=" not in text:
        faults.append(f"override '{text}' is not key=value")
        return {}
    try:
        tree = OmegaConf.to_container(OmegaConf.from_dotlist([text]))
    except (OmegaConfBaseException, YAMLError) as error:
        faults.append(f"override '{text}': {str(error).splitlines()[0]}")
        return {}
    assert isinstance(tree, dict)
    return _long_form({str(k): v for k, v in tree.items()})


def _long_form(tree: dict[str, Any]) -> dict[str, Any]:
    """Names alone become {name: ...}; a single game, reward or logger becomes a list of one."""
    tree = dict(tree)
    for key in (*SINGLE, *SEVERAL):
        if key not in tree:
            continue
        value = tree[key]
        if key in SEVERAL:
            if isinstance(value, str) or (isinstance(value, dict) and "name" in value):
                value = [value]
            if isinstance(value, list):
                value = [{"name": v} if isinstance(v, str) else v for v in value]
        elif isinstance(value, str):
            value = {"name": value}
        tree[key] = value
    return tree


def _merge(base: Any, layer: Any) -> Any:
    """`layer` over `base`: mappings key by key, `list.0` by position, anything else replaced.

    Another plug-in name replaces the whole entry: the arguments of the old one must not reach the new one.
    """
    if isinstance(base, list) and isinstance(layer, Mapping) and all(str(k).isdigit() for k in layer):
        indexed = {int(k): v for k, v in layer.items()}
        return [_merge(item, indexed[i]) if i in indexed else item for i, item in enumerate(base)]
    if not isinstance(base, Mapping) or not isinstance(layer, Mapping):
        return layer
    if "name" in base and layer.get("name", base["name"]) != base["name"]:
        return dict(layer)
    return {**base, **{k: _merge(base[k], v) if k in base else v for k, v in layer.items()}}


def _fill(node: Any, schema: type, tree: Mapping[str, Any], prefix: str, faults: list[str]) -> None:
    """Assign leaf by leaf, so that every fault is found and each names its key."""
    names = {f.name: f for f in dataclasses.fields(schema)}
    for key, value in tree.items():
        path = f"{prefix}{key}"
        if key not in names:
            near = difflib.get_close_matches(key, names, n=1)
            hint = (
                f"; did you mean '{prefix}{near[0]}'?"
                if near
                else f"; known keys: {', '.join(sorted(names))}"
            )
            faults.append(f"unknown key '{path}'{hint}")
            continue
        nested = (
            type(names[key].default_factory())
            if names[key].default_factory is not dataclasses.MISSING
            else None
        )
        if nested is not None and dataclasses.is_dataclass(nested):
            if isinstance(value, Mapping):
                _fill(node[key], nested, value, f"{path}.", faults)
            else:
                faults.append(f"{path} is {value!r}, not a group of keys")
            continue
        try:
            with flag_override(node, "readonly", False):  # frozen dataclasses make read-only nodes
                if not prefix and key in (*SINGLE, *SEVERAL):
                    node[key] = _plugin_nodes(key, value)
                else:
                    OmegaConf.update(node, key, value)
        except (OmegaConfBaseException, ValueError, TypeError) as error:
            faults.append(f"{path} is {value!r}: {str(error).splitlines()[0]}")


def _plugin_nodes(key: str, value: Any) -> Any:
    """Plain mappings of plug-ins as typed nodes, so that a wrong key inside one is found here."""
    schema = OmegaConf.structured(GameConfig if key == "games" else PluginConfig)
    if key in SINGLE:
        return OmegaConf.merge(schema, value)
    return [OmegaConf.merge(schema, item) for item in value]
