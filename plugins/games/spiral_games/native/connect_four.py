"""Connect four on a board of any size: discs fall to the bottom of a column, and a straight row of them wins.

Player 0 has X and moves first. A move drops a disc into a column that is not full; the first player with `connect`
discs next to each other in a row, column or diagonal wins, and a full board without that is a draw. The usual board
of 6 rows and 7 columns has 4,531,985,219,092 reachable positions, one of 4 by 4 has 161,029 (J. Tromp, "John's
Connect Four Playground"); with best play the first player wins on the usual board and draws on the small one.
"""

import random
from collections.abc import Iterator

from spiral import IllegalMove, SpiralError
from spiral_games.skills import skills_of

MARKS = "XO"
MAX_COLS = 10
"""So that a column has one digit."""
MAX_ROWS = 10
_DIRECTIONS = ((0, 1), (1, 0), (1, 1), (1, -1))


class ConnectFour:
    """Connect four; a move is the digit of a column, from 0; returns are +1, -1 or 0."""

    num_players = 2
    zero_sum = True
    perfect_information = True
    worst_return = -1.0
    skills = skills_of("connect_four")

    def __init__(self, rows: int = 6, cols: int = 7, connect: int = 4) -> None:
        if not (1 <= rows <= MAX_ROWS and 1 <= cols <= MAX_COLS and 2 <= connect <= max(rows, cols)):
            raise SpiralError(
                f"connect_four got rows={rows}, cols={cols}, connect={connect}; it needs 1 to {MAX_ROWS} rows, 1 to "
                f"{MAX_COLS} columns, and connect from 2 to the longer side."
            )
        self.rows = rows
        self.cols = cols
        self.connect = connect
        self.rules = (
            f"Connect {connect} for two players on a board of {rows} rows and {cols} columns. X moves first, then O, "
            "in turn. A move drops your mark into a column, where it falls to the lowest empty square. The first "
            f"player with {connect} marks next to each other in a row, a column or a diagonal wins; a full board "
            "without that is a draw. The observation reads: your mark, then the rows from the top, separated by "
            "slashes. An empty square is a dot; the square on which a mark would land shows the digit of its column. "
            f"Your move is the digit of a column that is not full, from 0 to {cols - 1}."
        )

    def reset(self, rng: random.Random) -> None:
        self.reset_to(None)

    def deals(self) -> Iterator[tuple[float, None]]:
        """One deal: there is no chance."""
        return iter([(1.0, None)])

    def reset_to(self, deal: None) -> None:
        self._columns = ("",) * self.cols  # the marks of each column from the bottom
        self._num_moves = 0
        self._winner: int | None = None

    def current_player(self) -> int | None:
        if self._winner is not None or self._num_moves == self.rows * self.cols:
            return None
        return self._num_moves % 2

    def observe(self, player: int) -> str:
        over = self.current_player() is None
        # Each column from the bottom: its marks, where the next one would land, and emptiness.
        filled = [
            (marks + ("" if over else str(col))).ljust(self.rows, ".")[: self.rows]
            for col, marks in enumerate(self._columns)
        ]
        rows = ["".join(column[row] for column in filled) for row in reversed(range(self.rows))]
        return f"c4 {MARKS[player]} {'/'.join(rows)}"

    def legal_moves(self) -> list[str]:
        if self.current_player() is None:
            return []
        return [str(col) for col, marks in enumerate(self._columns) if len(marks) < self.rows]

    def play(self, move: str) -> None:
        player = self.current_player()
        if player is None:
            raise IllegalMove("the match is over")
        if len(move) != 1 or move not in "0123456789"[: self.cols]:
            raise IllegalMove(f"a move is one digit from 0 to {self.cols - 1}")
        col = int(move)
        marks = self._columns[col]
        if len(marks) == self.rows:
            raise IllegalMove(f"column {col} is full")
        self._columns = (*self._columns[:col], marks + MARKS[player], *self._columns[col + 1 :])
        self._num_moves += 1
        if self._connects(col, len(marks)):
            self._winner = player

    def returns(self) -> list[float]:
        if self._winner is None:
            return [0.0, 0.0]
        return [1.0, -1.0] if self._winner == 0 else [-1.0, 1.0]

    def _connects(self, col: int, row: int) -> bool:
        """Whether a line through this disc is long enough: only such a line can be new."""
        return any(
            1 + self._run(col, row, dc, dr) + self._run(col, row, -dc, -dr) >= self.connect for dc, dr in _DIRECTIONS
        )

    def _run(self, col: int, row: int, dc: int, dr: int) -> int:
        """How many equal marks follow this square in one direction."""
        columns, mark, length = self._columns, self._columns[col][row], 0
        while True:
            col, row = col + dc, row + dr
            if not (0 <= col < self.cols and 0 <= row < len(columns[col])) or columns[col][row] != mark:
                return length
            length += 1
