"""GAE over turns with a critic: the value of a turn is read from the learner's hidden state of its prompt.

For states that do not come again, where `nested` has nothing to compare. Schulman et al. 2016, "High-Dimensional
Continuous Control Using Generalized Advantage Estimation"; with `view=joint` the critic sees in training what the
player does not, as in Lowe et al. 2017, "Multi-Agent Actor-Critic", and Yu et al. 2022, "The Surprising Effectiveness
of PPO in Cooperative Multi-Agent Games" (MAPPO).
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

from spiral import SpiralError, Trajectory, Turn
from spiral_advantages.returns import discounted, gae, turn_rewards

if TYPE_CHECKING:
    from torch import Tensor

    from spiral_advantages.value_head import ValueHead

View = Literal["own", "joint"]
Prompt = tuple[int, ...]

SMALL = 1e-6
"""A deviation of returns below this is rounding: their role is not scaled by it."""


class Critic:
    """GAE over the turns of a role, with values by a small network that reads the learner's hidden states.

    The value of a turn is V = mean + deviation * head(h), where h is the hidden state of the prompt's last token by the
    weights that played, and mean and deviation are moving ones of the role's returns-to-go (`decay`, debiased, as in
    `rae`). The head is a network with one hidden layer of `units` tanh; the model is not trained by it. With the
    turns' own rewards r_k, to the last of which the game's return is added, and V_K = 0,

        delta_k = r_k + gamma V_{k+1} - V_k        A_k = delta_k + gamma lam A_{k+1}

    After the values of a step were read, the head takes `updates` steps of Adam at rate `lr` on the squared error to
    the step's returns-to-go. Before any, V is 0; before the head knows anything, V is `turn_gae`'s without the number
    of the turn.

    `view=own`: the prompt of the player alone. `view=joint`: beside it the mean hidden state of the prompts that the
    other players would be asked then (`Turn.other_prompts`), so that what was dealt to them is no noise.

    Unbiased with lam=1 and gamma=1, the defaults, in either view: what is subtracted was fixed by past steps and by
    what happened before the move. With lam < 1 the head's errors enter in place of what followed, which is biased while
    it has any; with `view=own` even a head without errors averages over what the player cannot see, which is right
    for the player's own gradient. With gamma < 1 later rewards count less.
    """

    def __init__(
        self,
        view: View = "own",
        gamma: float = 1.0,
        lam: float = 1.0,
        units: int = 32,
        updates: int = 20,
        lr: float = 3e-3,
        decay: float = 0.95,
    ) -> None:
        if view not in get_args(View):
            raise SpiralError(f"critic was given view={view!r}; give one of {', '.join(get_args(View))}")
        for name, number, fits, what in (
            ("gamma", gamma, 0 <= gamma <= 1, "a number from 0 to 1"),
            ("lam", lam, 0 <= lam <= 1, "a number from 0 to 1"),
            ("units", units, units >= 1, "a whole number from 1 up"),
            ("updates", updates, updates >= 1, "a whole number from 1 up"),
            ("lr", lr, 0 < lr < math.inf, "a number above 0"),
            ("decay", decay, 0 <= decay < 1, "a number from 0 up to but not including 1"),
        ):
            if not fits:
                raise SpiralError(f"critic was given {name}={number}; give {what}")
        self.view, self.gamma, self.lam, self.decay = view, gamma, lam, decay
        self.units, self.updates, self.lr = units, updates, lr
        self.needs_other_prompts = view == "joint"
        self.features: Any = None
        """Distinct prompts -> hidden states; the run sets it, see `spiral.AdvantageEstimator`."""
        self._roles: dict[str, list[float]] = {}  # role -> [weight, weighted sum of returns, of their squares]
        self._head: ValueHead | None = None

    @property
    def state(self) -> dict[str, Any]:
        """`roles`: role -> [weight, weighted sum, weighted sum of squares] of its returns-to-go; `head`: the network
        and its optimiser, None before the first step."""
        return {"roles": dict(self._roles), "head": None if self._head is None else self._head.state()}

    @state.setter
    def state(self, state: Mapping[str, Any]) -> None:
        self._roles, self._head = {role: [*sums] for role, sums in state["roles"].items()}, None
        if state["head"] is not None:
            self._head = self._new_head(state["head"]["inputs"])
            self._head.load_state(state["head"])

    def __call__(self, trajectories: Sequence[Trajectory]) -> list[list[float]]:
        """`out[i][k]`: the advantage of turn k of trajectory i. Raises SpiralError without `features`, for turns
        without a prompt, and for a model with other hidden states than those that the state was learned on."""
        keys = [[_key(t, k, turn) for k, turn in enumerate(t.turns)] for t in trajectories]
        # Sorted, so that no sum below depends on the order of the games.
        distinct = sorted({key for row in keys for key in row})
        if not distinct:
            return [[] for _ in trajectories]
        inputs = self._inputs(distinct)
        said = dict(zip(distinct, self._head_for(inputs)(inputs), strict=True))
        out, seen = [], defaultdict[tuple[str, tuple[Prompt, ...]], list[float]](list)
        for t, row in zip(trajectories, keys, strict=True):
            role, rewards = f"{t.game}/{t.player}", turn_rewards(t)
            mean, deviation = self._moments(role)
            out.append(gae(rewards, [mean + deviation * said[key] for key in row], self.gamma, self.lam))
            for key, amount in zip(row, discounted(rewards, self.gamma), strict=True):
                seen[role, key].append(amount)
        # Only now: a value that had seen this batch would be correlated with the returns that it is subtracted from.
        self._learn(distinct, inputs, seen)
        return out

    def _learn(
        self,
        distinct: Sequence[tuple[Prompt, ...]],
        inputs: "Tensor",
        seen: Mapping[tuple[str, tuple[Prompt, ...]], Sequence[float]],
    ) -> None:
        by_role = defaultdict[str, list[float]](list)
        for (role, _), amounts in seen.items():
            by_role[role] += amounts
        for role, amounts in by_role.items():
            self._update(role, amounts)
        row_of = {key: row for row, key in enumerate(distinct)}
        rows, targets, counts = [], [], []
        for role, key in sorted(seen):
            mean, deviation = self._moments(role)
            amounts = seen[role, key]
            rows.append(row_of[key])
            targets.append((math.fsum(amounts) / len(amounts) - mean) / deviation)
            counts.append(float(len(amounts)))
        self._head_for(inputs).fit(inputs[rows], targets, counts, self.updates)

    def _inputs(self, keys: Sequence[tuple[Prompt, ...]]) -> "Tensor":
        """(number of keys, H) by the own prompt; with `view=joint` (.., 2 H), the others' mean beside it."""
        import torch

        if self.features is None:
            raise SpiralError(
                "critic values turns by the learner's hidden states and was given no features; train with spiral "
                "train, or set features to a function of prompts"
            )
        prompts = sorted({prompt for key in keys for prompt in key})
        states = self.features(prompts)
        states = torch.nn.functional.layer_norm(states, states.shape[-1:])  # so that the head's rate fits any model
        hidden = dict(zip(prompts, states, strict=True))
        own = torch.stack([hidden[key[0]] for key in keys])
        if self.view == "own":
            return own
        others = torch.stack([torch.stack([hidden[p] for p in key[1:] or key]).mean(0) for key in keys])
        return torch.cat([own, others], -1)

    def _head_for(self, inputs: "Tensor") -> "ValueHead":
        if self._head is None:
            self._head = self._new_head(inputs.shape[-1])
        if self._head.num_inputs != inputs.shape[-1]:
            raise SpiralError(
                f"critic's state was learned on {self._head.num_inputs} numbers a turn, and now there are "
                f"{inputs.shape[-1]}; resume with the model and the view that the run began with"
            )
        return self._head

    def _new_head(self, num_inputs: int) -> "ValueHead":
        from spiral_advantages.value_head import ValueHead

        return ValueHead(num_inputs, self.units, self.lr)

    def _moments(self, role: str) -> tuple[float, float]:
        """Moving mean and deviation of a role's returns-to-go; 0 and 1 before any."""
        weight, total, squares = self._roles.get(role, [0.0, 0.0, 0.0])
        if not weight:
            return 0.0, 1.0
        mean = total / weight
        deviation = math.sqrt(max(0.0, squares / weight - mean * mean))
        return mean, deviation if deviation > SMALL else 1.0

    def _update(self, role: str, amounts: Sequence[float]) -> None:
        keep, n = self.decay ** len(amounts), len(amounts)
        now = [1.0, math.fsum(amounts) / n, math.fsum(x * x for x in amounts) / n]
        before = self._roles.get(role, [0.0, 0.0, 0.0])
        self._roles[role] = [keep * old + (1 - keep) * new for old, new in zip(before, now, strict=True)]


def _key(t: Trajectory, number: int, turn: Turn) -> tuple[Prompt, ...]:
    """What the value of a turn is read from: its prompt, and those of the others where they are recorded."""
    if not turn.prompt:
        raise SpiralError(
            f"critic reads the prompts of turns, and turn {number} of player {t.player} of {t.game} has none; give "
            "it the trajectories of a policy with tokens"
        )
    return (turn.prompt, *turn.other_prompts)
