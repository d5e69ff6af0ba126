"""Writes the policy of a run as a folder that transformers, and what is built on it, loads without this package."""

from __future__ import annotations

import random
from pathlib import Path

from spiral.api.errors import SpiralError
from spiral.evaluation.loaded_policy import LoadedPolicy
from spiral.models.adapted import merged
from spiral.models.logits import parameters
from spiral.plugins.registry import Plugins
from spiral.policies.reference import PolicyRef
from spiral.reports.model_card import model_card
from spiral.runs.directory import RunDir
from spiral.runs.files import is_free, make_directory, num_bytes, replace_directory


def export(word: str, out: Path) -> int:
    """Write the weights that a run is evaluated by, `RUN` or `RUN@STEP`, with tokenizer and model card; the step.

    A model whose plug-in has a member `to_stock(model, tokenizer)` is written as what that gives, since its own classes
    are not transformers'; without it as it is, and the card says what to import. An adapter is merged into its base.
    Raises SpiralError for what is no run, and for a folder that holds something.
    """
    ref = PolicyRef.named_run(word, " already; spiral export takes a run, RUN or RUN@STEP")
    if not is_free(out):
        raise SpiralError(f"{out} exists and is not an empty folder; give another, or remove it")
    run, _ = RunDir.open(ref.path)
    loaded = LoadedPolicy.of_ref(ref)
    setup = loaded.setup
    model, tokenizer = merged(setup.model), setup.tokenizer
    factory = Plugins.installed().find("model", loaded.config.model.name).factory
    if to_stock := getattr(factory, "to_stock", None):
        model, tokenizer = to_stock(model, tokenizer)
    classes = {type(part).__module__ for part in (model, tokenizer)}
    own = sorted(module for module in classes if module.partition(".")[0] != "transformers")
    card = model_card(run, loaded.config, loaded.step, out.resolve().name, _first_prompt(loaded), own)

    def write(folder: Path) -> None:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        (folder / "README.md").write_text(card, encoding="utf-8")

    make_directory(out.parent)
    replace_directory(out, write, num_bytes(parameters(model)))
    return loaded.step


def _first_prompt(loaded: LoadedPolicy) -> str:
    if not loaded.players.games:
        return ""
    game = next(iter(loaded.players.games.values()))()
    game.reset(random.Random(0))
    player = game.current_player()
    if player is None:
        return ""
    ids = loaded.setup.completer.prompt(game.rules, game.observe(player), game.legal_moves())
    return str(loaded.setup.tokenizer.decode(list(ids), skip_special_tokens=False))
