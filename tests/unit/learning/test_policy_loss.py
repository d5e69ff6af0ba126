"""The head in chunks is the head at once: every term, every gradient; and logits are never whole in memory."""

import copy
import dataclasses
from collections import Counter

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, LlamaConfig, LlamaForCausalLM

from spiral.learning.objective import Objective
from spiral.learning.packing import pack_samples
from spiral.learning.policy_loss import PolicyLoss
from spiral.learning.samples import Sample
from spiral.learning.supervised import likelihood_step
from spiral.models.logits import TokenLogits

torch.set_num_threads(1)

V, H = 97, 16
ALL = Objective(clip=0.2, entropy=0.05, kl=0.3, anchor=0.2)
OBJECTIVES = {
    "reinforce": Objective(),
    "all": ALL,
    "replies by their mean, ratios of replies": dataclasses.replace(
        ALL, mean_of_replies=True, ratio_level="sequence", importance_cap=2.0
    ),
}


def _model(seed=0, config=LlamaConfig, make=LlamaForCausalLM, **changed):
    torch.manual_seed(seed)
    sizes = {
        "vocab_size": V, "hidden_size": H, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 2, "head_dim": 8, "initializer_range": 0.4, "max_position_embeddings": 64,
    }  # fmt: skip
    return make(config(**{**sizes, **changed})).eval()


def _batch():
    """One tree and its 27 trained tokens; where a reply begins like a legal one, random legal play is known."""
    legal = ((5, 6, 7), (5, 8, 9), (6,))
    samples = []
    for n in range(6):
        reply = ((5, 6, 7), (5, 8, 9, 10, 11), (6,), (20, 21, 22, 23))[n % 4] + (30 + n,) * (n % 3)
        logprobs = tuple(-1.0 - 0.1 * k for k in range(len(reply)))
        samples.append(Sample((1, 2, 3, 40 + n // 4), reply, logprobs, n + 0.5, -n - 0.25, n + 1, legal))
    [micro_batch] = pack_samples(sorted(samples, key=lambda s: s.prompt + s.reply), 10**6)
    assert len(micro_batch.targets) == 27
    assert len(micro_batch.anchored) > 10
    return micro_batch


def _tokens(num):
    """The limit at which a chunk has `num` tokens."""
    return 4 * V * num


def _computed(model, batch, weights, limit, reference=None, initial=None):
    model.zero_grad()
    terms = PolicyLoss(model, limit)(batch, weights, reference, initial)
    # A factor that arrives in the backward pass, as that of a mean over games.
    (-terms.objective / 7).backward()
    return terms, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def _numbers(terms):
    for field in dataclasses.fields(terms):
        value = getattr(terms, field.name)
        yield from _numbers(value) if dataclasses.is_dataclass(value) else [value]


def _assert_same(one, other):
    torch.testing.assert_close(list(_numbers(one[0])), list(_numbers(other[0])), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(one[1], other[1], atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("size", [1, 5, 26, 27])
@pytest.mark.parametrize("initial", [False, True])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_chunks_change_nothing(name, initial, size):
    """Value and gradient of every term, with a reference and the anchor to the initial policy or to legal play."""
    model, batch = _model(), _batch()
    others = TokenLogits(_model(1)), TokenLogits(_model(2)) if initial else None
    plain = _computed(model, batch, OBJECTIVES[name], 1 << 40, *others)
    _assert_same(_computed(model, batch, OBJECTIVES[name], _tokens(size), *others), plain)
    assert plain[1]["lm_head.weight"].norm() > 0.1


def test_capped_logits_come_in_chunks_too():
    """Of the policy and of the reference."""
    model, reference = (
        _model(seed, Gemma3TextConfig, Gemma3ForCausalLM, final_logit_softcapping=3.0) for seed in (0, 1)
    )
    plain = _computed(model, _batch(), ALL, 1 << 40, TokenLogits(reference))
    _assert_same(_computed(model, _batch(), ALL, _tokens(5), TokenLogits(reference)), plain)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_a_chunked_head_has_the_right_gradient(size):
    """Advantages 0, 1, -2 and 3: sum over tokens of A (onehot - pi) h, by hand. A factor a token that is applied as one
    scalar, the first token's, gives a gradient of exactly 0."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=5, hidden_size=3, intermediate_size=4, num_hidden_layers=1, num_attention_heads=1, head_dim=2,
        num_key_value_heads=1, initializer_range=1.0,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    lm = TokenLogits(model)
    [batch] = pack_samples([Sample((1,), (2, 3, 4, 0), (0.0,) * 4, count=1)], 100)
    with torch.no_grad():
        hidden = lm.hidden(batch.ids, batch.positions, None, batch.rows, batch.columns)
        pi = torch.softmax(lm.head(hidden), -1)
    advantages = torch.tensor([0.0, 1.0, -2.0, 3.0])
    batch = dataclasses.replace(
        batch,
        positive=advantages.clamp(min=0),
        negative=advantages.clamp(max=0),
        logprobs=pi.log()[torch.arange(4), batch.targets],
    )
    PolicyLoss(model, 4 * 5 * size)(batch, Objective()).objective.backward()
    expected = (advantages[:, None] * (torch.eye(5)[batch.targets] - pi)).T @ hidden
    assert expected.norm() > 0.1
    torch.testing.assert_close(model.lm_head.weight.grad, expected, atol=1e-6, rtol=1e-5)


class _Widest(TorchDispatchMode):
    """Remembers how many tokens the largest tensor over the vocabulary has of all that an operation gave."""

    def __init__(self):
        super().__init__()
        self.tokens = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if not isinstance(tensor, torch.Tensor) or tensor.shape == (H, V):  # the head itself, transposed
                continue
            if tensor.dim() and tensor.shape[-1] == V:
                self.tokens = max(self.tokens, tensor.numel() // V)
        return out


@pytest.mark.parametrize("name", OBJECTIVES)
def test_logits_are_never_whole(name):
    """Neither forward nor backward makes a tensor of more than 5 tokens over the vocabulary, of any of the three
    models; at once, there is one of all 26."""
    model, batch = _model(), _batch()
    others = TokenLogits(_model(1)), TokenLogits(_model(2))
    for limit, most in ((_tokens(5), 5), (1 << 40, 27)):
        loss = PolicyLoss(model, limit)
        model.zero_grad()
        with _Widest() as widest:
            loss(batch, OBJECTIVES[name], *others).objective.backward()
        assert widest.tokens == most


# Supervised updates

EXAMPLES = Counter({((1, 2, 40 + n), (5, 60 + n, 7 + n % 3)): 1 + n % 2 for n in range(9)})
"""27 trained tokens of 9 examples, some of which count twice."""


def _taught(model, limit, micro_batch_tokens=10**6):
    """The weights after a step of plain descent, and the most tokens over the vocabulary in one tensor."""
    model = copy.deepcopy(model)
    loss = PolicyLoss(model, limit)
    with _Widest() as widest:
        likelihood_step(loss, torch.optim.SGD(model.parameters(), lr=1.0), EXAMPLES, micro_batch_tokens)
    return {name: p.detach() for name, p in model.named_parameters()}, widest.tokens


@pytest.mark.parametrize("size", [1, 5, 14])
@pytest.mark.parametrize("changed", [{}, {"config": Gemma3TextConfig, "make": Gemma3ForCausalLM}])
def test_a_supervised_update_in_chunks_is_the_one_at_once(changed, size):
    """Weights to rounding, of models with a plain and with a capped head; no tensor is wider than a chunk."""
    capped = {"final_logit_softcapping": 3.0} if changed else {}
    model = _model(**changed, **capped)
    whole, widest = _taught(model, 1 << 40)
    assert widest == 27
    found, widest = _taught(model, _tokens(size))
    assert widest == size
    torch.testing.assert_close(found, whole, atol=1e-6, rtol=1e-4)
    assert max(float((found[name] - p).detach().abs().max()) for name, p in model.named_parameters()) > 1e-2


def test_a_supervised_update_is_the_gradient_of_the_mean_over_examples():
    """Against torch's cross-entropy on the model's own logits, example by example."""
    model = _model()
    expected = copy.deepcopy(model)
    loss = sum(
        count * torch.nn.functional.cross_entropy(
            expected(input_ids=torch.tensor([[*prompt, *reply]])).logits[0, len(prompt) - 1 : -1],
            torch.tensor(reply), reduction="sum",
        )
        for (prompt, reply), count in EXAMPLES.items()
    )  # fmt: skip
    (loss / EXAMPLES.total()).backward()
    torch.nn.utils.clip_grad_norm_(expected.parameters(), 1.0)
    found, _ = _taught(model, _tokens(5), micro_batch_tokens=12)
    for name, parameter in expected.named_parameters():
        torch.testing.assert_close(found[name], (parameter - parameter.grad).detach(), atol=1e-5, rtol=1e-4)
