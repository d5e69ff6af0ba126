"""The rules by which a collapse is recognised, over smoothed health indicators.

Numbers in the comments: Kuhn and tic-tac-toe with `byte-0.1m`, 512 games a step. Healthy: fifteen runs with the magnet;
collapsed: runs without it, or with one too weak.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from typing import Literal

from spiral.runs import metric_names
from spiral.training.health.smoothing import Trace, interval

Severity = Literal["warning", "collapse"]
Harm = Literal["yes", "no", "unknown"]


@dataclass(frozen=True)
class Finding:
    """What a rule makes of a game now. Neither `bad` nor `clear` leaves things as they are."""

    bad: bool
    clear: bool = False
    clause: str = ""
    """What is wrong, with its numbers, to stand before ", since step N"."""
    severity: Severity = "collapse"
    since: int | None = None
    """The first step at which it was so, if that is known to be before this one."""
    sound: int | None = None
    """The last step at which it was surely not so, -1 for none; if it is known."""


CLEAR = Finding(bad=False, clear=True)


@dataclass(frozen=True)
class View:
    """The traces of one game, and which of them this step added to."""

    traces: Mapping[str, Trace]
    fresh: Set[str]
    perfect_information: bool

    def new(self, quantity: str) -> Trace | None:
        """A trace that this step added to."""
        return self.traces.get(quantity) if quantity in self.fresh else None

    def players(self, sign: str) -> dict[int, Trace]:
        """Player -> its trace of a sign that this step added to."""
        found = ((name, *metric_names.split_player(name)) for name in sorted(self.fresh))
        return {player: self.traces[name] for name, of, player in found if of == sign and player is not None}

    def mean(self, quantity: str, default: float) -> float:
        """The smoothed value, whenever it was last seen."""
        return self.traces[quantity].mean if quantity in self.traces else default

    def bots(self) -> dict[str, Trace]:
        """Opponent -> results of matches, of those evaluated at least twice."""
        return {name[3:]: t for name, t in self.traces.items() if name.startswith("vs ") and t.num >= 2}

    def harm(self) -> Harm:
        """Whether play measured apart from training is bad; self-play alone cannot tell a solved game from a dead one.

        Where nothing is hidden, matches decide: NashConv stands at its worst until the last hole is closed (1.91 to
        2.00 for 400 healthy steps of tic-tac-toe). Where something is, a fall against a weak bot may be progress, and
        NashConv decides: dead Kuhn stays at 0.66 to 0.88 of its worst, healthy Kuhn ends below 0.15 of it.
        """
        bots, nash = self.bots(), self.traces.get("nash_conv")
        fallen = any(_fell(trace) for trace in bots.values())
        if self.perfect_information and bots:
            return "yes" if fallen else "no"
        if nash is not None and nash.high and nash.mean > 0.5 * nash.high:
            return "yes"
        if (nash is not None and nash.high and nash.mean < 0.25 * nash.high) or (bots and not fallen):
            return "no"
        return "unknown"


def one_player_wins(view: View) -> Finding | None:
    """One player wins all that is decided, and did not before; a published tic-tac-toe run did so before it died
    (tinker-cookbook: steps 80 to 110). Healthy tic-tac-toe stays under 0.85, and decides few games once it is good."""
    wins = view.players("win")
    if len(wins) < 2:
        return None
    player, top = max(wins.items(), key=lambda item: item[1].mean)
    if top.low is None or top.low > 0.8 or view.mean("draw_rate", 0.0) > 0.5:
        return CLEAR
    clause = f"player {player} wins {top.mean:.0%} of the games that are not drawn, where it once won {top.low:.0%}"
    # In some games the first player wins once both play well; matches that are as good as ever speak for that.
    severity: Severity = "warning" if view.harm() == "no" else "collapse"
    return Finding(top.mean > 0.95, top.mean < 0.9, clause, severity)


def entropy_gone(view: View) -> Finding | None:
    """A player decides nothing any more, and that is not how the game is solved.

    Kuhn without the magnet: 0.001 to 0.03 nats a turn from 0.75; with it never below 0.1. Perfect tic-tac-toe is
    deterministic too, so games that nearly all end in a draw, or measured play that is good, are no collapse.
    """
    entropies = view.players("entropy")
    if not entropies:
        return None
    silent = {p: t for p, t in entropies.items() if t.high and t.mean < min(0.02, 0.05 * t.high)}
    back = all(t.mean > min(0.04, 0.1 * (t.high or 0.0)) for t in entropies.values())
    harm = view.harm()
    if back or harm == "no" or view.mean("draw_rate", 0.0) > 0.95:
        return CLEAR
    players = ", ".join(f"player {p} from {t.high:.2g} to {t.mean:.2g}" for p, t in silent.items())
    unknown = "; no evaluation tells whether the game is solved or play is stuck"
    clause = f"there is no randomness left in play (nats a turn: {players}){unknown if harm == 'unknown' else ''}"
    return Finding(bool(silent), False, clause, "collapse" if harm == "yes" else "warning")


def exploitable(view: View) -> Finding | None:
    """NashConv rose far above its best. Healthy Kuhn circles up to 2.1 times its best (0.21 to 0.44 of first 0.95), so
    twice the best and a tenth of the worst are allowed."""
    nash = view.new("nash_conv")
    if nash is None or nash.low is None or nash.high is None:
        return None
    clause = f"NashConv is {nash.mean:.3g}, and was {nash.low:.3g} at its best"
    bad = nash.mean > 2 * nash.low + 0.1 * nash.high
    return Finding(bad, nash.mean < 1.5 * nash.low + 0.05 * nash.high, clause)


def stuck(view: View) -> Finding | None:
    """NashConv stands still, far from 0, while play has little randomness left ("always bet, always call"), or while
    some legal moves have next to no chance.

    Dead Kuhn moves by 0.01% from one evaluation to the next, at 0.667, with 0.02 to 0.3 nats a reply; healthy Kuhn
    rests there too for 50 steps and moves by 0.1%, but with 0.5 nats or more, a half of what it began with.
    Tic-tac-toe may stand still because one line of play never comes up; while its matches are good that is a warning at
    most, and none once NashConv is below where it began (a healthy run: 1.39 of 1.94, with a fifth of its entropy).

    A move whose probability fell to nothing is not sampled and has no gradient, whatever it is worth: Kuhn without the
    anchor stood at 0.333, a third of its worst, with 40% of its randomness, after folding the queen had fallen to 1e-5.
    An equilibrium has such moves too, so they count only while NashConv stands still, and only where something is
    hidden: elsewhere most moves may be mistakes.
    """
    nash = view.new("nash_conv")
    entropies = [trace for name, trace in view.traces.items() if name.startswith("entropy_p") and trace.high]
    if nash is None or nash.high is None or not entropies:
        return None
    last = nash.recent[-4:]
    values = [value for _, value in last]
    left = sum(trace.mean for trace in entropies) / sum(trace.high or 0.0 for trace in entropies)
    still = len(last) == 4 and max(values) - min(values) <= 0.01 * max(values)
    rare = 0.0 if view.perfect_information else view.mean("rare_moves", 0.0)
    good = not rare and view.harm() == "no"
    if not still or min(values) < (0.9 if good else 0.1 if rare else 0.2) * nash.high:
        return CLEAR
    clause = f"NashConv stands still at {nash.mean:.3g} while play keeps only {left:.0%} of its randomness"
    if rare and left >= 0.25:
        clause = (
            f"NashConv stands still at {nash.mean:.3g} while {rare:.0%} of the legal moves are next to never played"
        )
    before = int(nash.recent[-5][0]) if len(nash.recent) > 4 else -1
    severity: Severity = "warning" if good else "collapse"
    return Finding(left < 0.25 or rare > 0, False, clause, severity, int(last[0][0]), before)


def forgot(view: View) -> Finding | None:
    """The learner loses to those it grew out of. It meets its first snapshot as an equal, so 0.35 was never normal."""
    old = view.new("score_old")
    if old is None:
        return None
    _, high = old.interval
    clause = f"the learner scores {old.mean:.0%} against its older snapshots (at most {high:.0%}, with 99% confidence)"
    knew = old.high is not None and old.high > 0.45
    return Finding(knew and old.mean < 0.35 and high < 0.5, old.mean > 0.42, clause)


def worse_against_bots(view: View) -> Finding | None:
    """Matches are lost that were won. Where something is hidden, good play may win less from a weak bot (Kuhn against
    random: 0.64 at its peak, 0.46 near the equilibrium), so that is a warning, and none while NashConv falls."""
    bots = {bot: trace for bot, trace in view.bots().items() if f"vs {bot}" in view.fresh}
    nash = view.traces.get("nash_conv")
    if not bots:
        return None
    if nash is not None and nash.high and nash.mean < 0.75 * nash.high:
        return CLEAR
    fallen = {bot: trace for bot, trace in bots.items() if _fell(trace)}
    if not fallen:
        return CLEAR if not any(_fell(trace, 0.05) for trace in bots.values()) else Finding(bad=False)
    bot, trace = max(fallen.items(), key=lambda item: _drop(item[1]))
    peak, first = trace.peak[0] if trace.peak else 0.0, trace.first or 0.0
    clause = f"the score against {bot} fell from {peak:.0%} at its best to {trace.mean:.0%} (99% intervals apart)"
    lost = view.perfect_information and _drop(trace) > 0.5 * (peak - first)
    return Finding(True, False, clause, "collapse" if lost else "warning")


def _fell(trace: Trace, least: float = 0.1) -> bool:
    """Whether results are below their best for sure, and by enough to matter."""
    return trace.peak is not None and _drop(trace) > least and trace.interval[1] < interval(*trace.peak)[0]


def _drop(trace: Trace) -> float:
    return (trace.peak[0] if trace.peak else 0.0) - trace.mean


def illegal_replies(view: View) -> Finding | None:
    """A player that knew the format lost it: healthy runs stay below 0.06 after the warm start."""
    rates = view.players("illegal")
    if not rates:
        return None
    player, worst = max(rates.items(), key=lambda item: item[1].mean)
    # Replies without a move to read count as illegal too, and call for another remedy than moves against the rules.
    parts = {"could not be read": view.mean("unreadable", 0.0), "were cut off": view.mean("cut_off", 0.0)}
    shares = " and ".join(f"{share:.0%} {what}" for what, share in parts.items() if share >= 0.005)
    among = f" (of all replies {shares})" if shares else ""
    clause = f"player {player} loses {worst.mean:.0%} of its games by illegal replies{among}"
    knew = worst.low is not None and worst.low < 0.05
    return Finding(knew and worst.mean > 0.3, worst.mean < 0.15, clause)


def replies_cut_off(view: View) -> Finding | None:
    """Replies grow until none ends: a policy that once ended nine of ten now ends fewer than half."""
    cut = view.new("cut_off")
    if cut is None:
        return None
    clause = f"{cut.mean:.0%} of the replies run out of tokens before they end"
    return Finding(cut.low is not None and cut.low < 0.1 and cut.mean > 0.5, cut.mean < 0.25, clause)


def no_signal(view: View) -> Finding | None:
    """Nothing is left to learn from, though games are won and lost. All draws, or play measured as good, is a solved
    game."""
    zero, harm = view.new("zero_share"), view.harm()
    if zero is None or "draw_rate" not in view.traces:
        return None
    if zero.low is None or zero.low > 0.9 or harm == "no" or view.mean("draw_rate", 1.0) > 0.9:
        return CLEAR
    clause = f"{zero.mean:.0%} of the turns have an advantage of nothing, though games are won and lost"
    return Finding(zero.mean > 0.98, zero.mean < 0.95, clause, "collapse" if harm == "yes" else "warning")


def updates_refused(view: View) -> Finding | None:
    """Losses or gradients that are not finite; the learner gives up after five in a row, so two are enough to act."""
    refused = view.new("refused")
    if refused is None:
        return None
    clause = "updates are refused, since their loss or gradient is not finite"
    return Finding(refused.mean > 0.3, refused.mean < 0.1, clause)


def weights_stand_still(view: View) -> Finding | None:
    """There are gradients, and the updates that follow from them are rounded away.

    In float32 nearly all of the weights with a gradient move in a step. In bfloat16, rounded stochastically, an update
    of 1e-6 moves about one in a hundred of the weights around 0.02, and all of them in the mean over many steps.
    """
    moved = view.new("moved")
    if moved is None:
        return None
    clause = (
        f"{moved.mean:.2%} of the weights that have a gradient move in a step, so updates are rounded away; raise "
        "learner.lr, or keep the weights in float32 with learner.precision=mixed"
    )
    return Finding(moved.mean < 1e-4, moved.mean > 2e-4, clause, "warning")


@dataclass(frozen=True)
class Rule:
    """How a collapse is recognised, and how often in a row before it is named; 0: half of the detector's window."""

    kind: str
    judge: Callable[[View], Finding | None]
    patience: int = 0


RULES: Mapping[str, Rule] = {
    "stuck": Rule("exploitable", stuck, patience=1),
    "exploitable": Rule("exploitable", exploitable, patience=3),
    "worse against bots": Rule("worse against bots", worse_against_bots, patience=2),
    "forgot": Rule("forgot", forgot),
    "one player wins": Rule("one player wins", one_player_wins),
    "entropy gone": Rule("entropy gone", entropy_gone),
    "illegal replies": Rule("illegal replies", illegal_replies),
    "replies cut off": Rule("replies cut off", replies_cut_off),
    "no signal": Rule("no signal", no_signal),
    "updates refused": Rule("updates refused", updates_refused, patience=1),
    "weights stand still": Rule("weights stand still", weights_stand_still),
}
"""Name -> rule; two may have one kind. Of what is equally grave the first is reported first: evaluations are rarer than
steps, and the next may be far."""
