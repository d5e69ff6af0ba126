"""Negotiation over five resources: two players trade bundles whose worth to the other they know only roughly.

After Negotiation of TextArena and SPIRAL. The resources are wheat, wood, sheep, brick and ore; a piece is worth about
5, 10, 15, 25 and 40. Each player's own values are whole numbers drawn within a fifth of these (and from 5 to 40),
known to that player alone, and each starts with 5 to 25 pieces of each resource, which both see. Players speak in
turn, player 0 first, `turns` times in all. Who gained more by its own values wins (+1 and -1, or 0 each).

A move is free text with at most one action in square brackets, in any case and with any spacing:

    action := "[" ( ["offer:"] bundle "->" bundle | "accept" | "deny" ) "]"
    bundle := amount resource { ["+"] amount resource }, a resource once an offer
    amount := 1 to 4 digits, at least 1     resource := its name, or the beginning of it that names no other (wh, wo, s)

So `[2 wood -> 1 ore]` and `[2wo->1o]` are one offer: what stands left of the arrow for what stands right. One offer
stands at a time, until the other player accepts or denies it or either player makes a new one. Illegal: an offer that
its maker cannot cover, an accept or deny without an offer by the other player, an accept that the accepter cannot
cover, and square brackets around anything else. Chat is shown as in `spiral_games.native.simple_negotiation`, so an
observation has at most 250 + turns * (max_chat + 80) characters.
"""

import random
import re
from typing import NamedTuple

from spiral import IllegalMove, SpiralError
from spiral_games.native.simple_negotiation import chat_line, split_move
from spiral_games.skills import skills_of

RESOURCES = ("wheat", "wood", "sheep", "brick", "ore")
BASE_VALUES = (5, 10, 15, 25, 40)
LEAST_VALUE, MOST_VALUE = 5, 40
LEAST_STOCK, MOST_STOCK = 5, 25

Goods = tuple[int, ...]
"""Pieces, or values, in the order of RESOURCES."""

_PIECE = re.compile(r"([0-9]{1,4})([a-z]+)")
_BUNDLE = re.compile(rf"{_PIECE.pattern}(?:\+?{_PIECE.pattern})*")
_OFFER_FORM = "an offer is written like [2 wood -> 1 ore]"
_CHAT = ("Hello.", "What do you need?", "I would like ore.", "I would like wheat.", "Make me an offer.")


class Offer(NamedTuple):
    """`maker` gives one bundle and asks for the other."""

    maker: int
    gives: Goods
    asks: Goods

    def __str__(self) -> str:
        return f"{_bundle(self.gives)} -> {_bundle(self.asks)}"


class ResourceNegotiation:
    """Trade five resources in `turns` turns of free text; returns are +1, -1 or 0."""

    num_players = 2
    zero_sum = True
    worst_return = -1.0
    skills = skills_of("negotiation")

    def __init__(self, turns: int = 10, max_chat: int = 200) -> None:
        if turns < 2 or max_chat < 0:
            raise SpiralError(
                f"negotiation got turns={turns}, max_chat={max_chat}; it needs turns >= 2 and max_chat >= 0."
            )
        self.turns = turns
        self.max_chat = max_chat
        self.rules = (
            "A negotiation between two players, p0 and p1, who own wheat, wood, sheep, brick and ore. A piece of these "
            "is worth about 5, 10, 15, 25 and 40; what it is worth to you only you know. The players speak in turn, "
            f"p0 first, {turns} turns in all. At the end the player whose goods gained more worth, by that player's "
            "own values, wins. The observation reads: you, the turn, your values, what you have and what the other has "
            "(five numbers each, in the order wheat, wood, sheep, brick, ore), the offer that stands; then all that "
            "was said. Say whatever you like, and add at most one action in square brackets: [2 wood -> 1 ore] offers "
            "to give 2 wood for 1 ore, [1 wheat + 2 wood -> 1 brick] more kinds at once; [accept] takes the other "
            "player's offer; [deny] turns it down. You can only offer what you have, and accept what you can pay. An "
            "offer stands until it is accepted, denied or replaced by a new one. Use square brackets for nothing else."
        )

    def reset(self, rng: random.Random) -> None:
        self._values = (_draw_values(rng), _draw_values(rng))
        self._start = (_draw_stock(rng), _draw_stock(rng))
        self._goods = self._start
        self._offer: Offer | None = None
        self._num_moves = 0
        self._said = ""

    def current_player(self) -> int | None:
        return None if self._num_moves == self.turns else self._num_moves % 2

    def observe(self, player: int) -> str:
        when = "over" if self._num_moves == self.turns else f"{self._num_moves + 1}/{self.turns}"
        offer = "none" if self._offer is None else f"p{self._offer.maker} {self._offer}"
        return (
            f"trade p{player} {when}; worth {_list(self._values[player])}; you {_list(self._goods[player])}; "
            f"other {_list(self._goods[1 - player])}; offer {offer}{self._said}"
        )

    def legal_moves(self) -> None:
        """None: moves are free text. `sample_move` gives one."""
        return None

    def sample_move(self, rng: random.Random) -> str:
        """A random legal move: chat, an offer of one kind for another, or an answer to the standing offer."""
        player = self._num_moves % 2
        own, other = self._goods[player], self._goods[1 - player]
        kinds = range(len(RESOURCES))
        swaps = [(give, ask) for give in kinds for ask in kinds if give != ask and own[give] and other[ask]]
        choices = ["chat", "offer"] if swaps else ["chat"]
        if self._offer is not None and self._offer.maker != player:
            choices.append("[deny]")
            if _covers(own, self._offer.asks):
                choices.append("[accept]")
        chosen = rng.choice(choices)
        if chosen == "chat":
            return rng.choice(_CHAT)
        if chosen == "offer":
            gives, asks = rng.choice(swaps)
            amount, price = rng.randint(1, own[gives]), rng.randint(1, other[asks])
            return f"[{amount} {RESOURCES[gives]} -> {price} {RESOURCES[asks]}]"
        return chosen

    def play(self, move: str) -> None:
        player = self.current_player()
        if player is None:
            raise IllegalMove("the match is over")
        chat, action = split_move(move, _OFFER_FORM)
        # Everything that can fail comes before the first assignment: an illegal move changes nothing.
        goods, offer, written = self._goods, self._offer, ""
        if action in ("accept", "deny"):
            if offer is None or offer.maker == player:
                raise IllegalMove(f"there is no offer by the other player to {action}")
            if action == "accept":
                goods = self._traded(offer)
            offer, written = None, f" [{action}]"
        elif action is not None:
            offer = self._read_offer(action, player)
            written = f" [{offer}]"
        self._said += chat_line(player, chat[: self.max_chat], written)
        self._goods, self._offer = goods, offer
        self._num_moves += 1

    def returns(self) -> list[float]:
        first, second = self.gains()
        if first == second:
            return [0.0, 0.0]
        return [1.0, -1.0] if first > second else [-1.0, 1.0]

    def gains(self) -> tuple[int, int]:
        """How much the worth of each player's goods has grown, by that player's own values."""
        first, second = (
            sum(value * (now - before) for value, now, before in zip(*each, strict=True))
            for each in zip(self._values, self._goods, self._start, strict=True)
        )
        return first, second

    def resample(self, player: int, rng: random.Random) -> None:
        """Redraw the other player's values: all that is hidden from `player`."""
        drawn = _draw_values(rng)
        self._values = (self._values[0], drawn) if player == 0 else (drawn, self._values[1])

    def _read_offer(self, action: str, player: int) -> Offer:
        sides = re.sub(r"\s", "", action).lower().removeprefix("offer:").split("->")
        if len(sides) != 2 or not all(_BUNDLE.fullmatch(side) for side in sides):
            raise IllegalMove(f"square brackets hold an offer, accept or deny; {_OFFER_FORM}")
        offer = Offer(player, *map(_read_bundle, sides))
        if any(give and ask for give, ask in zip(offer.gives, offer.asks, strict=True)):
            raise IllegalMove("an offer gives other resources than it asks for")
        if not _covers(self._goods[player], offer.gives):
            raise IllegalMove(f"you have {_bundle(self._goods[player])} and cannot offer {_bundle(offer.gives)}")
        return offer

    def _traded(self, offer: Offer) -> tuple[Goods, Goods]:
        """Each player's goods after `offer`. Its maker still covers it: nothing was traded since."""
        accepter = 1 - offer.maker
        if not _covers(self._goods[accepter], offer.asks):
            raise IllegalMove(f"you have {_bundle(self._goods[accepter])} and cannot pay {_bundle(offer.asks)}")
        # What player 0 gets of each resource, and player 1 gives.
        flow = [ask - give for give, ask in zip(offer.gives, offer.asks, strict=True)]
        sign = 1 if offer.maker == 0 else -1
        first, second = self._goods
        return (
            tuple(held + sign * change for held, change in zip(first, flow, strict=True)),
            tuple(held - sign * change for held, change in zip(second, flow, strict=True)),
        )


def _read_bundle(text: str) -> Goods:
    amounts = [0] * len(RESOURCES)
    for amount, beginning in _PIECE.findall(text):
        named = [n for n, name in enumerate(RESOURCES) if name.startswith(beginning)]
        if len(named) != 1:
            raise IllegalMove(f"{beginning} is not one of {', '.join(RESOURCES)}")
        if int(amount) < 1:
            raise IllegalMove("an amount is at least 1")
        if amounts[named[0]]:
            raise IllegalMove(f"an offer names {RESOURCES[named[0]]} once")
        amounts[named[0]] = int(amount)
    return tuple(amounts)


def _covers(held: Goods, asked: Goods) -> bool:
    return all(have >= need for have, need in zip(held, asked, strict=True))


def _draw_values(rng: random.Random) -> Goods:
    """A value a resource, within a fifth of its base value and the bounds."""
    spreads = [(base, base // 5) for base in BASE_VALUES]
    return tuple(rng.randint(max(LEAST_VALUE, base - fifth), min(MOST_VALUE, base + fifth)) for base, fifth in spreads)


def _draw_stock(rng: random.Random) -> Goods:
    return tuple(rng.randint(LEAST_STOCK, MOST_STOCK) for _ in RESOURCES)


def _list(numbers: Goods) -> str:
    return " ".join(map(str, numbers))


def _bundle(goods: Goods) -> str:
    return " + ".join(f"{amount} {name}" for amount, name in zip(goods, RESOURCES, strict=True) if amount) or "nothing"
