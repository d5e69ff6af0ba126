"""The arguments of `cluster=ray`: what is wrong is one sentence, before anything is started."""

import builtins

import pytest

from spiral.api.errors import ConfigError, SpiralError
from spiral.cluster.settings import RaySettings, ray_extra, ray_settings, shares_cores
from spiral.cluster.versions import check_versions
from spiral.config.loading import load


def _settings(*words):
    return ray_settings(load(None, words))


def test_without_a_cluster_there_are_none():
    assert _settings() is None


def test_a_name_alone_takes_the_defaults():
    assert _settings("cluster=ray") == RaySettings()
    assert _settings("cluster={name: ray, args: {engines: all, staleness: 2}}") == RaySettings(
        engines="all", staleness=2
    )


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["cluster=rey"], r"no cluster named 'rey' \(there are: local, ray\)"),
        (["cluster={name: local, args: {engines: 2}}"], r"cluster 'local' takes no arguments, and was given engines"),
        (
            ["cluster={name: ray, args: {engine: 2}}"],
            r"no argument engine; its arguments are: engines, workers, learners",
        ),
        (["cluster={name: ray, args: {engines: two}}"], r"argument engines is 'two', not a whole number or one of all"),
        (["cluster={name: ray, args: {engines: -1}}"], r"cluster\.args\.engines is -1, and must be at least 0"),
        (["cluster={name: ray, args: {staleness: -1}}"], r"staleness is -1, and must be at least 0"),
        (
            ["cluster={name: ray, args: {staleness: 1, engines: 0}}"],
            r"staleness is 1 with engines=0: an engine that sleeps",
        ),
        (["cluster={name: ray, args: {workers: 1, engines: 0}}"], r"workers is 1 with engines=0: there is no process"),
        (["cluster={name: ray, args: {transport: nixl, engines: 0}}"], r"transport is nixl with engines=0: no weights"),
        (
            ["cluster={name: ray, args: {transport: nccl}}"],
            r"argument transport is 'nccl', not one of store, nixl",
        ),
        (
            ["cluster={name: ray, args: {staleness: 1}}", "learner.importance=none"],
            r"staleness is 1 with learner\.importance=none: games that began with older weights",
        ),
        (
            ["cluster={name: ray, args: {workers: 1}}", "pool.members=['model:x']"],
            r"pool\.members names model:x, and the workers",
        ),
        (["cluster=ray", "learner.method=lora"], r"learner\.method=lora and a warm start.*warm_start\.max_steps=0"),
        (
            ["cluster=ray", "examples.path=x", "learner.objective=likelihood"],
            r"plays games, and this run learns from a file",
        ),
    ],
)
def test_what_does_not_fit_is_refused(words, sentence):
    with pytest.raises(ConfigError, match=sentence):
        _settings(*words)


def test_without_ray_the_extra_is_named(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "ray":
            raise ModuleNotFoundError("No module named 'ray'", name="ray")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(SpiralError, match=r'cluster=ray needs ray.*pip install "spiral-selfplay\[ray\]"'), ray_extra():
        import ray  # noqa: F401


def test_nodes_with_other_software_are_told_with_both_versions():
    mine, theirs = {"ray": "2.60.0", "spiral-games": "0.2.0"}, {"ray": "2.61.0"}
    with pytest.raises(
        SpiralError, match=r"ray is 2\.60\.0 on a and 2\.61\.0 on b; spiral-games is 0\.2\.0 on a and not"
    ):
        check_versions(mine, theirs, "a", "b")
    check_versions(mine, dict(mine), "a", "b")


@pytest.mark.parametrize(
    ("args", "threads", "shared"),
    [
        ("engines: 1", 2, False),  # engine and learner compute in turn
        ("engines: 2", 2, True),
        ("engines: 2", 1, False),
        ("engines: 1, staleness: 1", 2, True),
        ("engines: 0, learners: 2", 2, True),
        ("engines: 1", 4, False),
    ],
)
def test_threads_that_would_take_each_others_cores_are_counted(args, threads, shared):
    """On two cores; more threads of one process are its own affair."""
    config = load(None, [f"threads={threads}", f"cluster={{name: ray, args: {{{args}}}}}"])
    assert shares_cores(config, ray_settings(config), 2) == shared
