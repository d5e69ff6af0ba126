"""The lanes of the processes of a run on a cluster, and the sentence on who waits for whom."""

import pytest

from spiral.reports.html.timeline import read_timeline, sentence


def _rows(*spans):
    return [{"step": 0, "spans": list(spans)}]


def test_one_process_has_no_lanes():
    assert read_timeline(_rows(["learner", 0.0, 1.0, "learner"])) is None


def test_a_share_counts_work_and_no_waits():
    """Ten seconds: the learner updates for 4 and waits for 6; an engine answers for 5; a worker plays for 2, waits for
    3."""
    found = read_timeline(
        _rows(
            ["learner", 100.0, 104.0, "learner"], ["learner", 104.0, 110.0, "rollout"],
            ["engine-0", 104.0, 109.0, "answering"],
            ["worker-0", 104.0, 106.0, "playing"], ["worker-0", 106.0, 109.0, "waiting"],
        )
    )  # fmt: skip
    assert found["seconds"] == 10.0
    assert {lane["name"]: lane["busy"] for lane in found["lanes"]} == {"learner": 0.4, "engine-0": 0.5, "worker-0": 0.2}
    assert found["lanes"][0]["spans"] == [[0.0, 4.0, "learner"], [4.0, 10.0, "rollout"]]


def test_only_the_last_minute_is_drawn():
    found = read_timeline(_rows(["learner", 0.0, 100.0, "learner"], ["engine-0", 30.0, 50.0, "playing"]))
    assert found["seconds"] == 60.0
    assert {lane["name"]: lane["busy"] for lane in found["lanes"]} == {"learner": 1.0, "engine-0": 0.1667}


@pytest.mark.parametrize(
    ("busy", "said"),
    [
        ({"learner": 0.95, "engine-0": 0.95}, "neither waits"),
        ({"learner": 0.9, "engine-0": 0.2, "engine-1": 0.4}, "the engines 30%: the engines wait for the learner"),
        ({"learner": 0.2, "engine-0": 0.9}, "the learner waits for games. More engines"),
        ({"learner": 0.2, "engine-0": 0.3, "worker-0": 0.9, "worker-1": 0.7}, "the workers 80%: .* More workers"),
        (
            {"learner": 0.2, "engine-0": 0.9, "worker-0": 0.1},
            "the workers 10%: the learner waits for games. More engin",
        ),
    ],
)
def test_the_sentence_names_what_holds_up(busy, said):
    import re

    assert re.search(said, sentence(10.0, busy))
