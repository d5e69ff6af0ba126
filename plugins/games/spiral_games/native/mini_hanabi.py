"""Mini Hanabi: two players build fireworks together, and each sees the other's cards and not its own.

The deck has `colours` colours with the ranks 1 to `ranks`: of the highest rank of a colour one card, of each other
`copies`. Each player holds `hand` cards, the rest is drawn from. In turn, player 0 first, a player plays a card, or
spends one of `hints` hint tokens to show the other which of its cards have a colour or a rank, or discards a card and
has a token back. A played card joins the firework of its colour if its rank is the next one, and otherwise burns one of
`fuses` fuses. Both players get the number of cards in the fireworks.

As in Hanabi (Bauza 2010; Bard et al. 2020, "The Hanabi Challenge"), but for three rules that keep the game tree small:
the last fuse ends the match with the cards that are there and not with 0, nothing can be discarded once no card is left
to draw, and there is no last round: the match goes on until the player to move can do nothing.
"""

import random
from collections.abc import Iterator
from itertools import groupby, permutations

from spiral import IllegalMove, SpiralError
from spiral_games.skills import skills_of

Cards = tuple[str, ...]
"""Cards such as "r1". A place of a hand whose card was not replaced holds `GONE`."""

COLOURS = "rbg"
MAX_RANKS = 3
MAX_COPIES = 2
MAX_HAND = 3
MAX_TOKENS = 4
GONE = "--"


class MiniHanabi:
    """Mini Hanabi; moves are `play 1`, `discard 1`, `hint r`, `hint 2`; both players' return is the cards that fit."""

    num_players = 2
    worst_return = 0.0
    skills = skills_of("mini_hanabi")

    def __init__(
        self, colours: int = 2, ranks: int = 2, copies: int = 1, hand: int = 2, hints: int = 2, fuses: int = 1
    ) -> None:
        deck = _deck(colours, ranks, copies) if 1 <= colours <= len(COLOURS) and 1 <= ranks <= MAX_RANKS else ()
        tokens_fit = 0 <= hints <= MAX_TOKENS and 1 <= fuses <= MAX_TOKENS
        if not (tokens_fit and 1 <= copies <= MAX_COPIES and 1 <= hand <= MAX_HAND and 2 * hand <= len(deck)):
            raise SpiralError(
                f"mini_hanabi got colours={colours}, ranks={ranks}, copies={copies}, hand={hand}, hints={hints}, "
                f"fuses={fuses}; it needs 1 to {len(COLOURS)} colours, 1 to {MAX_RANKS} ranks, 1 or {MAX_COPIES} "
                f"copies, hands of 1 to {MAX_HAND} that the deck is enough for, at most {MAX_TOKENS} hints, and 1 to "
                f"{MAX_TOKENS} fuses"
            )
        self.colours, self.ranks, self.copies, self.hand = COLOURS[:colours], ranks, copies, hand
        self.hints, self.fuses = hints, fuses
        self.rules = _rules(self)

    def reset(self, rng: random.Random) -> None:
        """Shuffle the whole deck now: all chance lies in the deal, so the match can be enumerated."""
        deck = _deck(len(self.colours), self.ranks, self.copies)
        self.reset_to(tuple(rng.sample(deck, len(deck))))

    def deals(self) -> Iterator[tuple[float, Cards]]:
        """Every distinct order of the deck, lazily; each is equally likely. 24 of the default size."""
        orders = dict.fromkeys(permutations(_deck(len(self.colours), self.ranks, self.copies)))
        return ((1 / len(orders), order) for order in orders)

    def reset_to(self, deal: Cards) -> None:
        """Start with the deck in this order: player 0's hand, player 1's, then the cards to draw."""
        self._hands = [list(deal[: self.hand]), list(deal[self.hand : 2 * self.hand])]
        self._pile = list(deal[2 * self.hand :])
        # For each card in a hand what hints told of it since it was drawn: the hint, and whether it has it.
        self._told: list[list[list[tuple[str, bool]]]] = [[[] for _ in hand] for hand in self._hands]
        self._fireworks = dict.fromkeys(self.colours, 0)
        self._hints_left, self._fuses_left = self.hints, self.fuses
        self._log: tuple[str, ...] = ()

    def current_player(self) -> int | None:
        return len(self._log) % 2 if self.legal_moves() else None

    def observe(self, player: int) -> str:
        """The other's cards, tokens, fireworks and all moves with what they showed."""
        tops = "".join(f"{colour}{top}" for colour, top in self._fireworks.items())
        tokens = f"h{self._hints_left}f{self._fuses_left}"
        return " ".join([f"hanabi p{player}", "".join(self._hands[1 - player]), tokens, tops, *self._log])

    def legal_moves(self) -> list[str]:
        """`play` of each card, `discard` of each while cards are left to draw and a hint is spent, and each `hint` that
        the other has a card for."""
        if not self._fuses_left or self._score() == len(self.colours) * self.ranks:
            return []
        mover = len(self._log) % 2
        places = [place for place, card in enumerate(self._hands[mover], 1) if card != GONE]
        moves = [f"play {place}" for place in places]
        if self._pile and self._hints_left < self.hints:
            moves += [f"discard {place}" for place in places]
        if self._hints_left:
            seen = {symbol for card in self._hands[1 - mover] for symbol in card} - set(GONE)
            moves += [f"hint {symbol}" for symbol in (*self.colours, *"123") if symbol in seen]
        return moves

    def play(self, move: str) -> None:
        legal = self.legal_moves()
        if move not in legal:
            raise IllegalMove(f"the moves now are {', '.join(legal)}" if legal else "the match is over")
        mover, (verb, what) = len(self._log) % 2, move.split()
        if verb == "hint":
            self._hint(1 - mover, what)
            return
        card = self._take(mover, int(what) - 1)
        if verb == "discard":
            self._hints_left += 1
            self._log += (f"d{what}{card}",)
        elif self._fireworks[card[0]] + 1 == int(card[1]):
            self._fireworks[card[0]] += 1
            self._log += (f"{what}{card}+",)
        else:
            self._fuses_left -= 1
            self._log += (f"{what}{card}x",)

    def returns(self) -> list[float]:
        """The cards in all fireworks, for both players alike; they are counted whoever played them."""
        return [float(self._score())] * 2

    def judge(self) -> list[float]:
        """A match that is cut is worth the cards that are there."""
        return self.returns()

    def resample(self, player: int, rng: random.Random) -> None:
        """Deal the player's own cards and the cards to draw again, among the hands that its hints allow."""
        places = [place for place, card in enumerate(self._hands[player]) if card != GONE]
        hidden = [self._hands[player][place] for place in places] + self._pile
        while True:  # the cards as they lie are one such order, so this ends
            rng.shuffle(hidden)
            if all(_agrees(card, self._told[player][place]) for place, card in zip(places, hidden, strict=False)):
                break
        for place, card in zip(places, hidden, strict=False):
            self._hands[player][place] = card
        self._pile = hidden[len(places) :]

    def _score(self) -> int:
        return sum(self._fireworks.values())

    def _hint(self, to: int, symbol: str) -> None:
        self._hints_left -= 1
        has = [symbol in card for card in self._hands[to]]
        for told, one in zip(self._told[to], has, strict=True):
            told.append((symbol, one))
        self._log += (f"{symbol}:" + "".join(str(place) for place, one in enumerate(has, 1) if one),)

    def _take(self, mover: int, place: int) -> str:
        """The card at a place of a hand, which is replaced while there are cards to draw."""
        card = self._hands[mover][place]
        self._hands[mover][place] = self._pile.pop(0) if self._pile else GONE
        self._told[mover][place] = []
        return card


def _deck(colours: int, ranks: int, copies: int) -> Cards:
    return tuple(
        f"{colour}{rank}"
        for colour in COLOURS[:colours]
        for rank in range(1, ranks + 1)
        for _ in range(1 if rank == ranks else copies)
    )


def _agrees(card: str, told: list[tuple[str, bool]]) -> bool:
    return all((symbol in card) == has for symbol, has in told)


def _rules(game: MiniHanabi) -> str:
    deck = _deck(len(game.colours), game.ranks, game.copies)
    counted = ", ".join(f"{len(list(same))} {card}" for card, same in groupby(deck))
    drawn = len(deck) - 2 * game.hand
    discard = (
        "discard and the place of a card to have a hint token back while cards are left to draw and a token is spent, "
        if drawn and game.hints
        else ""
    )
    return (
        "Mini Hanabi for two players, p0 and p1, who play together: both get the same points. The cards are "
        f"{counted}: a colour and a rank. Each player holds {game.hand}, sees the other's and not its own; left to "
        f"draw: {drawn}. In turn, p0 first, say play and the place of a card of yours, {discard}or hint and a colour "
        "or rank to spend a hint token and show the other all its cards that have it; it must have one. A played card "
        "counts one point if its rank is the next of its colour, from 1 up; else it burns a fuse. A card is replaced "
        f"while some are left to draw. Hint tokens: {game.hints}; fuses: {game.fuses}. The match ends with the last "
        "fuse, with all fireworks complete, or when the player to move can do nothing. The observation reads: "
        "you, the other's cards, hint tokens and fuses left, the highest rank of each colour, then all moves: "
        "1r1+ is the card r1 at place 1, which fits, 1r1x one that does not, d1r1 a discard, r:12 a hint that the "
        "cards at places 1 and 2 are r. Your move is such as play 1, or hint r."
    )
