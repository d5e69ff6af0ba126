"""The byte tokenizer: nothing a player writes becomes a special token, and no byte is lost."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from spiral_models.byte.config import SPECIAL_TOKENS, VOCAB_SIZE, ByteConfig
from spiral_models.byte.tokenizer import SPARE_TOKENS, ByteTokenizer
from transformers import AutoTokenizer

TOKENIZER = ByteTokenizer()
RAW = {"add_special_tokens": False, "split_special_tokens": True}


def test_ids():
    assert TOKENIZER.convert_tokens_to_ids(list(SPECIAL_TOKENS)) == list(range(256, 262))
    assert (TOKENIZER.pad_token_id, TOKENIZER.bos_token_id, TOKENIZER.eos_token_id) == (256, 257, 261)
    assert TOKENIZER.act_token_id == 260
    assert TOKENIZER.convert_tokens_to_ids("A") == 65
    assert len(TOKENIZER) == len(TOKENIZER.get_vocab()) == VOCAB_SIZE == ByteConfig().vocab_size


@given(st.text() | st.sampled_from(SPECIAL_TOKENS + SPARE_TOKENS) | st.text(alphabet="<|>eotac"))
def test_any_text_becomes_its_bytes_and_comes_back(text):
    ids = TOKENIZER.encode(text, **RAW)
    assert ids == list(text.encode())
    assert TOKENIZER(text, **RAW)["input_ids"] == ids
    assert TOKENIZER.decode(ids) == text
    assert TOKENIZER.convert_tokens_to_string(TOKENIZER.convert_ids_to_tokens(ids)) == text


@given(st.binary())
def test_raw_bytes_are_their_ids(raw):
    ids = TOKENIZER.bytes_to_ids(raw)
    assert TOKENIZER.ids_to_bytes(ids) == raw
    assert TOKENIZER.decode(ids) == raw.decode("utf-8", "replace")


def test_special_tokens_have_no_bytes():
    with pytest.raises(ValueError, match="256"):
        TOKENIZER.ids_to_bytes([65, 261])


@given(st.lists(st.integers(0, VOCAB_SIZE - 1)))
def test_whatever_a_model_samples_can_be_shown(ids):
    assert isinstance(TOKENIZER.decode(ids), str)
    shown = TOKENIZER.decode(ids, skip_special_tokens=True)
    assert shown == bytes(i for i in ids if i < 256).decode("utf-8", "replace")


def test_a_lone_surrogate_does_not_crash():
    assert TOKENIZER.encode("a\ud800b", **RAW) == [97, 63, 98]


def test_without_the_option_special_strings_are_special_as_in_every_tokenizer():
    assert TOKENIZER.encode("a<|eot|>b") == [97, 261, 98]
    assert TOKENIZER.encode("plain") == list(b"plain")


def test_batches_pad_with_the_pad_id():
    batch = TOKENIZER(["ab", "abc"], padding=True)
    assert batch["input_ids"] == [[97, 98, 256], [97, 98, 99]]
    assert batch["attention_mask"] == [[1, 1, 0], [1, 1, 1]]


def test_save_and_load(tmp_path):
    TOKENIZER.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert type(loaded) is ByteTokenizer
    assert loaded.get_vocab() == TOKENIZER.get_vocab()
    assert loaded.encode("é<|eot|>", **RAW) == list("é<|eot|>".encode())
    assert loaded.encode("<|act|>") == [260]
    assert loaded.chat_template == TOKENIZER.chat_template


def test_chat_template():
    messages = [
        {"role": "system", "content": "r"},
        {"role": "user", "content": "o"},
        {"role": "assistant", "content": "m"},
        {"role": "user", "content": "p"},
    ]
    text = TOKENIZER.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert text == "<|bos|><|sys|>r<|eot|><|obs|>o<|eot|><|act|>m<|eot|><|obs|>p<|eot|><|act|>"


def test_encoding_is_fast():
    """Fifty characters in under 15 us; the best of many, for a busy machine."""
    text, best = "a" * 50, 1.0
    for _ in range(200):
        start = time.perf_counter()
        for _ in range(10):
            TOKENIZER.encode(text, **RAW)
        best = min(best, (time.perf_counter() - start) / 10)
    assert best < 15e-6
