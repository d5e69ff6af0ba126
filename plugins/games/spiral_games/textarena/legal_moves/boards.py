"""Legal moves of board games and grids, read off the environment's state."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

DIRECTIONS = ["up", "down", "left", "right"]


def numbered_cells(env: Any) -> list[str]:
    """Empty cells of a square board, numbered row by row."""
    board = env.state.game_state["board"]
    return [str(r * len(board) + c) for r, row in enumerate(board) for c, cell in enumerate(row) if cell == ""]


def wild_cells(env: Any) -> list[str]:
    """Either mark in any empty cell."""
    return [f"{mark} {cell}" for mark in "XO" for cell in numbered_cells(env)]


def columns(env: Any) -> list[str]:
    """Columns with room."""
    return [str(c) for c, top in enumerate(env.state.game_state["board"][0]) if top == "."]


def micro_cells(env: Any) -> list[str]:
    """Board and cell of ultimate tic-tac-toe."""
    state = env.state.game_state
    wanted = state["next_micro_board"]
    return [
        f"{board} {3 * r + c}"
        for board in (range(9) if wanted is None else [wanted])
        if state["macro_board"][board // 3][board % 3] == " "
        for r in range(3)
        for c in range(3)
        if state["board"][board][r][c] == " "
    ]


def othello(env: Any) -> list[str]:
    """Squares that flip something; `skip` where there is none, since the environment still waits for an answer."""
    return [f"{r}, {c}" for r, c in env.state.game_state["valid_moves"]] or ["skip"]


def piles(env: Any) -> list[str]:
    """Pile and how many to take from it."""
    heaps = env.state.game_state["piles"]
    return [f"{pile} {amount}" for pile, size in enumerate(heaps) for amount in range(1, size + 1)]


def directions(env: Any) -> list[str]:
    """Always all four: walking into a wall is allowed, if seldom wise."""
    return list(DIRECTIONS)


def lake(env: Any) -> list[str]:
    """Directions that stay on the lake."""
    row, column = env.state.game_state["player_pos"]
    return [way for way, (dr, dc) in env.actions.items() if 0 <= row + dr < env.size and 0 <= column + dc < env.size]


def sliding_tiles(env: Any) -> list[str]:
    """Directions in which a 2048 board changes."""
    board = env.state.game_state["board"]
    lines = {"up": list(zip(*board, strict=True)), "left": board}
    lines["down"] = [line[::-1] for line in lines["up"]]
    lines["right"] = [line[::-1] for line in board]
    return [way for way in DIRECTIONS if any(_slides(line) for line in lines[way])]


def _slides(line: Any) -> bool:
    """Whether a line moves or merges towards its beginning."""
    return any(
        (first == 0 and any(line[i + 1 :])) or first == second != 0
        for i, (first, second) in enumerate(itertools.pairwise(line))
    )


def towers(env: Any) -> list[str]:
    """From and to, a smaller disk onto a larger one."""
    disks = env.state.game_state["towers"]
    return [
        f"{source} {target}"
        for source in disks
        for target in disks
        if disks[source] and (not disks[target] or source == target or disks[target][-1] > disks[source][-1])
    ]


def lights(env: Any) -> list[str]:
    """Every light of the grid."""
    return [f"{row} {column}" for row in range(env.size) for column in range(env.size)]


def pegs(env: Any) -> list[str]:
    """From and to, over a peg into a hole."""
    board = env.state.game_state["board"]
    return [f"{f} {t}" for f, over, t in env.ALLOWED_MOVES if board[f] and board[over] and not board[t]]


def edges(env: Any) -> list[str]:
    """Every edge of the grid, drawn or not."""
    return [
        f"{kind} {r} {c}" for kind in "hv" for r in range(env.R + (kind == "h")) for c in range(env.C + (kind == "v"))
    ]


LISTERS: Mapping[str, Callable[[Any], list[str]]] = {
    "TicTacToeEnv": numbered_cells,
    "ReverseTicTacToeEnv": numbered_cells,
    "ThreePlayerTicTacToeEnv": numbered_cells,
    "SimpleTakEnv": numbered_cells,
    "WildTicTacToeEnv": wild_cells,
    "ConnectFourEnv": columns,
    "UltimateTicTacToeEnv": micro_cells,
    "OthelloEnv": othello,
    "NimEnv": piles,
    "SnakeEnv": directions,
    "SurroundEnv": directions,
    "FrozenLakeEnv": lake,
    "PegJumpEnv": pegs,
    "SlitherlinkEnv": edges,
    "Game2048Env": sliding_tiles,
    "TowerOfHanoiEnv": towers,
    "LightsOutEnv": lights,
}
