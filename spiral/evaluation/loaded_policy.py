"""A policy with weights, opened to be measured or played: a checkpoint's averaged weights, or a saved model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from spiral.api.errors import SpiralError
from spiral.config.schema import Config
from spiral.models.logits import load_parameters, parameters
from spiral.plugins.registry import Plugins
from spiral.policies.loading import pretrained_plugin
from spiral.policies.pool import AVERAGED
from spiral.policies.reference import PolicyRef
from spiral.runs.checkpoints import averaged_weights
from spiral.runs.directory import RunDir, step_of
from spiral.selfplay.setup import PlaySetup, make_play_setup
from spiral.selfplay.validation import check
from spiral.theory.game_tree import GameTree


@dataclass
class LoadedPolicy:
    """A policy, ready to play as `AVERAGED`."""

    config: Config
    """How it is asked, and which games it plays."""
    step: int
    """Of a run's checkpoint; 0 for a saved model."""
    setup: PlaySetup

    @classmethod
    def of_run(cls, path: Path, step: int | None = None) -> LoadedPolicy:
        """A run's policy, as it was at `step` if one is given.

        Raises RunError for a directory that is none, a step without a checkpoint, or a checkpoint of another model.
        """
        plugins = Plugins.installed()
        run, config = RunDir.open(path)
        check(config, plugins)
        checkpoint = run.checkpoint(step)
        weights = averaged_weights(checkpoint)
        setup = make_play_setup(config, plugins)
        with torch.no_grad():
            load_parameters(setup.model, weights)
        return cls._of(config, setup, step_of(checkpoint))

    @classmethod
    def of_model(cls, path: Path, config: Config) -> LoadedPolicy:
        """A model that transformers saved, with the games and the prompt of `config`. Raises SpiralError."""
        plugins = Plugins.installed()
        config = replace(config, model=pretrained_plugin(PolicyRef("model", path=path).saved_model(), plugins))
        check(config, plugins)
        return cls._of(config, make_play_setup(config, plugins), 0)

    @classmethod
    def _of(cls, config: Config, setup: PlaySetup, step: int) -> LoadedPolicy:
        setup.completer.engine.load_weights(AVERAGED, parameters(setup.model), step)
        setup.pool.add_weights(AVERAGED)
        return cls(config, step, setup)

    def game(self, name: str | None) -> str:
        """The label of one of its games, by its label or plain name. Raises SpiralError."""
        return game_label(list(self.setup.games), name)

    def has_unique_replies(self, tree: GameTree) -> bool:
        """Whether each move has one reply, so that its probability can be scored."""
        return all(self.setup.completer.prompter.reply(move) is not None for move in tree.decisions[0].moves)


def game_label(labels: Sequence[str], name: str | None) -> str:
    """One of a run's games, by its label or plain name. Raises SpiralError if that leaves a choice, or none."""
    if name is None and len(labels) == 1:
        return labels[0]
    named = [g for g in labels if name is not None and (g == name or g.split("(")[0] == name)]
    if len(named) != 1:
        asked = "no game was named" if name is None else f"the run has no one game '{name}'"
        raise SpiralError(f"{asked}; it has: {', '.join(labels)}; name one with --game")
    return named[0]
