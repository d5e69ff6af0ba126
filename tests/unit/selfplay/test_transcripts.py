"""Transcripts and limited thoughts in play and in learning: what the learner scores is what was sampled, id for id.

The games, tokenizers and reply lengths are random. The engine remembers what it was asked and what it sampled; from the
packed batch each trained token is read back with all that it attends to, and the two must be the same.
"""

import functools
import os
import random
from collections import defaultdict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from spiral_games.native.kuhn_poker import KuhnPoker
from spiral_models.byte.tokenizer import ByteTokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from spiral.api.errors import RunError, SpiralError
from spiral.api.games import IllegalMove
from spiral.api.records import LEARNER, Completion
from spiral.config.schema import RolloutConfig
from spiral.engines.torch.engine import TorchEngine
from spiral.evaluation.exact import enumerable_trees
from spiral.evaluation.move_probabilities import move_probabilities
from spiral.evaluation.sampled import sample_moves
from spiral.learning.packing import pack
from spiral.learning.random_play import random_decisions
from spiral.models.chat import chat
from spiral.models.logits import TokenLogits, parameters
from spiral.models.prompt_cache import Prompter
from spiral.models.tokens import control_tokens
from spiral.plugins.registry import Plugins
from spiral.policies.completer import Completer
from spiral.policies.pool import Pool
from spiral.selfplay.curriculum import Weighted
from spiral.selfplay.rollouts import Rollouts
from spiral.testing.prompts import CHATML, merging_tokenizer
from spiral.theory.game_tree import GameTree
from spiral.training.metrics import summarise

MODEL_FOLDER = os.environ.get("SPIRAL_TEST_MODEL", "")
NAMES = ["<|im_start|>", "<|im_end|>"]
SAID = ("bet", "fold", "I offer 2 wood", "</s><think>", "<|im_end|>\n<|im_start|>assistant\nbet", "größer", " ")


@functools.cache
def tokenizer(name):
    if name == "byte":
        return ByteTokenizer()
    if name == "plain":
        return merging_tokenizer()
    made = merging_tokenizer(CHATML, NAMES, ["<think>", "</think>"])
    made.eos_token = "<|im_end|>"
    if name == "pad":
        made.pad_token = made.eos_token
    return made


class Talk:
    """Players in turn say a or b, `length` turns in all; each hears something new, or the same, or all again."""

    worst_return, zero_sum, rules = -1.0, False, "Say a or b.</s>"

    def __init__(self, num_players, length, hears):
        self.num_players, self.length, self.hears = num_players, length, hears

    def reset(self, rng):
        self.rng, self.said = rng, [rng.choice(SAID)]

    def current_player(self):
        turn = len(self.said) - 1
        return None if turn >= self.length else turn % self.num_players

    def observe(self, player):
        if self.hears == "all":
            return f"p{player} {' '.join(self.said)}"
        return f"p{player} {self.said[-1] if self.hears == 'last' else ''}"

    def legal_moves(self):
        return ["a", "b"]

    def play(self, move):
        if move not in ("a", "b"):
            raise IllegalMove("say a or b")
        self.said.append(f"{move} {self.rng.choice(SAID)}")

    def returns(self):
        return [1.0] * self.num_players


class Engine:
    """Samples a move of the format, or ids at random up to the limit, ended or cut; each id's log-probability is a
    function of all before it. Remembers (prompt, reply, log-probs) in `sampled`. `texts`: what it says in place of
    moves, ended, where many replies say one move."""

    def __init__(self, prompter, vocabulary, move_rate=0.7, context=None, texts=()):
        self.prompter, self.vocabulary, self.move_rate, self.texts = prompter, vocabulary, move_rate, texts
        self.sampled, self.waiting = [], []
        if context is not None:
            self.context = context

    def submit(self, request):
        self.waiting.append(request)

    def load_weights(self, policy, weights, version):
        pass

    def step(self):
        done, self.waiting = [self._complete(request) for request in self.waiting], []
        return done

    def _complete(self, request):
        rng, most, stops = random.Random(request.seed), request.sampling.max_new_tokens, request.sampling.stop_ids
        if rng.random() < self.move_rate:
            ids = [*rng.choice(self.texts), stops[0]] if self.texts else list(self.prompter.reply(rng.choice("ab")))
        else:
            ids = [
                i for i in rng.choices(self.vocabulary, k=rng.choice([most, rng.randint(0, most)])) if i not in stops
            ]
            ids.append(rng.choice(stops))
        ids = tuple(ids[:most])
        logprobs = tuple(-1.0 - hash((*request.prompt, *ids[:n])) % 1000 / 1024 for n in range(1, len(ids) + 1))
        self.sampled.append((request.prompt, ids, logprobs))
        return Completion(request.id, ids, logprobs, "stop" if ids[-1] in stops else "length", 0)


class Mirror:
    def seat(self, game, num_players, pool, rng):
        return [LEARNER] * num_players


def rollouts(make, engine, completer, **config):
    return Rollouts(
        {"talk": make}, Weighted({"talk": 1.0}), Mirror(), Pool(Plugins(), completer), RolloutConfig(**config)
    )


def conditioned(batch):
    """(ids attended to, in order, the target, its log-probability) of each trained token of a packed batch; the
    log-probabilities are multiples of 1/1024, so that single precision holds them."""
    found = set()
    for micro in batch.micro_batches:
        for row, column, target, logprob in zip(
            micro.rows.tolist(), micro.columns.tolist(), micro.targets.tolist(), micro.logprobs.tolist(), strict=True
        ):
            seen = range(column + 1)
            if micro.mask is not None:
                seen = [place for place in range(micro.ids.shape[1]) if micro.mask[row, 0, column, place]]
            seen = sorted(seen, key=lambda place: int(micro.positions[row, place]))
            assert [int(micro.positions[row, place]) for place in seen] == list(range(len(seen)))
            found.add((tuple(int(micro.ids[row, place]) for place in seen), target, logprob))
    return found


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(["byte", "plain", "chatml", "pad"]),
    history=st.sampled_from(["fresh", "transcript", "thoughtless"]),
    moves=st.booleans(),
    players=st.integers(1, 3),
    length=st.integers(1, 8),
    hears=st.sampled_from(["all", "last", "nothing"]),
    limit=st.integers(3, 12),
    room=st.sampled_from([None, 40, 150]),
    cut=st.sampled_from(["illegal", "mask", "train"]),
    thought=st.sampled_from([None, None, 1, 6]),
    seed=st.integers(0, 1 << 30),
)
def test_what_the_learner_scores_is_what_was_sampled(
    name, history, moves, players, length, hears, limit, room, cut, thought, seed
):
    """Every trained token follows the very ids that the engine had read and sampled, at its own log-probability; no
    token is left out, but those of replies that the config masks, and those that closed a thought, which were not
    sampled; and a prompt begins with the last one and its reply, as long as neither thoughts nor turns leave it."""
    form = chat(
        tokenizer(name), answer="boxed" if thought else "plain", moves=moves, thought_tokens=thought,
        history="fresh" if history == "fresh" else "transcript", keep_thoughts=history != "thoughtless",
    )  # fmt: skip
    prompter = Prompter(form)
    limit += prompter.min_new_tokens - 1
    first = len(prompter.encode(Talk.rules, "p0 " + max(SAID, key=len) * 3, ["a", "b"] if moves else None))
    context = None if room is None or hears == "all" else first + limit + room
    # Often a special token, or `</think>`, in the middle of a reply.
    vocabulary = [*range(len(tokenizer(name))), *[*control_tokens(tokenizer(name)).values()] * 10]
    # A whole answer, one behind a thought, and one that was begun for it.
    said = ["\\boxed{a}", "<think>b</think>\\boxed{b}", "a}"] if thought else []
    texts = [tokenizer(name).encode(text, add_special_tokens=False) for text in said]
    engine = Engine(prompter, vocabulary, context=context, texts=texts)
    completer = Completer.of(engine, prompter, limit, reads_cut=cut == "train")
    play = rollouts(lambda: Talk(players, length, hears), engine, completer, retries=2, cut_replies=cut, max_voided=0)
    episodes = play.play(4, (seed,))
    trajectories = [t for e in episodes for t in e.trajectories]
    batch = pack(trajectories, [[1.0] * len(t.turns) for t in trajectories], 1)
    turns = [turn for one in trajectories for turn in one.turns]
    parts = defaultdict(set)
    for prompt, ids, logprobs in engine.sampled:
        parts[prompt].add((ids, logprobs))
    assert conditioned(batch) == {found for turn in turns if turn.trained for found in _sampled(turn, parts)}
    for turn in turns:
        was_cut = turn.reply[-1] not in prompter.stop_ids
        assert turn.finish == ("length" if was_cut else "stop")
        assert turn.trained == (cut != "mask" or not was_cut)
        assert thought or not turn.forced
    if history == "transcript":
        _check_transcripts(trajectories, batch)


def _sampled(turn, parts):
    """(what was read, the id, its log-probability) of each id of a reply that the engine sampled. `parts`: by prompt,
    what was sampled behind it."""
    whole, end = turn.prompt + turn.reply, len(turn.prompt)
    for start in range(len(turn.prompt), len(whole)):
        for ids, logprobs in parts.get(whole[:start], ()):
            if start >= end and whole[start : start + len(ids)] == ids:
                end = start + len(ids)
                yield from ((whole[: start + n], ids[n], logprobs[n]) for n in range(len(ids)))
    assert end == len(whole)


def _check_transcripts(trajectories, batch):
    """Each turn goes on from the last, and a whole transcript costs its own length."""
    for trajectory in trajectories:
        for a, b in zip(trajectory.turns, trajectory.turns[1:], strict=False):
            if a.left_out == b.left_out:
                assert b.prompt[: len(a.prompt + a.reply)] == a.prompt + a.reply
            assert b.left_out >= a.left_out
    if not any(turn.left_out or not turn.trained for t in trajectories for turn in t.turns):
        longest = [len(t.turns[-1].prompt + t.turns[-1].reply) for t in trajectories if t.turns]
        assert batch.num_computed_tokens <= sum(longest)


def _tiny(tokenizer):
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=1024, **sizes)).eval()


def _largest_gap(model, tokenizer, **config):
    """Between the log-probabilities at sampling and those of the packed rows, in two games; and the rows' tokens."""
    prompter = Prompter(chat(tokenizer, answer="brackets", history="transcript", moves=True))
    engine = TorchEngine(model, tokenizer)
    engine.load_weights(LEARNER, parameters(model), 0)
    play = rollouts(lambda: Talk(2, 6, "all"), engine, Completer.of(engine, prompter, 6, reads_cut=True), **config)
    trajectories = [t for episode in play.play(2, (0,)) for t in episode.trajectories]
    batch = pack(trajectories, [[1.0] * len(t.turns) for t in trajectories], 1)
    gaps = []
    with torch.no_grad():
        for micro in batch.micro_batches:
            logits = TokenLogits(model)(micro.ids, micro.positions, micro.mask, micro.rows, micro.columns)
            logprobs = torch.log_softmax(logits, -1).gather(-1, micro.targets[:, None])[:, 0]
            gaps.append(float((logprobs - micro.logprobs).abs().max()))
    longest = sum(len(t.turns[-1].prompt + t.turns[-1].reply) for t in trajectories if t.turns)
    assert max(len(t.turns) for t in trajectories) >= 2
    assert batch.num_computed_tokens <= longest
    return max(gaps)


def test_one_pass_over_a_transcript_gives_the_probabilities_of_sampling():
    """A model of random weights on the torch engine: within 1e-4 nats in float32, all turns of a player in one row."""
    assert _largest_gap(_tiny(tokenizer("chatml")), tokenizer("chatml"), retries=5) < 1e-4


@pytest.mark.skipif(not MODEL_FOLDER, reason="SPIRAL_TEST_MODEL names no model folder")
def test_one_pass_over_a_transcript_gives_the_probabilities_of_sampling_of_a_real_model():
    """The same of a pretrained model with its own tokenizer and chat template, within 1e-3 nats."""
    model = AutoModelForCausalLM.from_pretrained(MODEL_FOLDER, dtype=torch.float32, local_files_only=True).eval()
    own = AutoTokenizer.from_pretrained(MODEL_FOLDER, local_files_only=True)
    assert _largest_gap(model, own, retries=1) < 1e-3


# A full context


def full(**args):
    """A game of 12 turns of one player in a context of 120 tokens, and its turns."""
    prompter = Prompter(chat(tokenizer("chatml"), answer="plain", history="transcript", rules=False, **args))
    engine = Engine(prompter, [70], move_rate=1.0, context=120)
    play = rollouts(lambda: Talk(1, 12, "nothing"), engine, Completer.of(engine, prompter, 6), max_voided=2)
    return play, engine


def test_the_oldest_turns_leave_a_full_context_and_are_counted():
    """The rest is a transcript of its own, with the instructions at its beginning; nothing is cut inside a turn."""
    play, engine = full()
    episodes = play.play(1, (0,))
    turns = episodes[0].trajectories[0].turns
    assert len(turns) == 12
    left_out = [turn.left_out for turn in turns]
    assert left_out == sorted(left_out)
    assert left_out[0] == 0 < left_out[-1] < 11
    for number, turn in enumerate(turns):
        text = tokenizer("chatml").decode(turn.prompt)
        assert len(turn.prompt) + 6 <= 120
        assert text.startswith("<|im_start|>user\np0 \n\nAnswer with your move")
        assert text.count("<|im_start|>assistant") == number - turn.left_out + 1
    share = sum(n > 0 for n in left_out) / 12
    assert summarise(episodes, episodes[0].trajectories, [[0.0] * 12])["play/left_out_rate"] == share


def test_a_game_whose_transcript_is_full_is_voided_if_asked():
    """With its cause; too many of them stop the run."""
    play, _ = full(when_full="void")
    with pytest.raises(RunError, match="leaves room for a reply of"):
        play.play(1, (0,))
    assert {game.cause for game in play.voided} == {"prompt too long"}


# Replies that were cut


@pytest.mark.parametrize(("policy", "move", "trained"), [("illegal", None, True), ("mask", None, False), ("train", "a", True)])  # fmt: skip
def test_a_reply_that_was_cut_is_illegal_or_masked_or_read(policy, move, trained):
    """`illegal` and `mask` score it as no move, and `mask` keeps it from the loss; `train` takes it as it is."""
    prompter = Prompter(chat(tokenizer("chatml"), answer="brackets"))
    written = tokenizer("chatml").encode("[a] because", add_special_tokens=False)
    engine = Engine(prompter, [70])
    engine._complete = lambda r: Completion(r.id, tuple(written), (-1.0,) * len(written), "length", 0)
    completer = Completer.of(engine, prompter, len(written), reads_cut=policy == "train")
    [episode] = rollouts(lambda: Talk(1, 1, "last"), engine, completer, cut_replies=policy).play(1, (0,))
    [turn] = episode.trajectories[0].turns
    assert (turn.move, turn.legal, turn.trained) == (move, move is not None, trained)
    assert episode.ending == ("finished" if move else "illegal")
    batch = pack(episode.trajectories, [[1.0]], 1000)
    assert batch.num_reply_tokens == (len(written) if trained else 0)


# Thoughts that were closed


class Thinker:
    """Says `first` to a prompt of a player, and `then` to one that a thought's close ends; remembers the requests."""

    def __init__(self, tokens, first, then):
        self.asked, self.waiting = [], []
        self.first, self.then = (tuple(tokens.encode(text, add_special_tokens=False)) for text in (first, then))
        self.close = tuple(tokens.encode("\n</think>\n\n", add_special_tokens=False))

    def submit(self, request):
        self.asked.append(request)
        self.waiting.append(request)

    def load_weights(self, policy, weights, version):
        pass

    def step(self):
        waiting, self.waiting = self.waiting, []
        # The last first: games must not depend on the order of answers.
        return [self._complete(request) for request in reversed(waiting)]

    def _complete(self, request):
        closed = request.prompt[-len(self.close) :] == self.close
        ids = (self.then if closed else self.first)[: request.sampling.max_new_tokens]
        finish = "stop" if ids[-1] in request.sampling.stop_ids else "length"
        return Completion(request.id, ids, (-1.0,) * len(ids), finish, 0)


def think(first, then, cut="illegal", **args):
    """Two games of two turns with thoughts of 6 tokens, replies of 40; their turns, the engine, the metrics."""
    tokens = tokenizer("chatml")
    prompter = Prompter(chat(tokens, thought_tokens=6, history="transcript", **args))
    engine = Thinker(tokens, first, then)
    completer = Completer.of(engine, prompter, 40, reads_cut=cut == "train")
    episodes = rollouts(lambda: Talk(1, 2, "last"), engine, completer, cut_replies=cut).play(2, (3,))
    trajectories = [t for episode in episodes for t in episode.trajectories]
    metrics = summarise(episodes, trajectories, [[0.0] * len(t.turns) for t in trajectories])
    return [list(t.turns) for t in trajectories], engine, metrics


LONG = "<think>one two three four five six seven eight"


@pytest.mark.parametrize("cut", ["illegal", "mask", "train"])
def test_a_thought_that_was_closed_is_no_reply_that_was_cut(cut):
    """Its move is read and played, it is trained whatever becomes of cut replies, and it counts as closed alone."""
    games, engine, metrics = think(LONG, "\\boxed{a}<|im_end|>", cut)
    turns = [turn for game in games for turn in game]
    assert [(t.move, t.legal, t.finish, t.trained) for t in turns] == [("a", True, "stop", True)] * 4
    close = tuple(range(6, 6 + len(engine.close)))
    assert [t.forced for t in turns] == [close] * 4
    assert all(tuple(t.reply[place] for place in close) == engine.close for t in turns)
    assert (metrics["play/forced_rate"], metrics["play/cut_off_rate"]) == (1.0, 0.0)
    assert metrics["play/reply_tokens"] == len(turns[0].reply) - len(close)


def test_the_next_prompt_holds_the_reply_with_what_closed_its_thought():
    """The history is the row: the ids sampled and the ids put there, as they stood."""
    games, engine, _ = think(LONG, "\\boxed{a}<|im_end|>")
    for first, second in games:
        assert second.prompt[: len(first.prompt + first.reply)] == first.prompt + first.reply
        assert engine.close == first.reply[6 : 6 + len(engine.close)]


def test_each_part_of_a_reply_has_a_seed_of_its_own():
    """All descend from the run's seed: a game that is played again asks the same."""
    _, engine, _ = think(LONG, "\\boxed{a}<|im_end|>")
    assert len(engine.asked) == 8
    assert len({request.seed for request in engine.asked}) == 8
    _, again, _ = think(LONG, "\\boxed{a}<|im_end|>")
    assert [r.seed for r in again.asked] == [r.seed for r in engine.asked]


def test_an_answer_that_runs_out_of_tokens_is_cut():
    """Also behind a thought that was closed."""
    games, _, metrics = think(LONG, "I " * 60)
    [turn] = games[0]
    assert (turn.move, turn.legal, turn.finish, len(turn.reply)) == (None, False, "length", 40)
    assert turn.forced
    assert (metrics["play/forced_rate"], metrics["play/cut_off_rate"]) == (1.0, 1.0)


def test_a_reply_that_ends_in_time_is_one_request():
    """And nothing is put into it."""
    games, engine, metrics = think("[b]<|im_end|>", "", answer="brackets")
    assert [(t.move, t.forced) for game in games for t in game] == [("b", ())] * 4
    assert len(engine.asked) == 4
    assert metrics["play/forced_rate"] == 0.0


# What needs the prompt to be a function of the observation


def test_exact_figures_and_samples_of_single_decisions_are_refused():
    """What a policy does in a transcript depends on the way to a decision."""
    prompter = Prompter(chat(tokenizer("chatml"), answer="plain", history="transcript"))
    completer = Completer.of(Engine(prompter, [70]), prompter, 8)
    assert prompter.reply("bet") is not None
    assert not prompter.is_scored(["bet"])
    assert enumerable_trees({"kuhn": KuhnPoker}, completer, 10_000) == {}
    decisions = GameTree.of(KuhnPoker()).decisions
    with pytest.raises(SpiralError, match="depends on the way to a decision"):
        move_probabilities(None, completer, "", decisions)
    with pytest.raises(SpiralError, match="depends on the way to a decision"):
        sample_moves(completer, LEARNER, "", decisions, 2, (0,), 1.0)


@pytest.mark.parametrize("moves", [False, True])
def test_supervised_examples_are_the_turns_of_a_transcript(moves):
    """The warm start asks as play does: the prompts of one player's turns begin with the last prompt and its reply, and
    name the legal moves where play's do."""
    prompter = Prompter(chat(tokenizer("chatml"), answer="plain", history="transcript", moves=moves))
    completer = Completer.of(Engine(prompter, [70]), prompter, 8)
    made = random_decisions({"talk": lambda: Talk(2, 6, "last")}, {"talk": 1.0}, completer, random.Random(0), 100)
    turns = [next(made) for _ in range(6)]
    for before, after in zip(turns, turns[2:], strict=False):
        said = before.prompt + prompter.reply(before.move)
        assert after.prompt[: len(said)] == said
    assert ("Legal moves" in tokenizer("chatml").decode(turns[5].prompt)) == moves
