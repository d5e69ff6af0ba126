"""What the players of the house are asked with."""

import json

import pytest
import torch
from safetensors.torch import save_file

from spiral.api.errors import SpiralError
from spiral.arena.lobby import GameInfo
from spiral.arena.opening import _chooser
from spiral.evaluation.loaded_policy import LoadedPolicy
from spiral.plugins.registry import Plugins
from spiral.policies.reference import PolicyRef


def test_a_pretrained_model_of_the_house_is_asked_as_everywhere(tmp_path, monkeypatch):
    """By the defaults that follow it: its chat template with the rules, for all games of the arena."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    save_file({"a": torch.zeros(1000, 1000)}, tmp_path / "model.safetensors")
    asked = []

    def opened(path, config):
        asked.append((path, config.prompt.name, [game.name for game in config.games]))
        raise SpiralError("enough")

    monkeypatch.setattr(LoadedPolicy, "of_model", opened)
    games = [GameInfo(name, 2, "") for name in ("kuhn_poker", "tic_tac_toe")]
    with pytest.raises(SpiralError, match="enough"):
        _chooser(PolicyRef("model", path=tmp_path), Plugins.installed(), games, None)
    assert asked == [(tmp_path, "chat", ["kuhn_poker", "tic_tac_toe"])]
