"""Sampled move probabilities and NashConv: counts by hand, what each estimate is biased by, and intervals that cover."""

import random
from statistics import fmean, stdev

import pytest
import torch
from spiral_games.bots.kuhn_equilibrium import Equilibrium
from spiral_games.native.kuhn_poker import KuhnPoker
from spiral_models import MODELS

from spiral.api.errors import RunError, SpiralError
from spiral.engines.torch.engine import TorchEngine
from spiral.evaluation.move_probabilities import move_probabilities
from spiral.evaluation.sampled import Responses, Sampled, estimate, sample_moves
from spiral.models.chat import chat
from spiral.models.logits import TokenLogits, parameters
from spiral.models.prompt_cache import Prompter
from spiral.models.prompts import PlainFormat
from spiral.policies.completer import Completer
from spiral.policies.pool import AVERAGED
from spiral.testing import ScriptedEngine
from spiral.theory.best_response import GameTree, nash_conv, uniform
from spiral.theory.intervals import wilson_interval

torch.set_num_threads(1)

TREE = GameTree.of(KuhnPoker())
MOVES = {decision.observation: decision.moves for decision in TREE.decisions}


def random_table(seed, concentration):
    """Dirichlet rows: below 1 nearly pure, above 1 nearly uniform."""
    rng = random.Random(seed)
    weights = {o: [rng.gammavariate(concentration, 1) + 1e-9 for _ in moves] for o, moves in MOVES.items()}
    return {o: {m: w / sum(ws) for m, w in zip(MOVES[o], ws, strict=True)} for o, ws in weights.items()}


def equilibrium_table():
    class At(KuhnPoker):
        def __init__(self, text):
            super().__init__()
            self.text = text

        def observe(self, player):
            return self.text

    bot = Equilibrium(1 / 6)
    return {o: bot.probabilities(At(o), int(o.split()[1][1])) for o in MOVES}


def drawn(table, num, rng, legal=0.9):
    """What `num` replies at each decision give, of which a share is illegal."""
    return Sampled(
        MOVES,
        {
            o: tuple(rng.choices([*row, None], [*(p * legal for p in row.values()), 1 - legal], k=num))
            for o, row in table.items()
        },
    )


# Counting


def test_shares_are_of_the_legal_replies():
    """6 bets and 2 checks of 10 replies: 0.75 and 0.25, Wilson's intervals of 8, and of 2 illegal ones of 10."""
    sampled = Sampled({"s": ("check", "bet")}, {"s": ("bet",) * 3 + (None,) + ("check",) * 2 + ("bet",) * 3 + (None,)})
    assert sampled.counts("s") == {"check": 2, "bet": 6}
    assert sampled.table() == {"s": {"check": 0.25, "bet": 0.75}}
    assert sampled.intervals() == {"s": {"check": wilson_interval(2, 8), "bet": wilson_interval(6, 8)}}
    assert sampled.illegal_mass() == {"s": wilson_interval(2, 10)}
    assert sampled.mean_illegal_mass() == (0.2, *wilson_interval(2, 10))


def test_nothing_legal_is_nothing_known():
    """All moves alike, each somewhere from 0 to 1."""
    sampled = Sampled({"s": ("a", "b")}, {"s": (None, None)})
    assert sampled.table() == {"s": {"a": 0.5, "b": 0.5}}
    assert sampled.intervals() == {"s": {"a": (0.0, 1.0), "b": (0.0, 1.0)}}


def test_halves_share_out_the_legal_replies():
    """Each reply lies in one half, and each half has half of the legal ones: 5 of 7 replies are 3 and 2."""
    first, second = Sampled({"s": ("a", "b")}, {"s": ("a", None, "b", "b", None, "a", "a")}).halves()
    assert first.answers == {"s": ("a", "b", "a")}
    assert second.answers == {"s": ("b", "a")}


# Asking


@pytest.fixture(scope="module")
def tokenizer():
    return MODELS["byte-0.1m"](context=1024)[1]


def thinking(tokenizer, say, **options):
    """An engine whose replies are `say(request)`, and the free-thinking format around it."""
    prompter = Prompter(chat(tokenizer))

    def reply(request):
        text, stopped = say(request)
        return [*tokenizer.encode(text, add_special_tokens=False), *(prompter.stop_ids if stopped else ())]

    return ScriptedEngine(reply, policies=[AVERAGED], **options), prompter


def ask(engine, prompter, num, seed=(0,), deadline_s=5.0, max_new_tokens=64):
    completer = Completer.of(engine, prompter, max_new_tokens)
    return sample_moves(completer, AVERAGED, "", TREE.decisions, num, seed, deadline_s)


def test_many_thoughts_lead_to_one_move(tokenizer):
    """Replies that argue differently and end alike are one move; a move of another decision, a move without its box and
    a reply that was cut off are illegal."""
    said = [
        ("I hold little. \\boxed{check}", True),
        ("Bluff! \\boxed{bet} or not: \\boxed{check}", True),
        ("\\boxed{bet}", True),
        ("\\boxed{fold}", True),
        ("check", True),
        ("\\boxed{check}", False),
    ]
    numbers = iter(range(10**6))
    engine, prompter = thinking(tokenizer, lambda request: said[next(numbers) % 6])
    sampled = ask(engine, prompter, 6)
    first = "kuhn p0 J"
    assert sampled.answers[first] == ("check", "check", "bet", None, None, None)
    assert sampled.counts(first) == {"check": 2, "bet": 1}
    assert sampled.illegal(first) == 3
    assert sampled.answers["kuhn p1 Q bet"] == (None, None, None, "fold", None, None)


def test_a_thought_that_is_closed_leads_to_a_move_too(tokenizer):
    """Samples are asked as play asks: a policy that never stops to think is closed, and answers."""
    prompter = Prompter(chat(tokenizer, thought_tokens=8))
    close = prompter.continuation([97] * 8).forced

    def reply(request):
        text = "check}" if request.prompt[-len(close) :] == close else "I wonder. " * 9
        return [*tokenizer.encode(text, add_special_tokens=False), prompter.stop_ids[0]]

    sampled = ask(ScriptedEngine(reply, policies=[AVERAGED]), prompter, 2)
    assert sampled.answers["kuhn p0 J"] == ("check", "check")
    assert sampled.answers["kuhn p1 Q bet"] == (None, None)


def test_everything_is_asked_at_once(tokenizer):
    """All samples of all decisions are with the engine before it is asked to work: each with a seed and an id of its
    own, the run's sampling at temperature 1, the prompt of its decision."""
    engine, prompter = thinking(tokenizer, lambda request: ("\\boxed{bet}", True), delay=3)
    asked_before = []
    step = engine.step
    engine.step = lambda: asked_before.append(len(engine.requests)) or step()
    ask(engine, prompter, 5)
    assert asked_before[0] == len(engine.requests) == 60
    assert len({r.seed for r in engine.requests}) == len({r.id for r in engine.requests}) == 60
    assert {(r.sampling.temperature, r.sampling.max_new_tokens) for r in engine.requests} == {(1.0, 64)}
    assert {r.prompt for r in engine.requests} == {prompter.encode("", o) for o in MOVES}


def test_answers_are_a_function_of_the_seed(tokenizer):
    """What is drawn from the request's seed: equal seeds give equal answers, others do not; more samples go on from
    where fewer ended."""

    def toss(request):
        return (f"\\boxed{{{random.Random(request.seed).choice(['check', 'bet', 'call', 'fold'])}}}", True)

    def answers(num, seed):
        return ask(*thinking(tokenizer, toss), num, seed).answers

    assert answers(40, (1,)) == answers(40, (1,)) != answers(40, (2,))
    assert {o: a[:10] for o, a in answers(40, (1,)).items()} == answers(10, (1,))


def test_an_engine_that_goes_silent_is_named(tokenizer):
    """No reply for deadline_s: one sentence with what is missing and what to do, not a wait for ever."""
    engine, prompter = thinking(tokenizer, lambda request: ("\\boxed{bet}", True), delay=10**9)
    with pytest.raises(RunError, match=r"0\.05 s, waiting for 24 of 24 replies.*rollout\.deadline_s"):
        ask(engine, prompter, 2, deadline_s=0.05)


def test_a_policy_that_does_not_think_agrees_with_its_exact_table():
    """Taught a little: 11 of 12 rows of Wilson's intervals and more hold the exact chance (95% each), the interval of
    NashConv holds the exact number, and so does that of the illegal mass."""
    torch.manual_seed(0)
    model, tokenizer = MODELS["byte-0.1m"](context=64)
    prompter = Prompter(PlainFormat(tokenizer))
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    samples = [(prompter.encode("", o), prompter.reply(m)) for o, moves in MOVES.items() for m in (*moves, "raise")]
    for _ in range(25):
        loss = torch.zeros(())
        for prompt, reply in samples:
            ids = torch.tensor([[*prompt, *reply]])
            logits = model(input_ids=ids).logits[0, len(prompt) - 1 : -1]
            loss = loss + torch.nn.functional.cross_entropy(logits, ids[0, len(prompt) :])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    table, illegal = move_probabilities(TokenLogits(model), Completer.of(None, prompter, 16), "", TREE.decisions)
    mass = fmean(illegal.values())
    assert 0.05 < mass < 0.9
    engine = TorchEngine(model, tokenizer)
    engine.load_weights(AVERAGED, parameters(model), 0)
    sampled = ask(engine, prompter, 150, max_new_tokens=12)
    held = [low <= table[o][m] <= high for o, row in sampled.intervals().items() for m, (low, high) in row.items()]
    assert sum(held) >= 21  # of 24: fewer have a chance of 1 in 40
    found = estimate(TREE, sampled)
    assert found.low <= nash_conv(TREE, table).nash_conv <= found.high
    _, low, high = sampled.mean_illegal_mass()
    assert low <= mass <= high


# NashConv


def test_the_plug_in_is_the_sampled_tables_nash_conv_and_the_responses_gain_it():
    """The gain of best responses to a table, against it, is its NashConv."""
    sampled = drawn(random_table(3, 1.0), 50, random.Random(0))
    expected = nash_conv(TREE, sampled.table())
    assert estimate(TREE, sampled).theory == expected
    gain, _ = Responses.to(TREE, sampled.table()).gain(sampled)
    assert gain == pytest.approx(expected.nash_conv, abs=1e-12)


class Coin:
    """One player, one decision: heads is worth 1, tails nothing."""

    num_players = 1
    rules = ""

    def deals(self):
        yield 1.0, None

    def reset_to(self, deal):
        self.said = None

    def current_player(self):
        return 0 if self.said is None else None

    def observe(self, player):
        return "say"

    def legal_moves(self):
        return ["heads", "tails"] if self.said is None else []

    def play(self, move):
        self.said = move

    def returns(self):
        return [float(self.said == "heads")]


def test_a_standard_error_by_hand():
    """30 heads of 100: NashConv is 1 - p, estimated as 0.7, and its error is that of a share with half a reply added to
    each side: sqrt(q (1 - q) / 99) with q = 30.5 / 101. The split chooses heads on both halves, 50 replies each:
    0.7 too, with the errors of the two halves, 15 heads each, added in halves; Student's t of 99 and of 49."""
    tree = GameTree.of(Coin())
    sampled = Sampled({"say": ("heads", "tails")}, {"say": ("heads",) * 30 + ("tails",) * 70})
    gain, error = Responses.to(tree, sampled.table()).gain(sampled)
    q, half = 30.5 / 101, 15.5 / 51
    assert gain == pytest.approx(0.7)
    assert error == pytest.approx((q * (1 - q) / 99) ** 0.5)
    found = estimate(tree, sampled)
    assert (found.plug_in, found.split) == pytest.approx((0.7, 0.7))
    assert found.high == pytest.approx(0.7 + 1.98422 * error, abs=1e-5)
    assert found.low == pytest.approx(0.7 - 2.00958 * (half * (1 - half) / 49) ** 0.5, abs=1e-5)


def test_the_standard_error_is_the_deviation_of_repeated_samples():
    """The same responses against 400 samples of 100 replies: the deviation of their gains is the error that each sample
    gives for itself, within 10%."""
    table = random_table(1, 1.0)
    responses = Responses.to(TREE, table)
    rng = random.Random(0)
    found = [responses.gain(drawn(table, 100, rng)) for _ in range(400)]
    assert fmean(error for _, error in found) == pytest.approx(stdev(gain for gain, _ in found), rel=0.1)
    # and there is no bias in the gain of a fixed response
    exact = nash_conv(TREE, table).nash_conv
    assert abs(fmean(gain for gain, _ in found) - exact) < 4 * stdev(gain for gain, _ in found) / 20


@pytest.mark.parametrize(
    ("table", "num"),
    [
        pytest.param(equilibrium_table(), 60, id="equilibrium"),
        pytest.param(uniform(TREE), 100, id="uniform"),
        pytest.param(random_table(1, 1.0), 100, id="random"),
        pytest.param(random_table(0, 0.1), 60, id="nearly pure"),
    ],
)
def test_the_interval_covers(table, num):
    """300 samples of a known table: [low, high] holds the true NashConv in at least 93% of them (95% is claimed, and
    the error of 300 tries is 1.3%); the mean plug-in is not below the truth, the mean split not above it."""
    exact = nash_conv(TREE, table).nash_conv
    rng = random.Random(5)
    found = [estimate(TREE, drawn(table, num, rng)) for _ in range(300)]
    assert fmean(e.low <= exact <= e.high for e in found) >= 0.93
    noise = 3 * stdev(e.plug_in for e in found) / 300**0.5
    assert fmean(e.plug_in for e in found) > exact - noise
    assert fmean(e.split for e in found) < exact + 1.5 * noise


def test_the_plug_in_is_biased_upwards_and_the_split_is_not():
    """At an equilibrium NashConv is 0; 60 replies a decision make the plug-in 0.06 on average, for nothing but noise,
    and the split less than a third of that."""
    rng = random.Random(2)
    found = [estimate(TREE, drawn(equilibrium_table(), 60, rng)) for _ in range(150)]
    assert fmean(e.plug_in for e in found) > 0.04
    assert abs(fmean(e.split for e in found)) < 0.015
    assert fmean(e.low == 0.0 for e in found) > 0.9


def test_more_samples_narrow_the_interval():
    """Sixteen times the replies, a quarter of the width, roughly."""
    table = random_table(1, 5.0)
    few, many = (estimate(TREE, drawn(table, num, random.Random(1))) for num in (100, 1600))
    assert (few.high - few.low) / (many.high - many.low) == pytest.approx(4, rel=0.3)


def test_one_sample_is_not_enough():
    with pytest.raises(SpiralError, match="--samples"):
        estimate(TREE, drawn(uniform(TREE), 1, random.Random(0)))
