"""Tic-tac-toe on the 3x3 board: perfect information, a draw with best play.

Player 0 has the mark X and moves first; players alternate, and each move marks an empty square. Three of
one's marks in a row, column or diagonal win; a full board without three in a row is a draw. The board has
5478 reachable positions (the empty one included), and best play by both sides draws.
"""

import random
from collections.abc import Iterator

from spiral import IllegalMove
from spiral_games.skills import skills_of

MARKS = "XO"
EMPTY = "012345678"

_LINES = ((0, 1, 2), (3, 4, 5), (6, 7, 8), (0, 3, 6), (1, 4, 7), (2, 5, 8), (0, 4, 8), (2, 4, 6))
# The lines through each square: only a line through the last move can be newly complete.
_LINES_THROUGH = tuple(tuple(line for line in _LINES if square in line) for square in range(9))


class TicTacToe:
    """Tic-tac-toe; moves are the squares `0` to `8`; returns are +1, -1 or 0."""

    num_players = 2
    zero_sum = True
    perfect_information = True
    worst_return = -1.0
    skills = skills_of("tic_tac_toe")
    rules = (
        "Tic-tac-toe for two players on a board of 3 rows. X moves first, then O, in turn. A move marks an "
        "empty square. The first player with three marks in one row, column or diagonal wins; a full board "
        "without that is a draw. The observation reads: your mark, then the three rows from the top, "
        "separated by slashes; an empty square shows its number. Your move is the number of an empty "
        "square, one digit from 0 to 8."
    )

    def reset(self, rng: random.Random) -> None:
        self.reset_to(None)

    def deals(self) -> Iterator[tuple[float, None]]:
        """One deal: there is no chance."""
        return iter([(1.0, None)])

    def reset_to(self, deal: None) -> None:
        self._board = EMPTY  # one character a square: its mark, or its own number while it is empty
        self._num_moves = 0
        self._winner: int | None = None

    def current_player(self) -> int | None:
        return None if self._winner is not None or self._num_moves == 9 else self._num_moves % 2

    def observe(self, player: int) -> str:
        board = self._board
        return f"ttt {MARKS[player]} {board[:3]}/{board[3:6]}/{board[6:]}"

    def legal_moves(self) -> list[str]:
        if self.current_player() is None:
            return []
        return [square for square in self._board if square not in MARKS]

    def play(self, move: str) -> None:
        player = self.current_player()
        if player is None:
            raise IllegalMove("the match is over")
        if len(move) != 1 or move not in EMPTY:
            raise IllegalMove("a move is one digit from 0 to 8")
        if move not in self._board:
            raise IllegalMove(f"square {move} is taken")
        self._board = board = self._board.replace(move, MARKS[player])
        self._num_moves += 1
        if any(board[a] == board[b] == board[c] for a, b, c in _LINES_THROUGH[int(move)]):
            self._winner = player

    def returns(self) -> list[float]:
        if self._winner is None:
            return [0.0, 0.0]
        return [1.0, -1.0] if self._winner == 0 else [-1.0, 1.0]
