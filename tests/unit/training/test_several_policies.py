"""Several policies trained at once: what each learns from, that none touches another, and what is kept of each."""

import json

import pytest
import torch
from click.testing import CliRunner

from spiral import LEARNER
from spiral.api.errors import ConfigError, RunError
from spiral.api.records import learner_id
from spiral.commands.main import main
from spiral.config.loading import dump, load
from spiral.config.trained import config_of
from spiral.evaluation.loaded_policy import LoadedPolicy
from spiral.learning.row_cost import RowCost
from spiral.models.logits import parameters
from spiral.plugins.registry import Plugins
from spiral.policies.reference import PolicyRef
from spiral.runs.checkpoints import evaluated_weights
from spiral.runs.directory import RunDir
from spiral.testing import make_episode
from spiral.training.components import make_components
from spiral.training.loop import train
from spiral.training.memory.settings import HeldPolicies
from spiral.training.step import keep_first, reset_policies

SMALL = [
    "rollout.episodes=8", "warm_start.max_steps=0", "evaluate.every=0", "evaluate.matches=2", "loggers=[]", "steps=3",
    "checkpoint.every=1", "checkpoint.episodes=8",
]  # fmt: skip
SECOND = learner_id("second")
TWO = "learners=[{name: second}]"
ROLES = "opponents={name: roles, args: {players: [learner, second]}}"


def _components(*words):
    """The parts of a run, its policies ready to play."""
    made = make_components(load(None, [*SMALL, *words]), Plugins.installed(), lambda *_: None, fresh=True)
    for one in made.trained:
        one.publish(made.engine, 0)
    return made


def _train(path, *words):
    plugins, config = Plugins.installed(), load(None, [*SMALL, *words])
    run = RunDir.create(path, config, {})
    train(config, run, plugins, lambda *_: None, False)
    return run


def _weights(learner):
    return {name: weight.clone() for name, weight in learner.weights().items()}


def _same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


# What each learns from


def test_each_policy_learns_from_its_own_part_of_a_game_alone():
    """A game that the second policy lost: its loss is in its own trajectory, the win in that of the main one. A game that
    it did not play is none of its games."""
    c = _components(TWO, "advantage=rae")
    both = make_episode((1.0, -1.0), policies=[LEARNER, SECOND])
    alone = make_episode((-1.0, 1.0), policies=[LEARNER, LEARNER])
    main_policy, second = c.trained
    credit = second.credit(c.experience, [both, alone])
    assert (list(credit.episodes), [t.reward for t in credit.trajectories]) == ([both], [-1.0])
    assert [t.reward for t in main_policy.credit(c.experience, [both, alone]).trajectories] == [1.0, -1.0, 1.0]


def test_a_policy_without_a_game_in_a_step_stops_the_run(tmp_path):
    """A sampler that knows only the main policy would leave the other untrained without a word."""
    with pytest.raises(RunError, match=r"no game of the step had 'learner:second' as a player"):
        _train(tmp_path / "run", TWO, "opponents=roles")


def test_estimators_have_states_of_their_own():
    """RAE's baseline of one policy knows nothing of the other's returns."""
    c = _components(TWO, "advantage=rae")
    game = make_episode((1.0, -1.0), policies=[LEARNER, SECOND])
    for one in c.trained:
        for _ in range(3):
            one.credit(c.experience, [game])
    first, second = (c.training.advantages[policy].state for policy in (LEARNER, SECOND))
    assert first != second
    assert {*c.training.stateful()} >= {"advantage", "advantage.second"}


# Updates


def test_another_policy_leaves_an_update_bit_equal():
    """Gradients are clipped by each policy's own norm, and optimisers share nothing: with a limit that clips, and the
    second policy updated before, between and after."""
    words = ["learner.max_grad_norm=0.01", "advantage=rae", "learner.ratio_tolerance=100"]
    one, two = _components(*words), _components(TWO, *words)
    episodes = one.experience.episodes(0)
    cost = RowCost.of(one.play.model)
    for step in range(2):
        alone, main_policy, second = one.trained[0], *two.trained
        credit = alone.credit(one.experience, episodes)
        alone.learner.update(alone.batch(credit, step, one.processes, cost), step, len(episodes))
        same = main_policy.credit(two.experience, episodes)
        main_policy.learner.update(main_policy.batch(same, step, two.processes, cost), step, len(episodes))
        swapped = [_with_policy(episode, SECOND) for episode in episodes]
        other = second.credit(two.experience, swapped)
        second.learner.update(second.batch(other, step, two.processes, cost), step, len(episodes))
    assert _same(_weights(one.trained[0].learner), _weights(two.trained[0].learner))
    assert not _same(_weights(two.trained[0].learner), parameters(_components().play.model))


def _with_policy(episode, policy):
    from dataclasses import replace

    trajectories = tuple(replace(t, policy=policy) for t in episode.trajectories)
    return replace(episode, policies=(policy,) * len(trajectories), trajectories=trajectories)


def test_policies_begin_alike_and_come_apart():
    """Each trains a copy of the weights that the run began with."""
    c = _components(TWO)
    before = [_weights(one.learner) for one in c.trained]
    assert _same(*before)
    episodes = [_with_policy(episode, SECOND) for episode in c.experience.episodes(0)]
    second = c.trained[1]
    batch = second.batch(second.credit(c.experience, episodes), 0, c.processes, RowCost.of(c.play.model))
    second.learner.update(batch, 0, len(episodes))
    assert _same(before[0], _weights(c.trained[0].learner))
    assert not _same(before[1], _weights(second.learner))


def test_settings_of_a_policy_are_its_own():
    """Over those of the main one; the rest is shared."""
    config = load(
        None, [*SMALL, "learner.lr=0.5", "learners=[{name: second, settings: {kl: 0.3}, advantage: {name: rae}}]"]
    )
    own = config_of(config, "second")
    assert (own.learner.lr, own.learner.kl, own.advantage.name) == (0.5, 0.3, "rae")
    assert config_of(config, "") == config
    assert load_again(config) == config


def load_again(config):
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        path.write_text(dump(config), encoding="utf-8")
        return load(path)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["learners=[{name: 1st}]"], "'1st' is no name for a policy"),
        (["learners=[{name: snapshots}]"], "'snapshots' is no name for a policy"),
        (["learners=[{name: a}, {name: a}]"], "2 policies are named 'a'"),
        (["learners=[{name: a, share: 0}]"], "share of a is 0"),
        (["learners=[{name: a, reset_every: -1}]"], "reset_every of a is -1"),
        (["learners=[{name: a, settings: {lrr: 1}}]"], "a has the unknown setting 'lrr'; known: .*lr,"),
        (["learners=[{name: a, settings: {lr: fast}}]"], "lr of a is 'fast'"),
        (["learners=[{name: a, settings: {lr: -1}}]"], "learners: a: learner.lr is -1.*positive"),
        (
            ["learners=[{name: a, settings: {dropout: {rate: 0.1}}}]"],
            "a has dropout in its settings, which all policies",
        ),
        (["learners=[{name: a, settings: {precision: bf16}}]"], "a has precision in its settings, which all policies"),
        (["learners=[{name: a}]", "rollout.episodes=1"], "are 2 policies, and a step has 1 groups"),
    ],
)
def test_what_cannot_be_trained_is_one_sentence(words, reason):
    with pytest.raises(ConfigError, match=reason):
        load(None, [*SMALL, *words])


# In a run


def test_a_policy_a_player_is_measured_as_one_profile(tmp_path):
    """NashConv is that of the pair, as the main policy's metric; each policy's matches are as its own player; the second
    policy is evaluated, played and answered by its name."""
    run = _train(tmp_path / "run", TWO, ROLES, "evaluate.every=3")
    last = run.metrics()[-1]
    assert "eval/kuhn_poker/nash_conv" in last
    assert "learners/second/eval/kuhn_poker/nash_conv" not in last
    wins = [name for name in last if name.endswith("/win")]
    assert wins == ["eval/kuhn_poker/vs/random/p0/win", "learners/second/eval/kuhn_poker/vs/random/p1/win"]
    assert all(e["policies"] == [LEARNER, SECOND] for e in run.episodes())
    assert all(turn["advantage"] is not None for e in run.episodes() for turn in e["turns"])
    first = run.metrics()[0]
    assert {"learner/lr", "learners/second/learner/lr"} <= {*first}
    words = ["exploitability", f"{run.path}@second", "--json"]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    assert json.loads(done.output)["step"] == 3
    unknown = CliRunner().invoke(main, ["exploitability", f"{run.path}@third"])
    assert unknown.exit_code == 2
    assert "has no policy 'third' beside its main one; it has: second" in unknown.output
    assert PolicyRef.parse(f"run:{run.path}@second:2").checkpoint().name == "second"
    second, first = (
        parameters(LoadedPolicy.of_ref(PolicyRef.parse(f"run:{run.path}{name}")).setup.model)
        for name in ("@second", "")
    )
    assert _same(second, evaluated_weights(run.checkpoint(3) / "learners" / "second"))
    assert not _same(second, first)


def test_a_profile_that_is_the_pair_of_one_policy_has_its_nash_conv():
    """As the run begins both policies are one."""
    c = _components(TWO, ROLES)
    scorers = [one.learner.scorer() for one in c.trained]
    alone = c.evaluator.exact(scorers[0])["kuhn_poker"].theory
    pair = c.evaluator.exact_profile({"kuhn_poker": scorers})["kuhn_poker"].theory
    assert pair == alone


def test_a_reset_brings_back_what_the_run_began_with_and_keeps_what_was(tmp_path):
    """Weights, average and moments; what the policy was before is a snapshot."""
    c = _components("learners=[{name: second, reset_every: 2}]", "pool.every=5")
    run = RunDir(tmp_path)
    keep_first(c, run)
    second = c.trained[1]
    before = _weights(second.learner)
    episodes = [_with_policy(episode, SECOND) for episode in c.experience.episodes(0)]
    batch = second.batch(second.credit(c.experience, episodes), 0, c.processes, RowCost.of(c.play.model))
    second.learner.update(batch, 0, len(episodes))
    reset_policies(c, run, 1)
    assert not _same(before, _weights(second.learner))
    reset_policies(c, run, 2)
    assert _same(before, _weights(second.learner))
    assert second.learner.state()["optimizer"]["state"] == {}
    assert c.pool.snapshots(SECOND) == ["snapshot:second:2"]
    assert c.pool.snapshots() == []


def test_all_policies_are_counted_for_the_engine_and_the_memory():
    """Two learners, one average at a time, three snapshots of each."""
    config = load(None, [*SMALL, TWO, "pool={every: 1, size: 3}", "evaluate.every=1"])
    assert HeldPolicies.of(config).num == 2 + 1 + 6


def test_a_run_that_is_resumed_with_other_policies_is_refused(tmp_path):
    run = _train(tmp_path / "run", TWO, "opponents=mirror")
    done = CliRunner().invoke(main, ["train", "--resume", "--run-dir", str(run.path), "learners=[{name: third}]"])
    assert done.exit_code == 2
    assert "--resume would change learners" in done.output
