"""Bad files of examples: each fault is one sentence with its place, before anything is trained."""

import dataclasses
import json

import pytest
from spiral_games.native.kuhn_poker import KuhnPoker

from spiral import SpiralError
from spiral.selfplay import examples as module
from spiral.selfplay.examples import Example, line_of, read_examples, record_path
from spiral.selfplay.replay import check_examples

KUHN = {"kuhn": KuhnPoker}


def example(**changed):
    """The second decision of a game that begins with a bet."""
    values = {
        "game": "kuhn", "number": 3, "deal": 5, "player": 1, "policy": "bot:x", "policies": ["bot:x", "bot:y"],
        "returns": [1.0, -1.0], "outcome": "loss", "ending": "finished", "turn": 1, "turns": 2, "history": ["bet"],
        "rules": KuhnPoker().rules, "observation": seen(5, "bet"), "legal_moves": ["call", "fold"], "thoughts": "",
        "move": "fold", "reply": None,
    }  # fmt: skip
    return Example(**{**values, **changed})


def seen(deal, *moves):
    import random

    game = KuhnPoker()
    game.reset(random.Random(deal))
    for move in moves:
        game.play(move)
    return game.observe(game.current_player())


def written(path, *lines):
    path.write_bytes(b"".join(line if isinstance(line, bytes) else line_of(line) for line in lines))
    return path


def test_a_line_is_read_as_it_was_written(tmp_path):
    """With texts that no terminal and no JSON likes."""
    odd = example(thoughts='a "b"\u2028\n\ud800', reply="\x00ü", move="größer", legal_moves=None)
    assert read_examples(written(tmp_path / "a.jsonl", example(), odd)) == [example(), odd]


def test_a_file_is_parsed_once_and_a_changed_one_again(tmp_path, monkeypatch):
    """A supervised run reads its file three times as it starts; by content, whatever the file's name and times."""
    parsed = []
    monkeypatch.setattr(module, "_example", lambda *args, parse=module._example: parsed.append(args) or parse(*args))
    path = written(tmp_path / "a.jsonl", example(number=7), example(number=8))
    first = read_examples(path)
    first.pop()  # a caller's list is its own
    assert [e.number for e in read_examples(path)] == [7, 8]
    assert len(parsed) == 2
    assert [e.number for e in read_examples(written(path, example(number=8), example(number=7)))] == [8, 7]
    assert len(parsed) == 4


def test_what_a_file_of_another_origin_need_not_tell(tmp_path):
    bare = {k: v for k, v in dataclasses.asdict(example()).items() if v is not None}
    for name in ("deal", "history", "legal_moves"):
        del bare[name]
    found = read_examples(written(tmp_path / "a.jsonl", json.dumps(bare).encode()))
    assert found == [example(deal=None, history=None, legal_moves=None)]
    check_examples(found, KUHN, "a.jsonl")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (line_of(example())[:-40], "line 2, the last one, ends in the middle"),
        (b"nothing\n", "line 2 is no JSON"),
        (b"[1]\n", "line 2 is a JSON list, not an example"),
        (line_of(example()).replace(b'"move"', b'"mve"'), "line 2 has no 'move'; an example needs text"),
        (
            line_of(example()).replace(b'"player": 1', b'"player": "1"'),
            'line 2 has player="1"; an example needs a whole',
        ),
        (line_of(example()).replace(b'"player": 1', b'"player": 2'), "line 2 is of player 2 in a game for 2"),
        (line_of(example()).replace(b'"history": ["bet"]', b'"history": [1]'), "needs text in it"),
        (line_of(example()).replace(b'"turn": 1', b'"turn": true'), "has turn=true"),
    ],
)
def test_a_line_that_is_no_example_is_named(tmp_path, line, says):
    with pytest.raises(SpiralError) as found:
        read_examples(written(tmp_path / "a.jsonl", example(), line))
    assert says in str(found.value)


def test_a_file_that_is_not_there_or_empty(tmp_path):
    with pytest.raises(SpiralError, match=r"cannot be read \(No such file"):
        read_examples(tmp_path / "a.jsonl")
    with pytest.raises(SpiralError, match="holds no example"):
        read_examples(written(tmp_path / "a.jsonl", b"\n"))


def _record(path, **told):
    record_path(path).write_text(json.dumps({"request": {"num": 2}, "kept": 2, "bytes": 0, "sha256": "", **told}))


def test_a_collection_that_is_not_finished_and_a_file_that_was_altered_are_told_apart(tmp_path):
    path = written(tmp_path / "a.jsonl", example())
    _record(path, kept=1)
    with pytest.raises(SpiralError, match="holds 1 of the 2 games"):
        read_examples(path)
    _record(path, sha256="ab" * 32)
    with pytest.raises(SpiralError, match=r"its SHA-256 is [0-9a-f]{16}\.\.\., and was abababababababab"):
        read_examples(path)
    record_path(path).write_text("{")
    with pytest.raises(SpiralError, match="is damaged"):
        read_examples(path)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"move": "bet", "legal_moves": ["bet"]}, "game 3, turn 1: the move 'bet' is not legal in kuhn"),
        ({"move": "bet"}, "the legal ones are call, fold"),
        ({"history": ["fold"]}, "a move of its history"),
        ({"player": 0}, "player 1 is to move, and not 0"),
        ({"observation": "p1 K"}, "shows its player another text now"),
        ({"game": "chess"}, "examples of chess (1 examples), which is no game of the run: kuhn"),
    ],
)
def test_an_example_that_its_game_does_not_bear_out_is_named(changed, says):
    with pytest.raises(SpiralError) as found:
        check_examples([example(**changed)], KUHN, "a.jsonl")
    assert says in str(found.value)


def test_examples_of_one_game_must_tell_one_story():
    first = example(player=0, turn=0, history=[], observation=seen(5), legal_moves=["check", "bet"], move="check")
    other = example(history=["bet"], turn=1)
    check_examples([dataclasses.replace(first, move="bet"), other], KUHN, "a.jsonl")
    with pytest.raises(SpiralError, match="another one than that of the game's other examples"):
        check_examples([first, example(history=["bet", "call"][:1]), _third()], KUHN, "a.jsonl")


def _third():
    return example(player=0, turn=2, history=["check", "bet"], observation=seen(5, "check", "bet"))
