"""Who may sit at the table: bots, the learner, its snapshots, other models; and the ledger of their results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from spiral.api.interfaces import Bot, Engine, Stateful
from spiral.api.records import LEARNER, PolicyId, Sampling
from spiral.models.prompts import Prompter
from spiral.plugins.registry import Plugins, label
from spiral.policies.results import Ledger, Rating

Keep = Literal["last", "spaced", "best"]


@dataclass(frozen=True)
class Voice:
    """How a policy with weights is asked for a move."""

    engine: Engine
    prompter: Prompter
    sampling: Sampling


class Pool:
    """The policies of a run.

    `state` is what a checkpoint keeps: the ledger, the steps of the snapshots, and what the bots remember.
    """

    def __init__(self, plugins: Plugins) -> None:
        self._plugins = plugins
        self.bots: dict[PolicyId, Bot] = {}
        self.weighted: set[PolicyId] = {LEARNER}
        """Policies that an engine holds weights for."""
        self.voices: dict[PolicyId, Voice] = {}
        """Of those policies, the ones that are not asked as the learner is: models of another kind."""
        self.ledger = Ledger()
        self.steps: list[int] = []
        """Of the snapshots, oldest first."""
        self._members: list[tuple[PolicyId, frozenset[str]]] = []
        self._names: dict[str, PolicyId] = {}
        self._remembered: dict[PolicyId, dict[str, Any]] = {}
        """What a checkpoint says of bots that were not made yet, such as one that a sampler makes when it seats it."""

    def bot(self, name: str, **args: Any) -> PolicyId:
        """The id of a bot, made on first use. Raises PluginError for a name or arguments that do not fit."""
        policy = f"bot:{label(name, args)}"
        if policy not in self.bots:
            bot = self.bots[policy] = self._plugins.make("bot", name, **args)
            if policy in self._remembered and isinstance(bot, Stateful):
                bot.state = self._remembered.pop(policy)
        return policy

    def admit(self, policy: PolicyId, games: Iterable[str] = (), name: str = "") -> None:
        """Make a bot or a policy with weights one of the members, in `games` only if some are named.

        `name`: what a config calls it.
        """
        self._members.append((policy, frozenset(games)))
        self._names[name or policy] = policy

    def named(self, name: str) -> PolicyId | None:
        """The member that the config calls `name`."""
        return self._names.get(name)

    def __contains__(self, policy: PolicyId) -> bool:
        return policy in self.bots or policy in self.weighted

    @property
    def snapshots(self) -> list[PolicyId]:
        """The learner's past selves, oldest first."""
        return [policy_of(step) for step in self.steps]

    @property
    def restricted(self) -> dict[PolicyId, frozenset[str]]:
        """Of the members that do not play all games, those that they play."""
        return {policy: games for policy, games in self._members if games}

    def members(self, game: str) -> list[PolicyId]:
        """The policies that the config names and that play `game`, in its order."""
        return [policy for policy, games in self._members if not games or game in games]

    def opponents(self, game: str) -> list[PolicyId]:
        """All that can sit opposite the learner in `game`: its snapshots, oldest first, then the members."""
        return self.snapshots + self.members(game)

    def add_snapshot(self, step: int, size: int, rule: Keep) -> list[PolicyId]:
        """Let the learner of `step` be a snapshot; those that had to go for it, since `size` are kept."""
        new = policy_of(step)
        if step not in self.steps:
            self.steps.append(step)
        self.weighted.add(new)
        self.ledger.inherit(new, LEARNER)
        worth = {s: self._worth(policy_of(s)) for s in self.steps}
        stay = kept(self.steps, size, rule, worth)
        gone = [policy_of(s) for s in self.steps if s not in stay]
        self.steps = stay
        for policy in gone:
            self.weighted.discard(policy)
            self.ledger.forget(policy)
        return gone

    def _worth(self, policy: PolicyId) -> float:
        """The mean of a policy's ratings over the games it was rated in; that of a new player without any."""
        by_game = [self.ledger.rated(game) for game in self.ledger.state["ratings"]]
        known = [rated[policy].mu for rated in by_game if policy in rated]
        return sum(known) / len(known) if known else Rating().mu

    def metrics(self) -> dict[str, float]:
        """The learner's rating in each game where it met somebody else: mu, and mu - 3 sigma."""
        met = {game: self.ledger.rated(game) for game in self.ledger.state["ratings"]}
        ratings = {game: rated[LEARNER] for game, rated in met.items() if LEARNER in rated}
        return {f"pool/{game}/rating": r.mu for game, r in ratings.items()} | {
            f"pool/{game}/rating_low": r.low for game, r in ratings.items()
        }

    def table(self, games: Iterable[str]) -> dict[str, list[dict[str, Any]]]:
        """By game, who met the learner: rating, and the learner's recent score. JSON values."""
        rows: dict[str, list[dict[str, Any]]] = {}
        for game in games:
            for policy, rating in sorted(self.ledger.rated(game).items(), key=lambda item: -item[1].mu):
                row: dict[str, Any] = {"policy": policy, "mu": rating.mu, "sigma": rating.sigma}
                if policy != LEARNER:
                    row |= {"score": self.ledger.score(game, policy), "games": self.ledger.num_recent(game, policy)}
                rows.setdefault(game, []).append(row)
        return rows

    @property
    def state(self) -> dict[str, Any]:
        """JSON values."""
        bots = {policy: bot.state for policy, bot in self.bots.items() if isinstance(bot, Stateful)}
        return {"ledger": self.ledger.state, "snapshots": list(self.steps), "bots": bots | self._remembered}

    @state.setter
    def state(self, state: dict[str, Any]) -> None:
        self.ledger.state = state["ledger"]
        self.weighted -= {*self.snapshots}
        self.steps = list(state["snapshots"])
        self.weighted |= {*self.snapshots}
        for policy, bot in self.bots.items():
            if isinstance(bot, Stateful) and policy in state["bots"]:
                bot.state = state["bots"][policy]
        self._remembered = {policy: its for policy, its in state["bots"].items() if policy not in self.bots}


def policy_of(step: int) -> PolicyId:
    """The policy that the learner was after `step` updates."""
    return f"snapshot:{step}"


def kept(steps: Sequence[int], size: int, rule: Keep, worth: Mapping[int, float]) -> list[int]:
    """At most `size` of the ascending `steps`, the newest always among them.

    `last`: the newest. `spaced`: the first too, and between the ends as evenly as can be, by dropping whichever leaves
    the smallest gap; done at every snapshot this thins out the past evenly. `best`: the highest `worth`.
    """
    left = list(steps)
    while len(left) > size:
        inner = range(len(left) - 1)
        if rule == "last" or size == 1:
            out = 0
        elif rule == "best":
            out = min(inner, key=lambda i: (worth[left[i]], left[i]))
        else:
            out = min(inner[1:], key=lambda i: (left[i + 1] - left[i - 1], left[i]))
        del left[out]
    return left
