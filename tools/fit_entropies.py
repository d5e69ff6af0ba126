"""`python -m tools.fit_entropies`: count the table of entropies that patched models cut their text by, on this
project's documentation, its games' rules and what is seen in random games of them; it is written into their package."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from spiral_models.patch.entropy import TABLE, fit_entropies

from spiral import Game
from spiral.api.games import random_legal_move
from spiral.plugins.registry import Plugins

ROOT = Path(__file__).resolve().parents[1]
GAMES = (
    "connect_four", "guess_the_number", "kuhn_poker", "leduc_poker", "liars_dice", "negotiation", "pig_dice",
    "simple_negotiation", "snake", "tic_tac_toe", "truth_and_deception",
)  # fmt: skip
NUM_GAMES, MAX_TURNS = 30, 60
"""Random games of each kind, and turns of one, at most."""


def text() -> bytes:
    """All of it: pages in the order of their names, then games."""
    pages = [path.read_text(encoding="utf-8") for path in sorted(ROOT.glob("docs/**/*.md"))]
    plugins = Plugins.installed()
    games = [plugins.find("game", name).factory for name in GAMES]
    seen = [line for make in games for line in _seen(make)]
    return "\n".join([*pages, *seen]).encode()


def _seen(make: Callable[[], Game]) -> Iterator[str]:
    """The rules of a game, and what its players are shown and say in random games."""
    rng = random.Random(0)
    for number in range(NUM_GAMES):
        game = make()
        game.reset(random.Random(number))
        if number == 0:
            yield game.rules
        for _ in range(MAX_TURNS):
            player = game.current_player()
            if player is None:
                break
            move = random_legal_move(game, rng)
            yield game.observe(player)
            yield move
            game.play(move)


def main() -> None:
    """Fit and write."""
    np.savez_compressed(TABLE, entropies=fit_entropies(text()))
    print(f"{TABLE.relative_to(ROOT)}: {TABLE.stat().st_size} bytes")


if __name__ == "__main__":
    main()
