"""What is trained is exactly what was sampled: merging, trees and padding change the cost of a batch and nothing else."""

import dataclasses
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM

from spiral.api.records import LEARNER, Trajectory, Turn
from spiral.learning.packing import pack, pack_samples
from spiral.learning.row_cost import RowCost
from spiral.learning.samples import Sample, merge
from spiral.models.logits import TokenLogits

torch.set_num_threads(1)


def turn(prompt, reply, logprob=-1.0):
    return Turn("", tuple(prompt), tuple(reply), (logprob,) * len(reply), "x", True, "stop", 0)


def trajectory(*turns, player=0):
    return Trajectory("words", player, LEARNER, 1.0, turns, 7)


def _samples(pairs):
    """Sorted samples whose log-probs and advantages tell them apart."""
    return [
        Sample(p, r, tuple(-0.1 * (n + 1) - 0.01 * k for k in range(len(r))), n + 0.5, -n - 0.25, n + 1)
        for n, (p, r) in enumerate(sorted(pairs))
    ]


# Merging


def test_merging_adds_up_positive_and_negative_advantages_apart():
    """Advantages +1, -0.5, +2, 0 of one (prompt, reply): P = 3, Q = -0.5, 4 occurrences; another reply stands alone."""
    same = turn((1, 2), (3,))
    samples = merge(
        [trajectory(same, turn((1, 2), (4,))), trajectory(same), trajectory(same, same, player=1)],
        [[1.0, 9.0], [-0.5], [2.0, 0.0]],
    )
    assert [(s.prompt, s.reply, s.positive, s.negative, s.count) for s in samples] == [
        ((1, 2), (3,), 3.0, -0.5, 4),
        ((1, 2), (4,), 9.0, 0.0, 1),
    ]


def test_the_border_between_prompt_and_reply_counts():
    """(1 2 | 3) and (1 | 2 3) are the same ids and two samples: they train different tokens."""
    samples = merge([trajectory(turn((1, 2), (3,)), turn((1,), (2, 3)))], [[1.0, 1.0]])
    assert [(s.prompt, s.reply) for s in samples] == [((1,), (2, 3)), ((1, 2), (3,))]
    assert torch.cat([m.targets for m in pack_samples(samples, 100)]).sort()[0].tolist() == [2, 3, 3]


def test_samples_are_in_the_order_of_their_ids():
    """Shuffled episodes give the same samples in the same order (sums of these advantages are exact)."""
    trajectories = [trajectory(turn((n % 5, 1), (n % 3,))) for n in range(40)]
    advantages = [[float(n % 7 - 3)] for n in range(40)]
    expected = merge(trajectories, advantages)
    pairs = list(zip(trajectories, advantages, strict=True))
    random.Random(0).shuffle(pairs)
    assert merge(*zip(*pairs, strict=True)) == expected
    assert [(s.prompt, s.reply) for s in expected] == sorted((s.prompt, s.reply) for s in expected)


def test_replies_that_were_sampled_with_other_probabilities_are_samples_of_their_own():
    """As from an engine in bf16: -1.0, -1.0005 and -1.2 of one reply are two samples, since each has importance weights
    of its own. They are trained at the same places of one sequence, which is computed once."""
    turns = [turn((1, 2), (3, 4), logprob) for logprob in (-1.0, -1.2, -1.0005)]
    trajectories, advantages = [trajectory(t) for t in turns], [[1.0], [-2.0], [4.0]]
    samples = merge(trajectories, advantages)
    assert [(s.logprobs[0], s.positive, s.negative, s.count) for s in samples] == [(-1.2, 0, -2, 1), (-1.0, 5, 0, 2)]
    batch = pack(trajectories, advantages, 100)
    [micro] = batch.micro_batches
    assert micro.ids.tolist() == [[1, 2, 3, 4]]
    assert micro.mask is None
    assert micro.columns.tolist() == [1, 2, 1, 2]
    assert micro.samples.tolist() == [0, 0, 1, 1]
    assert micro.logprobs.tolist() == pytest.approx([-1.2, -1.2, -1.0, -1.0])
    assert batch.num_turns == 3


@pytest.mark.parametrize("advantages", [[[1.0]], [[1.0], [1.0, 1.0]], [[], [1.0]], [[1.0], [1.0], [1.0]]])
def test_advantages_of_the_wrong_shape_are_refused(advantages):
    """out[i][k] for every turn k of every trajectory i, no more and no less."""
    trajectories = [trajectory(turn((1,), (2,))), trajectory(turn((1,), (3,)))]
    with pytest.raises(ValueError, match="zip"):
        merge(trajectories, advantages)


# Packing


def test_a_batch_counts_what_it_holds():
    """By hand: 4 turns, 1 of them a bot's; 2+2+1 reply tokens; sequences of 5, 5 and 3; one row of 3+3 tree tokens."""
    same = turn((1, 2, 3), (4, 5))
    bots = Turn("", (), (), (), "x", True, "stop", 0)
    batch = pack([trajectory(same, bots, same), trajectory(turn((1, 2), (9,)))], [[1.0, 5.0, 1.0], [2.0]], 100)
    assert (batch.num_turns, batch.num_reply_tokens, batch.num_sequence_tokens) == (3, 5, 13)
    [micro] = batch.micro_batches
    # Distinct: (1 2 | 9) and (1 2 3 | 4 5), 8 tokens, of which 2 are shared: a tree.
    assert batch.num_computed_tokens == micro.ids.numel() == 6
    assert micro.targets.tolist() == [4, 5, 9]
    assert micro.positive.tolist() == [2.0, 2.0, 2.0]
    assert micro.count.tolist() == [2.0, 2.0, 1.0]


def test_a_transcript_costs_its_length_once():
    """Three turns, each of which goes on from the last: (1 2 | 3), (1 2 3 4 | 5 6), (1 2 3 4 5 6 7 | 8) are one plain
    row of 8 tokens, without a mask, in which the four replied tokens are trained at their places."""
    turns = turn((1, 2), (3,)), turn((1, 2, 3, 4), (5, 6)), turn((1, 2, 3, 4, 5, 6, 7), (8,), logprob=-2.0)
    batch = pack([trajectory(*turns)], [[1.0, 2.0, 3.0]], 100)
    assert (batch.num_computed_tokens, batch.num_sequence_tokens, batch.num_turns) == (8, 17, 3)
    [micro] = batch.micro_batches
    assert micro.mask is None
    assert micro.ids.tolist() == [[1, 2, 3, 4, 5, 6, 7, 8]]
    assert micro.columns.tolist() == [1, 3, 4, 6]
    assert micro.targets.tolist() == [3, 5, 6, 8]
    assert micro.positive.tolist() == [1.0, 2.0, 2.0, 3.0]
    assert micro.logprobs.tolist() == [-1.0, -1.0, -1.0, -2.0]


def test_transcripts_with_one_beginning_cost_it_once_and_stay_whole_on_a_process():
    """Two games of 3 turns that begin alike: each turn's own tokens once, the first prompt once; over two processes
    neither game is cut in two."""

    def game(first):
        a = turn((1,) * 20, (first,))
        b = turn((*a.prompt, *a.reply, 7), (8,))
        return trajectory(a, b, turn((*b.prompt, *b.reply, 7), (9,)))

    games = [game(2), game(3)]
    assert pack(games, [[1.0] * 3] * 2, 100).num_computed_tokens == 20 + 2 * 5
    for rank in range(2):
        assert pack(games, [[1.0] * 3] * 2, 100, rank, 2).num_computed_tokens == 25


def test_a_reply_that_is_not_trained_is_left_out():
    """A reply that was cut, where the config masks those: no token, no count."""
    masked = dataclasses.replace(turn((1, 2), (3,)), trained=False)
    batch = pack([trajectory(masked, turn((1, 2), (4,)))], [[5.0, 1.0]], 100)
    assert (batch.num_turns, batch.num_reply_tokens, batch.micro_batches[0].targets.tolist()) == (1, 1, [4])


def test_a_tree_by_hand():
    """(1 2 | 3 4) and (1 2 | 5): the row 1 2 3 4 5 at positions 0 1 2 3 2, and 5 sees 1, 2 and itself."""
    [micro] = pack_samples(_samples([((1, 2), (3, 4)), ((1, 2), (5,))]), 100)
    assert micro.ids.tolist() == [[1, 2, 3, 4, 5]]
    assert micro.positions.tolist() == [[0, 1, 2, 3, 2]]
    assert micro.mask[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0],
        [1, 1, 0, 0, 1],
    ]
    assert (micro.rows.tolist(), micro.columns.tolist()) == ([0, 0, 0], [1, 2, 1])
    assert micro.targets.tolist() == [3, 4, 5]
    assert micro.samples.tolist() == [0, 0, 1]


def test_rows_that_share_little_stay_plain():
    """Two samples with nothing in common need no mask: causal rows padded on the right."""
    [micro] = pack_samples(_samples([((1, 2), (3,)), ((4, 5, 6), (7,))]), 100)
    assert micro.mask is None
    assert micro.ids.tolist() == [[1, 2, 3, 0], [4, 5, 6, 7]]
    assert (micro.rows.tolist(), micro.columns.tolist()) == ([0, 1], [1, 2])


def test_padding_is_known_by_place_and_not_by_value():
    """The stop id here is 0, the very number that pads: it is trained at the end of every reply all the same."""
    [micro] = pack_samples(_samples([((4,), (0,)), ((5, 6, 7), (8, 0))]), 100)
    assert micro.ids.tolist() == [[4, 0, 0, 0, 0], [5, 6, 7, 8, 0]]
    assert micro.targets.tolist() == [0, 8, 0]
    assert list(zip(micro.rows.tolist(), micro.columns.tolist(), strict=True)) == [(0, 0), (1, 2), (1, 3)]


def test_micro_batches_keep_to_their_tokens():
    """A forward has at most max tokens, padding included, unless a single row is longer."""
    samples = _samples([(tuple(range(n, n + 3 + n)), (1, 2)) for n in range(1, 20)])
    for limit in (1, 30, 60):
        batches = pack_samples(samples, limit)
        assert all(m.ids.numel() <= limit or len(m.ids) == 1 for m in batches)
        assert sum(len(m.targets) for m in batches) == 2 * 19
    assert len(pack_samples(samples, 1)) == 19
    assert len(pack_samples(samples, 10**6)) == 1


def test_tree_rows_keep_to_their_length():
    """Sequences of 8 tokens that share 6: where 96 pairs cost a token, each costs least in rows of sqrt(6^2 + 6 x 96),
    24 and a half. One sequence alone may be longer."""
    pairs = [((1, 2, 3, 4, 5, 6), (a, b)) for a in range(8) for b in range(4)] + [((1,) * 40, (2,))]
    batches = pack_samples(_samples(pairs), 10**6, RowCost(96))
    lengths = [int((row > 0).sum()) for m in batches for row in m.ids]
    assert sorted(lengths)[-1] == 41
    assert 18 <= sorted(lengths)[-2] <= 24
    assert sum(len(m.targets) for m in batches) == 2 * 32 + 1


def test_each_row_is_a_tree_or_plain_for_itself():
    """A text of 300 tokens that shares nothing is a plain row without a mask beside trees of many short ones."""
    pairs = [((50,) * 20, (n,)) for n in range(1, 9)] + [(tuple(range(1, 49)) * 6 + (1,) * 12, (2,))]
    batches = pack_samples(_samples(pairs), 512)
    assert [(batch.mask is None, *batch.ids.shape) for batch in batches] == [(False, 1, 28), (True, 1, 301)]


def test_no_position_is_beyond_the_longest_text():
    """Ten replies of 11 tokens to one prompt are a tree of 112, and a text of 9 tokens stands beside it: padding to that
    length has no place in a text, and a model's context may end at 13."""
    pairs = [((1, 2), (n,) * 11) for n in range(10, 20)] + [((5, 6, 7), (8,) * 6)]
    [batch] = pack_samples(_samples(pairs), 10**6, RowCost(10**6))
    assert batch.ids.shape == (2, 112)
    assert int(batch.positions.max()) == 12


@pytest.mark.parametrize(("pairs", "tokens"), [(10**6, 20 + 40 * 2), (100, 48 + 48 + 44), (1, 40 * 22)])
def test_a_shared_beginning_is_worth_what_attention_costs(pairs, tokens):
    """Forty replies of 2 tokens to a prompt of 20: one tree where attention costs nothing, rows of at most
    sqrt(20^2 + 20 x 100) = 49 tokens where 100 pairs cost a token, and no tree where a pair costs a token."""
    samples = [Sample((1,) * 20, (300 + n, 261), (-1.0, -1.0), count=1) for n in range(40)]
    assert sum(int((b.ids > 0).sum()) for b in pack_samples(samples, 4096, RowCost(pairs))) == tokens


def test_parts_of_several_processes_are_the_whole():
    """Every sample goes to exactly one of 3 processes; counts that metrics divide by are those of the whole step."""
    trajectories = [trajectory(turn((1, n % 4), (n % 3, 9))) for n in range(30)]
    advantages = [[float(n)] for n in range(30)]
    whole = pack(trajectories, advantages, 50)
    parts = [pack(trajectories, advantages, 50, rank, 3) for rank in range(3)]

    def trained(batch):
        return sorted(
            zip(*(torch.cat([getattr(m, f) for m in batch.micro_batches]).tolist() for f in _FIELDS), strict=True)
        )

    assert sorted(sum((trained(p) for p in parts), [])) == trained(whole)
    assert {(p.num_turns, p.num_reply_tokens, p.num_sequence_tokens) for p in parts} == {
        (whole.num_turns, whole.num_reply_tokens, whole.num_sequence_tokens)
    }


_FIELDS = ("targets", "logprobs", "positive", "negative", "count")


def test_more_processes_than_samples():
    """A process without a sample has an empty batch and not an error."""
    batch = pack([trajectory(turn((1,), (2,)))], [[1.0]], 50, rank=1, world=2)
    assert batch.micro_batches == ()
    assert batch.num_turns == 1


def test_a_game_in_which_the_learner_never_moved():
    """No turns, no samples, no error."""
    assert pack([trajectory()], [[]], 50).micro_batches == ()
    assert pack([], [], 50).num_turns == 0


# Properties


def _pairs():
    """Distinct (prompt, reply) pairs over three ids, so that beginnings, whole texts and borders collide often."""
    ids = st.integers(1, 3)
    pair = st.tuples(st.lists(ids, min_size=1, max_size=9).map(tuple), st.lists(ids, min_size=1, max_size=4).map(tuple))
    return st.sets(pair, min_size=1, max_size=14)


@settings(max_examples=60, deadline=None)
@given(pairs=_pairs(), cost=st.sampled_from([0.01, 30.0, 1100.0, 1e9]), limit=st.integers(1, 200))
def test_a_token_sees_its_own_beginning_and_nothing_else(pairs, cost, limit):
    """The ids visible at a trained token's place, in the order of positions, are its sequence up to there; tokens in
    are tokens out, with their own log-probs and sums."""
    samples = _samples(pairs)
    found = {n: [] for n in range(len(samples))}
    for m in pack_samples(samples, limit, RowCost(cost)):
        for n in range(len(m.targets)):
            r, c = int(m.rows[n]), int(m.columns[n])
            visible = torch.arange(m.ids.shape[1]) <= c if m.mask is None else m.mask[r, 0, c]
            places = m.positions[r][visible]
            assert sorted(places.tolist()) == list(range(len(places)))
            context = tuple(m.ids[r][visible][places.argsort()].tolist())
            sample = int(m.samples[n])
            found[sample].append((context, int(m.targets[n]), float(m.logprobs[n])))
            sums = (float(m.positive[n]), float(m.negative[n]), float(m.count[n]))
            assert sums == (samples[sample].positive, samples[sample].negative, samples[sample].count)
    for n, s in enumerate(samples):
        expected = [(s.prompt + s.reply[:k], s.reply[k]) for k in range(len(s.reply))]
        assert sorted(f[:2] for f in found[n]) == sorted(expected)
        by_context = {context: logprob for context, _, logprob in found[n]}
        for k, logprob in enumerate(s.logprobs):
            assert by_context[s.prompt + s.reply[:k]] == pytest.approx(logprob)


@pytest.fixture(scope="module")
def lm():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=8,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.4,
    )
    return TokenLogits(LlamaForCausalLM(config))


@settings(max_examples=30, deadline=None)
@given(
    pairs=_pairs(),
    cost=st.sampled_from([0.01, 30.0, 1e9]),
    limit=st.sampled_from([40, 10**6]),
)
def test_logits_of_a_packed_batch_are_those_of_separate_rows(lm, pairs, cost, limit):
    """For any samples and any packing, each trained token's logits are the model's own on its sequence alone."""
    samples = _samples(pairs)
    with torch.inference_mode():
        plain = [lm.model(input_ids=torch.tensor([s.prompt + s.reply])).logits[0] for s in samples]
        for m in pack_samples(samples, limit, RowCost(cost)):
            logits = lm(m.ids, m.positions, m.mask, m.rows, m.columns)
            for n in range(len(m.targets)):
                place = int(m.positions[m.rows[n], m.columns[n]])
                torch.testing.assert_close(logits[n], plain[int(m.samples[n])][place], atol=1e-4, rtol=1e-4)


def test_a_long_shared_beginning_is_not_paid_again_in_every_row():
    """Forty replies to prompts that share 200 tokens of rules: a third of the tokens at most, within the micro-batch."""
    rules = tuple(range(200))
    samples = [Sample((*rules, 300 + n, 350), (400 + n, 261), (-1.0, -1.0), count=1) for n in range(40)]
    total = sum(len(s.prompt) + len(s.reply) for s in samples)
    batches = pack_samples(samples, 512)
    assert sum(batch.ids.numel() for batch in batches) < total / 3
    assert max(batch.ids.numel() for batch in batches) <= 512
    assert sum(len(batch.targets) for batch in batches) == 80
