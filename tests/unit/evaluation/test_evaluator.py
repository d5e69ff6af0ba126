"""The truth about a policy: intervals against known values, tallies by hand, exact move chances."""

import math
import random
from dataclasses import replace

import pytest
import torch
from spiral_games.native.kuhn_poker import KuhnPoker
from spiral_models import MODELS

from spiral.api.errors import SpiralError
from spiral.api.records import Episode, Trajectory
from spiral.config.loading import load
from spiral.engines.torch.engine import TorchEngine
from spiral.evaluation.evaluator import Evaluator
from spiral.evaluation.exact import exact_metrics, exploitability
from spiral.evaluation.matches import MatchRunner, tally
from spiral.evaluation.move_probabilities import move_probabilities
from spiral.models.chat import chat
from spiral.models.logits import TokenLogits, parameters
from spiral.models.prompt_cache import Prompter
from spiral.models.prompts import PlainFormat
from spiral.plugins.registry import Plugins
from spiral.policies.completer import Completer
from spiral.policies.pool import AVERAGED, Pool
from spiral.theory.best_response import GameTree, nash_conv
from spiral.theory.intervals import wilson_interval

torch.set_num_threads(1)


# Intervals


@pytest.mark.parametrize(
    ("count", "total", "low", "high"),
    [
        (8, 10, 0.4902, 0.9433),  # Agresti and Coull 1998 and every calculator since
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (50, 100, 0.4038, 0.5962),
        (1, 1, 0.2065, 1.0),
        (81, 263, 0.2553, 0.3662),  # Newcombe 1998, table I
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilsons_interval(count, total, low, high):
    """Published values to four places."""
    assert wilson_interval(count, total) == pytest.approx((low, high), abs=6e-5)


def test_wilson_knows_nothing_from_nothing():
    """No games, no knowledge: (0, 1)."""
    assert wilson_interval(0, 0) == (0.0, 1.0)


def test_wilson_covers():
    """Of 2,000 samples of 40 tosses at 0.3, about 95% of the intervals hold 0.3."""
    rng = random.Random(0)
    held = 0
    for _ in range(2000):
        low, high = wilson_interval(sum(rng.random() < 0.3 for _ in range(40)), 40)
        held += low <= 0.3 <= high
    assert 0.93 < held / 2000 < 0.975


# Tallies


def _episode(returns, offender=None):
    trajectories = tuple(Trajectory("g", i, "p", r, (), 0) for i, r in enumerate(returns))
    ending = "finished" if offender is None else "illegal"
    return Episode("g", 0, ("p",) * len(returns), tuple(returns), trajectories, (), ending, offender)


def test_a_tally_by_hand():
    """Returns 2, 0, 1, -2 of player 0, between -2 and 2: 2 wins, 1 draw, 1 loss, mean 0.25. In units of the range of 4
    the mean is 9/16 and the variance 35/256; with z = 1.96 the interval's middle is (4 m + z^2 / 2) / (4 + z^2) and its
    half z sqrt(4 v + z^2 / 4) / (4 + z^2), which come to 0.53187 and 0.30676."""
    episodes = [_episode(r) for r in ((2.0, -2.0), (0.0, 0.0), (1.0, -1.0))] + [_episode((-2.0, 2.0), offender=0)]
    found = tally(episodes, 0, (-2.0, 2.0))
    assert (found.wins, found.draws, found.losses, found.games, found.illegal) == (2, 1, 1, 4, 1)
    assert found.mean_return == pytest.approx(0.25)
    middle, half = (2.25 + 1.9207294) / 7.8414588, 1.959964 * math.sqrt(4 * 35 / 256 + 0.9603647) / 7.8414588
    assert found.return_low == pytest.approx(4 * (middle - half) - 2, abs=1e-5)
    assert found.return_high == pytest.approx(4 * (middle + half) - 2, abs=1e-5)
    assert found.interval(found.wins) == wilson_interval(2, 4)
    assert found.cut == 0
    assert tally([*episodes, replace(_episode((0.0, 0.0)), ending="cut")], 0, (-2.0, 2.0)).cut == 1
    other = tally(episodes, 1, (-2.0, 2.0))
    assert (other.wins, other.draws, other.losses, other.illegal) == (1, 1, 2, 0)


@pytest.mark.parametrize(
    ("returns", "results"),
    [
        ((1.0, -1.0), "wl"),
        ((0.0, 0.0), "dd"),
        ((1.0, 1.0, -2.0), "ddl"),  # two share the best
        ((0.5, 0.2, -0.7), "wll"),
        ((3.0,), "w"),
        ((0.0,), "d"),
        ((-1.0,), "l"),
        ((5.0, 4.0), "wl"),  # not zero-sum: the higher return wins
        ((-1.0, -3.0), "wl"),
    ],
)
def test_who_won(returns, results):
    """A player's return against the best of the others; with one player its sign."""
    for player, result in enumerate(results):
        counted = tally([_episode(returns)], player, (-1.0, None))
        assert (counted.wins, counted.draws, counted.losses) == (result == "w", result == "d", result == "l")


# Exact tables


def test_a_move_without_room_has_no_probability():
    """One sentence, not the model's own complaint."""
    model, tokenizer = MODELS["byte-0.1m"](context=20)
    with pytest.raises(SpiralError, match="prompt of 21 tokens and a move of 5 do not fit the model's context of 20"):
        move_probabilities(
            TokenLogits(model.eval()),
            _completer(Prompter(PlainFormat(tokenizer))),
            "",
            GameTree.of(KuhnPoker()).decisions,
        )


@pytest.fixture(scope="module")
def kuhn():
    torch.manual_seed(0)
    model, tokenizer = MODELS["byte-0.1m"](context=64)
    model.eval().requires_grad_(False)
    return model, tokenizer, Prompter(PlainFormat(tokenizer)), GameTree.of(KuhnPoker())


def _completer(prompter, max_new_tokens=16):
    return Completer.of(None, prompter, max_new_tokens)


def _chance(model, prompt, reply):
    ids = torch.tensor([[*prompt, *reply]])
    logprobs = torch.log_softmax(model(input_ids=ids).logits[0].double(), -1)
    return math.exp(sum(float(logprobs[len(prompt) + k - 1, token]) for k, token in enumerate(reply)))


@pytest.mark.parametrize("micro_batch_tokens", [1, 8192])
def test_move_tables_are_the_models_chances(kuhn, micro_batch_tokens):
    """Each row adds up to 1 and is in proportion to exp(log-probability of the move's reply, stop id included); the
    rest of the mass is illegal."""
    model, _, prompter, tree = kuhn
    table, illegal = move_probabilities(
        TokenLogits(model), _completer(prompter), "", tree.decisions, micro_batch_tokens
    )
    assert len(table) == len(tree.decisions) == 12
    for decision in tree.decisions:
        prompt = prompter.encode("", decision.observation)
        raw = {m: _chance(model, prompt, prompter.reply(m)) for m in decision.moves}
        row = table[decision.observation]
        assert sum(row.values()) == pytest.approx(1.0)
        for move, chance in raw.items():
            assert row[move] == pytest.approx(chance / sum(raw.values()), rel=1e-3)
        assert illegal[decision.observation] == pytest.approx(1 - sum(raw.values()), abs=1e-6)


@pytest.mark.parametrize("illegal", ["raise", " bet", "bet ", "Bet"])
def test_the_illegal_mass_is_what_sampling_meets(kuhn, illegal):
    """A model that was taught: the share of sampled replies that are no legal move agrees with the table (4 sigma). A
    move with white space around it is another text for both."""
    model, tokenizer, prompter, tree = kuhn
    torch.manual_seed(0)
    taught = MODELS["byte-0.1m"](context=64)[0]
    decision = tree.decisions[0]
    prompt = prompter.encode("", decision.observation)
    optimizer = torch.optim.AdamW(taught.parameters(), lr=5e-3)
    for _ in range(25):
        loss = torch.zeros(())
        for move in (*decision.moves, illegal):
            ids = torch.tensor([[*prompt, *prompter.reply(move)]])
            logits = taught(input_ids=ids).logits[0, len(prompt) - 1 : -1]
            loss = loss + torch.nn.functional.cross_entropy(logits, ids[0, len(prompt) :])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    table, illegal_mass = move_probabilities(TokenLogits(taught), _completer(prompter), "", [decision])
    share = illegal_mass[decision.observation]
    assert 0.1 < share < 0.9
    engine = TorchEngine(taught, tokenizer)
    engine.load_weights(AVERAGED, parameters(taught), 0)
    moves = _sampled(engine, prompter, prompt, 1500)
    failed = sum(m not in decision.moves for m in moves) / 1500
    assert abs(failed - share) < 4 * math.sqrt(share * (1 - share) / 1500)
    first = decision.moves[0]
    legal = [m for m in moves if m in decision.moves]
    p = table[decision.observation][first]
    assert abs(legal.count(first) / len(legal) - p) < 4 * math.sqrt(p * (1 - p) / len(legal))


def _sampled(engine, prompter, prompt, num):
    from spiral.api.records import Request, Sampling
    from spiral.seeds import child

    for n in range(num):
        engine.submit(Request(n, AVERAGED, prompt, Sampling(12, prompter.stop_ids), child(5, n)))
    done = []
    while len(done) < num:
        done += engine.step()
    return [prompter.read(c.ids) if c.finish == "stop" else None for c in done]


def test_free_thinking_has_no_table(kuhn):
    """Many replies say one move: refused in one sentence that names the way out."""
    model, tokenizer, _, tree = kuhn
    with pytest.raises(SpiralError, match="prompt=plain"):
        move_probabilities(TokenLogits(model), _completer(Prompter(chat(tokenizer))), "", tree.decisions)


def test_exploitability_is_nash_conv_of_the_table(kuhn):
    """The exact number is theory's for the model's own table, and its metrics say the same."""
    model, _, prompter, tree = kuhn
    result = exploitability(TokenLogits(model), _completer(prompter), "", tree)
    expected = nash_conv(tree, result.table)
    assert result.theory == expected
    assert 0 < expected.nash_conv < 4
    metrics = exact_metrics({"kuhn": result})
    assert metrics["eval/kuhn/nash_conv"] == expected.nash_conv
    assert metrics["eval/kuhn/gain_p0"] + metrics["eval/kuhn/gain_p1"] == pytest.approx(expected.nash_conv)
    assert metrics["eval/kuhn/value_p0"] == pytest.approx(-metrics["eval/kuhn/value_p1"])
    assert metrics["eval/kuhn/illegal_mass"] == pytest.approx(sum(result.illegal_mass.values()) / 12)
    assert set(exact_metrics({"kuhn": result}, "_live")) == {
        "eval/kuhn/nash_conv_live",
        "eval/kuhn/illegal_mass_live",
    }


# Matches


class Bot:
    def __init__(self, words):
        self.words = words

    def choose(self, game, player, rng):
        return next(w for w in self.words if w in game.legal_moves())


@pytest.fixture
def runner(kuhn):
    model, tokenizer, prompter, _ = kuhn
    engine = TorchEngine(model, tokenizer)
    pool = Pool(Plugins(), Completer.of(engine, prompter, 16))
    pool.add_bot("bot:bold", Bot(["bet", "call"]))
    pool.add_bot("bot:meek", Bot(["check", "fold"]))
    pool.add_weights(AVERAGED)
    engine.load_weights(AVERAGED, parameters(model), 0)
    # A config for training in groups must not make an evaluation play each deal 8 times.
    config = load(overrides=["rollout.episodes=8", "rollout.group_size=8"]).rollout
    return MatchRunner({"kuhn": KuhnPoker}, pool, config)


def test_matches_change_players(runner):
    """Bold against meek in Kuhn: the meek one folds or checks into a bet, so bold wins 1 chip in every game and as either player."""
    tallies = runner.against("kuhn", "bot:bold", "bot:meek", 30, (0,))
    assert [(t.wins, t.games, t.mean_return) for t in tallies] == [(30, 30, 1.0)] * 2
    back = runner.against("kuhn", "bot:meek", "bot:bold", 30, (0,))
    assert [(t.losses, t.mean_return) for t in back] == [(30, -1.0)] * 2


def test_matches_are_played_from_many_deals(runner):
    """Every game of a match has a deal of its own, whatever the training does; equal seeds give equal matches."""
    episodes = runner.play("kuhn", [AVERAGED, "bot:meek"], 40, (3,))
    assert len({e.deal for e in episodes}) == 40
    assert {e.policies for e in episodes} == {(AVERAGED, "bot:meek")}
    assert runner.play("kuhn", [AVERAGED, "bot:meek"], 40, (3,)) == episodes


def test_the_evaluators_metrics(runner, kuhn):
    """Rates by chair that add up to 1, with the interval of the wins, for each game and bot."""
    _, _, prompter, _ = kuhn
    config = load(overrides=["evaluate.matches=10"]).evaluate
    evaluator = Evaluator({"kuhn": KuhnPoker}, {"kuhn": ["bot:meek"]}, runner, _completer(prompter), config)
    metrics = evaluator.matches(AVERAGED, (1,))
    for player in (0, 1):
        prefix = f"eval/kuhn/vs/meek/p{player}"
        rates = [metrics[f"{prefix}/{what}"] for what in ("win", "draw", "loss")]
        assert sum(rates) == pytest.approx(1.0)
        low, high = wilson_interval(round(rates[0] * 10), 10)
        assert (metrics[f"{prefix}/win_low"], metrics[f"{prefix}/win_high"]) == pytest.approx((low, high))
    # An untrained model writes no legal move: it loses 2 chips in every game.
    assert metrics["eval/kuhn/vs/meek/p0/return"] == -2.0


def test_large_games_are_measured_by_matches_alone(runner, kuhn):
    """A tree above max_nodes, or a switch that is off, gives no exact number and no error."""
    model, _, prompter, _ = kuhn
    lm = TokenLogits(model)
    for words in (["evaluate.max_nodes=5"], ["evaluate.exploitability=false"]):
        assert (
            Evaluator(
                {"kuhn": KuhnPoker}, {"kuhn": []}, runner, _completer(prompter), load(overrides=words).evaluate
            ).exact(lm)
            == {}
        )
    exact = Evaluator({"kuhn": KuhnPoker}, {"kuhn": []}, runner, _completer(prompter), load().evaluate).exact(lm)
    assert set(exact) == {"kuhn"}
