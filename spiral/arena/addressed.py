"""What the words of an address name: a game of the arena, a skill, or a match that ended; else 404, not found."""

from __future__ import annotations

import asyncio

from starlette.exceptions import HTTPException
from starlette.requests import Request

from spiral.api.text import printable
from spiral.arena.lobby import Lobby
from spiral.arena.records import OVERALL, StoredMatch
from spiral.arena.skills import Skills
from spiral.arena.store import Store


def known_game(lobby: Lobby, game: str) -> str:
    """A game of the arena, or all of them. Raises HTTPException."""
    if game != OVERALL and game not in lobby.games:
        raise HTTPException(404, f"there is no game '{printable(game)[:80]}'")
    return game


def known_skill(skills: Skills, skill: str) -> str:
    """A skill that a game of the arena asks for. Raises HTTPException."""
    if skill not in skills.games:
        there = ", ".join(skills.games) or "none"
        raise HTTPException(404, f"no game here asks for the skill '{printable(skill)[:80]}'; there are: {there}")
    return skill


async def ended_match(store: Store, request: Request) -> StoredMatch:
    """The match that an address names. Raises HTTPException for one that has not ended: its moves may tell what a
    player may not know yet."""
    match = await asyncio.to_thread(store.match, request.path_params["match"])
    if match is None or match.status == "playing":
        raise HTTPException(404, "no match of this number has ended")
    return match
