"""When learner and engine count as one computation, how far they may be apart, and when what is left is corrected."""

import pytest
import torch

from spiral.api.errors import RunError
from spiral.config.schema import LearnerConfig
from spiral.learning.agreement import Agreement
from spiral.learning.objective import Objective

F32, BF16, F16 = torch.float32, torch.bfloat16, torch.float16


@pytest.mark.parametrize(
    ("learner", "engine", "band", "is_exact"),
    [
        (F32, None, 1e-3, True),  # the torch engine
        (F32, F32, 1e-3, False),  # vLLM's kernels
        (F32, BF16, 0.3, False),
        (BF16, None, 0.3, False),  # one computation, but what is rounded depends on the shapes of a batch
        (BF16, BF16, 0.3, False),
        (F16, None, 0.05, False),
        (torch.float64, None, 1e-3, True),
    ],
)
def test_the_band_follows_the_coarser_precision(learner, engine, band, is_exact):
    """Importance weights are on, at 2, where the two are not one float32 computation, and off where they are."""
    found = Agreement.of(LearnerConfig(), learner, engine)
    assert (found.band, found.is_exact) == (band, is_exact)
    assert found.importance_cap == (None if is_exact else 2.0)
    assert found.applied(Objective(0.2, kl=0.1)) == Objective(
        0.2, kl=0.1, importance_cap=found.importance_cap, band=band
    )


@pytest.mark.parametrize("engine", [None, BF16])
@pytest.mark.parametrize(("importance", "cap"), [("truncated", 3.0), ("none", None)])
def test_a_config_may_say_otherwise(engine, importance, cap):
    """learner.importance and ratio_tolerance, whatever the precision."""
    config = LearnerConfig(importance=importance, importance_cap=3.0, ratio_tolerance=0.01)
    found = Agreement.of(config, F32, engine)
    assert (found.importance_cap, found.band) == (cap, 0.01)


def test_one_token_beyond_the_band_stops_an_exact_run():
    """0.01 nats at one token of a million, in float32: a sentence with the difference and the tolerance."""
    exact = Agreement.of(LearnerConfig(), F32, None)
    exact.check(9e-4, 0.0)
    with pytest.raises(RunError, match=r"differs by 0\.01 nats.*learner\.ratio_tolerance is 0\.001"):
        exact.check(0.01, 1e-6)


def test_elsewhere_only_a_tenth_of_the_tokens_does():
    """In bf16 a token that is 5 nats off is counted and corrected; 11% of tokens beyond the band are another policy."""
    other = Agreement.of(LearnerConfig(), F32, BF16)
    other.check(5.0, 0.09)
    with pytest.raises(RunError, match=r"of 11% of a fresh batch's tokens .* 10% may.*ratio_tolerance is 0\.3"):
        other.check(5.0, 0.11)
