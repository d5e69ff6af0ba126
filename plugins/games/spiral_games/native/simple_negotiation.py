"""Simple negotiation: two players trade wood and gold whose worth to the other they do not know.

After SimpleNegotiation of TextArena and SPIRAL, with private values drawn anew for every match. Each player
starts with `stock` wood and `stock` gold. What one wood and one gold are worth to a player are whole numbers
from 1 to 19 that add up to 20, known to that player alone; so both begin with the same worth, 20 * stock.
Players speak in turn, player 0 first, `turns` times in all. The player who gained more by its own values wins
(+1 and -1, or 0 each).

A move is free text with at most one action in square brackets, in any case and with any spacing:

    action := "[" ( "offer:" amount resource "->" amount resource | "accept" | "deny" ) "]"
    amount := 1 to 4 digits, at least 1          resource := "wood" | "gold", a different one on each side

An offer gives what stands left of the arrow and asks for what stands right. One offer stands at a time, until
the other player accepts or denies it or either player makes a new one. Illegal: square brackets around
anything else, two actions, an offer that its maker cannot cover, an accept or deny without an offer by the
other player, an accept that the accepter cannot cover.

Chat is shown to both players as it was written, except that line breaks become spaces (a player cannot forge
a line of the observation), the action is put last, and only the first `max_chat` characters are kept. So no
observation is longer than 200 + turns * (max_chat + 40) characters.
"""

import random
import re
from typing import NamedTuple

from spiral import IllegalMove, SpiralError
from spiral_games.skills import skills_of

RESOURCES = ("wood", "gold")
WORTH = 20
"""What one wood and one gold together are worth to either player."""
MAX_STOCK = 1000
"""All that exists of a resource, twice the stock, can be written in an offer's 4 digits."""

_BRACKETS = re.compile(r"\[([^\[\]]*)\]")
_OFFER = re.compile(r"\s*offer\s*:\s*([0-9]{1,4})\s*(wood|gold)\s*->\s*([0-9]{1,4})\s*(wood|gold)\s*", re.IGNORECASE)
_OFFER_FORM = "an offer is written like [offer: 2 wood -> 1 gold]"
_CHAT = ("Hello.", "What do you need?", "I would like wood.", "I would like gold.", "Make me an offer.")


class Offer(NamedTuple):
    """`maker` gives `amount` of `resource` and asks for `price` of the other resource."""

    maker: int
    resource: int
    amount: int
    price: int

    def __str__(self) -> str:
        return f"{self.amount} {RESOURCES[self.resource]} -> {self.price} {RESOURCES[1 - self.resource]}"


class SimpleNegotiation:
    """Trade wood and gold in `turns` turns of free text; returns are +1, -1 or 0."""

    num_players = 2
    zero_sum = True
    worst_return = -1.0
    skills = skills_of("simple_negotiation")

    def __init__(self, turns: int = 10, stock: int = 10, max_chat: int = 200) -> None:
        if turns < 2 or not 1 <= stock <= MAX_STOCK or max_chat < 0:
            raise SpiralError(
                f"simple_negotiation got turns={turns}, stock={stock}, max_chat={max_chat}; "
                f"it needs turns >= 2, 1 <= stock <= {MAX_STOCK} and max_chat >= 0."
            )
        self.turns = turns
        self.stock = stock
        self.max_chat = max_chat
        self.rules = (
            f"A negotiation between two players, p0 and p1, who each start with {stock} wood and {stock} "
            "gold. What one wood and one gold are worth to you only you know; the two numbers add up to "
            f"{WORTH} for each player. The players speak in turn, p0 first, {turns} turns in all. At the end "
            "the player whose goods gained more worth, by that player's own values, wins. The observation "
            "shows your values, what each player has and the offer that stands, then all that was said. Say "
            "whatever you like, and add at most one action in square brackets: [offer: 2 wood -> 1 gold] "
            "offers to give 2 wood for 1 gold (any amounts from 1 up, wood for gold or gold for wood); "
            "[accept] takes the other player's offer; [deny] turns it down. You can only offer what you "
            "have, and accept what you can pay. An offer stands until it is accepted, denied or replaced by "
            "a new one. Use square brackets for nothing else."
        )

    def reset(self, rng: random.Random) -> None:
        self._values = (_draw_values(rng), _draw_values(rng))
        self._goods = ((self.stock, self.stock), (self.stock, self.stock))
        self._offer: Offer | None = None
        self._num_moves = 0
        self._said = ""

    def current_player(self) -> int | None:
        return None if self._num_moves == self.turns else self._num_moves % 2

    def observe(self, player: int) -> str:
        when = "over" if self._num_moves == self.turns else f"turn {self._num_moves + 1}/{self.turns}"
        offer = "none" if self._offer is None else f"p{self._offer.maker} {self._offer}"
        return (
            f"nego p{player} {when}; worth {_list(self._values[player])}; you {_list(self._goods[player])}; "
            f"other {_list(self._goods[1 - player])}; offer {offer}{self._said}"
        )

    def legal_moves(self) -> None:
        """None: moves are free text. `sample_move` gives one."""
        return None

    def sample_move(self, rng: random.Random) -> str:
        """A random legal move: chat, an offer that can be covered, or an answer to the standing offer."""
        player = self._num_moves % 2
        kinds = ["chat"]
        held = [resource for resource in (0, 1) if self._goods[player][resource] > 0]
        if held:
            kinds.append("offer")
        if self._offer is not None and self._offer.maker != player:
            kinds.append("[deny]")
            if self._goods[player][1 - self._offer.resource] >= self._offer.price:
                kinds.append("[accept]")
        kind = rng.choice(kinds)
        if kind == "chat":
            return rng.choice(_CHAT)
        if kind == "offer":
            resource = rng.choice(held)
            amount = rng.randint(1, self._goods[player][resource])
            return f"[offer: {Offer(player, resource, amount, rng.randint(1, self.stock))}]"
        return kind

    def play(self, move: str) -> None:
        player = self.current_player()
        if player is None:
            raise IllegalMove("the match is over")
        chat, action = split_move(move)
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
            written = f" [offer: {offer}]"
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
        start = WORTH * self.stock
        first, second = (_worth(*pair) for pair in zip(self._values, self._goods, strict=True))
        return first - start, second - start

    def resample(self, player: int, rng: random.Random) -> None:
        """Redraw the other player's values: all that is hidden from `player`."""
        drawn = _draw_values(rng)
        self._values = (self._values[0], drawn) if player == 0 else (drawn, self._values[1])

    def _read_offer(self, action: str, player: int) -> Offer:
        match = _OFFER.fullmatch(action)
        if match is None:
            raise IllegalMove(f"square brackets hold an offer, accept or deny; {_OFFER_FORM}")
        amount, price = int(match[1]), int(match[3])
        resource = RESOURCES.index(match[2].lower())
        if RESOURCES.index(match[4].lower()) == resource:
            raise IllegalMove("an offer gives one resource and asks for the other")
        if amount < 1 or price < 1:
            raise IllegalMove("an offer gives at least 1 and asks for at least 1")
        if amount > self._goods[player][resource]:
            held = self._goods[player][resource]
            raise IllegalMove(f"you have {held} {RESOURCES[resource]} and cannot offer {amount}")
        return Offer(player, resource, amount, price)

    def _traded(self, offer: Offer) -> tuple[tuple[int, int], tuple[int, int]]:
        """Each player's goods after `offer`. Its maker still covers it: nothing was traded since."""
        asked = 1 - offer.resource
        held = self._goods[1 - offer.maker][asked]
        if held < offer.price:
            raise IllegalMove(f"you have {held} {RESOURCES[asked]} and cannot pay {offer.price}")
        wood, gold = (offer.amount, -offer.price) if offer.resource == 0 else (-offer.price, offer.amount)
        if offer.maker == 1:
            wood, gold = -wood, -gold
        # Wood and gold now say what player 0 gives to player 1.
        (wood0, gold0), (wood1, gold1) = self._goods
        return (wood0 - wood, gold0 - gold), (wood1 + wood, gold1 + gold)


def chat_line(player: int, chat: str, action: str) -> str:
    """A move as a line of the observation: line breaks in the chat become spaces, and the action stands last."""
    text = " ".join(chat.splitlines()).strip()
    return f"\np{player}:{' ' if text else ''}{text}{action}"


def split_move(move: str, offer_form: str = _OFFER_FORM) -> tuple[str, str | None]:
    """A move's chat and what its brackets hold: `accept` or `deny` in lower case, an offer as written.

    Raises IllegalMove, with `offer_form` as the remedy, unless it holds one pair of brackets at most.
    """
    actions = _BRACKETS.findall(move)
    if len(actions) > 1:
        raise IllegalMove("a move holds one action in square brackets at most")
    # A bracket outside the pair would let chat look like an action to a reader of the observation.
    if move.count("[") != len(actions) or move.count("]") != len(actions):
        raise IllegalMove(f"square brackets come in pairs and hold one action; {offer_form}")
    if not actions:
        return move, None
    inside = actions[0].strip()
    answer = inside.lower()
    return _BRACKETS.sub("", move), answer if answer in ("accept", "deny") else inside


def _draw_values(rng: random.Random) -> tuple[int, int]:
    wood = rng.randint(1, WORTH - 1)
    return wood, WORTH - wood


def _list(goods: tuple[int, int]) -> str:
    return f"{goods[0]} wood {goods[1]} gold"


def _worth(values: tuple[int, int], goods: tuple[int, int]) -> int:
    return values[0] * goods[0] + values[1] * goods[1]
