"""Rows without padding are the padded ones: the same sums and gradients, with no mask of (T, T) and no token twice."""

import random
import sys
import types

import pytest
import torch
from accelerate import Accelerator
from transformers import LlamaConfig, LlamaForCausalLM

from spiral.api.errors import RunError
from spiral.config.schema import LearnerConfig
from spiral.learning import attention as learned
from spiral.learning.full_learner import FullLearner
from spiral.learning.objective import Objective
from spiral.learning.out_of_memory import memory_errors_named
from spiral.learning.packing import Batch, MiniBatch, pack_samples
from spiral.learning.policy_loss import PolicyLoss
from spiral.learning.row_cost import RowCost
from spiral.learning.samples import Sample
from spiral.models.attention import attention_of, set_attention
from spiral.models.logits import TokenLogits, parameters

torch.set_num_threads(1)

ALL = Objective(clip=0.2, entropy=0.05, kl=0.3, anchor=0.2)
KINDS = ("flex", "flash")


def _model(seed=0, heads=(4, 2)):
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=64, hidden_size=8 * heads[0], intermediate_size=32, num_hidden_layers=2, num_attention_heads=heads[0],
        num_key_value_heads=heads[1], head_dim=8, max_position_embeddings=512, initializer_range=0.3,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def _plain(num=9):
    """Texts of 4 to 30 tokens that share nothing."""
    rng, samples = random.Random(1), []
    for n in range(num):
        prompt = (n, *rng.choices(range(20, 60), k=rng.randint(2, 25)))
        reply = tuple(rng.choices(range(20, 60), k=rng.randint(1, 4)))
        samples.append(Sample(prompt, reply, (-2.0,) * len(reply), rng.random(), -rng.random(), 1 + n % 2))
    return samples


def _trees():
    """Three prompts with six replies each, and a transcript whose second turn goes on where its first one ended."""
    samples = []
    for n in range(3):
        prompt = tuple(range(1 + n, 30 + n))
        samples += [Sample(prompt, (k, k + 1, 63 - k), (-3.0,) * 3, 0.5 + k, -0.1 * n, 1) for k in range(6)]
    first = Sample((60, 61, 62), (5, 6), (-1.0,) * 2, 1.0, 0.0, 1)
    second = Sample((60, 61, 62, 5, 6, 20, 21), (7,), (-1.0,), 0.0, -1.0, 1)
    return [*samples, first, second]


ROWS = {"plain": _plain, "trees": _trees, "both": lambda: _plain() + _trees()}


def _sorted(samples):
    return sorted(samples, key=lambda s: s.prompt + s.reply)


def _flash(query, key, value, ends, ends_k, longest, longest_k, softmax_scale, causal, softcap):
    """flash-attention's contract by torch's attention, text by text: (T, H, D) over (T, K, D)."""
    assert (ends.dtype, ends.is_contiguous(), causal, softcap) == (torch.int32, True, True, 0.0)
    assert torch.equal(ends, ends_k)
    assert longest == longest_k == int(ends.diff().max())
    parts = []
    for start, end in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True):
        q, k, v = (x[start:end].transpose(0, 1)[None] for x in (query, key, value))
        out = torch.nn.functional.scaled_dot_product_attention(
            q, k, v, is_causal=True, scale=softmax_scale, enable_gqa=True
        )
        parts.append(out[0].transpose(0, 1))
    return torch.cat(parts)


@pytest.fixture(autouse=True)
def kernels(monkeypatch):
    """On a CPU: flex attention's own arithmetic, dense, whose gradient torch refuses there for want of a kernel; and
    flash-attention's contract."""
    module = types.ModuleType("flash_attn")
    module.flash_attn_varlen_func = _flash
    monkeypatch.setitem(sys.modules, "flash_attn", module)
    flex = torch.nn.attention.flex_attention
    monkeypatch.setattr(flex, "_validate_device", lambda *_: None)
    monkeypatch.setattr(flex, "_FLEX_ATTENTION_DISABLE_COMPILE_DEBUG", True)  # or each shape would be traced anew
    monkeypatch.setattr(learned, "hindrance", lambda model, kind: None)


def _computed(model, batches, others=(None, None), **settings):
    model.zero_grad()
    loss = PolicyLoss(model, **settings)
    terms = [loss(batch, ALL, *others) for batch in batches]
    (-sum(t.objective for t in terms)).backward()
    sums = {
        name: float(sum(getattr(t, name).detach() for t in terms)) for name in ("objective", "entropy", "kl", "anchor")
    }
    return sums, {name: p.grad.clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize("recomputed", [False, True], ids=["kept", "recomputed"])
@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("kind", KINDS)
def test_sums_and_gradients_are_those_of_padded_rows(kind, rows, recomputed):
    """With a reference, over several micro-batches and in one; activations kept, and computed again."""
    model, reference, samples = _model(), _model(1), _sorted(ROWS[rows]())
    expected = _computed(model, pack_samples(samples, 10**6), (TokenLogits(reference), None))
    for one in (model, reference):
        set_attention(one, kind)
    for limit in (60, 10**6):
        batches = pack_samples(samples, limit, RowCost.of(model))
        assert all(batch.mask is None and batch.ids.shape[0] == 1 for batch in batches)
        found = _computed(model, batches, (TokenLogits(reference), None), checkpoint_activations=recomputed)
        assert found[0] == {name: pytest.approx(value, rel=1e-4, abs=1e-4) for name, value in expected[0].items()}
        torch.testing.assert_close(found[1], expected[1], atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("heads", [(3, 1), (6, 3), (4, 4)])
def test_heads_of_any_number_are_grouped(heads):
    """Flex attention's kernels group powers of two alone."""
    model, samples = _model(heads=heads), _sorted(_trees())
    expected = _computed(model, pack_samples(samples, 10**6))
    set_attention(model, "flex")
    found = _computed(model, pack_samples(samples, 10**6, RowCost.of(model)))
    torch.testing.assert_close(found[1], expected[1], atol=1e-4, rtol=1e-3)


def test_no_token_is_padding():
    """Computed are the tokens of the texts, in flex attention those of shared beginnings once; flash-attention has no
    trees, and its texts end where they end. No micro-batch is longer than asked, but for one text."""
    samples = _sorted(_plain() + _trees())
    texts = sum(len(s.prompt) + len(s.reply) for s in samples) - 5  # the first turn of the transcript is in the second
    flash = pack_samples(samples, 64, RowCost(attention="flash"))
    assert sum(batch.ids.numel() for batch in flash) == texts
    assert max(batch.ids.numel() for batch in flash) <= 64
    assert sum(len(batch.bounds[0, 0, 0]) - 1 for batch in flash) == len(samples) - 1
    for batch in flash:
        starts = batch.bounds[0, 0, 0][:-1].tolist()
        assert [n for n, position in enumerate(batch.positions[0].tolist()) if position == 0] == starts
    flex = pack_samples(samples, 10**6, RowCost(attention="flex"))
    shared = sum(29 * 5 for _ in range(3))
    assert sum(batch.ids.numel() for batch in flex) <= texts - shared
    assert flex[0].bounds is None
    padded = pack_samples(samples, 10**6)
    assert sum(batch.ids.numel() for batch in padded) > texts - shared


def test_a_long_text_is_a_micro_batch_of_its_own():
    """16,384 tokens beside short ones, and no tensor of its micro-batch has more numbers than it has tokens."""
    long = Sample(tuple(n % 60 + 1 for n in range(16_383)), (1,), (-4.0,), 1.0, 0.0, 1)
    for kind in KINDS:
        batches = pack_samples(_sorted([long, *_plain()]), 2048, RowCost(attention=kind))
        assert [batch.ids.numel() > 16_000 for batch in batches] == [False, True]
        fields = [getattr(batches[1], name) for name in batches[1].__slots__ if name != "bounds"]
        assert max(field.numel() for field in fields if field is not None) == 16_384
        assert batches[1].bounds.untyped_storage().nbytes() == 8


@pytest.mark.parametrize(
    ("limit", "what"),
    [
        (10**6, r"9 texts and trees of \d+ tokens together, .*; set learner.micro_batch_tokens below 2048 or"),
        (1, r"1 text or tree of \d+ tokens together, .* or shorter texts"),
    ],
)
def test_memory_that_runs_out_names_the_texts_of_a_row(limit, what):
    """A row holds many, of which fewer would need less; a text alone is only less when it is shorter."""
    batch = pack_samples(_sorted(_plain()), limit, RowCost(attention="flash"))[0]
    with pytest.raises(RunError, match=what), memory_errors_named(batch, LearnerConfig()):
        raise torch.OutOfMemoryError("no memory")


@pytest.mark.parametrize(("kind", "precision"), [("flex", "float32"), ("flash", "bf16")])
def test_a_learner_learns_the_same(kind, precision):
    """Two updates from the same batch, packed for each: the same weights, in bfloat16 to its rounding; the average and
    the reference compute the same attention."""
    found = {}
    for attention in ("sdpa", kind):
        settings = {"attention": attention, "precision": precision, "kl": 0.1, "reference_every": 1, "ema": 0.5}
        model = _model().to(torch.bfloat16 if precision == "bf16" else torch.float32)
        learner = FullLearner(model, LearnerConfig(lr=1e-3, ratio_tolerance=1e9, **settings), 10, Accelerator(cpu=True))
        assert attention_of(learner.evaluated_model) == attention_of(model) == attention
        samples = _sorted(_plain() + _trees())
        micro_batches = pack_samples(samples, 64, RowCost.of(model))
        batch = Batch((MiniBatch(micro_batches, 29, 100, 1000, sum(m.ids.numel() for m in micro_batches)),))
        for step in range(2):
            learner.update(batch, step, 8)
        found[attention] = {name: weight.float().clone() for name, weight in parameters(model).items()}
    start = parameters(_model())
    moved = sum(float((weight - start[name]).abs().sum()) for name, weight in found["sdpa"].items())
    apart = sum(float((weight - found["sdpa"][name]).abs().sum()) for name, weight in found[kind].items())
    assert moved > 1
    assert apart < (0.02 if precision == "float32" else 0.3) * moved
