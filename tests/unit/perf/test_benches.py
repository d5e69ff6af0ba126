"""The benches of the learner, rehearsed with tiny shapes: what they compare, not how fast it is."""

import json

import pytest
import torch

from perf import adapter, head_memory, learning
from perf.shapes import TINY, transcripts

torch.set_num_threads(1)


def test_rows_of_random_ids_share_nothing_and_half_of_each_is_trained():
    """So an update computes every token of them once, and the learner can save nothing."""
    rows = transcripts(4, 16, 256)
    assert {len(t.turns[0].prompt) for t in rows} == {len(t.turns[0].reply) for t in rows} == {8}
    assert len({t.turns[0].prompt[:2] for t in rows}) == 4
    assert transcripts(4, 16, 256) == rows
    assert [t.reward for t in rows] == [-1.0, 1.0, -1.0, 1.0]


def test_the_bench_of_rows_without_play_yields_its_three_cases(monkeypatch):
    """Trees, which need a mask, and rows that share nothing, which need none; with what an update does besides."""
    monkeypatch.setattr(learning, "TREE_GAMES", 6)
    monkeypatch.setattr(learning, "SMOLLM2", TINY)
    monkeypatch.setattr(learning, "ROW_TOKENS", 8)
    monkeypatch.setattr(learning, "DISTINCT_ROWS", 4)
    found = {figure.name: figure for figure in learning.wide_figures()}
    assert list(found) == [f"R2 {n} over bare" for n in ("trees/1m", "distinct/1m", "distinct/SmolLM2's shape")]
    assert [figure.detail["packed"] for figure in found.values()] == [True, False, False]
    _, byte, other = (json.loads(figure.line())["detail"]["cpu_ms"] for figure in found.values())
    assert byte.keys() == {"update", "pack", "bare", "norm", "average"}
    assert other.keys() == {"update", "pack", "bare", "norm"}  # a pretrained model has no average


@pytest.mark.parametrize("how", ["plain", "chunked"])
def test_the_bench_of_the_head_trains_every_token_of_its_rows(how):
    """8 rows of 6 tokens after one that is only read."""
    assert head_memory.measure(how, 6, vocabulary=320)["trained"] == 8 * 6


@pytest.mark.parametrize("method", adapter.METHODS)
def test_the_bench_of_adapters_updates_by_each_method(method):
    """And says what the model itself takes, which both have."""
    found = adapter.measure(method, tiny=True)
    assert found["update_cpu_s"] > 0
    assert found["weights"] > 0
