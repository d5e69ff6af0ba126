"""The names of metrics, built and parsed here only, since files of runs, reports and trackers all read them.

A name is `stage/quantity`, `stage/GAME/quantity`, `eval/GAME/vs/OPPONENT/pPLAYER/quantity` or
`eval/tasks/BENCHMARK/quantity`; of a policy that is trained beside the main one, with `learners/NAME/` before it. A
quantity that a game has once for each of its players ends in `_pPLAYER`. Games, opponents and benchmarks may hold
slashes, quantities hold none. Only a part `vs` of a game would be ambiguous, so the slash before it is escaped as a URL
escapes it.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

Stage = Literal["eval", "play", "health", "pool"]

ILLEGAL_RATE = "play/illegal_rate"
CUT_GAMES = "play/cut_games"
VOIDED = "play/voided"
EQUAL_GROUPS = "equal_groups"
"""Of a game: the share of the groups of one deal in which all rewards are the same, and which so teach nothing."""
REFUSED = "learner/refused"
MOVED = "learner/moved"
"""Share of the weights with a gradient that an optimiser step changed, the mean over a step's; measured on a sample of
each tensor's entries, and left out where no gradient was other than 0."""
RATIO_GAP = "learner/ratio_gap"
"""The largest |log r| of a step's fresh batch, nats; r is a sampled token's probability by the learner over that by the
engine that sampled it, before the first optimiser step."""
RATIO_MEAN = "learner/ratio_mean"
"""The mean of r over the reply tokens; 1 where both are one policy."""
MISMATCH_KL = "learner/mismatch_kl"
"""KL(engine || learner), nats a reply token, estimated by the mean of r - 1 - log r (k3 of Schulman 2020)."""
RATIO_BEYOND = "learner/ratio_beyond"
"""Share of reply tokens with |log r| beyond `learner.ratio_tolerance`, or the band of the precision."""
TRUNCATED = "learner/truncated"
"""Share of reply tokens whose importance weight `learner.importance_cap` cut off."""
STEP_SECONDS = "time/step_s"


def bits_per_byte(compressor: str = "") -> str:
    """Of held-out text: what the model needs for a byte, or a general compressor, such as `gzip`."""
    return f"eval/bits_per_byte_{compressor}" if compressor else "eval/bits_per_byte"


# The first `/vs/` ends the game, since an escaped game holds none; the last `/pN/` ends the opponent, which may.
_MATCH = re.compile(r"eval/(.+?)/vs/(.+)/p([0-9]+)/([^/]+)", re.DOTALL)
# The last slash ends the game, since a quantity holds none.
_OF_GAME = re.compile(r"(eval|play|health|pool)/(.+)/([^/]+)", re.DOTALL)
_OF_PLAYER = re.compile(r"(.+)_p([0-9]+)", re.DOTALL)
# By its quantities, which no game has: a game may be called `tasks/NAME`.
_OF_TASKS = re.compile(
    r"eval/tasks/(.+)/(accuracy|accuracy_low|accuracy_high|tokens|cut_replies|unreadable)", re.DOTALL
)
# At the end too: the mark that follows a game `x/vs` would make it `x/vs/vs/...`.
_VS = re.compile(r"/vs(?=/|\Z)")


@dataclass(frozen=True)
class MetricName:
    """What a name says: a quantity of one game, and in a match of one player against an opponent."""

    stage: Stage
    game: str
    quantity: str
    opponent: str | None = None
    player: int | None = None


def of_game(stage: Stage, game: str, quantity: str) -> str:
    """`stage/GAME/quantity`."""
    return f"{stage}/{_escaped(game)}/{quantity}"


def match(game: str, opponent: str, player: int, quantity: str) -> str:
    """A result of matches of `player` against `opponent`."""
    return f"eval/{_escaped(game)}/vs/{_escaped(opponent)}/p{player}/{quantity}"


def task(benchmark: str, quantity: str) -> str:
    """A result of a benchmark's questions: `accuracy`, the ends of its interval, or the mean `tokens` of a reply."""
    return f"eval/tasks/{_escaped(benchmark)}/{quantity}"


def parse_task(name: str) -> tuple[str, str] | None:
    """Benchmark and quantity in a name of `task`; None for another metric."""
    found = _OF_TASKS.fullmatch(name)
    return None if found is None else (_plain(found[1]), found[2])


def nash_conv(game: str) -> str:
    """Exact NashConv of the averaged weights."""
    return of_game("eval", game, "nash_conv")


def rating(game: str) -> str:
    """The learner's rating, mu."""
    return of_game("pool", game, "rating")


def rating_low(game: str) -> str:
    """The learner's rating, mu - 3 sigma."""
    return of_game("pool", game, "rating_low")


def of_player(quantity: str, player: int) -> str:
    """A quantity of one player of a game, such as `return_p0`: a part of `of_game`'s name."""
    return f"{quantity}_p{player}"


def split_player(quantity: str) -> tuple[str, int | None]:
    """`return_p0` -> (`return`, 0); a quantity of the whole game comes with None."""
    if found := _OF_PLAYER.fullmatch(quantity):
        return found[1], int(found[2])
    return quantity, None


def seconds(part: str) -> str:
    """Wall time of one part of a step."""
    return f"time/{part}_s"


def voided_by(cause: str) -> str:
    """Games of a step voided by one cause; its slashes are escaped, or the name would parse as one of a game."""
    return f"{VOIDED}: {cause.replace('%', '%25').replace('/', '%2F')}"


def voided_cause(name: str) -> str | None:
    """The cause in a name of `voided_by`; None for another metric."""
    start = f"{VOIDED}: "
    return _plain(name.removeprefix(start)) if name.startswith(start) and "/" not in name[len(start) :] else None


def of_learner(learner: str, name: str) -> str:
    """A metric of one of the policies in training, by its name in the config; that of the main one, whose name is
    empty, as it is."""
    return f"learners/{learner}/{name}" if learner else name


def split_learner(name: str) -> tuple[str, str]:
    """The policy in training that a metric is about, empty for the main one, and the metric as the main one's is
    named."""
    if name.startswith("learners/"):
        _, learner, rest = name.split("/", 2)
        return learner, rest
    return "", name


def of_one_learner(metrics: Mapping[str, float], learner: str) -> dict[str, float]:
    """The metrics of one of the policies in training, named as the main one's are."""
    split = {split_learner(name): value for name, value in metrics.items()}
    return {name: value for (whose, name), value in split.items() if whose == learner}


def learners_game(game: str, learner: str) -> str:
    """What tables and reports call a game as a policy that is trained beside the main one plays it."""
    return f"{game} ({learner})"


def is_evaluation(name: str) -> bool:
    """Whether a metric was measured by an evaluation, and not by the step itself."""
    return split_learner(name)[1].startswith("eval/")


@functools.lru_cache(maxsize=4096)
def parse(name: str) -> MetricName | None:
    """What a name says; None for one that belongs to no game. Of a policy that is trained beside the main one, its name
    is behind that of the game."""
    learner, name = split_learner(name)
    if learner:
        its = parse(name)
        return None if its is None else replace(its, game=learners_game(its.game, learner))
    if _OF_TASKS.fullmatch(name):
        return None
    if found := _MATCH.fullmatch(name):
        game, opponent, player, quantity = found.groups()
        return MetricName("eval", _plain(game), quantity, _plain(opponent), int(player))
    if found := _OF_GAME.fullmatch(name):
        stage, game, quantity = found.groups()
        return MetricName(stage, _plain(game), quantity)  # type: ignore[arg-type]  # the pattern names the stages
    return None


def _escaped(name: str) -> str:
    return _VS.sub("%2Fvs", name.replace("%", "%25"))


def _plain(name: str) -> str:
    # In this order: a `%2F` of the name itself stands as `%252F`, which holds no `%2F`.
    return name.replace("%2F", "/").replace("%25", "%")
