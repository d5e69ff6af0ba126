"""A run that can learn nothing says so at once, with a reply as a sample and the likely cause."""

import json

import pytest

from spiral.api.records import LEARNER, Trajectory, Turn
from spiral.config.loading import load
from spiral.training.health.first_steps import MIN_REPLIES, FirstSteps
from spiral.training.launch import launch


def _turn(legal, move="up", finish="stop", text="left"):
    reply = tuple(text.encode())
    return Turn("X to move", (1,), reply, (-1.0,) * len(reply), move, legal, finish, 0)


def _step(turns, advantage, rewards=(1.0, -1.0)):
    played = [Trajectory("g", 0, LEARNER, rewards[n % len(rewards)], (turn,), 0) for n, turn in enumerate(turns)]
    return played, [[advantage] for _ in played]


def _watch(*words):
    return FirstSteps(load(None, list(words)), lambda ids: bytes(ids).decode())


def test_every_reply_illegal_is_said_at_the_first_step():
    """Once, as a warning, with the reply and what it answered."""
    watch = _watch()
    step = _step([_turn(False)] * MIN_REPLIES, -1.0)
    found = watch.look(0, *step)
    assert (found.step, found.kind, found.severity) == (0, "nothing to learn", "warning")
    assert f"none of the learner's first {MIN_REPLIES} replies was a legal move" in found.sentence
    assert '"left" in answer to "X to move"' in found.sentence
    assert watch.look(1, *step) is None


@pytest.mark.parametrize(
    ("turn", "words", "cause"),
    [
        (
            _turn(False, None, "length"),
            [],
            "100% ran out of tokens before their end; raise rollout.max_new_tokens (16)",
        ),
        (_turn(False, None), ["prompt=chat"], "100% hold no move as prompt=chat reads it"),
        (_turn(False), [], "tell the model the rules (prompt.args.rules=true)"),
        (_turn(False), ["warm_start.max_steps=0"], "teach it how a move is written with warm_start.max_steps=200"),
    ],
)
def test_the_likely_cause_is_what_most_replies_suffer_from(turn, words, cause):
    """Cut off, unreadable, or read and not legal; the warm start is named where there was none."""
    found = _watch(*words).look(0, *_step([turn] * MIN_REPLIES, -1.0))
    assert cause in found.sentence
    assert ("warm_start" in found.sentence) == ("warm_start.max_steps=0" in words)


def test_every_advantage_zero_is_said_with_what_made_it_so():
    """All games worth the same, or an estimator that finds no difference; and whether the weights move at all."""
    same = _watch("learner={kl: 0, anchor: 0}").look(0, *_step([_turn(True)] * MIN_REPLIES, 0.0, (0.5,)))
    assert "the same return, 0.5" in same.sentence
    assert "the weights stand still" in same.sentence
    other = _watch("advantage=grpo", "rollout.group_size=2").look(0, *_step([_turn(True)] * MIN_REPLIES, 0.0))
    assert "advantage=grpo finds no difference" in other.sentence
    assert "stand still" not in other.sentence


def test_one_legal_reply_with_an_advantage_is_enough():
    """A run that starts badly and can learn is left alone from then on."""
    watch = _watch()
    turns = [_turn(False)] * MIN_REPLIES + [_turn(True)]
    assert watch.look(0, *_step(turns, -1.0)) is None
    assert watch.look(1, *_step([_turn(False)] * MIN_REPLIES, -1.0)) is None


def test_few_replies_are_no_evidence_and_are_counted_over_steps_and_resumes():
    """The state is JSON, and goes on where it was."""
    first = _watch()
    half = _step([_turn(False)] * (MIN_REPLIES // 2), -1.0)
    assert first.look(0, *half) is None
    second = _watch()
    second.state = json.loads(json.dumps(first.state))
    assert second.look(1, *half).step == 1


def test_long_texts_are_cut_and_stay_on_one_line():
    """A sample is to be read on a terminal."""
    turn = _turn(False, text="a\nb" * 500)
    sentence = _watch().look(0, *_step([turn] * MIN_REPLIES, -1.0)).sentence
    assert "\n" not in sentence
    assert len(sentence) < 700


def test_a_run_writes_it_to_its_events_and_trains_on(tmp_path, capsys):
    """Random weights without a warm start: said on the terminal and in events.jsonl at step 0, and no error."""
    words = ["steps=2", "rollout.episodes=32", "warm_start.max_steps=0", "evaluate.every=0", "loggers=[]"]
    run = launch(None, words, tmp_path / "run", False)
    (event,) = [json.loads(line) for line in (run.path / "events.jsonl").read_text().splitlines()]
    assert (event["step"], event["kind"], event["action"]) == (0, "nothing to learn", "note")
    assert "warm_start.max_steps=200" in event["sentence"]
    assert "step 0: none of the learner's first" in capsys.readouterr().out
    assert [line["step"] for line in run.metrics()] == [0, 1]
