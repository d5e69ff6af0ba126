"""The exact chance of a move is the chance that play meets: every reply that can be sampled is read and added up.

A tokenizer that merges spells one move in several ways. The exact table scores one spelling, so play takes that one.
"""

import itertools

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.decoders import Fuse
from tokenizers.models import BPE
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from spiral.api.errors import SpiralError
from spiral.evaluation.move_probabilities import move_probabilities
from spiral.models.logits import TokenLogits
from spiral.models.prompt_cache import Prompter
from spiral.models.prompts import PlainFormat
from spiral.policies.completer import Completer
from spiral.theory.game_tree import Decision

torch.set_num_threads(1)

PIECES = ["<bos>", "<eos>", "b", "e", "t", " ", "o", "be", "bet", "to", "Move:", "\n"]
STOP = PIECES.index("<eos>")
SEEN = Decision("bob", 0, ("bet", "be", "tote"))


@pytest.fixture(scope="module")
def merging():
    """A model of twelve pieces with random weights, and a tokenizer that merges letters to pieces."""
    bpe = BPE({piece: n for n, piece in enumerate(PIECES)}, [("b", "e"), ("be", "t"), ("t", "o")])
    inner = Tokenizer(bpe)
    inner.decoder = Fuse()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<bos>", eos_token="<eos>")
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=len(PIECES), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=64, initializer_range=0.3,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval(), Prompter(PlainFormat(tokenizer))


def _replies(longest):
    """Every reply that sampling can end with: any ids but the stop, then the stop."""
    others = [n for n in range(len(PIECES)) if n != STOP]
    for length in range(longest):
        for body in itertools.product(others, repeat=length):
            yield (*body, STOP)


def test_the_exact_table_is_the_sum_over_all_replies_that_play_takes_for_the_move(merging):
    """16,105 replies of up to five tokens: of each move, the chances of those that are read as it are the table's."""
    model, prompter = merging
    prompt = prompter.encode("", SEEN.observation)
    table, illegal = move_probabilities(TokenLogits(model), Completer.of(None, prompter, 5), "", [SEEN])
    chances = dict.fromkeys(SEEN.moves, 0.0)
    spelt = dict.fromkeys(SEEN.moves, 0)
    with torch.inference_mode():
        for length, replies in itertools.groupby(_replies(5), len):
            rows = list(replies)
            ids = torch.tensor([[*prompt, *reply] for reply in rows])
            logprobs = torch.log_softmax(model(input_ids=ids).logits[:, len(prompt) - 1 : -1].double(), -1)
            total = logprobs.gather(-1, ids[:, len(prompt) :, None]).sum((1, 2)).exp().tolist()
            assert ids.shape[1] == len(prompt) + length
            for reply, chance in zip(rows, total, strict=True):
                if (move := prompter.read(reply)) in chances:
                    chances[move] += chance
                    spelt[move] += 1
    legal = sum(chances.values())
    assert legal > 1e-4  # otherwise nothing is compared
    assert illegal[SEEN.observation] == pytest.approx(1 - legal, abs=1e-6)
    for move, chance in chances.items():
        assert table[SEEN.observation][move] == pytest.approx(chance / legal, rel=1e-4)
    assert set(spelt.values()) == {1}


def test_one_spelling_of_a_move_is_taken(merging):
    """`bet` is one piece; `be` `t` and `b` `e` `t` are the same text, and no move."""
    _, prompter = merging
    b, e, t, be, bet = (PIECES.index(piece) for piece in ("b", "e", "t", "be", "bet"))
    assert prompter.reply("bet") == (bet, STOP)
    assert prompter.read((bet, STOP)) == "bet"
    assert prompter.read((be, t, STOP)) is None
    assert prompter.read((b, e, t, STOP)) is None


@pytest.mark.parametrize(("longest", "fits"), [(4, True), (3, False)])
def test_a_move_that_play_would_cut_has_no_exact_chance(merging, longest, fits):
    """`tote` is three pieces and the stop: with three tokens a reply it is never finished, and the figure says so."""
    model, prompter = merging
    completer = Completer.of(None, prompter, longest)
    if fits:
        assert move_probabilities(TokenLogits(model), completer, "", [SEEN])
        return
    with pytest.raises(SpiralError, match=r"'tote' takes 4 tokens.*cut after 3; set rollout.max_new_tokens=4 or more"):
        move_probabilities(TokenLogits(model), completer, "", [SEEN])
