"""The skills that a game asks for: TextArena's ten (Guertler et al. 2025, arXiv 2504.11442), and what games declare."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping

from spiral.api.errors import SpiralError

SKILLS = (
    "strategic_planning",
    "spatial_thinking",
    "pattern_recognition",
    "theory_of_mind",
    "logical_reasoning",
    "memory_recall",
    "bluffing",
    "persuasion",
    "uncertainty_estimation",
    "adaptability",
)
MAX_SKILLS = 5
"""Of one game."""


def skills_problem(declared: object) -> str | None:
    """What is wrong with a game's skills, as the end of a sentence; None if nothing. They are a mapping of up to
    `MAX_SKILLS` of `SKILLS` to weights above 0."""
    if not isinstance(declared, Mapping):
        return f"are {declared!r}; write a mapping such as {{bluffing: 3, theory_of_mind: 1}}"
    for skill, weight in declared.items():
        if skill not in SKILLS:
            near = difflib.get_close_matches(str(skill), SKILLS, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"there are: {', '.join(SKILLS)}"
            return f"name '{skill}', which is none; {hint}"
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < math.inf:
            return f"give '{skill}' the weight {weight!r}; make it a number above 0"
    if len(declared) > MAX_SKILLS:
        return f"are {len(declared)}; name the {MAX_SKILLS} that matter most, or fewer"
    return None


def skills_of(game: object) -> dict[str, float]:
    """Skill -> weight as a game declares it; nothing of a game that does not say. Raises SpiralError for a declaration
    that is none."""
    declared = getattr(game, "skills", {})
    if (problem := skills_problem(declared)) is not None:
        raise SpiralError(f"the skills of {type(game).__name__} {problem}")
    return {skill: float(weight) for skill, weight in declared.items()}
