"""Rows of an update: what stands in one row does not meet, and a long transcript costs its length, not its square."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import LlamaConfig, LlamaForCausalLM

import spiral.learning.packing as packing
from spiral.learning.objective import Objective
from spiral.learning.packing import pack_samples
from spiral.learning.policy_loss import PolicyLoss
from spiral.learning.samples import Sample
from spiral.models.logits import TokenLogits

torch.set_num_threads(1)


def _model(attention="sdpa", context=64):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=context, initializer_range=0.3,
    )  # fmt: skip
    config._attn_implementation = attention
    return LlamaForCausalLM(config).eval()


A, B = Sample((1,), (2, 3), (-1.0, -1.0), 1.0, -0.5, 1), Sample((9, 8, 7), (6, 5), (-1.0, -1.0), 2.0, 0.0, 1)


def _in_one_row(*samples):
    """Texts that share nothing, which no cost would put into one row."""
    row = packing._Row()
    for number, sample in enumerate(samples):
        row.add(number, sample, 0)
    batch = packing._tensors([row])
    assert batch.ids.shape == (1, sum(len(s.prompt) + len(s.reply) for s in samples))
    return batch


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_texts_in_one_row_do_not_meet(attention):
    """3 and 5 ids: other ids in the first leave the log-probabilities of the second as they are, and the objective and
    its gradient are the sums of those of two rows."""
    model = _model(attention)
    lm, loss = TokenLogits(model), PolicyLoss(model)

    def second(batch):
        with torch.no_grad():
            return lm(batch.ids, batch.positions, batch.mask, batch.rows, batch.columns)[2:]

    both = _in_one_row(A, B)
    other = _in_one_row(Sample((30,), (31, 32), (-1.0, -1.0), count=1), B)
    torch.testing.assert_close(second(both), second(other), atol=1e-6, rtol=0)

    def computed(*batches):
        model.zero_grad()
        values = [loss(batch, Objective(entropy=0.1)).objective for batch in batches]
        sum(values).backward()
        return sum(values).item(), torch.cat([p.grad.flatten() for p in model.parameters()])

    apart = computed(*(batch for sample in (A, B) for batch in pack_samples([sample], 100)))
    together = computed(both)
    assert together[0] == pytest.approx(apart[0], abs=1e-5)
    torch.testing.assert_close(together[1], apart[1], atol=1e-5, rtol=1e-4)


def test_a_mask_of_ones_is_never_what_parts_texts():
    """A row of several texts has a mask of (T, T), in which the texts do not see each other; padded rows have none."""
    mask = _in_one_row(A, B).mask
    assert mask.shape == (1, 1, 8, 8)
    assert not mask[0, 0, 3:, :3].any()
    [padded] = pack_samples([A, B], 100)
    assert padded.mask is None
    assert padded.ids.shape == (2, 5)


class _Largest(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.squares, self.num = 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if isinstance(tensor, torch.Tensor) and tensor.dim() > 1:
                self.squares = max(self.squares, min(tensor.shape[-2:]))
                self.num = max(self.num, tensor.numel())
        return out


def test_padding_makes_no_mask():
    """Rows of 40 and 23 tokens, padded: no tensor of the pass is as wide and as high as a row, so the attention is the
    causal kernel's. Positions that begin again in the padding would be taken for another text."""
    samples = [Sample((n, *range(1, n - 1)), (n + 1,), (-1.0,), 1.0, 0.0, 1) for n in (23, 40)]
    [batch] = pack_samples(samples, 100)
    assert batch.ids.shape == (2, 40)
    assert batch.positions.tolist() == [list(range(40))] * 2
    model = _model()
    loss = PolicyLoss(model)
    with _Largest() as seen:
        (-loss(batch, Objective()).objective).backward()
    assert 0 < seen.squares < 40
    ragged = batch.positions.clone()
    ragged[0, 30:] = 0
    with _Largest() as seen, torch.no_grad():
        model.model(input_ids=batch.ids, position_ids=ragged, use_cache=False)
    assert seen.squares == 40


def test_a_transcript_of_16384_tokens_is_one_row_without_a_square():
    """Beside trees of short texts, which have masks: it is a row of its own, and no tensor of its forward pass has more
    numbers than the row has tokens times what one takes in a layer."""
    length = 16_384
    prompt = tuple(n % 60 + 1 for n in range(length - 1))
    long = Sample(prompt, (1,), (-4.0,), 1.0, 0.0, 1)
    short = [Sample((62,) * 20, (n,), (-1.0,), 1.0, 0.0, 1) for n in range(1, 8)]
    batches = pack_samples(sorted([long, *short], key=lambda s: s.prompt + s.reply), 2048)
    assert [batch.mask is None for batch in batches] == [False, True]
    assert batches[1].ids.shape == (1, length)
    model = _model(context=length)
    model.model.layers = model.model.layers[:1]
    loss = PolicyLoss(model)
    with _Largest() as seen, torch.no_grad():
        loss(batches[1], Objective())
    assert seen.num <= length * 64
