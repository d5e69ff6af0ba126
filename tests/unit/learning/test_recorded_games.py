"""Games of other policies as the learner's turns: what is trained on, in which order, what is held out and left out."""

import dataclasses
import random

import pytest
import torch
from spiral_games.native.kuhn_poker import KuhnPoker
from spiral_models import MODELS
from spiral_models.byte.tokenizer import ByteTokenizer

from spiral import LEARNER, SpiralError
from spiral.config.schema import LearnerConfig
from spiral.config.sources import ExamplesConfig
from spiral.engines.torch.engine import TorchEngine
from spiral.evaluation.held_out import held_out
from spiral.evaluation.move_probabilities import sequence_logprobs
from spiral.learning.distributed import make_accelerator
from spiral.learning.full_learner import FullLearner
from spiral.learning.packing import pack
from spiral.learning.recorded_games import RecordedGames
from spiral.learning.samples import Sample
from spiral.models.chat import chat
from spiral.models.logits import TokenLogits
from spiral.models.prompt_cache import Prompter
from spiral.models.prompts import PlainFormat
from spiral.policies.completer import Completer
from spiral.selfplay.examples import Example
from spiral.testing import ScriptedEngine

torch.set_num_threads(1)


def examples(num=20, thoughts=""):
    """Kuhn games of random play, both players."""
    found = []
    for number in range(num):
        rng, game, history = random.Random(number), KuhnPoker(), []
        game.reset(rng)
        while (player := game.current_player()) is not None:
            move = rng.choice(game.legal_moves())
            found.append(
                Example(
                    "kuhn", number, number, player, "bot:x", ["bot:x"] * 2, [1.0, -1.0], "win", "finished",
                    len(history), 0, [*history], game.rules, game.observe(player), game.legal_moves(), thoughts, move,
                    None,
                )
            )  # fmt: skip
            history.append(move)
            game.play(move)
    return found


def completer(form=PlainFormat, context=None, max_new_tokens=16):
    engine = ScriptedEngine(lambda request: [])
    if context is not None:
        engine.context = context
    return Completer.of(engine, Prompter(form(ByteTokenizer())), max_new_tokens)


def recorded(of=None, form=PlainFormat, seed=0, context=None, max_new_tokens=16, anchored=False, **config):
    asker = completer(form, context, max_new_tokens)
    return RecordedGames(examples() if of is None else of, asker, ExamplesConfig("x", **config), seed, anchored)


def turns(episodes):
    return [turn for e in episodes for t in e.trajectories for turn in t.turns]


# What is trained on


def test_the_prompts_and_replies_are_the_learners_own():
    """Observation and move in its prompt format, the stop id included; the learner stands for every player whose
    decisions are there, and the game's own returns are kept."""
    (episode,) = recorded(examples(1), held_out=0.0).of_step(0, 1)
    form = PlainFormat(ByteTokenizer())
    seen = {t.player: [(turn.observation, turn.move) for turn in t.turns] for t in episode.trajectories}
    told = {p: [(e.observation, e.move) for e in examples(1) if e.player == p] for p in (0, 1)}
    assert seen == told
    assert episode.policies == (LEARNER, LEARNER)
    assert episode.returns == (1.0, -1.0)
    for turn in turns([episode]):
        assert turn.prompt == tuple(form.encode("", turn.observation))
        assert turn.reply == tuple(form.reply(turn.move))
        assert turn.legal
        assert turn.legal_replies is None
    (anchored,) = recorded(examples(1), held_out=0.0, anchored=True).of_step(0, 1)
    assert all(turn.reply in turn.legal_replies for turn in turns([anchored]))


def test_a_player_without_examples_keeps_its_name_and_has_no_turn():
    won = [e for e in examples(1) if e.player == 0]
    (episode,) = recorded(won, held_out=0.0).of_step(0, 1)
    assert episode.policies == (LEARNER, "bot:x")
    assert episode.trajectories[1].turns == ()


def test_each_reply_is_trained_to_its_end_and_nothing_else_is():
    """Four replies of three letters: 4 x 4 tokens, though the stop id fills rows too."""
    asked = [
        dataclasses.replace(examples(1)[0], number=n, observation=f"seat {n}", legal_moves=None, move=move)
        for n, move in enumerate(("abc", "abd", "xyz", "bet"))
    ]
    games = recorded(asked, held_out=0.0).of_step(0, 4)
    learned = [t for e in games for t in e.trajectories if t.policy == LEARNER]
    batch = pack(learned, [[1.0] * len(t.turns) for t in learned], 4096)
    (stop,) = PlainFormat(ByteTokenizer()).stop_ids
    trained = [i for micro in batch.micro_batches for i in micro.targets.tolist()]
    assert batch.num_reply_tokens == len(trained) == 16
    assert trained.count(stop) == 4
    assert sorted(bytes(i for i in trained if i != stop)) == sorted(b"abcabdxyzbet")


def test_thoughts_are_part_of_a_reply_that_may_hold_them():
    """In a format that asks for reasoning; one that asks for the move alone trains the move, and so does
    examples.thoughts=false."""
    tokenizer, asked = ByteTokenizer(), examples(2, thoughts="I think it is a bluff.")

    def said(form, **config):
        games = recorded(asked, form, max_new_tokens=64, held_out=0.0, **config)
        return {tokenizer.decode(list(turn.reply[:-1])) for turn in turns(games.of_step(0, 2))}

    assert all(text.startswith("I think it is a bluff.\n\n\\boxed{") for text in said(chat))
    assert said(PlainFormat) <= {"check", "bet", "call", "fold"}
    assert said(chat, thoughts=False) == {f"\\boxed{{{move}}}" for move in said(PlainFormat)}


def test_a_transcript_holds_the_players_own_earlier_turns():
    """Each prompt goes on where the last one and the expert's reply to it ended."""
    games = recorded(form=lambda t: chat(t, answer="plain", history="transcript"), held_out=0.0)
    longer = [t.turns for e in games.of_step(0, 20) for t in e.trajectories if len(t.turns) > 1]
    assert longer
    for first, second, *_ in longer:
        assert second.prompt[: len(first.prompt + first.reply)] == first.prompt + first.reply


def test_a_format_that_can_write_no_reply_is_refused():
    class Silent(PlainFormat):
        def reply(self, move):
            return None

    with pytest.raises(SpiralError, match="gives no way to write the move"):
        recorded(form=Silent)


# In which order


def test_every_epoch_has_every_game_once_in_an_order_of_its_own():
    """Across the border of an epoch too; and a step's games are a function of the seed and the step alone."""
    games = recorded(held_out=0.0)
    order = [e.deal for step in range(8) for e in games.of_step(step, 5)]
    assert sorted(order[:20]) == sorted(order[20:]) == [*range(20)]
    assert order[:20] != order[20:]
    stream = [e.deal for step in range(6) for e in games.of_step(step, 7)]
    assert stream[:40] == order
    assert [e.deal for e in recorded(held_out=0.0).of_step(3, 5)] == order[15:20]
    assert [e.deal for e in recorded(held_out=0.0, seed=1).of_step(0, 20)] != order[:20]


def test_whole_games_are_held_out():
    """No game gives one turn to training and another one to the measurement."""
    games = recorded(held_out=0.25)
    out = {e.deal for e in games.held_out()}
    assert len(out) == games.num_held_out == 5
    assert out.isdisjoint({e.deal for e in games.of_step(0, games.num_games)})
    assert len(turns(games.held_out())) == sum(e.number in out for e in examples())
    assert out != {e.deal for e in recorded(held_out=0.25, seed=1).held_out()}
    assert recorded(held_out=0.25, max_held_out=2).num_held_out == 2
    assert recorded(held_out=0.001).num_held_out == 1
    assert recorded(held_out=0.0).num_held_out == 0
    assert recorded(examples(1), held_out=0.5).num_games == 1


# What has no room


def test_what_has_no_room_is_left_out_whole_counted_and_named(caplog):
    """A context of 40 has no room for the prompt that was made long: that player's decisions leave, the others stay."""
    asked = [dataclasses.replace(e, observation="." * 40) if e.number == 7 and e.turn == 0 else e for e in examples()]
    games = recorded(asked, context=40, held_out=0.0)
    own = sum(e.number == 7 and e.player == 0 for e in asked)
    assert (games.left_out.examples, games.left_out.trajectories) == (own, 1)
    assert "game 7, player 0: a prompt of 42 tokens" in games.left_out.reason
    assert f"{own} of {len(asked)} examples cannot be learned from" in caplog.text
    assert len(turns(games.of_step(0, games.num_games))) == len(asked) - own
    assert recorded(context=40).left_out is None


def test_a_reply_that_would_be_cut_in_play_has_no_room_either():
    with pytest.raises(SpiralError, match=r"is cut after 5; set rollout.max_new_tokens=6 or more"):
        recorded([e for e in examples() if e.move == "check"], max_new_tokens=5)


# What it comes to


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return MODELS["byte-0.1m"](context=64)


def test_held_out_figures_are_those_of_the_replies_log_probabilities(model):
    """Loss and perplexity over tokens, of turns as often as they come; a turn is right if each token of its answer is
    the likeliest."""
    lm, games = TokenLogits(model[0]), recorded(held_out=0.5).held_out()
    asked = turns(games)
    found = held_out(lm, games, lambda turn: len(turn.reply), 4096)["kuhn"]
    keys = sorted({(t.prompt, t.reply) for t in asked}, key=lambda k: (k[0] + k[1], len(k[0])))
    each = dict(
        zip(keys, sequence_logprobs(lm, [Sample(*k, (0.0,) * len(k[1]), count=1) for k in keys], 4096), strict=True)
    )
    nll = -sum(float(each[t.prompt, t.reply]) for t in asked)
    assert (found.turns, found.tokens) == (len(asked), sum(len(t.reply) for t in asked))
    assert found.nll == pytest.approx(nll, rel=1e-5)
    assert found.perplexity == pytest.approx(torch.tensor(nll / found.tokens).exp().item(), rel=1e-4)
    assert found.right == sum(_greedy(lm, t) == t.reply for t in asked)
    assert held_out(lm, games, lambda turn: 0, 4096)["kuhn"].accuracy == 1.0


def _greedy(lm, turn):
    ids, said = [*turn.prompt], []
    for _ in turn.reply:
        row = torch.tensor([ids])
        logits = lm(row, torch.arange(len(ids))[None], None, torch.tensor([0]), torch.tensor([len(ids) - 1]))
        said.append(int(logits[0].argmax()))
        ids.append(turn.reply[len(said) - 1])
    return tuple(said)


def test_a_learner_of_likelihoods_learns_the_replies_and_where_they_end(model):
    """Four different moves to four observations: each is said in full, and ends where it ended, after some updates. Its
    loss is the cross-entropy; it asks no engine whether the replies were its own."""
    lm, tokenizer = model
    asked = [
        dataclasses.replace(examples(1)[0], number=n, observation=f"seat {n}", legal_moves=None, move=move)
        for n, move in enumerate(("abc", "abd", "xyz", "bet"))
    ]
    config = LearnerConfig(objective="likelihood", normalisation="tokens", lr=5e-3, kl=0.0, ema=0.0)
    learner = FullLearner(lm, config, 40, make_accelerator(60.0, config))
    asker = Completer.of(TorchEngine(lm, tokenizer), Prompter(PlainFormat(tokenizer)), 16)
    games = RecordedGames(asked, asker, ExamplesConfig("x", held_out=0.0), 0)
    for step in range(40):
        learned = [t for e in games.of_step(step, 4) for t in e.trajectories if t.policy == LEARNER]
        batch = pack(learned, [[1.0] * len(t.turns) for t in learned], 4096)
        before = held_out(learner.scorer(), games.of_step(step, 4), lambda turn: 0, 4096)["kuhn"].loss
        stats = learner.update(batch, step, 4)
        assert stats["learner/nll"] == pytest.approx(before, rel=1e-4)
        assert stats["learner/surrogate"] == pytest.approx(-before, rel=1e-4)
        assert not [name for name in stats if "ratio" in name]
    assert held_out(learner.scorer(), games.of_step(0, 4), lambda turn: 4, 4096)["kuhn"].accuracy == 1.0
    assert all(_greedy(TokenLogits(lm), turn) == turn.reply for turn in turns(games.of_step(0, 4)))
