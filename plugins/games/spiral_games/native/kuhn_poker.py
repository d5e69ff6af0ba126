"""Kuhn poker, the smallest poker with bluffing: one round, or a match of several rounds played for chips.

Rules of a round (H. W. Kuhn, "A simplified two-person poker", Contributions to the Theory of Games I, 1950):
each player antes 1 chip and gets one card of J < Q < K. The first player checks or bets 1 chip. After a check
the second player checks (showdown) or bets; the player who faces a bet calls with 1 chip (showdown) or folds
and loses the pot. At a showdown the higher card takes the pot. So a round moves 1 chip (two checks, or a fold) or
2 (a called bet), and with best play its first player loses 1/18 chip on average.

In a match player 0 is first in round 1, and the first player alternates. A match is worth the sum of its
rounds: `returns` are net chips, and no player runs out of chips.
"""

import random
from collections.abc import Iterator
from itertools import permutations, product

from spiral import IllegalMove, SpiralError
from spiral_games.skills import skills_of

Deal = tuple[str, ...]
"""One string a round: player 0's card, then player 1's, such as ("KQ", "JK")."""

CARDS = "JQK"
HANDS = tuple(first + second for first, second in permutations(CARDS, 2))

# A round's moves so far, each with a leading space as in the observation -> what may be said next.
_OPTIONS = {
    "": ("check", "bet"),
    " check": ("check", "bet"),
    " bet": ("call", "fold"),
    " check bet": ("call", "fold"),
}
# How a round ends: chips the higher card wins at a showdown, or chips the first player wins by a fold.
_SHOWDOWN = {" check check": 1, " bet call": 2, " check bet call": 2}
_FOLD = {" bet fold": 1, " check bet fold": -1}

_ROUND_RULES = (
    "Kuhn poker for two players, p0 and p1. The deck has three cards: J is lowest, Q is higher, K is "
    "highest. Each player puts 1 chip into the pot and gets one card that the other does not see. {order} "
    "The first player says check or bet (a bet adds 1 chip to the pot). If the first player checks, the "
    "second player says check or bet. Whoever faces a bet says call, which adds 1 chip, or fold, which "
    "gives up the pot. After two checks, or a bet and a call, both cards are shown and the higher card "
    "takes the pot. "
)
_ONE_ROUND = "You win or lose the chips of this round. The observation reads: player, own card, moves so far. "
_MATCH = (
    "The match has {rounds} rounds with a new deal each; the chips won and lost add up. The observation "
    "reads: player, round, own net chips; then each finished round (own card, the other's card or ? if it "
    "was not shown, moves); then own card and the moves of this round. "
)
_HOW_TO_MOVE = "Your move is one word: check, bet, call or fold."


class KuhnPoker:
    """Kuhn poker over `rounds` rounds; moves are `check`, `bet`, `call`, `fold`; returns are net chips."""

    num_players = 2
    zero_sum = True
    skills = skills_of("kuhn_poker")

    def __init__(self, rounds: int = 1) -> None:
        if rounds < 1:
            raise SpiralError(f"kuhn_poker got rounds={rounds}; a match has 1 round or more.")
        self.rounds = rounds
        self.worst_return = -2.0 * rounds
        if rounds == 1:
            self.rules = _ROUND_RULES.format(order="p0 moves first.") + _ONE_ROUND + _HOW_TO_MOVE
        else:
            order = "p0 moves first in odd rounds, p1 in even rounds."
            self.rules = _ROUND_RULES.format(order=order) + _MATCH.format(rounds=rounds) + _HOW_TO_MOVE

    def reset(self, rng: random.Random) -> None:
        """Deal every round now: all chance lies in the deal, so the match can be enumerated."""
        self.reset_to(tuple(rng.choice(HANDS) for _ in range(self.rounds)))

    def deals(self) -> Iterator[tuple[float, Deal]]:
        """All 6 ** rounds deals, lazily: 6 for one round, 36 for two, 7776 for five."""
        probability = 1.0 / len(HANDS) ** self.rounds
        return ((probability, deal) for deal in product(HANDS, repeat=self.rounds))

    def reset_to(self, deal: Deal) -> None:
        self._deal = deal
        self._finished: tuple[str, ...] = ()  # the moves of each finished round
        self._moves = ""
        self._chips = 0  # player 0's net chips; player 1 has the opposite
        self._prefixes = (self._prefix(0), self._prefix(1))

    def current_player(self) -> int | None:
        if len(self._finished) == self.rounds:
            return None
        # The first player alternates by round, the mover by move; each move has one leading space.
        return (len(self._finished) + self._moves.count(" ")) % 2

    def observe(self, player: int) -> str:
        return self._prefixes[player] + self._moves

    def legal_moves(self) -> list[str]:
        return [] if len(self._finished) == self.rounds else list(_OPTIONS[self._moves])

    def play(self, move: str) -> None:
        if len(self._finished) == self.rounds:
            raise IllegalMove("the match is over")
        options = _OPTIONS[self._moves]
        if move not in options:
            raise IllegalMove(f"the moves now are {options[0]} and {options[1]}")
        moves = f"{self._moves} {move}"
        if moves in _OPTIONS:
            self._moves = moves
        else:
            self._finish_round(moves)

    def returns(self) -> list[float]:
        """Net chips: between -2 and 2 a round, never 0 in a single round."""
        return [float(self._chips), float(-self._chips)]

    def resample(self, player: int, rng: random.Random) -> None:
        """Redraw every card that `player` has not seen: unshown cards of the other, and all later rounds."""
        current = len(self._finished)
        deal = list(self._deal)
        for index, hand in enumerate(deal):
            # A round that ended by a fold showed no card, so the other's is as unknown as in the present round.
            if index > current:
                deal[index] = rng.choice(HANDS)
            elif index == current or self._finished[index] in _FOLD:
                deal[index] = rng.choice([other for other in HANDS if other[player] == hand[player]])
        self._deal = tuple(deal)
        self._prefixes = (self._prefix(0), self._prefix(1))

    def _finish_round(self, moves: str) -> None:
        first = len(self._finished) % 2
        hand = self._deal[len(self._finished)]
        if moves in _FOLD:
            chips = _FOLD[moves] if first == 0 else -_FOLD[moves]
        else:
            chips = _SHOWDOWN[moves] if CARDS.index(hand[0]) > CARDS.index(hand[1]) else -_SHOWDOWN[moves]
        self._chips += chips
        self._finished += (moves,)
        self._moves = ""
        self._prefixes = (self._prefix(0), self._prefix(1))

    def _prefix(self, player: int) -> str:
        """The observation before this round's moves; made once a round, so that `observe` is cheap."""
        finished = [self._shown(index, player) for index in range(len(self._finished))]
        number = len(finished)
        current = [] if number == self.rounds else [self._deal[number][player]]
        if self.rounds == 1:
            return f"kuhn p{player} {(finished + current)[0]}"
        chips = self._chips if player == 0 else -self._chips
        head = f"kuhn p{player} {min(number + 1, self.rounds)}/{self.rounds} {chips:+d}"
        return "; ".join([head, *finished, *current])

    def _shown(self, index: int, player: int) -> str:
        hand, moves = self._deal[index], self._finished[index]
        return f"{hand[player]}{'?' if moves in _FOLD else hand[1 - player]}{moves}"
