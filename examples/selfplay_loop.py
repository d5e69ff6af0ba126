"""The loop of self-play, to be read: play, assign credit, update, load the new weights, measure.

    python examples/selfplay_loop.py            # Kuhn poker from random weights, about two minutes
    python examples/selfplay_loop.py 20         # the first 20 steps

Everything comes from the public names of `spiral`. What `spiral train` adds is around this loop: checkpoints and
resume, snapshots and other opponents, several processes, reports, and what follows when play collapses.
"""

import sys
from collections import defaultdict
from collections.abc import Sequence

import spiral
from spiral import LEARNER, Trajectory


class RoleConditioned:
    """SPIRAL's role-conditioned advantage estimation: the return minus a moving mean of the same game and player.

    In a game where the second player is at a disadvantage, its losses are no fault of its own: each role is compared
    with what that role usually gets. Source: SPIRAL (arXiv 2506.24119).
    """

    def __init__(self, decay: float = 0.95) -> None:
        self.decay = decay
        self.mean: dict[tuple[str, int], float] = defaultdict(float)
        self.weight: dict[tuple[str, int], float] = defaultdict(float)

    def __call__(self, trajectories: Sequence[Trajectory]) -> list[list[float]]:
        """`out[i][k]`: the advantage of turn k of trajectory i."""
        # The baseline is read before this batch updates it, or each return would be compared with itself.
        baseline = {role: self.mean[role] / self.weight[role] for role in self.weight if self.weight[role] > 0}
        advantages = [[t.reward - baseline.get((t.game, t.player), 0.0)] * len(t.turns) for t in trajectories]
        for t in trajectories:
            role = (t.game, t.player)
            self.mean[role] = self.decay * self.mean[role] + (1 - self.decay) * t.reward
            # Divides out the zeros that the mean began with, as Adam's bias correction does.
            self.weight[role] = self.decay * self.weight[role] + (1 - self.decay)
        return advantages


def main(steps: int = 400) -> float:
    """Train, and return the last NashConv: what perfect opponents could win a hand, 0 in a Nash equilibrium."""
    config = spiral.configure(games="kuhn_poker", steps=steps, rollout={"episodes": 256})
    # The model with a warm start on random legal play, its engine, the rollouts, the learner.
    parts = spiral.build(config)
    advantage = RoleConditioned()
    parts.engine.load_weights(LEARNER, parts.learner.weights(), version=0)
    for step in range(config.steps):
        episodes = parts.rollouts.play(config.rollout.episodes, seed=(config.seed, "rollout", step))
        trajectories = [t for e in episodes for t in e.trajectories if t.policy == LEARNER]
        advantages = advantage(trajectories)
        batch = spiral.pack(trajectories, advantages, config.learner.micro_batch_tokens)
        stats = parts.learner.update(batch, step, num_games=config.rollout.episodes)
        parts.engine.load_weights(LEARNER, parts.learner.weights(), version=step + 1)
        if (step + 1) % 20 == 0 or step + 1 == config.steps:
            illegal = sum(episode.ending == "illegal" for episode in episodes) / len(episodes)
            nash_conv = parts.nash_conv()["kuhn_poker"].nash_conv
            print(
                f"step {step + 1:>4}  NashConv {nash_conv:.3f}  illegal {illegal:.1%}  "
                f"entropy {stats['learner/entropy']:.3f}",
                flush=True,
            )
    return nash_conv


if __name__ == "__main__":
    try:
        main(*map(int, sys.argv[1:]))
    except spiral.SpiralError as error:
        sys.exit(f"{error}")
