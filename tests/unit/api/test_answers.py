"""How a move is found in what a model wrote: the last answer in the asked form, and never one from inside a thought."""

import pytest

from spiral.api.answers import last_boxed, last_bracketed, last_tagged, thoughts_before, without_thought


@pytest.mark.parametrize(
    ("text", "move"),
    [
        (r"I bet. \boxed{bet}", "bet"),
        (r"\boxed{check} no, \boxed{bet}", "bet"),
        (r"\boxed{a{b{c}d}e}", "a{b{c}d}e"),
        (r"\boxed{\text{bet}}", "bet"),
        (r"\boxed {  bet }", "bet"),
        (r"\boxed{[Offer: 2 {wood}]} and then \boxed{unfinished {", "[Offer: 2 {wood}]"),
        (r"\boxed{f(\boxed{x})}", "x"),
        ("\\boxed{two\nlines}", "two\nlines"),
        (r"\boxed{}", None),
        (r"\boxed{   }", None),
        (r"boxed{bet}", None),
        (r"bet", None),
        ("", None),
        (r"\boxed{bet", None),
    ],
)
def test_the_last_box_with_balanced_braces(text, move):
    """The last complete box counts; nested braces belong to it; an empty one says nothing."""
    assert last_boxed(text) == move


@pytest.mark.parametrize(
    ("text", "move"),
    [
        ("I choose [bet].", "bet"),
        ("[check] or better [bet]", "bet"),
        ("[[0 1 2 3]]", "[0 1 2 3]"),
        ("[ a [b] c ]", "a [b] c"),
        ("[[[[ [bet]", "bet"),
        ("]bet[", None),
        ("[]", None),
        ("[bet", None),
        ("", None),
    ],
)
def test_the_bracket_that_closes_last(text, move):
    assert last_bracketed(text) == move


@pytest.mark.parametrize(
    ("text", "move"),
    [
        ("<answer>bet</answer>", "bet"),
        ("<answer>a</answer> no <answer> b </answer>", "b"),
        ("<answer>a</answer> and <answer>b", "a"),
        ("put it in <answer></answer>", None),
        ("bet</answer>", None),
        ("<answer>bet", None),
        ("", None),
    ],
)
def test_the_last_answer_tag_that_closes(text, move):
    assert last_tagged(text) == move


@pytest.mark.parametrize(
    ("text", "opened", "answer"),
    [
        (r"<think>maybe \boxed{A}</think> \boxed{C}", False, r" \boxed{C}"),
        (r"maybe \boxed{A}</think> \boxed{C}", True, r" \boxed{C}"),
        (r"<think>maybe \boxed{A}", False, None),
        (r"maybe \boxed{A}", True, None),
        ("<think>a</think> b <think> c", False, None),
        ("bet", False, "bet"),
    ],
)
def test_a_thought_is_no_answer(text, opened, answer):
    """What it tries out does not count, and one that was cut off has no answer behind it."""
    assert without_thought(text, opened) == answer


@pytest.mark.parametrize("read", [last_boxed, last_bracketed, last_tagged, without_thought])
@pytest.mark.parametrize("piece", ["\\boxed{", "[", "]", "<answer>", "</answer>", "<think>", "\\boxed{}", "{}"])
def test_a_reply_that_repeats_itself_is_read_in_one_pass(read, piece):
    """A search from each of 200,000 openings would take minutes, and end at the time limit of the tests."""
    assert read(piece * 200_000) in (None, piece * 200_000)


@pytest.mark.parametrize(
    ("text", "thoughts"),
    [
        (r"I bet. \boxed{bet}", "I bet."),
        (r"<think>bet? \boxed{bet}?</think> So: \boxed{\text{bet}} it is", r"bet? \boxed{bet}? So:"),
        ("A bet it is: [ bet ]", "A bet it is:"),
        ("<answer>bet</answer> <answer> bet</answer>", "<answer>bet</answer>"),
        ("Check or bet?\nbet", "Check or bet?"),
        ("bet", ""),
        ("I give up", "I give up"),
    ],
)
def test_what_was_said_before_the_answer(text, thoughts):
    """Up to the last place that says the move, in a form of answer if there is one; the marks of a thought are none."""
    assert thoughts_before(text, "bet") == thoughts
