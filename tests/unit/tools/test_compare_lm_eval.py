"""A bench beside lm-evaluation-harness: what is told of both sets of replies, and the words that both are asked with."""

import pytest

from tools.compare_lm_eval import Question, closing, table


class Characters:
    """A tokenizer of characters with a chat template."""

    def decode(self, ids, skip_special_tokens):
        return "".join(map(chr, ids))

    def apply_chat_template(self, messages, tokenize, add_generation_prompt):
        return f"<user>{messages[0]['content']}<model>"


def question(text):
    return [ord(c) for c in f"<user>{text}\n\nIn a box.<model>"]


def test_the_harness_asks_in_the_bench_s_words():
    """What stands behind a question, without the chat template that the harness puts around it again."""
    assert closing(Characters(), question) == "\n\nIn a box."


def test_a_prompt_that_is_no_chat_is_refused():
    with pytest.raises(SystemExit, match="chat template"):
        closing(Characters(), lambda text: [ord(c) for c in f"Q: {text}"])


def one(id, said, reply, spiral, theirs):
    grades = {"spiral": spiral, "harness exact_match": 0.0, "harness math_verify": theirs}
    replies = {"spiral": said, "harness": reply}
    parts = "" if said == reply else "part at token 3"
    return Question(id, "?", "1", True, replies, {"spiral": grades, "harness": grades}, parts)


def test_the_table_counts_what_is_the_same_and_names_what_is_not():
    """A row a grader, the replies that part, and those that the graders see in two ways."""
    lines = list(table([one("a", "1", "1", 1.0, 1.0), one("b", "2", "3", 0.0, 0.0), one("c", "4", "4", 0.0, 1.0)]))
    assert lines[:3] == [
        "3 questions", "prompts that are the same ids: 3", "replies that are the same text: 2",
    ]  # fmt: skip
    assert "| spiral | 1 | 1 |" in lines
    assert "| harness math_verify | 2 | 2 |" in lines
    assert "b: part at token 3" in lines
    assert [line for line in lines if line.startswith("c: the graders differ on the reply of spiral")]
    assert not [line for line in lines if line.startswith("a: ")]
