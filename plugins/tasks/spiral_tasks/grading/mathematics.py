r"""Whether two answers are the same in mathematics, by math-verify; imported in the grading processes alone.

math-verify reads an answer out of prose, and where it cannot read all of it, reads a number within. What stands in a
box is therefore given to its parser as a whole, and counts as not read where that fails. Its limits of time are off:
they are signals, and the process has limits of its own.
"""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Callable
from typing import Any

import sympy
from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify

logging.getLogger("math_verify").setLevel(logging.ERROR)  # each process would warn that the limits are off

MAX_PROSE = 5000
"""Characters at the end of a reply in prose that are searched for its answer; the search is quadratic."""
CLOSE = 1e-5
"""The relative difference up to which two numbers are one: a decimal fraction of six places is a rounded one."""

_WHOLE = (LatexExtractionConfig(boxed_match_priority=0, try_extract_without_anchor=False),)
_PROSE = (LatexExtractionConfig(boxed_match_priority=0), ExprExtractionConfig())

_BASE = re.compile(r"\d\s*_\s*\{?\s*(\d+)")
"""That of a number such as 52_8, which the parser drops."""
_ENCLOSED = re.compile(r"[\s$]*(?:\\left)?\s*(?:\\?(\{)|(\())(.*)[)}][\s$.]*", re.DOTALL)

_MENDS = (
    (re.compile(r"(?<![A-Za-z\\])(\d+(?:\.\d+)?)[eE]([+-]?\d+)(?![A-Za-z\d])"), r"\1 \\times 10^{\2}"),
    (re.compile(r"(\d)\.(?!\d)"), r"\1"),
    (re.compile(r"\\sqrt\s*\(([^()]*)\)"), r"\\sqrt{\1}"),
    (re.compile(r"\\mathrm\s*\{\s*([ei])\s*\}"), r"{\1}"),
    (re.compile(r"\\(?:left|right|,|;|!)(?![A-Za-z])"), " "),
    (re.compile(r"(?<!\\)\$|\\[()](?=\s|$)"), ""),
)
"""What people write and the parser does not read, or reads as less: 1.87e6, -1./3, \\sqrt(2), \\mathrm{e}."""


def prepared(gold: str, answer: str, prose: bool, tolerance: float | None) -> Callable[[], float]:
    """See `grade`. Raises RuntimeError where math-verify does not work here: every answer would be wrong."""
    _check_library()
    return functools.partial(grade, gold, answer, prose, tolerance)


@functools.cache
def _check_library() -> None:
    if grade("\\frac{1}{2}", "0.5", False, None) != 1:
        raise RuntimeError("math-verify does not find 1/2 and 0.5 equal")


def grade(gold: str, answer: str, prose: bool, tolerance: float | None) -> float:
    """1 if the answer is the gold one, else 0.

    prose: the answer stands somewhere in words. tolerance: the difference up to which a number is right.
    """
    golds = _whole(gold)
    answers = parse(answer[-MAX_PROSE:], _PROSE, "no_fallback", parsing_timeout=None) if prose else _whole(answer)
    bases = _BASE.findall(gold), _BASE.findall(answer)
    if not golds or not answers or (all(bases) and bases[0] != bases[1]):
        return 0.0
    if {_bracket(gold), _bracket(answer)} == {"{", "("}:  # a set and a tuple, which the library compares as sets
        return 0.0
    right = bool(verify(golds, answers, timeout_seconds=None))
    if _is_number(golds[0]) and _is_number(answers[0]):
        if tolerance is not None:
            return float(bool(_difference(golds[0], answers[0]) <= tolerance * (1 + 1e-9)))
        # Rounded to six places all small numbers are equal; a percentage may also be given as its number.
        if right and "%" not in gold + answer:
            return float(_are_close(golds[0], answers[0]))
    return float(right)


@functools.lru_cache(maxsize=4096)
def _whole(text: str) -> list[Any]:
    for pattern, mended in _MENDS:
        text = pattern.sub(mended, text)
    found = parse(f"\\boxed{{{text}}}", _WHOLE, "no_fallback", parsing_timeout=None)
    # A pole is what the parser makes of the letter gamma before a bracket: the gamma function of what stands in it.
    return [value for value in found if not (isinstance(value, sympy.Basic) and value.has(sympy.zoo, sympy.nan))]


def _bracket(text: str) -> str:
    """That around a whole list: `{` of a set, `(` of what has an order; empty without one."""
    found = _ENCLOSED.fullmatch(text)
    if found is None or "," not in found[3]:
        return ""
    depth = 0
    for char in found[3]:
        depth += (char in "({") - (char in ")}")
        if depth < 0:  # as in (1, 2), (3, 4)
            return ""
    return found[1] or found[2]


def _is_number(value: Any) -> bool:
    return isinstance(value, sympy.Expr) and bool(value.is_number)


def _are_close(one: Any, two: Any) -> bool:
    size = max(abs(_evaluated(one)), abs(_evaluated(two)))
    return bool(size == 0 or _difference(one, two) <= CLOSE * size)


def _difference(one: Any, two: Any) -> Any:
    return abs(_evaluated(one) - _evaluated(two))


@functools.lru_cache(maxsize=4096)
def _evaluated(number: Any) -> Any:
    return sympy.N(number.doit(), 30)
