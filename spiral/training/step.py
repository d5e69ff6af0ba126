"""The parts of a step around the update: play, snapshot, evaluate."""

from __future__ import annotations

import json

from spiral.api.errors import RunError
from spiral.api.progress import Phase
from spiral.api.records import LEARNER, Episode
from spiral.api.training import RecordsEpisodes
from spiral.evaluation.exact import exact_metrics, policy_record
from spiral.learning.credit import shaped
from spiral.plugins.faults import blamed
from spiral.policies.pool import AVERAGED, snapshot_id
from spiral.runs import snapshots
from spiral.runs.directory import RunDir
from spiral.selfplay.rollouts import check_voided
from spiral.selfplay.setup import curriculum_name, sampler_names
from spiral.training.components import Components


def play(components: Components, step: int) -> list[Episode]:
    """The step's games, from all processes, with rewards shaped, and their results known to pool and samplers."""
    c, config = components, components.config
    samplers = " or ".join(sampler_names(config))
    seed = (config.seed, "rollout", step)
    with c.processes.together():
        episodes = c.rollouts.play(config.rollout.episodes, seed, c.processes.rank, c.processes.world)
    episodes, c.rollouts.voided = c.processes.gathered(episodes, c.rollouts.voided, config.rollout.group_size)
    # A process stops by itself at its own games; what is allowed is that many of all.
    check_voided(c.rollouts.voided, config.rollout)
    if any(LEARNER not in episode.policies for episode in episodes):
        raise RunError(
            f"{samplers} gave a line-up without the learner; every game needs the learner as at least one "
            "player, or the step would train on less than it asked for"
        )
    episodes = shaped(episodes, c.training.rewards, [plugin.name for plugin in config.rewards])
    # Every process records the same episodes in the same order, so that all have the same pool and samplers.
    c.pool.results.record(episodes)
    for recorder, name in ((c.training.opponents, samplers), (c.training.curriculum, curriculum_name(config))):
        if isinstance(recorder, RecordsEpisodes):
            with blamed(f"{name}, in record(episode),"):
                for episode in episodes:
                    recorder.record(episode)
    return episodes


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
        metrics = exact_metrics(exact)
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
