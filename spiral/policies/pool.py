"""The policies of a run: bots, the learners, their snapshots, other models; and the results between them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from spiral.api.policies import Bot, KeepsFiles, Rating, is_single
from spiral.api.records import LEARNER, PolicyId, learner_id, learner_name
from spiral.api.training import Engine, Stateful
from spiral.plugins.registry import Plugins
from spiral.policies.completer import Completer
from spiral.policies.reference import PolicyRef
from spiral.policies.results import Results
from spiral.policies.retention import Rule, retained
from spiral.runs import metric_names

AVERAGED: PolicyId = "averaged"
"""The averaged weights of the learner that is evaluated, as a policy of its own."""

ONE_LEARNER: Mapping[PolicyId, float] = MappingProxyType({LEARNER: 1.0})
"""Of a run that trains one policy."""


class Pool:
    """Every policy that can play, and how each is asked. It is changed by its own methods only.

    `state` is what a checkpoint keeps: the results, the steps of the snapshots, and what the bots remember.
    """

    def __init__(
        self, plugins: Plugins, default: Completer | None = None, learners: Mapping[PolicyId, float] = ONE_LEARNER
    ) -> None:
        """`default`: asks the learners, and all policies added without a completer of their own; None where every
        policy with weights brings one. `learners`: the policies in training, the main one first, and the share of the
        games that is played for each."""
        self._plugins = plugins
        self.default = default
        self.learners = tuple(learners)
        self._shares = tuple(learners.values())
        self._played_for: list[int] = []
        """Of each group of a step, by its number: the place of the learner that it is played for."""
        self.results = Results(self.learners)
        self._bots: dict[PolicyId, Bot] = {}
        self._with_weights: set[PolicyId] = {*learners}
        """Policies that an engine holds weights for."""
        self._completers: dict[PolicyId, Completer] = {}
        """Of those, the ones that are not asked as the learner is."""
        self._steps: dict[PolicyId, list[int]] = {learner: [] for learner in learners}
        """Of each learner's snapshots, oldest first."""
        self._members: list[tuple[PolicyId, frozenset[str]]] = []
        self._names: dict[str, PolicyId] = {}
        self._bot_states: dict[PolicyId, dict[str, Any]] = {}
        """What a checkpoint holds of bots that were not made yet, such as one that a sampler makes when it names it."""
        self._folder: Path | None = None
        self._has_single = True

    def __contains__(self, policy: PolicyId) -> bool:
        return policy in self._bots or policy in self._with_weights

    def bot(self, name: str, **args: Any) -> PolicyId:
        """The id of a bot, made on first use. Raises PluginError for a name or arguments that do not fit."""
        policy = PolicyRef("bot", name, args).policy
        if policy not in self._bots:
            self.add_bot(policy, self._plugins.make("bot", name, **args))
        return policy

    def add_bot(self, policy: PolicyId, bot: Bot) -> None:
        """Let a bot play as `policy`, with the state that a checkpoint holds of it."""
        self._bots[policy] = bot
        self._keep(bot)
        if policy in self._bot_states and isinstance(bot, Stateful):
            bot.state = self._bot_states.pop(policy)

    def learner_of(self, group: int) -> PolicyId:
        """The learner that a group of games is played for, by the group's number in its step: as near to the shares as
        whole groups allow, however many there are, and the same in every step and process."""
        while group >= len(self._played_for):
            num = len(self._played_for) + 1
            due = [share * num / sum(self._shares) - self._played_for.count(n) for n, share in enumerate(self._shares)]
            self._played_for.append(due.index(max(due)))
        return self.learners[self._played_for[group]]

    def keep_in(self, folder: Path, has_single: bool = True) -> None:
        """Let the bots, those made later too, keep in a folder of the run what a rollback must not undo. `has_single`:
        whether this process has the matches of those bots that only one can have, or leaves them to `host`."""
        self._folder, self._has_single = folder, has_single
        for bot in self._bots.values():
            self._keep(bot)

    def host(self) -> None:
        """This process has those matches from now on."""
        if not self._has_single:
            self._has_single = True
            for bot in filter(is_single, self._bots.values()):
                self._keep(bot)

    def _keep(self, bot: Bot) -> None:
        if self._folder is not None and isinstance(bot, KeepsFiles) and (self._has_single or not is_single(bot)):
            bot.keep_in(self._folder)

    def bot_of(self, policy: PolicyId) -> Bot | None:
        """The bot behind a policy; None for one with weights."""
        return self._bots.get(policy)

    def bots(self) -> dict[PolicyId, Bot]:
        """All bots made so far."""
        return dict(self._bots)

    def add_weights(self, policy: PolicyId, completer: Completer | None = None) -> None:
        """Let a policy play whose weights an engine holds: that of `completer`, or the default one."""
        self._with_weights.add(policy)
        if completer is not None and completer is not self.default:
            self._completers[policy] = completer

    def remove_weights(self, policy: PolicyId) -> None:
        """No longer let a policy play whose weights an engine held."""
        self._with_weights.discard(policy)
        self._completers.pop(policy, None)

    def completer_of(self, policy: PolicyId) -> Completer:
        """How a policy with weights is asked."""
        completer = self._completers.get(policy, self.default)
        assert completer is not None, f"{policy} brought no completer, and there is no default"
        return completer

    def engines(self) -> list[Engine]:
        """Each engine that holds weights, once."""
        completers = [*([self.default] if self.default else []), *self._completers.values()]
        return list({id(completer.engine): completer.engine for completer in completers}.values())

    def num_held(self, engine: Engine) -> int:
        """How many policies an engine holds weights for."""
        return sum(self.completer_of(policy).engine is engine for policy in self._with_weights)

    def add_member(self, policy: PolicyId, games: Iterable[str] = (), name: str = "") -> None:
        """Make a bot or a policy with weights one of the members, in `games` only if some are named.

        `name`: what a config calls it.
        """
        self._members.append((policy, frozenset(games)))
        self._names[name or policy] = policy

    def named(self, name: str) -> PolicyId | None:
        """The member that the config calls `name`."""
        return self._names.get(name)

    def members(self, game: str) -> list[PolicyId]:
        """The policies that the config names and that play `game`, in its order."""
        return [policy for policy, games in self._members if not games or game in games]

    def view(self, learner: PolicyId = LEARNER) -> View:
        """The pool as the sampler of a game for one of the learners sees it."""
        return View(self, learner)

    def steps(self, learner: PolicyId = LEARNER) -> list[int]:
        """Of a learner's snapshots, oldest first."""
        return list(self._steps[learner])

    def snapshots(self, learner: PolicyId = LEARNER) -> list[PolicyId]:
        """A learner's past versions, oldest first."""
        return [snapshot_id(step, learner) for step in self._steps[learner]]

    def add_snapshot(self, step: int, size: int, rule: Rule, learner: PolicyId = LEARNER) -> list[PolicyId]:
        """Make a learner of `step` a snapshot; its snapshots that are dropped for it, since `size` are kept."""
        new, steps = snapshot_id(step, learner), self._steps[learner]
        if step not in steps:
            steps.append(step)
        self._with_weights.add(new)
        self.results.inherit(new, learner)
        worth = {s: self._worth(snapshot_id(s, learner)) for s in steps}
        stay = retained(steps, size, rule, worth)
        dropped = [snapshot_id(s, learner) for s in steps if s not in stay]
        self._steps[learner] = stay
        for policy in dropped:
            self._with_weights.discard(policy)
            self.results.forget(policy)
        return dropped

    def _worth(self, policy: PolicyId) -> float:
        """The mean of a policy's ratings over the games it was rated in; that of a new player without any."""
        by_game = [self.results.rated(game) for game in self.results.rated_games()]
        known = [rated[policy].mu for rated in by_game if policy in rated]
        return sum(known) / len(known) if known else Rating().mu

    def metrics(self, learner: PolicyId = LEARNER) -> dict[str, float]:
        """A learner's rating in each game where it met another policy: mu, and mu - 3 sigma."""
        rated = {game: self.results.rated(game) for game in self.results.rated_games()}
        ratings = {game: policies[learner] for game, policies in rated.items() if learner in policies}
        return {metric_names.rating(game): r.mu for game, r in ratings.items()} | {
            metric_names.rating_low(game): r.low for game, r in ratings.items()
        }

    def table(self, games: Iterable[str]) -> dict[str, list[dict[str, Any]]]:
        """By game, the policies that met another one: rating, and the main learner's recent score. JSON values."""
        rows: dict[str, list[dict[str, Any]]] = {}
        for game in games:
            for policy, rating in sorted(self.results.rated(game).items(), key=lambda item: -item[1].mu):
                row: dict[str, Any] = {"policy": policy, "mu": rating.mu, "sigma": rating.sigma}
                if policy != LEARNER:
                    row |= {"score": self.results.score(game, policy), "games": self.results.num_recent(game, policy)}
                rows.setdefault(game, []).append(row)
        return rows

    @property
    def state(self) -> dict[str, Any]:
        """JSON values."""
        bots = {policy: bot.state for policy, bot in self._bots.items() if isinstance(bot, Stateful)}
        steps = {learner: list(steps) for learner, steps in self._steps.items()}
        return {"results": self.results.state, "snapshots": steps, "bots": bots | self._bot_states}

    @state.setter
    def state(self, state: dict[str, Any]) -> None:
        self.results.state = state["results"]
        for learner in self.learners:
            self._with_weights -= {*self.snapshots(learner)}
            self._steps[learner] = list(state["snapshots"][learner])
            self._with_weights |= {*self.snapshots(learner)}
        for policy, bot in self._bots.items():
            if isinstance(bot, Stateful) and policy in state["bots"]:
                bot.state = state["bots"][policy]
        self._bot_states = {policy: its for policy, its in state["bots"].items() if policy not in self._bots}


@dataclass(frozen=True)
class LearnerResults:
    """See `spiral.api.policies.ResultsView`."""

    _results: Results
    _learner: PolicyId

    def score(self, game: str, opponent: PolicyId) -> float:
        return self._results.score(game, opponent, self._learner)

    def rating(self, game: str, policy: PolicyId) -> Rating:
        return self._results.rating(game, policy)


@dataclass(frozen=True)
class View:
    """See `spiral.api.policies.PoolView`."""

    _pool: Pool
    learner: PolicyId

    @property
    def learners(self) -> list[PolicyId]:
        return list(self._pool.learners)

    @property
    def snapshots(self) -> list[PolicyId]:
        return self._pool.snapshots(self.learner)

    @property
    def results(self) -> LearnerResults:
        return LearnerResults(self._pool.results, self.learner)

    def snapshots_of(self, learner: PolicyId) -> list[PolicyId]:
        return self._pool.snapshots(learner)

    def members(self, game: str) -> list[PolicyId]:
        return self._pool.members(game)

    def opponents(self, game: str) -> list[PolicyId]:
        others = [learner for learner in self._pool.learners if learner != self.learner]
        past = [policy for learner in (self.learner, *others) for policy in self._pool.snapshots(learner)]
        return past + self._pool.members(game)

    def named(self, name: str) -> PolicyId | None:
        trained = LEARNER if name == LEARNER else learner_id(name)
        return trained if trained in self._pool.learners else self._pool.named(name)

    def bot(self, name: str, **args: Any) -> PolicyId:
        return self._pool.bot(name, **args)


_SNAPSHOT = "snapshot:"


def snapshot_id(step: int, learner: PolicyId = LEARNER) -> PolicyId:
    """The policy that a learner was after `step` updates."""
    name = learner_name(learner)
    return f"{_SNAPSHOT}{name}:{step}" if name else f"{_SNAPSHOT}{step}"


def is_snapshot(policy: PolicyId) -> bool:
    """Whether a policy is a snapshot, of any learner."""
    return policy.startswith(_SNAPSHOT)


def snapshot_step(policy: PolicyId, learner: PolicyId = LEARNER) -> int | None:
    """The step of one of a learner's snapshots; None of any other policy."""
    step = policy.rpartition(":")[2]
    return int(step) if step.isdecimal() and policy == snapshot_id(int(step), learner) else None
