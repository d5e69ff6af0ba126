"""Sampling on rows that many requests share."""

import numpy as np
import torch

from spiral.engines.torch.slots import draw


def test_requests_that_share_a_row_get_what_each_gets_alone():
    """Whatever the order of rows, and also where a row has none."""
    rng = np.random.default_rng(0)
    logits, rows, uniforms = torch.randn(6, 50) * 3, rng.choice([0, 2, 3, 5], 40), rng.random(40)
    ids, logprobs = draw(logits, rows, np.ones(40), uniforms)
    for row, uniform, token, logprob in zip(rows, uniforms, ids, logprobs, strict=True):
        alone = draw(logits[row][None], np.zeros(1, int), np.ones(1), np.array([uniform]))
        assert (alone[0].item(), alone[1].item()) == (token, logprob)


def test_ids_come_as_often_as_their_probabilities_say():
    """The uniforms are a fine grid, so counts are exact to one."""
    logits = torch.tensor([[0.0, 1.0, -2.0], [3.0, 0.0, 0.5]])
    num = 1000
    rows, uniforms = np.repeat([1, 0], num), np.tile((np.arange(num) + 0.5) / num, 2)
    ids, _ = draw(logits, rows, np.ones(2 * num), uniforms)
    for row in (0, 1):
        counts = np.bincount(ids[rows == row], minlength=3)
        np.testing.assert_allclose(counts, num * torch.softmax(logits[row].double(), -1).numpy(), atol=1.001)
