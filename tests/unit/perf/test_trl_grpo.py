"""The comparison with TRL, as far as it goes without TRL: the same games on both sides, and how a reply becomes a move."""

import random

import pytest
import torch
from spiral_models import MODELS

from perf import trl_grpo
from perf.trl_grpo import CASES, OVER, Environment, SpiralSide, byte_tokenizer_for_trl

torch.set_num_threads(1)


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(trl_grpo, "GAMES", 4)
    monkeypatch.setattr(trl_grpo, "GROUP", 2)


@pytest.mark.parametrize("name", list(CASES))
def test_a_step_of_spirals_side_plays_whole_games_and_changes_the_weights(name, few):
    """Any reply is a move, so every game ends by its rules."""
    torch.manual_seed(0)
    model, tokenizer = MODELS["byte-0.1m"](context=1024)
    before = [p.detach().clone() for p in model.parameters()]
    side = SpiralSide(CASES[name], model, tokenizer)
    side.play()
    side.update()
    assert side.counts["games"] == 4
    fewest = 4 * (trl_grpo.TURNS if name == "talk" else 3)
    assert side.counts["turns"] >= fewest
    assert any(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


@pytest.mark.parametrize("name", list(CASES))
def test_trls_environment_plays_the_same_game(name, monkeypatch):
    """By the same rules and texts: its first prompt holds what spiral's observation says."""
    monkeypatch.setattr(Environment, "case", CASES[name], raising=False)
    environment = Environment()
    first = environment.reset()
    assert CASES[name].game.news(environment._game) in first
    news, moves = "", 0
    while environment._game.current_player() is not None:
        news, moves = environment.move("abc"), moves + 1
    assert moves == trl_grpo.TURNS if name == "talk" else 3 <= moves <= 5
    assert (news == OVER) == (name == "tic-tac-toe")
    assert len(environment._game.returns()) == 1


@pytest.mark.parametrize("name", list(CASES))
def test_both_sides_ask_in_the_same_ids(name, monkeypatch):
    """The first prompt by spiral's format, and by TRL's template around the environment's text."""
    monkeypatch.setattr(Environment, "case", CASES[name], raising=False)
    _, tokenizer = MODELS["byte-0.1m"](context=1024)
    environment = Environment()
    text = environment.reset()
    game = environment._game
    ours = CASES[name].form(tokenizer).encode(game.rules, game.observe(0))
    theirs = byte_tokenizer_for_trl(tokenizer).apply_chat_template(
        [{"role": "user", "content": text}], tokenize=True, return_dict=False
    )
    if name == "talk":
        assert theirs == ours
    else:  # the board alone, without the ids that open and close a conversation's text
        assert len(theirs) - len(ours) == 2


def test_any_reply_is_a_call_of_the_tool_until_the_game_is_over():
    """And the reply after that calls none, which ends TRL's loop."""
    _, tokenizer = MODELS["byte-0.1m"](context=1024)
    fast = byte_tokenizer_for_trl(tokenizer)
    asked = fast.apply_chat_template([{"role": "user", "content": "ttt"}], tokenize=True, return_dict=False)
    call = fast.parse_response(tokenizer.encode("xy", add_special_tokens=False), prefix=asked)["tool_calls"][0]
    assert call["function"] == {"name": "move", "arguments": {"text": "xy"}}
    over = fast.apply_chat_template([{"role": "tool", "content": OVER}], tokenize=True, return_dict=False)
    assert "tool_calls" not in fast.parse_response([120], prefix=over)


def test_an_unknown_case_is_refused(capsys):
    """With the names of those there are."""
    assert trl_grpo.main(["chess"]) == 2
    assert "no case named 'chess' (there are: talk, tic-tac-toe)" in capsys.readouterr().err


def test_the_random_opponent_is_the_deals_own():
    """The same seed gives the same game."""
    games = [trl_grpo.Squares() for _ in range(2)]
    for game in games:
        game.reset(random.Random(3))
        while game.current_player() is not None:
            game.play("7")
    assert games[0].observe(0) == games[1].observe(0)
