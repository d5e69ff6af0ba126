"""Stacked byte decoders against each model's own forward pass: the same logits, whatever shares a pass."""

import copy
import random

import pytest
import torch
from spiral_models import MODELS

torch.set_num_threads(1)

EXACT = 2e-5
SHAPES = {
    "plain": {},
    "shared": {"share_ffn": "all"},
    "low rank": {"ffn_rank": 16},
    "head of its own": {"tie": False},
}


def models(num, **args):
    """Of one shape, with norms that are not 1, since a fresh norm changes nothing."""
    made = []
    for seed in range(num):
        torch.manual_seed(seed)
        model = MODELS["byte-0.1m"](context=160, init_scale=1.5, **args)[0].eval().requires_grad_(False)
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.uniform_(0.5, 1.5)
        made.append(model)
    return made


def weights(model):
    return dict(model.named_parameters())


def stacked(group):
    stack = group[0].stack()
    stack.arrange([None] * len(group))
    for place, model in enumerate(group):
        stack.load(place, weights(model))
    return stack


def empty_keys(model, rows, length):
    config = model.config
    shape = config.num_hidden_layers, rows, config.num_key_value_heads, length, config.head_dim
    return torch.full((2, *shape), 7.0)  # what stands behind a text is never read


def text(rng, length):
    return [rng.randrange(256) for _ in range(length)]


def logits_of(model, ids):
    return model(torch.tensor([ids])).logits[0, -1]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("num_policies", [1, 3])
def test_every_pass_is_the_models_own(shape, num_policies):
    """Prompts, one token a row, and rows that do both in one pass, of one policy and of three with rows in between."""
    rng, group = random.Random(0), models(num_policies, **SHAPES[shape])
    stack, keys = stacked(group), empty_keys(group[0], 9, 128)
    texts = [text(rng, rng.randint(2, 60)) for _ in range(6)]
    policies = [rng.randrange(num_policies) for _ in texts]
    found = stack(keys, 0, texts, [0] * 6, policies)
    for _ in range(3):
        for row, ids in enumerate(texts):
            torch.testing.assert_close(found[row], logits_of(group[policies[row]], ids), atol=EXACT, rtol=0)
        new = [[token] for token in text(rng, len(texts))]
        starts = list(map(len, texts))
        if len(texts) < 9:  # a prompt joins those that take a step, with one id or with many
            new.append(text(rng, rng.choice((1, 40))))
            starts.append(0)
            policies.append(rng.randrange(num_policies))
            texts.append([])
        found = stack(keys, 0, new, starts, policies)
        texts = [old + more for old, more in zip(texts, new, strict=True)]


def test_texts_go_on_from_what_is_kept():
    """Several ids behind others, of different lengths, on rows that are not the first; without logits nothing but keys
    and values."""
    rng, (one, other) = random.Random(1), models(2)
    stack, keys = stacked([one, other]), empty_keys(one, 5, 128)
    texts = [text(rng, length) for length in (70, 33, 51)]
    cuts, policies = (64, 32, 32), (0, 1, 0)
    begun = stack(keys, 2, [ids[:cut] for ids, cut in zip(texts, cuts, strict=True)], [0] * 3, policies, False)
    assert begun.shape == (0, one.config.vocab_size)
    assert bool((keys[:, :, :2] == 7.0).all())
    found = stack(keys, 2, [ids[cut:] for ids, cut in zip(texts, cuts, strict=True)], cuts, policies)
    for row, (ids, policy) in enumerate(zip(texts, policies, strict=True)):
        torch.testing.assert_close(found[row], logits_of((one, other)[policy], ids), atol=EXACT, rtol=0)


def test_policies_come_and_go():
    """Each keeps its weights when others join or leave, and may be loaded anew."""
    rng, group = random.Random(2), models(3)
    stack, ids = stacked(group), text(rng, 20)
    changed = copy.deepcopy(group[1])
    for parameter in changed.parameters():
        parameter.mul_(1.2)
    stack.arrange([2, None, 0])
    stack.load(1, weights(changed))
    found = stack(empty_keys(changed, 3, 64), 0, [ids] * 3, [0] * 3, [0, 1, 2])
    for row, model in enumerate((group[2], changed, group[0])):
        torch.testing.assert_close(found[row], logits_of(model, ids), atol=EXACT, rtol=0)


def test_a_position_outside_of_the_context_is_refused():
    [model] = models(1)
    with pytest.raises(ValueError, match="position 160 is outside the model's context of 160 positions"):
        stacked([model])(empty_keys(model, 1, 200), 0, [[1] * 161], [0], [0])


def test_widths_that_grouped_products_do_not_take_have_no_stack():
    torch.manual_seed(0)
    model = MODELS["byte-0.1m"](ffn_rank=6)[0]
    assert model.stack() is None
