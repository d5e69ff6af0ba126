"""The move that is read in a chat model's reply: its box or last line, if that names one move and no other."""

import time

import pytest
from spiral_opponents.openai_chat.messages import move_in


@pytest.mark.parametrize(
    ("text", "move"),
    [
        ("bet", "bet"),
        ("I have a jack.\nSo \\boxed{check}", "check"),
        ("\\boxed{bet} no, \\boxed{\\text{check}} is better than to bet", "check"),
        ("**Bet**", "bet"),
        ("```\nbet\n```", "bet"),
        ("no, alpha" + "bet " + "x" * 296, "no, alpha" + "bet " + "x" * 296),
        ("`check`", "check"),
        ("“CHECK”", "check"),
        ("My move: bet.", "bet"),
        ("bet<|im_end|>", "bet"),
        ("First I thought of bet.\nI will check", "check"),
        ("bet or check", "bet or check"),
        ("I shall better my hand", "I shall better my hand"),
        ("betcheck", "betcheck"),
        ("<think>I could \\boxed{bet}</think>\ncheck", "check"),
        ("long " * 200 + "\nso I check", "check"),
        ("\\boxed{fold}", "fold"),
        ("\\boxed{bet", "bet"),
        ("<|im_end|><|endoftext|>", "<|im_end|><|endoftext|>"),
    ],
)
def test_a_listed_move_is_found_in_what_was_said(text, move):
    """Box, else last line; equal, else but for case, else the one listed move in it; else the words as they are."""
    assert move_in(text, ["bet", "check"]) == move


@pytest.mark.parametrize(
    ("text", "moves", "move"),
    [
        ("-1", ["1", "2"], "-1"),
        ("I take 1.5", ["1", "5"], "I take 1.5"),
        ("I take 12", ["1", "2"], "I take 12"),
        ("take 2.", ["1", "2"], "2"),
        ("[4]", ["[4]", "[44]"], "[4]"),
        ("A", ["a", "A"], "A"),
        ("x a", ["a", "A"], "x a"),
        ("e2e4", ["E2E4"], "E2E4"),
        ("anything", [], "anything"),
        ("a" * 5000, None, "a" * 4000),
        ("Hello!\nI offer 3 wheat.", None, "I offer 3 wheat."),
        ("", ["bet"], ""),
    ],
)
def test_nothing_is_read_into_words_that_name_no_move(text, moves, move):
    """Numbers are whole numbers, two fitting moves are none, and text too long is cut."""
    assert move_in(text, moves) == move


def test_many_moves_and_much_text_are_read_quickly():
    """Nothing is quadratic: 5,000 moves, half a megabyte of braces."""
    moves = [f"move {i}" for i in range(5000)]
    start = time.process_time()
    assert move_in("\\boxed{" * 40_000 + "{}" * 40_000, moves)
    assert move_in("so: Move 4321!", moves) == "move 4321"
    assert time.process_time() - start < 2
