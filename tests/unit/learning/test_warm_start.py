"""The warm start: from noise to legal moves, the same bits from the cache, and dropout only where it is asked for."""

import collections
import copy
from collections import Counter
from dataclasses import replace

import pytest
import torch
from spiral_games.native.kuhn_poker import KuhnPoker
from spiral_games.native.tic_tac_toe import TicTacToe
from spiral_models import MODELS

from spiral import IllegalMove
from spiral.api.errors import SpiralError
from spiral.config.dropout import DropoutConfig
from spiral.config.schema import WarmStartConfig
from spiral.engines.torch.engine import TorchEngine
from spiral.evaluation.move_probabilities import move_probabilities
from spiral.learning import warm_start
from spiral.learning.policy_loss import PolicyLoss
from spiral.learning.supervised import likelihood_step
from spiral.learning.warm_start import WarmStart
from spiral.learning.warm_start_cache import cached_warm_start
from spiral.models.chat import chat
from spiral.models.logits import TokenLogits, parameters
from spiral.models.prompt_cache import Prompter
from spiral.models.prompts import PlainFormat
from spiral.policies.completer import Completer
from spiral.testing import ScriptedEngine
from spiral.theory.game_tree import GameTree

torch.set_num_threads(1)

KUHN = {"kuhn": KuhnPoker}


def _model(seed=0):
    torch.manual_seed(seed)
    return MODELS["byte-0.1m"](context=64)


def _warm(model=None, games=KUHN, weights=None, form=PlainFormat, seed=0, progress=lambda *_: None, **config):
    model, tokenizer = model or _model()
    model.eval()
    prompter = Prompter(form(tokenizer))
    weights = weights or dict.fromkeys(games, 1.0)
    completer = Completer.of(TorchEngine(model, tokenizer), prompter, 12)
    result = WarmStart(model, games, weights, completer, WarmStartConfig(**config), seed, progress).train()
    return model, prompter, result


def _bits(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.fixture(scope="module")
def warmed():
    """Kuhn until 95% of the replies are legal, with the phase that it told."""
    heard = []
    model, prompter, result = _warm(progress=heard.append, max_steps=400, legal=0.95)
    return model, prompter, result, heard


# What it teaches


def test_it_reaches_the_legal_share(warmed):
    """From about 0 to 95% of games well within 400 updates, and it stops there; the exact table agrees."""
    model, prompter, result, heard = warmed
    assert not result.cached
    assert 0.95 <= result.legal <= 1
    assert 0 < result.updates < 400
    _, illegal = move_probabilities(
        TokenLogits(model), Completer.of(None, prompter, 16), "", GameTree.of(KuhnPoker()).decisions
    )
    assert sum(illegal.values()) / len(illegal) < 0.12
    (phase,) = heard
    assert (phase.name, phase.total, phase.unit) == ("warm start", 400, "updates")
    assert phase.done() == result.updates
    assert phase.note() == f"{result.legal:.0%} of games would end legally"


class Long:
    """One player says a digit, but not the last one, `turns` times."""

    num_players, rules, turns = 1, "", 120

    def reset(self, rng):
        self.made, self.last = 0, rng.randrange(6)

    def current_player(self):
        return None if self.made == self.turns else 0

    def observe(self, player):
        return str(self.last)

    def legal_moves(self):
        return [str(digit) for digit in range(6) if digit != self.last]

    def play(self, move):
        if move not in self.legal_moves():
            raise IllegalMove("the last one, or no digit")
        self.made, self.last = self.made + 1, int(move)

    def returns(self):
        return [0.0]


def asked_and_share(every, games, legal=0.95, **arguments):
    """How many replies a measurement asks for, and the share that it finds, of a model whose every `every`th reply is
    illegal; 0 for none."""
    model, tokenizer = _model()
    prompter = Prompter(PlainFormat(tokenizer))

    def reply(request):
        digits = "x" if every and (request.id + 1) % every == 0 else "12"
        return prompter.reply(next(digit for digit in digits if str(request.prompt).find(str(ord(digit))) < 0))

    engine = ScriptedEngine(reply)
    completer = Completer.of(engine, prompter, 12)
    config, weights = WarmStartConfig(legal=legal), dict.fromkeys(games, 1.0)
    share = WarmStart(model, games, weights, completer, config, 0, **arguments).legal_share()
    return len(engine.requests), share


def test_what_counts_is_the_share_of_games_that_end_legally():
    """One illegal reply in 101 ends 70% of games of 120 turns, and 10% of games of 10: both were 99% before."""
    _, long = asked_and_share(101, {"long": Long})
    _, short = asked_and_share(101, {"short": type("Short", (Long,), {"turns": 10})})
    assert long == pytest.approx(0.3, abs=0.12)
    assert short == pytest.approx(0.9, abs=0.04)
    assert asked_and_share(0, {"long": Long})[1] == 1.0


def test_a_rare_illegal_reply_in_long_games_is_looked_for_within_a_bound(monkeypatch):
    """95% of games of 120 turns is one illegal reply in 2,340. Of 256 legal ones nothing follows, so 60 games are asked;
    a bad model is found out by three, and the tokens of the prompts have a limit."""
    assert asked_and_share(0, {"long": Long})[0] == 60 * 120
    assert asked_and_share(20, {"long": Long})[0] == 3 * 120
    assert asked_and_share(0, {"long": Long}, max_turns=20)[0] == 65 * 20
    monkeypatch.setattr(warm_start, "MAX_CHECKED_TOKENS", 2000)
    assert asked_and_share(0, {"long": Long})[0] == 6 * 120


def test_it_teaches_no_preference(warmed):
    """Labels are uniform over the legal moves, so exploration stays whole: every legal move keeps a fair chance."""
    model, prompter, _, _ = warmed
    table, _ = move_probabilities(
        TokenLogits(model), Completer.of(None, prompter, 16), "", GameTree.of(KuhnPoker()).decisions
    )
    assert all(0.25 < p < 0.75 for row in table.values() for p in row.values())


def test_it_stops_at_max_steps(monkeypatch):
    """An aim out of reach ends after max_steps updates, measured once more at the end."""
    heard = []
    measure = warm_start.WarmStart._share_of_legal_games

    def measured(self, fresh, update):
        heard.append(update)
        return measure(self, fresh, update)

    monkeypatch.setattr(warm_start.WarmStart, "_share_of_legal_games", measured)
    _, _, result = _warm(max_steps=7, check_every=5, legal=1.0)
    assert result.updates == 7
    assert heard == [0, 5, 7]


def test_a_model_that_knows_is_left_alone(warmed):
    """A legal share that is there before the first update: no update."""
    model, _, _, _ = warmed
    before = _bits(model).clone()
    _, _, result = _warm((model, MODELS["byte-0.1m"](context=64)[1]), max_steps=50, legal=0.8)
    assert result.updates == 0
    assert torch.equal(_bits(model), before)


def test_every_game_is_taught_as_often_as_its_weight_says():
    """Weights 3 and 1: three quarters of the matches met are tic-tac-toe's (5 sigma), nothing of a game left out."""
    met = collections.Counter()

    def counted(name, game):
        class Counted(game):
            def reset(self, rng):
                met[name] += 1
                super().reset(rng)

        return Counted

    games = {"kuhn": counted("kuhn", KuhnPoker), "ttt": counted("ttt", TicTacToe)}
    _warm(games=games, weights={"kuhn": 1.0, "ttt": 3.0}, max_steps=12, check_every=50, legal=1.0)
    total = met.total()
    assert total > 250
    assert abs(met["ttt"] / total - 0.75) < 5 * (0.75 * 0.25 / total) ** 0.5


def test_the_seed_is_the_start():
    """The same seed gives the same bits, another seed other ones."""
    runs = [_bits(_warm(seed=s, max_steps=4, legal=1.0)[0]) for s in (1, 1, 2)]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def test_a_format_without_one_reply_a_move_is_refused():
    """Thinking aloud cannot be cloned from move lists: one sentence with the way out."""
    with pytest.raises(SpiralError, match=r"prompt=plain.*warm_start.max_steps=0"):
        _warm(MODELS["byte-0.1m"](context=256), form=lambda t: chat(t, rules=False), max_steps=1)


class Talk(Long):
    """Free text: a digit, or the same with a long explanation."""

    turns = 3
    texts = ("1", "2 because I say so")

    def legal_moves(self):
        return None

    def sample_move(self, rng):
        return rng.choice(self.texts)

    def play(self, move):
        self.made += 1


def test_text_that_is_longer_than_a_reply_is_not_taught(monkeypatch):
    """Replies have 12 tokens: what would be cut, and so illegal, is no example; a game of nothing else is refused."""
    taught = []
    monkeypatch.setattr(
        warm_start, "likelihood_step", lambda loss, optimizer, examples, tokens: taught.extend(examples)
    )
    _warm(games={"talk": Talk}, max_steps=2, legal=1.0)
    assert {reply for _, reply in taught} == {(ord("1"), MODELS["byte-0.1m"](context=8)[1].eos_token_id)}
    with pytest.raises(
        SpiralError, match=r"game talk: 1001 moves .* the 12 tokens .* the last one 19; .*max_new_tokens=19"
    ):
        _warm(games={"talk": type("Long", (Talk,), {"texts": Talk.texts[1:]})}, max_steps=2, legal=1.0)


def test_micro_batches_bound_memory_and_not_the_result():
    """One update in forward passes of at most 64 tokens is the update in one pass, up to rounding."""
    model, _ = _model()
    whole, cut = _one_update(model, 1 << 14), _one_update(model, 64)
    assert torch.allclose(whole[0], cut[0], rtol=0, atol=1e-6)
    assert max(whole[1]) > 64 >= max(cut[1])


def _one_update(model, micro_batch_tokens):
    """The gradient's step of plain descent on 12 examples, and the tokens of each forward pass."""
    model = copy.deepcopy(model)
    tokens = []
    loss = PolicyLoss(model)
    model.base_model.register_forward_pre_hook(
        lambda module, args, given: tokens.append(given["input_ids"].numel()), with_kwargs=True
    )
    examples = Counter({((257, 65 + n, 66, 67 + n % 3, 260), (70 + n, 261)): 1 + n % 2 for n in range(12)})
    likelihood_step(loss, torch.optim.SGD(model.parameters(), lr=0.1), examples, micro_batch_tokens)
    return _bits(model), tokens


class Growing(TicTacToe):
    """Its text outgrows the context in the middle of a match."""

    def observe(self, player):
        return super().observe(player) + "." * 16 * (9 - len(self.legal_moves()))


def test_a_match_whose_text_outgrows_the_context_ends_there():
    """Prompts of 19, 35 and 51 tokens fit a context of 64 with a reply of 12, and longer ones are not trained on."""
    _, _, result = _warm(games={"growing": Growing}, max_steps=3, legal=1.0)
    assert result.updates == 3


def test_a_warm_start_without_room_says_so():
    """One sentence, not the model's own complaint."""
    with pytest.raises(SpiralError, match="prompt of 19 tokens leaves room for a reply of 1 .* context of 20, and 12"):
        _warm(MODELS["byte-0.1m"](context=20), games={"ttt": TicTacToe}, max_steps=3)


# Dropout


def test_dropout_is_on_only_in_updates(monkeypatch):
    """Rates follow the schedule update by update, checks sample without, and it is off at the end."""
    model, tokenizer = _model()
    rates = []
    set_dropout = model.set_dropout
    model.set_dropout = lambda rate, *places: (rates.append(rate), set_dropout(rate, *places))
    training = []
    measure = warm_start.WarmStart._share_of_legal_games

    def measured(self, fresh, update):
        training.append(model.training)
        return measure(self, fresh, update)

    monkeypatch.setattr(warm_start.WarmStart, "_share_of_legal_games", measured)
    _warm(
        (model, tokenizer),
        max_steps=4,
        check_every=1,
        legal=1.0,
        dropout=DropoutConfig(0.2, "linear_down", ramp=0.75),
    )
    # On and off again, three times; the fourth update has a rate of 0, and nothing to turn off.
    assert rates == pytest.approx([0.2, 0, 0.4 / 3, 0, 0.2 / 3, 0])
    assert training == [False] * 5
    assert not model.training
    assert model.config.dropout == 0


def test_dropout_changes_the_update_and_descends_from_the_seed():
    """With a rate the weights differ from those without; and twice the same, whatever torch's generator stands at."""
    plain = _bits(_warm(max_steps=2, legal=1.0)[0])
    runs = []
    for noise in (1, 2):
        pair = _model()
        torch.manual_seed(noise)
        runs.append(_bits(_warm(pair, max_steps=2, legal=1.0, dropout=DropoutConfig(0.2))[0]))
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], plain)


def test_dropout_needs_a_model_that_has_it():
    """A model without set_dropout is refused before anything is trained."""
    model, tokenizer = _model()
    model.__class__ = type("Plain", (torch.nn.Module,), {"device": model.device})
    completer = Completer.of(None, Prompter(PlainFormat(tokenizer)), 8)
    warm_start = WarmStart(model, KUHN, {"kuhn": 1.0}, completer, WarmStartConfig(dropout=DropoutConfig(0.1)), 0)
    with pytest.raises(SpiralError, match="no set_dropout"):
        warm_start.train()


# The cache


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """cached(model, identity): a warm start through a cache of its own, and how often it was really trained."""
    monkeypatch.setenv("SPIRAL_CACHE", str(tmp_path))
    trained = []

    class Fast(WarmStart):
        """Accepts whatever two updates come to."""

        def train(self):
            trained.append(identity_of[id(self)])
            return replace(super().train(), legal=1.0)

        def legal_share(self):
            return 1.0

    identity_of = {}

    def run(model, identity):
        model, tokenizer = model
        completer = Completer.of(TorchEngine(model.eval(), tokenizer), Prompter(PlainFormat(tokenizer)), 12)
        settings = WarmStartConfig(max_steps=2, legal=1.0)
        warm_start = Fast(model, KUHN, {"kuhn": 1.0}, completer, settings, identity["seed"])
        identity_of[id(warm_start)] = identity
        return cached_warm_start(warm_start, identity)

    run.trained, run.folder = trained, tmp_path / "warm_start"
    return run


def test_the_cache_gives_the_same_bits(cached):
    """Trained once; the second time, from other weights, the same bits without training."""
    first, second = _model(0), _model(5)
    assert not cached(first, {"seed": 0}).cached
    result = cached(second, {"seed": 0})
    assert result.cached
    assert result.updates == 0
    assert torch.equal(_bits(first[0]), _bits(second[0]))
    assert len(cached.trained) == 1
    assert len(list(cached.folder.glob("*.safetensors"))) == 1
    assert list(cached.folder.glob("*.tmp")) == []


@pytest.mark.parametrize("other", [{"seed": 1}, {"seed": 0, "games": ["x"]}, {"seed": 0, "versions": {"a": "2"}}])
def test_the_key_is_the_whole_identity(cached, other):
    """Another seed, game or version is another warm start."""
    cached(_model(), {"seed": 0})
    cached(_model(), other)
    assert cached.trained == [{"seed": 0}, other]
    assert len(list(cached.folder.glob("*.safetensors"))) == 2


def test_the_key_knows_threads(cached, monkeypatch):
    """Another number of threads sums in another order, so its bits are its own."""
    cached(_model(), {"seed": 0})
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    cached(_model(), {"seed": 0})
    assert len(cached.trained) == 2


@pytest.mark.parametrize("content", [b"", b"noise" * 50, "another model"])
def test_a_damaged_cache_costs_time_and_never_the_run(cached, content):
    """Half a file, noise or another model's weights: trained again and written anew, with the right bits."""
    first, second = _model(), _model()
    cached(first, {"seed": 0})
    [path] = cached.folder.glob("*.safetensors")
    if content == "another model":
        from safetensors.torch import save_file

        save_file(parameters(MODELS["byte-0.4m"](context=64)[0]), path)
    else:
        path.write_bytes(content)
    assert not cached(second, {"seed": 0}).cached
    assert torch.equal(_bits(first[0]), _bits(second[0]))
    third = _model(3)
    assert cached(third, {"seed": 0}).cached
    assert torch.equal(_bits(third[0]), _bits(first[0]))
