"""Random legal play as a distribution over the next token, which the objective's anchor term holds the policy near to.

Apart from the loss, since it is a function of ids alone: the uniform policy over legal replies needs no second model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

Ids = tuple[int, ...]
Target = tuple[int, int, float]
"""(position in the reply, token id, its probability there)"""


def random_play_targets(reply: Ids, legal_replies: Sequence[Ids]) -> list[Target]:
    """At each position of `reply`, the next token of a reply drawn uniformly among the legal ones with that beginning.

    A position that no legal reply reaches has no target. The probabilities of each other position add up to 1.
    """
    targets: list[Target] = []
    matching = [legal for legal in legal_replies if legal]
    for position, token in enumerate(reply):
        following = Counter(legal[position] for legal in matching)
        total = following.total()
        targets += [(position, legal_token, num / total) for legal_token, num in sorted(following.items())]
        matching = [legal for legal in matching if legal[position] == token and len(legal) > position + 1]
        if not matching:
            break
    return targets
