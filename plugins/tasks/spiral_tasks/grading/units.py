"""The unit behind a number. math-verify drops some and takes others for letters: `15\\text{ cm}^2` and `15 cm^2`."""

from __future__ import annotations

import re

_POWER = r"(?:\s*\^\s*(?:\{\s*-?\d\s*\}|-?\d)|[²³])?"
_WORDS = r"\\(?:text|mbox|mathrm|textrm)\s*(?!\{\s*[eid]\s*\})\{[^{}]*\}"
"""Those of a unit; the numbers e and i, and the d of an integral, are letters set upright too."""
_UPRIGHT = re.compile(rf"(?:{_WORDS}{_POWER}(?:[\s/*~.]|\\[,;:! ]|\\cdot)*)+$")

_LENGTHS = {
    "mm": ("mm", "millimeter", "millimetre"),
    "cm": ("cm", "centimeter", "centimetre"),
    "m": ("meter", "metre"),
    "km": ("km", "kilometer", "kilometre"),
    "in": ("in", "inch", "inche"),
    "ft": ("ft", "foot", "feet"),
    "yd": ("yd", "yard"),
    "mi": ("mi", "mile"),
}
"""Unit -> its names without the s of several."""
_UNIT_OF = {name: unit for unit, names in _LENGTHS.items() for name in names} | {"m": "m"}
_AREA, _VOLUME = r"(?:square|sq)\b\.?", r"(?:cubic|cu)\b\.?"


def _length(names: str) -> re.Pattern[str]:
    return re.compile(rf"(?:({_AREA})|({_VOLUME}))?\s*({names})s?\.?({_POWER})[\s.$]*$", re.IGNORECASE)


_NAMED = "|".join(sorted((name for names in _LENGTHS.values() for name in names), key=len, reverse=True))
_IN_WORDS = _length(rf"{_NAMED}|m")
_BARE = re.compile(r"(?<=[\d\s)}])" + _length(_NAMED).pattern, re.IGNORECASE)  # where m alone may be a variable
_COMMANDS = re.compile(r"\\[A-Za-z]+|\\[,;:! ]|[{}~]")


def measured(text: str) -> tuple[str, tuple[str, int] | None]:
    """An answer without the unit at its end, and that unit where it is one of length, with its power: 1 of a length,
    2 of an area, 3 of a volume."""
    found = _UPRIGHT.search(text) or _BARE.search(text)
    if found is None or not re.search(r"\d|\\pi", text[: found.start()]):
        return text, None
    length = _IN_WORDS.fullmatch(_COMMANDS.sub(" ", found[0]).strip())
    return text[: found.start()].strip(), None if length is None else _unit(length)


def _unit(length: re.Match[str]) -> tuple[str, int]:
    area, volume, name, power = length.groups()
    digits = power.replace("²", "2").replace("³", "3").strip(" ^")
    return _UNIT_OF[name.lower()], int(digits) if digits else 2 if area else 3 if volume else 1
