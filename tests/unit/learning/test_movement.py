"""The share of weights that an update moved, by hand."""

import pytest
import torch
from accelerate import Accelerator

from spiral.learning.movement import ENTRIES, Movement
from spiral.learning.rounding import RoundedAdamW

torch.set_num_threads(1)


def _share(step, *parameters, steps=1):
    movement = Movement(parameters, Accelerator(cpu=True))
    for _ in range(steps):
        with movement.measured():
            step()
    return movement.share()


def _parameter(*shape, gradient=1.0, dtype=torch.float32):
    made = torch.nn.Parameter(torch.ones(*shape, dtype=dtype))
    made.grad = None if gradient is None else torch.full_like(made, gradient)
    return made


def test_of_the_weights_with_a_gradient_those_that_changed():
    """300 of 400 have a gradient, and 100 of those move; what moves without one is not counted, nor is a parameter
    without any."""
    one, other = _parameter(4, 100), _parameter(7, gradient=None)
    one.grad[0] = 0.0

    @torch.no_grad()
    def step():
        one[:2] += 1
        other.add_(1)

    assert _share(step, one, other) == pytest.approx(1 / 3)


def test_large_tensors_count_by_their_size():
    """100 weights that all move beside 50,000 of which a hundredth does: entries are a sample, and of every column."""
    small, large = _parameter(100), _parameter(500, 100)

    @torch.no_grad()
    def step():
        small.add_(1)
        large[:, 0] += 1

    assert _share(step, small, large) == pytest.approx(600 / 50_100, rel=0.2)


@pytest.mark.parametrize("width", [1, 2, 64, 100])
def test_no_column_is_left_out(width):
    """Whatever the width of the rows, each column has about its share of the entries."""
    weight = _parameter(300 * ENTRIES // width, width)
    for column in {0, width - 1}:

        @torch.no_grad()
        def step(column=column):
            weight[:, column] += 1

        assert _share(step, weight) == pytest.approx(1 / width, rel=0.1)


def test_without_a_gradient_nothing_is_said():
    """Of a step whose gradients are all 0, as that of a batch without an advantage."""
    assert _share(lambda: None, _parameter(3, gradient=0.0), _parameter(3, gradient=None)) is None
    assert _share(lambda: None) is None


def test_updates_that_bfloat16_rounds_away_are_seen():
    """w = 1 and steps of -6e-4, where the next number below is 1/256 away: none moves when rounded to the nearest, and
    a share of 256 * 6e-4 when rounded stochastically. The mean over both steps."""
    weight = _parameter(5000, gradient=0.3, dtype=torch.bfloat16)
    assert _share(torch.optim.AdamW([weight], lr=6e-4, weight_decay=0.0).step, weight, steps=2) == 0.0
    rounded = RoundedAdamW([weight], 6e-4, (0.9, 0.95), 0.0)
    assert _share(rounded.step, weight) == pytest.approx(256 * 6e-4, rel=0.25)
