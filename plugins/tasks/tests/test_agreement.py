"""Agreement on real questions: every gold answer is right, in every form of reply, and every perturbed one wrong.

The questions are in SPIRAL_BENCH_DATA, or in ../shared/bench_data beside the checkout; without them nothing is tested.
"""

import os
import re
from pathlib import Path

import pytest
from spiral_tasks.known_sets import SETS, KnownBenchmark

FOLDER = Path(os.environ.get("SPIRAL_BENCH_DATA") or Path(__file__).parents[4] / "shared" / "bench_data")
NAMES = [name for name in SETS if (FOLDER / f"{name}.jsonl").is_file()]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


def perturbed(gold, number):
    """Answers that are not the gold one: a digit raised, a sign turned, a root or a fraction changed."""
    digits = [match.start() for match in re.finditer(r"\d", gold)]
    if digits:
        i = digits[number % len(digits)]
        yield gold[:i] + str((int(gold[i]) + 1) % 10) + gold[i + 1 :]
    if sign := re.search(r"(?<=[\w})\s])[+-](?=[\w\\({\s])", gold):
        yield gold[: sign.start()] + ("-" if sign[0] == "+" else "+") + gold[sign.end() :]
    if re.fullmatch(r"\d[\d.,]*", gold) and gold.strip("0.,"):
        yield "-" + gold
    if "\\sqrt" in gold:
        yield gold.replace("\\sqrt", "", 1)
    inverted = re.sub(r"\\frac\{(\w+)\}\{(\w+)\}", r"\\frac{\2}{\1}", gold, count=1)
    if inverted != gold:
        yield inverted


@pytest.mark.skipif(not NAMES, reason="no file of questions")
@pytest.mark.parametrize("name", NAMES)
def test_golds_are_right_and_perturbed_golds_are_wrong(name):
    pytest.importorskip("math_verify")
    tasks = KnownBenchmark(name)(str(FOLDER / f"{name}.jsonl"))
    missed = [t.id for t in tasks for reply in (t.gold, f"So $\\boxed{{{t.gold}}}$.") if t.grade(reply) != 1]
    assert missed == []
    if SETS[name].grading == "choice":
        letters = {t.id: [t.grade(letter) for letter in "ABCD"] for t in tasks}
        assert [id for id, grades in letters.items() if sum(grades) != 1] == []
        return
    taken = [
        (t.id, t.gold, other)
        for number, t in enumerate(tasks)
        for other in perturbed(t.gold, number)
        if t.grade(f"\\boxed{{{other}}}") != 0
    ]
    assert taken == []
