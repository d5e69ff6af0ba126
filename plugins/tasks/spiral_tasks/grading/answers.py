"""The answer in a reply, and texts without differences that mean nothing; each one pass over the text."""

from __future__ import annotations

import re
import unicodedata

from spiral import last_tagged, without_thought

MAX_ANSWER = 4000
"""Characters of an answer that is graded; the longest one of the known sets has 210."""

_BRACES = re.compile(r"\\boxed\s*\{|[{}]")
_BETWEEN = re.compile(r"[\s$\\(),.;&]*(?:and|or|text|quad)?[\s$\\(),.;&{}]*")
"""What stands between two boxes of one answer, such as `$ and $`."""
_TEXT = re.compile(r"(\\[A-Za-z]+)?\\(?:text|textbf|mathrm|mathbf|textit|operatorname|mbox)\s*\{([^{}]*)\}")
"""Words, and a command directly before them, which would take them for a part of its name."""
_ANSWER_IS = re.compile(r"answer(?: is|:)\s*:?", re.IGNORECASE)


def marked_answer(reply: str) -> str | None:
    r"""The content of the last `\boxed{}` of a reply, of several in a row all of them, else of its last `<answer>`,
    without the commands around words. None without one, and for a thought that has no end."""
    written = written_answer(reply)
    return None if written is None else without_commands(written).strip() or None


def written_answer(reply: str) -> str | None:
    """The same as it is written: `15\\text{ cm}`."""
    text = without_thought(reply)
    return None if text is None else _boxed(text) or last_tagged(text)


def final_answer(reply: str) -> str | None:
    """What is marked as the answer, else all that stands behind the thought. None for an empty reply, or a thought
    that has no end."""
    text = without_thought(reply)
    return None if text is None else marked_answer(reply) or text.strip() or None


def without_commands(text: str) -> str:
    """A text with its words as they are, out of `\\text{}` and the like."""
    return _TEXT.sub(lambda found: f"{found[1]} {found[2]}" if found[1] else found[2], text)


def stated_answers(text: str) -> list[str]:
    """What words without a mark may give as an answer: all of them, the last line, and what follows `answer is`."""
    line = text.strip().rpartition("\n")[2]
    stated = [text, line]
    places = [match.end() for match in _ANSWER_IS.finditer(text)]
    if places:
        stated.append(text[places[-1] :].strip().partition("\n")[0])
    return stated


def normalised(text: str) -> str:
    """A text without differences of width, case, spaces and marks of LaTeX, and without a full stop at its end."""
    plain = unicodedata.normalize("NFKC", without_commands(text))
    plain = plain.replace("$", "").replace("*", "").replace("\\ ", " ")
    return " ".join(plain.casefold().split()).rstrip(".").strip()


def _boxed(text: str) -> str | None:
    opened: list[tuple[bool, int]] = []
    boxes: list[tuple[int, int, int]] = []
    """Where a box, its content and its end are."""
    starts: list[int] = []
    for match in _BRACES.finditer(text):
        if match[0] != "}":
            opened.append((len(match[0]) > 1, match.end()))
            starts.append(match.start())
        elif opened:
            is_box, inside = opened.pop()
            start = starts.pop()
            if is_box:
                # One that holds another one ends later, and says it all: the inner one is part of it.
                while boxes and boxes[-1][0] > start:
                    boxes.pop()
                boxes.append((start, inside, match.start()))
    run = boxes[-1:]
    for box in reversed(boxes[:-1]):
        if not _BETWEEN.fullmatch(text[box[2] + 1 : run[0][0]][:40]) or run[0][0] - box[2] > 40:
            break
        run.insert(0, box)
    contents = [text[inside:end].strip() for _, inside, end in run]
    return ", ".join(dict.fromkeys(c for c in contents if c)) or None
