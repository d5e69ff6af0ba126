"""Collected games: whose decisions are kept, in which words, and a file that a kill neither loses nor changes."""

import json
import random

import pytest
from spiral_games.bots.kuhn_equilibrium import Equilibrium
from spiral_games.native.kuhn_poker import KuhnPoker
from spiral_models.byte.tokenizer import ByteTokenizer

from spiral import SaidMove, SpiralError
from spiral.config.schema import RolloutConfig
from spiral.models.chat import chat
from spiral.models.prompt_cache import Prompter
from spiral.plugins.registry import Plugins
from spiral.policies.completer import Completer
from spiral.policies.pool import Pool
from spiral.selfplay import collection
from spiral.selfplay.collection import Collection, LineUp, Request, line_ups
from spiral.selfplay.examples import read_examples, record_path
from spiral.selfplay.replay import check_examples
from spiral.testing import ScriptedEngine

KUHN = {"kuhn": KuhnPoker}
EQUILIBRIUM, RANDOM = "bot:equilibrium", "bot:random"


class Random:
    def choose(self, game, player, rng):
        return rng.choice(game.legal_moves())


class Counting(Random):
    """Says so before every seventh move, and goes on counting after a resume."""

    def __init__(self):
        self.state = {"asked": 0}

    def choose(self, game, player, rng):
        self.state = {"asked": self.state["asked"] + 1}
        move = super().choose(game, player, rng)
        return SaidMove(move, f"Seven again.\n\\boxed{{{move}}}") if self.state["asked"] % 7 == 0 else move


def make(path, num=10, keep="all", policies=(EQUILIBRIUM,), opponents=(), games=KUHN, seed=0, **others):
    pool = Pool(Plugins())
    for policy, bot in {EQUILIBRIUM: Equilibrium(), RANDOM: Random(), "bot:counting": Counting(), **others}.items():
        pool.add_bot(policy, bot)
    request = Request(list(policies), list(opponents), list(games), keep, num, seed)
    seats = {name: game().num_players for name, game in games.items()}
    return Collection(request, line_ups(seats, policies, opponents), games, pool, RolloutConfig(), path)


def collected(path, **asked):
    made = make(path, **asked)
    made.run()
    return read_examples(path)


# Who plays whom


def test_one_policy_plays_itself_and_several_play_each_other_in_every_seat():
    assert line_ups({"duel": 2}, ["a"]) == [LineUp("duel", ("a", "a"), (0, 1))]
    assert line_ups({"duel": 2}, ["a", "b"]) == [LineUp("duel", ("a", "b"), (0, 1)), LineUp("duel", ("b", "a"), (0, 1))]
    assert line_ups({"alone": 1}, ["a", "b"]) == [LineUp("alone", ("a",), (0,)), LineUp("alone", ("b",), (0,))]
    trio = line_ups({"trio": 3}, ["a", "b"])
    assert {line_up.policies.index("a") for line_up in trio if line_up.policies.count("a") == 1} == {0, 1, 2}
    assert len(trio) == 6


def test_an_opponents_own_decisions_are_not_kept():
    assert line_ups({"duel": 2}, ["a"], ["x", "y"]) == [
        LineUp("duel", ("a", "x"), (0,)), LineUp("duel", ("x", "a"), (1,)),
        LineUp("duel", ("a", "y"), (0,)), LineUp("duel", ("y", "a"), (1,)),
    ]  # fmt: skip


# What is kept


def test_each_line_is_a_decision_that_was_made_and_the_game_can_be_played_again(tmp_path):
    """Every turn of both players, in the order of play, with what the player saw and could do."""
    examples = collected(tmp_path / "games.jsonl", num=12)
    check_examples(examples, KUHN, "games.jsonl")
    assert [e.number for e in examples] == sorted(e.number for e in examples)
    assert {e.number for e in examples} == {*range(12)}
    for e in examples:
        game = KuhnPoker()
        game.reset(random.Random(e.deal))
        for move in e.history:
            game.play(move)
        assert (e.player, e.observation) == (game.current_player(), game.observe(e.player))
        assert e.legal_moves == game.legal_moves()
        assert e.turn == len(e.history) < e.turns
        assert (e.policy, e.policies, e.reply, e.thoughts) == (EQUILIBRIUM, [EQUILIBRIUM] * 2, None, "")
    of_first = [e for e in examples if e.number == 0]
    assert len(of_first) == of_first[0].turns
    assert [e.move for e in of_first] == [*of_first[-1].history, of_first[-1].move]


def test_wins_are_the_winners_decisions_alone(tmp_path):
    examples = collected(tmp_path / "games.jsonl", keep="wins", num=12)
    for e in examples:
        assert e.outcome == "win"
        assert e.returns[e.player] == max(e.returns)
    assert len({(e.number, e.player) for e in examples}) == 12


def test_seats_are_balanced_among_what_is_kept(tmp_path):
    """Though the second player wins more: half of the games in each seat, and the opponent's moves in none."""
    examples = collected(tmp_path / "games.jsonl", keep="wins", num=20, opponents=[RANDOM])
    seats = {e.number: e.player for e in examples}
    assert sorted(seats.values()) == [0] * 10 + [1] * 10
    assert {e.policy for e in examples} == {EQUILIBRIUM}


class Drawn:
    """One move each, and nobody wins."""

    num_players, rules = 2, ""

    def reset(self, rng):
        self.said = []

    def current_player(self):
        return len(self.said) if len(self.said) < 2 else None

    def observe(self, player):
        return "?"

    def legal_moves(self):
        return ["a"] if self.current_player() is not None else []

    def play(self, move):
        self.said.append(move)

    def returns(self):
        return [0.0, 0.0]


def test_games_that_are_never_won_are_a_sentence_and_no_endless_loop(tmp_path, monkeypatch):
    monkeypatch.setattr(collection, "PATIENCE", 20)
    with pytest.raises(SpiralError, match=r"none of the first \d+ games of drawn between .* --keep all"):
        collected(tmp_path / "games.jsonl", keep="wins", policies=[RANDOM], games={"drawn": Drawn})
    assert len(collected(tmp_path / "all.jsonl", policies=[RANDOM], games={"drawn": Drawn}, num=3)) == 6


# In whose words


def test_a_bots_thoughts_are_kept_with_its_move(tmp_path):
    """A bot that reads its move in a text gives the text: the messages say it in the bot's own words."""
    path = tmp_path / "games.jsonl"
    said = [e for e in collected(path, policies=["bot:counting"], num=12) if e.reply]
    assert said
    line = next(line for line in map(json.loads, path.read_text().splitlines()) if line["reply"])
    assert said[0].thoughts == "Seven again."
    assert said[0].reply == f"Seven again.\n\\boxed{{{said[0].move}}}"
    assert line["completion"] == [{"role": "assistant", "content": said[0].reply}]
    assert "Reason step by step" in line["prompt"][0]["content"]


def test_a_language_models_reply_is_kept_as_it_was_written(tmp_path):
    """Its text up to the id that ended it, whatever its tokenizer; a move that it named first is no answer."""
    tokenizer = ByteTokenizer()
    prompter = Prompter(chat(tokenizer))
    text = "Not check. <b>\n\\boxed{bet} or so"
    reply = [*tokenizer.encode(text, add_special_tokens=False), prompter.stop_ids[0]]
    engine = ScriptedEngine(lambda request: reply, policies=["run:a@1"])
    pool = Pool(Plugins())
    decode = lambda ids: tokenizer.decode(list(ids), skip_special_tokens=False)  # noqa: E731
    pool.add_weights("run:a@1", Completer.of(engine, prompter, 64, decode=decode))
    pool.add_bot(RANDOM, Random())
    request = Request(["run:a@1"], [RANDOM], ["kuhn"], "all", 8, 0)
    path = tmp_path / "games.jsonl"
    Collection(request, line_ups({"kuhn": 2}, ["run:a@1"], [RANDOM]), KUHN, pool, RolloutConfig(), path).run()
    examples = read_examples(path)
    assert {(e.move, e.reply, e.thoughts) for e in examples} == {("bet", text, "Not check. <b>")}
    assert all(e.ending in ("finished", "illegal") for e in examples)


def test_without_thoughts_the_messages_ask_for_the_move_alone(tmp_path):
    path = tmp_path / "games.jsonl"
    first = collected(path, num=1)[0]
    line = json.loads(path.read_text().splitlines()[0])
    assert line["completion"] == [{"role": "assistant", "content": f"\\boxed{{{first.move}}}"}]
    (message,) = line["prompt"]
    for part in (first.rules, first.observation, "Legal moves, one a line:\ncheck\nbet", "and nothing else."):
        assert part in message["content"]


def test_the_messages_are_what_the_chat_format_tells(tmp_path):
    """So a model that another tool trained on them is asked the same here."""
    tokenizer = ByteTokenizer()
    path = tmp_path / "games.jsonl"
    e = collected(path, num=1)[0]
    prompt = json.loads(path.read_text().splitlines()[0])["prompt"]
    told = tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
    made = chat(tokenizer, reason=False, moves=True)
    assert tokenizer.decode(made.encode(e.rules, e.observation, e.legal_moves), skip_special_tokens=False) == told


# Kills and other requests


@pytest.mark.parametrize("keep", ["all", "wins"])
@pytest.mark.parametrize("moment", ["before the lines", "before the record"])
def test_a_killed_collection_goes_on_to_the_same_file(tmp_path, monkeypatch, keep, moment):
    """Killed between any two writes, with a bot that remembers what it was asked: the same bytes as without a kill."""
    monkeypatch.setattr(collection, "BATCH", 4)
    asked = {"keep": keep, "num": 20, "policies": ["bot:counting", EQUILIBRIUM]}
    collected(tmp_path / "whole.jsonl", **asked)
    path = tmp_path / "killed.jsonl"
    for number_of_writes in (1, 2, 2):
        killed, left = make(path, **asked), [number_of_writes]
        with monkeypatch.context() as patched:
            _die(patched, left, moment)
            with pytest.raises(KeyboardInterrupt):
                killed.run()
        with path.open("ab") as file:
            file.write(b'{"game": "kuhn", "num')
    collected(path, **asked)
    assert path.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def _die(patched, left, moment):
    """The next write but `left` never comes to its record, or not even to its lines."""
    write_atomic, write = collection.write_atomic, Collection._write

    def record(path, text):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        write_atomic(path, text)

    def lines(self, text):
        if left[0] <= 0:
            raise KeyboardInterrupt
        write(self, text)

    patched.setattr(collection, "write_atomic", record)
    if moment == "before the lines":
        patched.setattr(Collection, "_write", lines)


def test_a_finished_collection_is_not_played_again(tmp_path):
    path = tmp_path / "games.jsonl"
    collected(path)
    before = path.read_bytes(), record_path(path).read_bytes()
    collected(path)
    assert (path.read_bytes(), record_path(path).read_bytes()) == before


@pytest.mark.parametrize(
    ("other", "named"), [({"seed": 1}, "seed"), ({"num": 11}, "num"), ({"keep": "wins"}, "keep"),
                         ({"policies": [RANDOM]}, "policies")],
)  # fmt: skip
def test_another_request_for_the_same_file_is_refused(tmp_path, other, named):
    collected(tmp_path / "games.jsonl")
    with pytest.raises(SpiralError, match=f"was begun with other {named}; .* --out"):
        collected(tmp_path / "games.jsonl", **other)


def test_a_file_that_is_not_the_collections_is_left_alone(tmp_path):
    path = tmp_path / "games.jsonl"
    path.write_text("mine\n")
    with pytest.raises(SpiralError, match="no collection left it there"):
        collected(path)
    assert path.read_text() == "mine\n"


def test_a_file_that_was_changed_is_not_gone_on_with(tmp_path):
    path = tmp_path / "games.jsonl"
    collected(path)
    path.write_bytes(path.read_bytes().replace(b"bet", b"BET", 1))
    with pytest.raises(SpiralError, match="was changed since it was collected"):
        collected(path)


def test_a_file_is_collected_into_by_one_process(tmp_path, monkeypatch):
    """The second one is told which, and changes nothing; when that has ended it goes on from what lies there then."""
    path = tmp_path / "new" / "games.jsonl"
    second, told = make(path, num=20), []

    def meanwhile(*args):
        monkeypatch.undo()
        with pytest.raises(SpiralError, match=r"games.jsonl is being collected by process \d+ .* give another --out"):
            second.run()
        told.append(path.exists())
        return append(*args)

    append = collection.append
    monkeypatch.setattr(collection, "append", lambda *args, **sync: meanwhile(*args))
    whole = collected(path, num=20)
    assert told == [False]
    second.run()
    assert read_examples(path) == whole
