"""The parts of a step around the games: update, snapshot, reset, evaluate."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from spiral.api.policies import fixed_profile
from spiral.api.progress import Phase
from spiral.api.records import PolicyId
from spiral.engines.sleeping import asleep
from spiral.evaluation.exact import Exploitability, exact_metrics, policy_record
from spiral.learning.row_cost import RowCost
from spiral.policies.pool import AVERAGED, snapshot_id
from spiral.runs import checkpoints, metric_names, snapshots
from spiral.runs.directory import RunDir
from spiral.training.components import Components
from spiral.training.experience import Credit
from spiral.training.trained import TrainedPolicy


class Update(NamedTuple):
    """What an update of one policy came to."""

    metrics: dict[str, float]
    num_tokens: tuple[int, int]
    """Of the replies that it was trained on, and of them with their prompts."""


def learn(components: Components, credits: Sequence[Credit], step: int, cost: RowCost) -> list[Update]:
    """Update every policy on what it learns from, and let the engine play with the new weights."""
    c = components
    batches = [one.batch(credit, step, c.processes, cost) for one, credit in zip(c.trained, credits, strict=True)]
    with asleep(c.engine):
        metrics = [
            one.learner.update(batch, step, len(credit.episodes))
            for one, credit, batch in zip(c.trained, credits, batches, strict=True)
        ]
    for one in c.trained:
        one.publish(c.engine, step + 1)
    sizes = [(batch.num_reply_tokens, batch.num_sequence_tokens) for batch in batches]
    return [Update(*update) for update in zip(metrics, sizes, strict=True)]


def take_snapshots(components: Components, run: RunDir, step: int) -> None:
    """Make each policy in training, as it is now, an opponent of later steps."""
    for one in components.trained:
        _take_snapshot(components, run, step, one)


def _take_snapshot(components: Components, run: RunDir, step: int, one: TrainedPolicy) -> None:
    c, weights = components, one.learner.weights()
    # On disk before the pool names it: a checkpoint never asks for a snapshot that is not there.
    if c.processes.is_main:
        snapshots.write(run.snapshots_of(one.policy), step, weights)
    else:
        for _ in weights.values():  # sharded ones are gathered as the main process reads them
            pass
    # Those that leave make room for it.
    for policy in c.pool.add_snapshot(step, c.config.pool.size, c.config.pool.keep, one.policy):
        c.engine.drop(policy)
    c.engine.load_weights(snapshot_id(step, one.policy), weights, version=step)


def keep_first(components: Components, run: RunDir) -> None:
    """Keep what the policies that are reset begin with."""
    c = components
    for one in c.trained:
        if one.reset_every:
            checkpoints.save_learner(run.first(one.policy), one.learner, c.play.tokenizer, c.processes.is_main)
    c.processes.wait()


def reset_policies(components: Components, run: RunDir, step: int) -> None:
    """Let the policies whose time it is go back to what they began with; what each was stays in the pool, if that keeps
    snapshots."""
    c = components
    for one in c.trained:
        if one.resets(step):
            if c.config.pool.every:
                _take_snapshot(c, run, step, one)
            one.reset(run.first(one.policy))
            one.publish(c.engine, step)


def evaluate(components: Components, run: RunDir, step: int) -> dict[str, float]:
    """What the averaged weights of each policy in training are worth, and beside them the live ones; without an average
    the live ones alone. Where each player has its own policy for good, all are one profile, whose exact worth is among
    the metrics of the main one. The exact policies go to policy.json."""
    c, metrics, records = components, dict[str, float](), dict[str, Any]()
    c.progress(Phase("evaluating"))
    profiles = _profiles(c)
    for one in c.trained:
        exact = _exact(c, one, profiles, averaged=True)
        measured = exact_metrics(exact) | _measured(c, run, one, profiles, step)
        if one.learner.averaged() is not None:
            measured |= exact_metrics(_exact(c, one, profiles, averaged=False), "_live")
        metrics |= one.named(measured)
        for game, record in policy_record(step, exact).items():
            records[metric_names.learners_game(game, one.name) if one.name else game] = record
    if c.processes.is_main:
        run.write("policy.json", json.dumps(records))
    return c.processes.from_main(metrics)


def _profiles(c: Components) -> dict[str, list[PolicyId]]:
    """Of the games in which each player has its own policy for good: which."""
    found = {}
    for game, make in c.play.games.items():
        profile = fixed_profile(c.training.opponents, game, make().num_players, c.pool.view())
        if profile is not None and {*profile} <= {*c.pool.learners} and len({*profile}) > 1:
            found[game] = profile
    return found


def _exact(
    c: Components, one: TrainedPolicy, profiles: Mapping[str, Sequence[PolicyId]], averaged: bool
) -> dict[str, Exploitability]:
    """Exact worth in each game that can be enumerated: of a policy alone, and for the main one of the profiles."""
    with c.processes.in_step():
        exact = c.evaluator.exact(one.learner.scorer(averaged=averaged), without=profiles)
        if profiles and not one.name:
            scorers = {other.policy: other.learner.scorer(averaged=averaged) for other in c.trained}
            by_player = {game: [scorers[policy] for policy in profile] for game, profile in profiles.items()}
            exact |= c.evaluator.exact_profile(by_player)
    return exact


def _measured(
    c: Components, run: RunDir, one: TrainedPolicy, profiles: Mapping[str, Sequence[PolicyId]], step: int
) -> dict[str, float]:
    """What its games tell, and matches and benchmarks that it plays; what it writes goes to samples.jsonl."""
    players = {
        game: [player for player, policy in enumerate(profile) if policy == one.policy]
        for game, profile in profiles.items()
    }
    averaged = one.learner.averaged()
    policy = one.policy if averaged is None else AVERAGED
    with c.processes.in_step():
        metrics = c.experience.evaluate(one.learner.scorer(), step)
        if averaged is not None:
            c.engine.load_weights(policy, averaged, version=step)
    with c.processes.together():
        if c.processes.is_main:  # all would play the same matches, and pay for the calls of a remote opponent each
            own = [one.name] if one.name else []
            metrics |= c.evaluator.matches(policy, (c.config.seed, "evaluate", *own, step), players)
            metrics |= c.tasks.metrics(policy)
            run.append("samples.jsonl", c.experience.samples(policy, step))
    return metrics
