"""Nim: heaps of counters, drawn anew for every match; the player who takes the last counter wins."""

import random
from collections.abc import Iterator
from itertools import product

from spiral import IllegalMove, SpiralError


class Nim:
    """Nim with `heaps` heaps of 1 to `most` counters; the move `a2` takes 2 counters from heap a."""

    num_players = 2
    zero_sum = True
    perfect_information = True
    rules = (
        "Take any number of counters, one or more, from one heap. Whoever takes the last counter of all wins. The "
        "heaps are called a, b, c and so on. Your move is a heap and a number: a2 takes 2 counters from heap a."
    )

    def __init__(self, heaps: int = 2, most: int = 3) -> None:
        if not 1 <= heaps <= 26 or not 1 <= most <= 99:
            raise SpiralError(f"nim got heaps={heaps}, most={most}; give 1 to 26 heaps of at most 1 to 99 counters")
        self.num_heaps, self.most = heaps, most

    def deals(self) -> Iterator[tuple[float, tuple[int, ...]]]:
        starts = list(product(range(1, self.most + 1), repeat=self.num_heaps))
        return ((1 / len(starts), start) for start in starts)

    def reset(self, rng: random.Random) -> None:
        self.reset_to(tuple(rng.randint(1, self.most) for _ in range(self.num_heaps)))

    def reset_to(self, deal: tuple[int, ...]) -> None:
        self.heaps, self.player = list(deal), 0

    def current_player(self) -> int | None:
        return self.player if any(self.heaps) else None

    def observe(self, player: int) -> str:
        heaps = " ".join(f"{chr(97 + i)}{count}" for i, count in enumerate(self.heaps))
        return f"nim p{player}: {heaps}"

    def legal_moves(self) -> list[str]:
        return [f"{chr(97 + i)}{n}" for i, count in enumerate(self.heaps) for n in range(1, count + 1)]

    def play(self, move: str) -> None:
        if move not in self.legal_moves():
            raise IllegalMove(f"the moves now are: {' '.join(self.legal_moves()) or 'none, the match is over'}")
        self.heaps[ord(move[0]) - 97] -= int(move[1:])
        self.player = 1 - self.player

    def returns(self) -> list[float]:
        return [-1.0, 1.0] if self.player == 0 else [1.0, -1.0]
