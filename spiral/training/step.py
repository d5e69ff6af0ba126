"""The parts of a step around the update: snapshot, evaluate."""

from __future__ import annotations

import json

from spiral.api.progress import Phase
from spiral.api.records import LEARNER
from spiral.evaluation.exact import exact_metrics, policy_record
from spiral.policies.pool import AVERAGED, snapshot_id
from spiral.runs import snapshots
from spiral.runs.directory import RunDir
from spiral.training.components import Components


def take_snapshot(components: Components, run: RunDir, step: int) -> None:
    """Make the learner as it is now an opponent of later steps."""
    c = components
    weights = c.learner.weights()
    # On disk before the pool names it: a checkpoint never asks for a snapshot that is not there.
    if c.processes.is_main:
        snapshots.write(run.snapshots, step, weights)
    else:
        for _ in weights.values():  # sharded ones are gathered as the main process reads them
            pass
    # Those that leave make room for it.
    for policy in c.pool.add_snapshot(step, c.config.pool.size, c.config.pool.keep):
        c.engine.drop(policy)
    c.engine.load_weights(snapshot_id(step), weights, version=step)


def evaluate(components: Components, run: RunDir, step: int) -> dict[str, float]:
    """What the averaged weights are worth, and beside them the live ones; without an average the live ones alone. The
    exact policy goes to policy.json."""
    c, averaged = components, components.learner.averaged()
    c.progress(Phase("evaluating"))
    policy = LEARNER if averaged is None else AVERAGED
    with c.processes.in_step():
        exact = c.evaluator.exact(c.learner.scorer())
        metrics = exact_metrics(exact) | c.experience.evaluate(c.learner.scorer())
        if averaged is not None:
            metrics |= exact_metrics(c.evaluator.exact(c.learner.scorer(averaged=False)), "_live")
            c.engine.load_weights(policy, averaged, version=step)
    with c.processes.together():
        if c.processes.is_main:  # all would play the same matches, and pay for the calls of a remote opponent each
            metrics |= c.evaluator.matches(policy, (c.config.seed, "evaluate", step))
            metrics |= c.tasks.metrics(policy)
    if c.processes.is_main:
        run.write("policy.json", json.dumps(policy_record(step, exact)))
    return c.processes.from_main(metrics)
