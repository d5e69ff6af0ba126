"""The kit's check of prompt formats and models: each promise has a plug-in that breaks it, and the sentence says how."""

import re

import pytest
import torch
from spiral_models import MODELS
from spiral_models.byte.tokenizer import ByteTokenizer
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from spiral.api.games import QUESTION
from spiral.api.records import Continuation
from spiral.models.chat import chat
from spiral.models.own_forward import largest_look_ahead
from spiral.models.prompts import PlainFormat
from spiral.testing.models import check_model
from spiral.testing.prompts import check_prompt_format, merging_tokenizer

TOKENIZERS = {"byte": ByteTokenizer(), "merging": merging_tokenizer()}


@pytest.mark.parametrize("make", [PlainFormat, chat])
def test_the_core_formats_keep_their_promises(make):
    assert check_prompt_format(make, TOKENIZERS) == []


class Careless(PlainFormat):
    """Encodes a player's text with its special tokens."""

    def encode(self, rules, observation, *_):
        return self._tokenizer.encode(observation, add_special_tokens=False) or [1]


class CarelessOfQuestions(PlainFormat):
    """Encodes a question with its special tokens, and a game's text as text."""

    def encode(self, rules, observation, *_):
        asked = self._tokenizer.encode(observation, add_special_tokens=False) or [1]
        return asked if rules == QUESTION else super().encode(rules, observation)


class Lowering(PlainFormat):
    def read(self, reply):
        move = super().read(reply)
        return move and move.lower()


class Forgetting(PlainFormat):
    def encode(self, rules, observation, *_):
        return super().encode(rules, observation[:2])


class Rewriting(PlainFormat):
    """Encodes the moves of its history anew."""

    has_history = True

    def encode(self, rules, observation, moves=None, turns=()):
        said = "".join(f"{t.observation}{self._tokenizer.decode(t.reply, skip_special_tokens=True)}" for t in turns)
        return super().encode(rules, said + observation)


class Unfinished(PlainFormat):
    def reply(self, move):
        return super().reply(move)[:-1]


class Sometimes(PlainFormat):
    def reply(self, move):
        return super().reply(move) if len(move) > 1 else None


class Mumbling(PlainFormat):
    """Writes its thoughts where it reads the move."""

    def write(self, move, thoughts):
        return super().reply(f"{thoughts}{move}")


class Rambling(PlainFormat):
    """Goes on after the end of a reply that it writes."""

    def write(self, move, thoughts):
        return [*super().reply(move), *self._ids(thoughts)]


class Raising(PlainFormat):
    def read(self, reply):
        return self._tokenizer.decode(reply[: reply.index(self.stop_ids[0])])


class Listing(PlainFormat):
    def __init__(self, tokenizer):
        super().__init__(tokenizer)
        self.stop_ids = list(self.stop_ids)


class Ending(PlainFormat):
    """Ends the reply in the policy's place."""

    def continuation(self, reply):
        return Continuation(self.stop_ids)


class Standing(PlainFormat):
    def continuation(self, reply):
        return Continuation(num_tokens=0)


class Crammed(PlainFormat):
    """Says nothing of the room that its parts take."""

    def continuation(self, reply):
        return Continuation((1, 2)) if reply else Continuation(num_tokens=4)


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (Careless, "a player who writes .* makes a special token of it"),
        (CarelessOfQuestions, "a question that holds .* makes a special token of it"),
        (Lowering, "read.reply.'Bet'.. is 'bet' with the tokenizer byte; make the two agree"),
        (Forgetting, "two observations have one prompt"),
        (Rewriting, "after 1 turns a prompt does not begin with the last one"),
        (Unfinished, "end it with one of stop_ids"),
        (Sometimes, "None for all moves or for none"),
        (Mumbling, "read.write.'bet', 'It may be a bluff.'.. is 'It may be a bluff.bet'"),
        (Rambling, "end it with one of stop_ids"),
        (Raising, "raised ValueError"),
        (Listing, "make it a tuple of ids"),
        (Ending, "puts a stop id there"),
        (Standing, "continue by 1 token or more"),
        (Crammed, "raise min_new_tokens"),
    ],
)
def test_a_broken_promise_is_named(make, found):
    violations = check_prompt_format(make, TOKENIZERS)
    assert violations
    assert any(re.search(found, violation) for violation in violations), violations


def test_a_byte_model_keeps_its_promises():
    assert check_model(MODELS["byte-0.1m"], {"plain": PlainFormat, "chat": chat}) == []


@pytest.mark.parametrize("name", [name for name in MODELS if name != "hf"])
def test_every_model_of_ours_is_causal(name):
    torch.manual_seed(0)
    assert largest_look_ahead(MODELS[name](context=64)[0].eval()) < 1e-4


class _Leaky(LlamaForCausalLM):
    """Gives each token the mean over its block of four, of those that come after it too."""

    def forward(self, input_ids=None, **kwargs):
        found = super().forward(input_ids=input_ids, **kwargs)
        blocks = torch.arange(input_ids.shape[1]) // 4
        same = (blocks == blocks[:, None]).float()
        found.logits = (same / same.sum(-1, keepdim=True)) @ found.logits
        return found


def test_a_model_that_looks_ahead_is_named():
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=272, max_position_embeddings=64, initializer_range=0.3, **sizes)
    violations = check_model(lambda: (_Leaky(config), ByteTokenizer()), {})
    assert any("a token changes the log-probabilities of tokens before it" in violation for violation in violations)


def _narrow():
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = MistralConfig(vocab_size=272, max_position_embeddings=64, sliding_window=8, num_key_value_heads=2, **sizes)
    return MistralForCausalLM(config), ByteTokenizer()


def test_a_model_that_attends_to_less_than_its_context_is_named():
    (violation,) = check_model(_narrow, {"plain": PlainFormat})
    assert "attends to 8 tokens" in violation


def test_a_vocabulary_that_is_too_small_is_named():
    model = MODELS["byte-0.1m"]()[0]
    (violation,) = check_model(lambda: (model, merging_tokenizer()), {})
    assert "the tokenizer has 291 ids and the model 272" in violation
