"""Legal moves of board games whose pieces move from square to square, read off the environment's state."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

EIGHT_WAYS = [(dr, dc) for dr in (-1, 0, 1) for dc in (-1, 0, 1) if (dr, dc) != (0, 0)]


def breakthrough(env: Any) -> list[str]:
    """Straight ahead onto an empty square, or diagonally onto an opponent; empty where every piece is blocked."""
    player, size = env.state.current_player_id, env.board_size
    own, ahead = ("W", 1) if player == 0 else ("B", -1)
    return [
        f"{chr(97 + c)}{r + 1}{chr(97 + c + side)}{r + ahead + 1}"
        for r, c in _squares(env, own)
        for side in (-1, 0, 1)
        if 0 <= r + ahead < size and 0 <= c + side < size and env._is_valid_move(player, r, c, r + ahead, c + side)
    ]


def chess(env: Any) -> list[str]:
    """Moves in UCI notation."""
    return [move.uci() for move in env.state.game_state["board"].legal_moves]


def checkers(env: Any) -> list[str]:
    """Diagonal steps and captures; upstream forces no capture."""
    player = env.state.current_player_id
    return [
        f"{r} {c} {r + dr} {c + dc}"
        for r, c in _squares(env, "rR" if player == 0 else "bB")
        for dr, dc in itertools.product((-2, -1, 1, 2), repeat=2)
        if abs(dr) == abs(dc) and env._is_valid_move(player, r, c, r + dr, c + dc)
    ]


def alquerque(env: Any) -> list[str]:
    """Forward steps, and single captures in any direction."""
    player = env.state.current_player_id
    board = env.state.game_state["board"]
    own, other = ("R", "B") if player == 0 else ("B", "R")
    names = {square: f"{chr(97 + square[1])}{square[0] + 1}" for square in itertools.product(range(5), repeat=2)}
    cells = {env.cell_to_rc[env._txt_to_cell(name)]: name for name in names.values()}
    moves = []
    for (r, c), name in cells.items():
        if board[r][c] != own:
            continue
        for dr, dc in EIGHT_WAYS:
            step, jump = (r + dr, c + dc), (r + 2 * dr, c + 2 * dc)
            if (dr, dc) in env.forward_dirs[player] and step in cells and board[step[0]][step[1]] == "":
                moves.append(f"{name} {cells[step]}")
            if jump in cells and board[step[0]][step[1]] == other and board[jump[0]][jump[1]] == "":
                moves.append(f"{name} {cells[jump]}")
    return moves


def lines_of_action(env: Any) -> list[str]:
    """As many squares as there are pieces on the line, over one's own pieces only, not onto one of them."""
    own, other = ("O", "X") if env.state.current_player_id == 0 else ("X", "O")
    board = env.state.game_state["board"]
    moves = []
    for r, c in _squares(env, own):
        for dr, dc in EIGHT_WAYS:
            far = env._count_pieces_on_line(r, c, dr, dc)
            tr, tc = r + far * dr, c + far * dc
            if not (0 <= tr < 8 and 0 <= tc < 8) or board[tr][tc] == own:
                continue
            if all(board[r + i * dr][c + i * dc] != other for i in range(1, far)):
                moves.append(f"{env.rc_to_coord(r, c)}{env.rc_to_coord(tr, tc)}")
    return moves


def quantum_pairs(env: Any) -> list[str]:
    """Two different squares that are still open, in either order: the first one is taken first."""
    board = env.state.game_state["board"]
    open_cells = [cell for cell, (r, c) in env.cell_mapping.items() if not board[r][c]]
    return [f"{a},{b}" for a, b in itertools.permutations(open_cells, 2)]


def santorini(env: Any) -> list[str]:
    """Worker, from, to and where it builds."""
    text = env._get_valid_moves(env.state.current_player_id)
    return [move.strip("[]") for move in text.split(", ") if move]


def stratego(env: Any) -> list[str]:
    """Steps of one square, and straight lines for scouts."""
    player, board = env.state.current_player_id, env.board
    moves = []
    for r, c in itertools.product(range(10), repeat=2):
        piece = board[r][c]
        if not isinstance(piece, dict) or piece["player"] != player or piece["rank"].lower() in ("bomb", "flag"):
            continue
        for dr, dc in ((-1, 0), (1, 0), (0, -1), (0, 1)):
            for tr, tc in _reach(board, (r, c), (dr, dc), 9 if piece["rank"].lower() == "scout" else 1):
                if (tr, tc) in env.lakes or (board[tr][tc] is not None and board[tr][tc]["player"] == player):
                    continue
                moves.append(f"{chr(65 + r)}{c} {chr(65 + tr)}{tc}")
    return moves


def _reach(board: Any, start: tuple[int, int], way: tuple[int, int], most: int) -> Iterator[tuple[int, int]]:
    """Squares in one direction up to and including the first that is not empty."""
    for i in range(1, most + 1):
        r, c = start[0] + i * way[0], start[1] + i * way[1]
        if not (0 <= r < 10 and 0 <= c < 10):
            return
        yield r, c
        if board[r][c] is not None:
            return


def _squares(env: Any, pieces: str) -> Iterator[tuple[int, int]]:
    """Where the board has one of these pieces."""
    for r, row in enumerate(env.state.game_state["board"]):
        for c, piece in enumerate(row):
            if piece and piece in pieces:
                yield r, c


LISTERS: Mapping[str, Callable[[Any], list[str]]] = {
    "BreakthroughEnv": breakthrough,
    "ChessEnv": chess,
    "CheckersEnv": checkers,
    "AlquerqueEnv": alquerque,
    "LinesOfActionEnv": lines_of_action,
    "QuantumTicTacToeEnv": quantum_pairs,
    "SantoriniBaseFixedWorkerEnv": santorini,
    "StrategoEnv": stratego,
}
