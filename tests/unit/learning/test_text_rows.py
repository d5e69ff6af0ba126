"""Rows of text by hand: every token is predicted once, in an order that is a function of the step."""

from collections import Counter

import numpy as np
import pytest
from spiral_models import MODELS

from spiral.learning.packing import pack
from spiral.learning.text_rows import Stream, TextRows, start_ids, window_starts
from spiral.testing import merging_tokenizer

BOS, EOT = 257, 261
ROW = 8


@pytest.fixture(scope="module")
def tokenizer():
    return MODELS["byte-0.1m"](context=32)[1]


def _sequences(episodes):
    return [(turn.prompt, turn.reply) for e in episodes for t in e.trajectories for turn in t.turns]


def test_documents_follow_each_other_and_end_with_the_end_id(tokenizer):
    """What a document begins with is not predicted, its end is; a text that spells a special token stays text."""
    stream = Stream.of(["ab", "<|eot|>"], tokenizer)
    assert stream.ids.tolist() == [BOS, 97, 98, EOT, BOS, *b"<|eot|>", EOT]
    assert stream.trained.tolist() == [False, True, True, True, False, *[True] * 8]
    assert stream.num_predicted == 11


def test_a_tokenizer_whose_first_id_is_its_last_has_documents_without_a_beginning():
    """By position: an end id inside is trained, where a mask by value would leave it out."""
    merging = merging_tokenizer("", [])
    merging.add_special_tokens({"eos_token": "<|end|>"})
    merging.bos_token = "<|end|>"
    assert start_ids(merging) == []
    stream = Stream.of(["ab", "c"], merging)
    assert stream.trained.all()
    assert [n for n, token in enumerate(stream.ids) if token == merging.eos_token_id] == [
        len(merging.encode("ab")), len(stream.ids) - 1,
    ]  # fmt: skip


def test_every_token_but_the_first_is_predicted_once_an_epoch(tokenizer):
    """Rows of 8 tokens over 24: 7 predictions each, the last row shorter and nothing left out."""
    rows = TextRows(["abcdefghij", "klmnopqrst"], tokenizer, ROW, seed=0)
    assert rows.num_rows == 4  # ceil(23 / 7)
    found = _sequences(rows.of_step(0, 4))
    assert sorted(len(reply) for _, reply in found) == [2, 7, 7, 7]
    assert all(len(prompt) == 1 for prompt, _ in found)
    ids = rows.stream.ids.tolist()
    assert Counter(token for _, reply in found for token in reply) == Counter(ids[1:])
    starts = sorted(ids.index(prompt[0]) for prompt, _ in found)
    assert starts == [0, 7, 14, 21] or len(set(starts)) == 4


def test_what_a_document_begins_with_is_not_trained(tokenizer):
    rows = TextRows(["abcde", "fghij"], tokenizer, ROW, seed=0)
    trajectories = [t for e in rows.of_step(0, rows.num_rows) for t in e.trajectories]
    batch = pack(trajectories, [[1.0]] * len(trajectories), 100)
    targets = [token for micro_batch in batch.micro_batches for token in micro_batch.targets.tolist()]
    assert Counter(targets) == Counter([*b"abcdefghij", EOT, EOT])
    assert batch.num_reply_tokens == 12


def test_each_epoch_has_every_row_once_in_an_order_of_its_own(tokenizer):
    rows = TextRows(["".join(chr(33 + n) for n in range(70))], tokenizer, ROW, seed=0)
    assert rows.num_rows == 11
    epochs = [_sequences(rows.of_step(epoch, 11)) for epoch in range(3)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(epochs[2])
    assert epochs[0] != epochs[1] != epochs[2]
    assert epochs[0] != _sequences(
        TextRows(["".join(chr(33 + n) for n in range(70))], tokenizer, ROW, 1).of_step(0, 11)
    )


@pytest.mark.parametrize("stopped_at", [13, 10])
def test_a_run_that_goes_on_reads_what_the_uninterrupted_one_would(tokenizer, stopped_at):
    """10 rows, 3 epochs, a row a step: stopped at step 13, and at exactly 10 (accelerate#4071, accelerate#2016)."""
    text = "".join(chr(33 + n) for n in range(68))
    whole = TextRows([text], tokenizer, ROW, seed=0)
    assert whole.num_rows == 10
    steps = [_sequences(whole.of_step(step, 1)) for step in range(30)]
    assert Counter(map(str, steps)) == Counter({str(step): 3 for step in steps})
    resumed = TextRows([text], tokenizer, ROW, seed=0)
    assert [_sequences(resumed.of_step(step, 1)) for step in range(stopped_at, 30)] == steps[stopped_at:]


def test_a_step_may_span_epochs(tokenizer):
    """Steps of 4 rows over 10: the third takes the last two of one epoch and the first two of the next."""
    text = "".join(chr(33 + n) for n in range(68))
    rows = TextRows([text], tokenizer, ROW, seed=0)
    one = [_sequences(rows.of_step(place, 1))[0] for place in range(12)]
    assert _sequences(rows.of_step(2, 4)) == one[8:12]


# Windows


@pytest.mark.parametrize("num_tokens", [1, 2, 8, 9, 14, 100, 1001])
def test_windows_predict_every_token_once_with_a_quarter_of_a_row_before_it(num_tokens):
    predicted = []
    for start, first in window_starts(num_tokens, ROW):
        end = min(start + ROW, num_tokens)
        predicted += range(first, end)
        assert start == 0 or first - start == 1 + ROW // 4
        assert end - start <= ROW
    assert predicted == [*range(1, num_tokens)]


def test_windows_by_hand():
    """Of 20 tokens, rows of 8: 1..7 from nothing; then five a window, each after three tokens."""
    assert window_starts(20, 8) == [(0, 1), (5, 8), (10, 13), (15, 18)]


def test_an_empty_stream_has_no_window_and_no_row(tokenizer):
    assert window_starts(0, ROW) == []
    rows = TextRows([], tokenizer, ROW, seed=0)
    assert rows.num_rows == 0
    assert rows.stream.ids.dtype == np.int32
