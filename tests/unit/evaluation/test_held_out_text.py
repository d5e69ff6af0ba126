"""Bits per byte by hand, on the whole text and as an estimate, beside gzip and xz."""

import gzip
import lzma
import math

import pytest
import torch
from spiral_models import MODELS

from spiral.evaluation.held_out_text import HeldOutText
from spiral.models.logits import TokenLogits
from spiral.testing import merging_tokenizer

torch.set_num_threads(1)
PROSE = "The quick brown fox jumps over the lazy dog, and over the lazy cat.\n" * 9


@pytest.fixture(scope="module")
def byte():
    torch.manual_seed(0)
    return MODELS["byte-0.1m"](context=64)


@pytest.fixture(scope="module")
def uniform():
    """Every token of 272 has the same chance."""
    model, tokenizer = MODELS["byte-0.1m"](context=64)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    return TokenLogits(model), tokenizer


@pytest.mark.parametrize(("texts", "num_predicted", "num_bytes"), [
    (["a b"], 4, 3), (["ü"], 3, 2), (["\n"], 2, 1), (["ab", "c"], 5, 3), (["x" * 200], 201, 200),
])  # fmt: skip
def test_bits_are_total_nats_over_ln_2_and_the_bytes_of_the_text(uniform, texts, num_predicted, num_bytes):
    """A uniform model needs log2(272) bits for each byte and for each document's end; bytes are counted once."""
    lm, tokenizer = uniform
    text = HeldOutText(texts, tokenizer, 16)
    assert text.num_bytes == num_bytes
    assert text.bits_per_byte(lm, 2048) == pytest.approx(num_predicted * math.log2(272) / num_bytes, rel=1e-6)


def test_a_tokenizer_with_longer_pieces_is_measured_by_the_same_bytes(uniform):
    """The first token of a stream without a beginning of its own has nothing before it, and is not measured."""
    tokenizer = merging_tokenizer("", [])
    tokenizer.eos_token = tokenizer.bos_token = "</s>"
    text = HeldOutText(["check bet ü"], tokenizer, 16)
    num_predicted = len(tokenizer.encode("check bet ü", add_special_tokens=False))
    assert text.num_bytes == 12
    assert text.bits_per_byte(uniform[0], 2048) == pytest.approx(num_predicted * math.log2(272) / 12, rel=1e-6)


def test_windows_give_what_one_pass_gives(byte):
    """One document in one window, against the model's own forward pass."""
    model, tokenizer = byte
    ids = torch.tensor([[257, *b"Free software.", 261]])
    logprobs = torch.log_softmax(model(ids).logits.detach()[0, :-1], -1).gather(1, ids[0, 1:, None])
    bits = -float(logprobs.double().sum()) / math.log(2) / 14
    text = HeldOutText(["Free software."], tokenizer, 64)
    assert text.bits_per_byte(TokenLogits(model), 2048) == pytest.approx(bits, rel=1e-6)


def test_micro_batches_change_nothing_and_an_estimate_of_all_windows_is_exact(byte):
    lm, text = TokenLogits(byte[0]), HeldOutText([PROSE, "ü" * 40], byte[1], 32)
    exact = text.bits_per_byte(lm, 2048)
    assert text.bits_per_byte(lm, 40) == pytest.approx(exact, rel=1e-6)
    assert text.bits_per_byte(lm, 2048, max_tokens=10**6) == pytest.approx(exact, rel=1e-6)
    part = text.bits_per_byte(lm, 2048, max_tokens=64)
    assert part != exact
    assert part == pytest.approx(exact, rel=0.2)


def test_compressors_are_given_the_same_bytes(byte):
    raw = (PROSE + "ü").encode()
    bits = HeldOutText([PROSE, "ü"], byte[1], 32).compressed()
    assert bits == {
        "gzip": 8 * len(gzip.compress(raw, 9, mtime=0)) / len(raw),
        "xz": 8 * len(lzma.compress(raw, preset=9)) / len(raw),
    }
    assert HeldOutText([PROSE, "ü"], byte[1], 32).num_bytes == len(raw)


def test_samples_go_on_from_the_longest_documents(byte):
    text = HeldOutText(["short", "longest of all", "the middle one"], byte[1], 32)
    assert text.beginnings(2, 7) == ["longest", "the mid"]
    assert text.beginnings(9, 3) == ["sho", "lon", "the"]
