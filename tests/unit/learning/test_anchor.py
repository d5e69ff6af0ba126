"""Random legal play as a distribution over the next token, by hand and against sampled play."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiral.learning.anchor import random_play_targets


def test_by_hand():
    """Replies 1 0, 1 2 0 and 3 0: first 1 with 2/3, then 0 or 2 after a 1, then 0 alone after 1 2."""
    legal = [(1, 0), (1, 2, 0), (3, 0)]
    assert random_play_targets((1, 2, 0), legal) == [
        (0, 1, pytest.approx(2 / 3)),
        (0, 3, pytest.approx(1 / 3)),
        (1, 0, 0.5),
        (1, 2, 0.5),
        (2, 0, 1.0),
    ]


def test_where_no_legal_reply_reaches_there_is_no_target():
    """The first token is always a decision; after one that no legal reply has, nothing is known."""
    assert random_play_targets((9, 9), [(1, 0)]) == [(0, 1, 1.0)]
    assert random_play_targets((1, 0, 5), [(1, 0)]) == [(0, 1, 1.0), (1, 0, 1.0)]
    assert random_play_targets((1,), []) == []
    assert random_play_targets((), [(1, 0)]) == []


replies = st.lists(
    st.lists(st.integers(1, 3), max_size=3).map(lambda ids: (*ids, 0)), min_size=1, max_size=6, unique=True
)


@given(replies, st.randoms(use_true_random=False))
def test_the_product_along_a_legal_reply_is_uniform(legal, rng):
    """The chance of a whole legal reply, multiplied token by token, is 1 / number of legal replies."""
    reply = rng.choice(legal)
    targets = random_play_targets(reply, legal)
    chance = 1.0
    for position, token in enumerate(reply):
        here = {legal_token: p for at, legal_token, p in targets if at == position}
        assert sum(here.values()) == pytest.approx(1)
        chance *= here[token]
    assert chance == pytest.approx(1 / len(legal))


def test_it_is_what_random_play_says():
    """The share of each second token after a 1, in 4,000 replies drawn uniformly."""
    legal, rng = [(1, 0), (1, 2, 0), (1, 2, 2, 0), (3, 0)], random.Random(0)
    drawn = Counter(reply[1] for reply in rng.choices(legal, k=4000) if reply[0] == 1)
    expected = {token: p for at, token, p in random_play_targets((1, 2, 0), legal) if at == 1}
    assert {token: num / drawn.total() for token, num in drawn.items()} == pytest.approx(expected, abs=0.03)
