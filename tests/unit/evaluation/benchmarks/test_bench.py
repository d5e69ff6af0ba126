"""`spiral bench` of byte models on a benchmark of no meaning: what is counted, kept, resumed and refused."""

import json

import pytest


@pytest.fixture(scope="module")
def whole(run, tmp_path_factory):
    return tmp_path_factory.mktemp("whole") / "bench"


def test_two_checkpoints_of_a_run_in_one_call(bench, run, tmp_path):
    """A row for each model and benchmark, the differences to the first model, and the mean over the benchmarks."""
    out = tmp_path / "bench"
    record = bench(
        f"{run}@1", run, "--tasks", "letters:num=6,numbers:num=4@3", "--max-new-tokens", 8, "--out", out, "--json"
    )
    names = [f"{run}@1", f"{run}@2"]
    assert [(row["benchmark"], row["model"]) for row in record["rows"]] == [
        (label, name) for label in ("letters(num=6)", "numbers(num=4)") for name in names
    ]
    assert [row["replies"] for row in record["rows"]] == [6, 6, 12, 12]
    assert [row["model"] for row in record["differences"]] == names[1:] * 2
    assert [row["p_value"] is None for row in record["differences"]] == [False, True]
    assert [row["model"] for row in record["means"]["models"]] == names
    lines = [json.loads(line) for line in (out / "replies.jsonl").read_text().splitlines()]
    assert len(lines) == 36
    assert record == json.loads((out / "bench.json").read_text())
