"""Steps of one run that trains two policies, over those of two runs that train one each: play and learning, same games.

Each of the two runs plays half of the games of the one. All are in this process, one after another, since a machine's
cores are shared alike by two processes and by two threads of one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import count

from perf.measure import Figure, alternate, ratios
from spiral.api.progress import no_progress
from spiral.config import loading
from spiral.learning.row_cost import RowCost
from spiral.plugins.registry import Plugins
from spiral.training.components import Components, make_components
from spiral.training.step import learn

REPEATS, STEPS, TARGET = 5, 3, 0.9


def figures() -> Iterator[Figure]:
    """Mirror self-play of each policy, after a warm start; and one game's two roles."""
    cases = (
        ("Kuhn, byte-0.1m", ("games=kuhn_poker",), 512),
        ("tic-tac-toe, byte-0.4m", ("games=tic_tac_toe", "model=byte-0.4m"), 256),
    )
    for name, words, games in cases:
        alone = [_run(*words, f"rollout.episodes={games // 2}", f"seed={seed}") for seed in (0, 1)]
        together = _run(*words, f"rollout.episodes={games}", "learners=[{name: second}]")
        times = alternate([partial(_all, alone), together], REPEATS)
        ratio = ratios(times[0], times[1])
        yield Figure(
            f"two policies in one run, {name}",
            ratio["cpu"]["median"],
            "x games/s of two runs",
            target=TARGET,
            detail={"ratio": ratio, "games": games, "steps": STEPS},
        )


def _all(runs: Sequence[Callable[[], None]]) -> None:
    for run in runs:
        run()


def _run(*overrides: str) -> Callable[[], None]:
    """A few steps of a run, each time it is called the next ones."""
    words = [
        "rollout.max_new_tokens=8",
        "evaluate.every=0",
        "warm_start.max_steps=200",
        "warm_start.legal=0.9",
        *overrides,
    ]
    config = loading.load(None, words)
    components = make_components(config, Plugins.installed(), no_progress, fresh=True)
    for one in components.trained:
        one.publish(components.engine, 0)
    steps, cost = count(), RowCost.of(components.play.model)

    def go_on() -> None:
        for _ in range(STEPS):
            _step(components, next(steps), cost)

    return go_on


def _step(c: Components, step: int, cost: RowCost) -> None:
    """As the training loop's, without what is written."""
    episodes = c.experience.episodes(step)
    learn(c, [one.credit(c.experience, episodes) for one in c.trained], step, cost)
