"""Which traces are judged: the learner's replies in a run's log and a bench's replies, sampled by stage and name."""

import json
from collections import Counter

import pytest

from spiral.api.errors import RunError
from spiral.evaluation.patterns.sources import sample_traces
from spiral.evaluation.patterns.traces import Sample, Stages, plain


def sampled(*words, num=20, stages=3, seed=0):
    return sample_traces([str(word) for word in words], num, stages, seed)


def test_a_trace_is_a_reply_that_the_learner_wrote(make_run, said):
    """Not a bot's, whose move is no text of a model; not a past version's, whose step is another. One an episode."""
    run = make_run(
        "a",
        [
            said.episode(4, ["mine one", "theirs", "mine two"]),
            said.episode(4, ["theirs", "mine three"], policies=("snapshot:2", "learner")),
            said.episode(4, ["a bot's", "another's"], policies=("bot:random", "bot:perfect")),
        ],
    )
    texts = [trace.text for trace in sampled(run).traces]
    assert len(texts) == 2
    assert "mine three" in texts
    assert {"mine one", "mine two"} & set(texts)


def test_a_run_is_cut_into_equal_stages_and_each_has_its_share(make_run):
    """90 steps of two games in three stages: 5 traces of each, from all over the stage."""
    run = make_run("a", [(step, game, f"{game} {step}") for step in range(90) for game in ("kuhn", "pig")])
    found = sampled(run, num=5)
    stages = found.stages["a"]
    counts = Counter((stages.index(trace.step), trace.name) for trace in found.traces)
    assert counts == {(stage, game): 5 for stage in range(3) for game in ("kuhn", "pig")}
    assert [stages.label(n) for n in range(3)] == ["0-29", "30-59", "60-89"]
    assert found.num_seen == 180


def test_the_same_seed_gives_the_same_traces_and_more_hold_the_fewer(make_run):
    run = make_run("a", [(step, "kuhn", f"reply {step}") for step in range(60)])
    few, again, more, other = (
        {trace.text for trace in sampled(run, num=num, seed=seed).traces}
        for num, seed in ((4, 0), (4, 0), (8, 0), (4, 1))
    )
    assert few == again
    assert few < more
    assert few != other


def test_replies_of_a_bench_belong_to_the_run_and_the_stage_of_their_checkpoint(make_run, make_bench):
    """The run's games and the bench of its checkpoints are rows of one policy; a model without a step is its own."""
    run = make_run("runs/a", [(step, "kuhn", f"game {step}") for step in range(100)])
    models = {f"{run}@50": 50, f"{run}@100": 100, "model:/models/base": None}
    replies = [(model, "math500", f"q{n}", f"{model} {n}", n % 2) for model in models for n in range(3)]
    bench = make_bench("benches/b", models, replies)
    for word in (bench, bench.parent):
        found = sampled(run, word, stages=2)
        assert set(found.stages) == {"a"}
        tasks = [trace for trace in found.traces if trace.domain == "task"]
        assert Counter((t.policy, t.step) for t in tasks) == {("a", 50): 3, ("a", 100): 3, ("base", None): 3}
        assert [found.stages["a"].index(step) for step in (50, 51, 100)] == [0, 1, 1]
        assert {trace.right for trace in tasks} == {True, False}


def test_a_task_that_is_played_as_a_game_counts_as_a_task(make_run):
    run = make_run("a", [(0, "tasks/gsm8k_file", "a"), (0, "kuhn", "b")])
    assert {trace.text: trace.domain for trace in sampled(run).traces} == {"a": "task", "b": "game"}


def test_of_two_replies_for_one_question_the_later_counts_and_one_without_room_is_none(make_bench):
    """A grader that was mended grades again; a question that had no room was never answered."""
    bench = make_bench("b", {"m": None}, [("m", "x", "q", "t", None), ("m", "x", "q", "t", 1.0)])
    row = {"model": "m", "benchmark": "x", "task": "r", "sample": 0, "finish": "no room", "text": "", "grade": 0.0}
    with (bench.parent / "replies.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
    [trace] = sampled(bench).traces
    assert trace.right is True


def test_a_line_that_a_kill_cut_in_two_is_left_out_and_counted(make_run):
    run = make_run("a", [(0, "kuhn", "whole")])
    with (run / "episodes.jsonl").open("a") as file:
        file.write('{"step": 1, "game": "ku')
    found = sampled(run)
    assert [trace.text for trace in found.traces] == ["whole"]
    assert found.unreadable == 1


def test_lines_of_another_shape_are_left_out_and_counted(make_run, make_bench):
    """Neither a log nor a bench is trusted to be whole."""
    odd = [{}, {"step": 1}, {"step": 1, "game": "kuhn", "policies": [], "turns": [{"player": 3}]}, {"turns": 5}]
    found = sampled(make_run("a", [(0, "kuhn", "whole"), *odd]))
    assert ([trace.text for trace in found.traces], found.unreadable) == (["whole"], 4)
    bench = make_bench("b", {"m": None}, [("m", "x", "q", "whole", 1.0), ("unknown", "x", "q", "t", 1.0)])
    found = sampled(bench)
    assert ([trace.text for trace in found.traces], found.unreadable) == (["whole"], 1)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"models": [1]}'])
def test_a_damaged_record_of_a_bench_is_a_sentence(make_bench, text):
    bench = make_bench("b", {"m": None}, [])
    bench.write_text(text)
    with pytest.raises(RunError, match=r"bench\.json is damaged; run the same bench again"):
        sampled(bench)


def test_a_run_named_twice_is_read_once(make_run):
    run = make_run("a", [(0, "kuhn", "one"), (0, "kuhn", "two")])
    assert len(sampled(run, run).traces) == 2


def test_two_runs_of_one_name_are_told_apart(make_run):
    found = sampled(make_run("x/a", [(0, "kuhn", "one")]), make_run("y/a", [(9, "kuhn", "two")]))
    assert {trace.policy for trace in found.traces} == {"x/a", "y/a"}


def test_what_is_neither_run_nor_bench_is_a_sentence(tmp_path, make_run):
    (tmp_path / "empty").mkdir()
    for word, says in (("none", "does not exist"), ("empty", "neither a run's config.yaml nor bench.json")):
        with pytest.raises(RunError, match=says):
            sampled(tmp_path / word)
    with pytest.raises(RunError, match="hold no reply of a language model yet"):
        sampled(make_run("a", []))


def test_every_item_is_as_likely_as_any_other():
    """Of 10 items 3 are kept, over 2,000 seeds: each about 600 times (5 deviations are 103)."""
    kept = Counter()
    for seed in range(2000):
        sample = Sample(3, seed)
        for n in range(10):
            sample.add("group", str(n), n)
        kept.update(sample.chosen()["group"])
    assert all(497 <= kept[n] <= 703 for n in range(10))


@pytest.mark.parametrize(("num", "last"), [(1, 0), (1, 9), (3, 2), (3, 10), (4, 6), (7, 400)])
def test_stages_share_the_steps_without_gap_or_overlap(num, last):
    """A label names exactly the steps of its stage, and the sizes differ by one at most."""
    stages, members = Stages(num, last), {}
    for step in range(last + 1):
        members.setdefault(stages.index(step), []).append(step)
    assert list(members) == list(range(num))
    for index, steps in members.items():
        assert stages.label(index) == (str(steps[0]) if len(steps) == 1 else f"{steps[0]}-{steps[-1]}")
    assert max(map(len, members.values())) - min(map(len, members.values())) <= 1


@pytest.mark.parametrize("end", ["<|im_end|>", "<|eot|>\n", "</s>", " <|im_end|><|endoftext|>", ""])
def test_marks_that_end_a_reply_are_no_part_of_a_trace(end):
    """A bench's replies are without them, and a judge could tell games from tasks by that."""
    assert plain(f"I <|think|> and bet{end}") == "I <|think|> and bet"


def test_half_a_character_is_replaced():
    """No server takes it, and no file of UTF-8."""
    assert plain("a\ud800b") == "a?b"
