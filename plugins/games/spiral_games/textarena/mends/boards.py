"""Mends of board games."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

LINES = [
    *([(row, column) for column in range(3)] for row in range(3)),
    *([(row, column) for row in range(3)] for column in range(3)),
    [(0, 0), (1, 1), (2, 2)],
    [(0, 2), (1, 1), (2, 0)],
]
"""The lines of tic-tac-toe."""


def ultimate_tic_tac_toe_is_drawn(env: Any, as_shipped: Callable[[], bool]) -> bool:
    """Full boards without a winner are not seen as drawn, and the player who is left no move loses (line 133)."""
    return all(cell != " " for board in env.state.game_state["board"] for row in board for cell in row)


def quantum_tic_tac_toe_is_drawn(env: Any, as_shipped: Callable[[str], Any], action: str) -> Any:
    """A board with fewer than two open squares is not seen as drawn, and the player who cannot move loses (line 80)."""
    result = as_shipped(action)
    open_squares = sum(cell == "" for row in env.state.game_state["board"] for cell in row)
    if open_squares < 2 and not env.state.done:
        env.state.set_draw(reason="Fewer than two squares are open.")
    return result


def quantum_tic_tac_toe_pays_the_earlier_line(
    env: Any, as_shipped: Callable[[list[int]], None], move_ids: list[int]
) -> None:
    """Of two lines in one collapse player 1's always wins, where the rules say the earlier one (line 128)."""
    board, waiting = env.state.game_state["board"], env.state.game_state["superpositions"]
    taken: dict[tuple[int, int], int] = vars(env).setdefault("taken_by_move", {})
    for move in move_ids:
        _, *squares = waiting[move]
        square = next((s for s in squares if not board[s[0]][s[1]] and s not in taken), None)
        if square is not None:
            taken[square] = move
    as_shipped(move_ids)
    ends = {player: _first_line(board, symbol, taken) for player, symbol in enumerate("OX")}
    if None not in ends.values():
        winner = min(ends, key=lambda player: ends[player] or 0)
        env.state.set_winner(player_id=winner, reason=f"Player {winner}'s line was complete first.")


def _first_line(board: Any, symbol: str, taken: Mapping[tuple[int, int], int]) -> int | None:
    """The lowest last move of a player's lines; None without a line."""
    complete = [line for line in LINES if all(board[row][column] == symbol for row, column in line)]
    return min((max(taken.get(square, 0) for square in line) for line in complete), default=None)


def checkers_looks_at_the_next_player(env: Any, as_shipped: Callable[[int], bool], player: int) -> bool:
    """The player who has just moved loses for having no move, not the one whose turn it is (line 106)."""
    if not env.state.done and not as_shipped(1 - player):
        env.state.set_winner(player_id=player, reason=f"Player {1 - player} has no moves left.")
    return True


def alquerque_looks_at_the_next_player(env: Any, as_shipped: Callable[[int], bool], player: int) -> bool:
    """The player who has just moved loses for having no move, before the opponent has moved (line 123)."""
    return bool(player == env.state.current_player_id or as_shipped(player))


def santorini_looks_at_the_next_player(env: Any, as_shipped: Callable[[], None]) -> None:
    """The player who has just moved loses for having no move, before the opponent has moved (line 391)."""
    mover, moves_of = env.state.current_player_id, env._get_valid_moves
    env._get_valid_moves = lambda player: "not asked" if player == mover else moves_of(player)
    try:
        as_shipped()
    finally:
        del env._get_valid_moves  # the class's own shows again


def lines_of_action_pays_whoever_is_connected(env: Any, as_shipped: Callable[[str], Any], action: str) -> Any:
    """A player whose pieces are connected by the opponent's capture does not win (line 131)."""
    result = as_shipped(action)
    next_player = env.state.current_player_id
    if not env.state.done and env.state.error_count == 0 and env._connected("OX"[next_player]):
        env.state.set_winner(next_player, reason="All pieces connected.")
    return result


def stratego_sees_both_players_win(env: Any, as_shipped: Callable[[], int | None]) -> int | None:
    """Player 0's win by the last movable piece is not seen, and a defused bomb raises TypeError later (line 403)."""
    for player, places in env.player_pieces.items():
        places[:] = [
            (r, c)
            for r, row in enumerate(env.board)
            for c, piece in enumerate(row)
            if isinstance(piece, dict) and piece["player"] == player
        ]
    winner = as_shipped()
    if winner == 0 and not env.state.done:
        env.state.set_winner(player_id=0, reason="Player 1 has no more movable pieces.")
    return winner


def tak_sees_every_road(env: Any, as_shipped: Callable[[int], bool], player: int) -> bool:
    """A road from left to right does not win if it touches the top row (line 257)."""
    size = env.board_size
    road = {(r, c) for r in range(size) for c in range(size) if _carries(env.board[r][c], player)}
    return any(_crosses(road, size, axis) for axis in (0, 1))


def _carries(stack: Sequence[str], player: int) -> bool:
    """Whether the top of a stack is part of a player's road."""
    return bool(stack) and stack[-1].endswith(str(player)) and stack[-1][0] in "FC"


def _crosses(road: set[tuple[int, int]], size: int, axis: int) -> bool:
    """Whether neighbouring squares lead from one edge to the opposite one."""
    reached = {square for square in road if square[axis] == 0}
    frontier = reached
    while frontier:
        beside = {(r + dr, c + dc) for r, c in frontier for dr, dc in ((0, 1), (1, 0), (0, -1), (-1, 0))}
        frontier = (beside & road) - reached
        reached = reached | frontier
    return any(square[axis] == size - 1 for square in reached)


MENDS: Mapping[str, Mapping[str, Callable[..., Any]]] = {
    "UltimateTicTacToeEnv": {"_is_draw": ultimate_tic_tac_toe_is_drawn},
    "QuantumTicTacToeEnv": {
        "step": quantum_tic_tac_toe_is_drawn,
        "_collapse_superpositions": quantum_tic_tac_toe_pays_the_earlier_line,
    },
    "CheckersEnv": {"_has_legal_move": checkers_looks_at_the_next_player},
    "AlquerqueEnv": {"_has_legal_move": alquerque_looks_at_the_next_player},
    "SantoriniBaseFixedWorkerEnv": {"_check_gameover": santorini_looks_at_the_next_player},
    "LinesOfActionEnv": {"step": lines_of_action_pays_whoever_is_connected},
    "StrategoEnv": {"_check_winner": stratego_sees_both_players_win},
    "TakEnv": {"_check_win": tak_sees_every_road},
}
