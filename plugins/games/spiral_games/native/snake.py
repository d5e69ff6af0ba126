"""Snake for two players who move at once on a small board: live longer than the other, or be longer at the end.

Each round both players choose a direction without seeing the other's choice. Then both heads move one square, and a
tail follows unless its head took the apple, which makes the snake a square longer; a new apple falls on a free square.
A snake dies when its head leaves the board or meets a snake, the other's head included. The last snake alive wins; two
deaths in one round draw; after `rounds` rounds the longer snake wins, or equal lengths draw.

To the framework player 0 chooses first in each round, and its choice is hidden until player 1 has chosen.
"""

import random

from spiral import IllegalMove, SpiralError
from spiral_games.skills import skills_of

Square = tuple[int, int]
"""(row, column) from the top left."""
Snake = tuple[Square, ...]
"""From the head to the tail."""

MOVES = {"up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}
MAX_SIDE = 10
_OWN, _OTHER = ("H", "h"), ("O", "o")
"""Head and body."""


class SnakeGame:
    """Snake for two; moves are `up`, `down`, `left`, `right`, chosen at once; returns are +1, -1 or 0."""

    num_players = 2
    zero_sum = True
    worst_return = -1.0
    skills = skills_of("snake")

    def __init__(self, rows: int = 5, cols: int = 5, rounds: int = 20) -> None:
        if not (3 <= rows <= MAX_SIDE and 3 <= cols <= MAX_SIDE and rounds >= 1):
            raise SpiralError(
                f"snake got rows={rows}, cols={cols}, rounds={rounds}; it needs 3 to {MAX_SIDE} rows and columns and "
                "1 round or more."
            )
        self.rows = rows
        self.cols = cols
        self.rounds = rounds
        self.rules = (
            f"Snake for two players on a board of {rows} rows and {cols} columns. Each round both say a direction at "
            "once, and both heads move one square. A head that reaches the apple makes its snake one square longer. A "
            "snake dies when its head leaves the board or runs into a snake. The last snake alive wins. After "
            f"{rounds} rounds the longer snake wins. The observation reads: you, the round, the rows from the top, "
            "separated by slashes: H is your head, h your body, O and o the other snake, * the apple, a dot is free; "
            "then your direction, if you have said it. Your move is one word: up, down, left or right."
        )

    def reset(self, rng: random.Random) -> None:
        self._rng = rng  # apples fall in play
        self._snakes: tuple[Snake, Snake] = (
            ((1, 0), (0, 0)),
            ((self.rows - 2, self.cols - 1), (self.rows - 1, self.cols - 1)),
        )
        self._alive = (True, True)
        self._round = 0
        self._chosen: str | None = None  # by player 0, while player 1 chooses
        self._apple = self._free_square()

    def current_player(self) -> int | None:
        if self._round == self.rounds or not all(self._alive):
            return None
        return 0 if self._chosen is None else 1

    def observe(self, player: int) -> str:
        over = self.current_player() is None
        board = [["."] * self.cols for _ in range(self.rows)]
        if self._apple is not None:
            board[self._apple[0]][self._apple[1]] = "*"
        # The player's own snake is drawn last: where two heads met, each player sees its own.
        for snake, (head, body) in ((self._snakes[1 - player], _OTHER), (self._snakes[player], _OWN)):
            for row, col in snake[1:]:
                board[row][col] = body
            row, col = snake[0]
            if 0 <= row < self.rows and 0 <= col < self.cols:
                board[row][col] = head
        when = "over" if over else f"{self._round + 1}/{self.rounds}"
        chosen = f" {self._chosen}" if player == 0 and self._chosen is not None else ""
        return f"snake p{player} {when} {'/'.join(map(''.join, board))}{chosen}"

    def legal_moves(self) -> list[str]:
        """All four directions, the deadly ones too."""
        return [] if self.current_player() is None else list(MOVES)

    def play(self, move: str) -> None:
        player = self.current_player()
        if player is None:
            raise IllegalMove("the match is over")
        if move not in MOVES:
            raise IllegalMove("a move is up, down, left or right")
        if self._chosen is None:
            self._chosen = move
            return
        first, second = self._snakes
        # Both move before either is checked, so that the order of the two choices gives no advantage.
        self._snakes = (self._moved(first, self._chosen), self._moved(second, move))
        self._chosen = None
        self._alive = (self._survives(0), self._survives(1))
        self._round += 1
        if all(self._alive) and self._apple in (self._snakes[0][0], self._snakes[1][0]):
            self._apple = self._free_square()

    def returns(self) -> list[float]:
        """+1 for the survivor, or the longer snake at the end; 0 for equal ones and while the match is on."""
        if self.current_player() is not None:
            return [0.0, 0.0]
        first, second = map(len, self._snakes) if all(self._alive) else map(int, self._alive)
        if first == second:
            return [0.0, 0.0]
        return [1.0, -1.0] if first > second else [-1.0, 1.0]

    def resample(self, player: int, rng: random.Random) -> None:
        """Draw anew what player 0 chose, if it is hidden from `player`, and where apples will fall."""
        if player == 1 and self._chosen is not None:
            self._chosen = rng.choice(list(MOVES))
        self._rng = random.Random(rng.getrandbits(64))

    def _free_square(self) -> Square | None:
        taken = {square for snake in self._snakes for square in snake}
        squares = ((row, col) for row in range(self.rows) for col in range(self.cols))
        free = [square for square in squares if square not in taken]
        return self._rng.choice(free) if free else None

    def _moved(self, snake: Snake, move: str) -> Snake:
        rows, cols = MOVES[move]
        head = (snake[0][0] + rows, snake[0][1] + cols)
        return (head, *(snake if head == self._apple else snake[:-1]))

    def _survives(self, player: int) -> bool:
        own, other = self._snakes[player], self._snakes[1 - player]
        head = row, col = own[0]
        return 0 <= row < self.rows and 0 <= col < self.cols and head not in own[1:] and head not in other
