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


def test_temperature_0_takes_the_likeliest_id_and_the_lowest_of_equals():
    """With its log-probability at temperature 1, alone and beside requests of the same row that are sampled; whatever
    number it is given."""
    logits = torch.tensor([[0.0, 3.0, 3.0, 1.0], [2.0, 0.0, 1.0, 0.0]])
    rows, uniforms = np.array([1, 0, 0, 1]), np.array([0.99, 0.99, 0.0, 0.5])
    expected = torch.log_softmax(logits, -1)
    ids, logprobs = draw(logits, rows, np.zeros(4), uniforms)
    assert ids.tolist() == [0, 1, 1, 0]
    np.testing.assert_allclose(logprobs, expected[rows, ids], atol=1e-6)
    ids, logprobs = draw(logits, rows, np.array([0.0, 0.0, 1.0, 0.5]), uniforms)
    alone = draw(logits[:1], np.zeros(1, int), np.ones(1), uniforms[2:3])
    assert ids[:3].tolist() == [0, 1, alone[0].item()]
    np.testing.assert_allclose(logprobs[:3], expected[rows[:3], ids[:3]], atol=1e-6)


def test_top_p_leaves_the_fewest_likeliest_ids_that_hold_it():
    """Probabilities 0.5, 0.3, 0.15 and 0.05: 0.8 is held by two ids, drawn 5 to 3; less than half by one, as any share
    is by one at least; and a request of the same row without it may still draw every id."""
    logits = torch.tensor([0.15, 0.5, 0.05, 0.3]).log()[None]
    num = 800
    rows, uniforms = np.zeros(num, int), (np.arange(num) + 0.5) / num
    for top_p, wanted in ((0.79, [0, 5 / 8, 0, 3 / 8]), (0.3, [0, 1, 0, 0]), (0.81, [3 / 19, 10 / 19, 0, 6 / 19])):
        ids, logprobs = draw(logits, rows, np.ones(num), uniforms, np.full(num, top_p))
        np.testing.assert_allclose(np.bincount(ids, minlength=4), num * np.array(wanted), atol=1.001)
        np.testing.assert_allclose(np.exp(logprobs), np.array(wanted)[ids], rtol=1e-5)
    halves = np.tile([0.3, 1.0], num // 2)
    ids, _ = draw(logits, rows, np.ones(num), uniforms, halves)
    assert set(ids[0::2]) == {1}
    assert set(ids[1::2]) == {0, 1, 2, 3}
