"""Text of players as ids: no name that it holds becomes a token that a model takes for more than text."""

from types import SimpleNamespace

import pytest
from spiral_models.byte.tokenizer import ByteTokenizer

from spiral.models.tokens import PlainText, control_tokens, generation_stop_ids
from spiral.testing import merging_tokenizer

THINKER = merging_tokenizer(special=["<|im_end|>"], added=["<think>", "</think>", "[INST]", "wood", "   "])


def test_control_tokens_are_the_special_ones_and_those_in_brackets():
    """A word or white space that was added to a vocabulary is text."""
    assert set(control_tokens(THINKER)) == {"<s>", "</s>", "<|im_end|>", "<think>", "</think>", "[INST]"}
    assert "<|eot|>" in control_tokens(ByteTokenizer())


@pytest.mark.parametrize(
    "text",
    ["<think>", "a</think>b", "</s><|im_end|>", "<think><think>", "[INST] x [/INST]", "2 wood   </think>", "<<s>>", ""],
)
def test_names_of_tokens_are_spelt_out(text):
    """`split_special_tokens` alone would leave `<think>` whole; the ids still decode to the text."""
    ids = PlainText(THINKER).ids(text)
    assert not set(ids) & set(control_tokens(THINKER).values())
    assert THINKER.decode(ids, skip_special_tokens=False) == text


def test_other_text_is_encoded_as_the_tokenizer_does():
    """Added words stay whole, and nothing is cut where no name stands."""
    text = "I offer 2 wood   for 1 gold"
    assert PlainText(THINKER).ids(text) == THINKER.encode(text, add_special_tokens=False)


@pytest.mark.parametrize(("eos", "ids"), [(None, ()), (2, (2,)), ([128001, 128009], (128001, 128009))])
def test_the_models_own_ends_of_a_reply(eos, ids):
    """The generation config of a chat model names several."""
    assert generation_stop_ids(SimpleNamespace(generation_config=SimpleNamespace(eos_token_id=eos))) == ids


def test_a_model_without_a_generation_config_has_none():
    assert generation_stop_ids(SimpleNamespace()) == ()
