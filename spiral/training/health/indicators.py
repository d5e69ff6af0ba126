"""The health indicators of a step, by game: who wins, how varied play is, which replies teach nothing."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from spiral.api.records import LEARNER, Episode, PolicyId, Trajectory, outcome
from spiral.policies.pool import snapshot_step
from spiral.policies.reference import is_bot_id
from spiral.runs import metric_names
from spiral.theory.intervals import TWO_SIDED_95

Signs = dict[str, float]
Trained = Sequence[tuple[Trajectory, Sequence[float]]]

NOTHING = 1e-3
"""Points: an advantage of at most this size teaches nothing. Not 0, since a running baseline only nears what it
follows."""


def vital_signs(
    episodes: Sequence[Episode],
    trajectories: Sequence[Trajectory],
    advantages: Sequence[Sequence[float]],
    learner: PolicyId = LEARNER,
) -> Signs:
    """`health/GAME/SIGN` of one step; `trajectories` are the learner's, `advantages` theirs, one a turn.

    A sign that the step says nothing about is left out. N is a player's number, AGE is `old` or `new`.

    `edge`, `edge_low`, `edge_high`: by how much player 0's return exceeds the mean of the others', in points a game,
    with a 95% interval; each player weighs the same as the learner's, so that a strong or weak opponent cancels out.
    `edge_mirror` and its interval: the same in games of the learner against itself alone, where there are others too.
    `win_pN`: of the games that one player won, the share that went to player N; weighed as `edge`.
    `draw_rate`: share of games in which no single player did best; those that were cut are left out.
    `cut_games`: share of games that were cut at `rollout.max_turns`.
    `illegal_pN`: of the games in which the learner was player N, the share that its illegal move ended.
    `entropy_pN`: nats a turn, minus the mean log-probability of the sampled replies, which is an unbiased estimate.
    `reply_tokens_pN`, `cut_off`: mean length of the learner's replies, and the share that ran out of tokens.
    `unreadable`: share of the learner's replies that hold no move, those that ran out of tokens among them.
    `zero_share`: share of the learner's turns whose advantage is at most `NOTHING` in size.
    `first_moves`, `openings`: distinct first moves, and the effective number of the first two (exp of their entropy).
    `score_AGE`, `games_AGE`: the learner's share of wins, draws as halves, over the older or newer half of the
    snapshots that it met, and the number of those games; `score_bots`, `score_others`: over bots, and all the rest.
    """
    games: dict[str, list[Episode]] = defaultdict(list)
    for episode in episodes:
        games[episode.game].append(episode)
    trained: dict[str, list[tuple[Trajectory, Sequence[float]]]] = defaultdict(list)
    for trajectory, row in zip(trajectories, advantages, strict=True):
        trained[trajectory.game].append((trajectory, row))
    metrics: Signs = {}
    for game, played in sorted(games.items()):
        signs = _edges(played, learner) | _endings(played, learner) | _replies(trained[game])
        signs |= _openings(played) | _scores(played, learner)
        metrics |= {metric_names.of_game("health", game, name): value for name, value in signs.items()}
    return metrics


def _edges(played: Sequence[Episode], learner: PolicyId) -> Signs:
    signs = _edge(played, "edge", learner)
    mirror = [e for e in played if e.policies.count(learner) == len(e.policies)]
    if 0 < len(mirror) < len(played):
        signs |= _edge(mirror, "edge_mirror", learner)
    return signs


def _edge(played: Sequence[Episode], name: str, learner: PolicyId) -> Signs:
    """The weighted mean of a difference a game; games of one deal are one observation to the interval."""
    weights = _balanced(played, learner)
    if not weights or len(played[0].returns) < 2:
        return {}
    leads = [e.returns[0] - sum(e.returns[1:]) / (len(e.returns) - 1) for e in played]
    edge = sum(weight * lead for weight, lead in zip(weights, leads, strict=True))
    by_deal: dict[int, float] = defaultdict(float)
    for episode, weight, lead in zip(played, weights, leads, strict=True):
        by_deal[episode.deal] += weight * (lead - edge)
    deals = len(by_deal)
    if deals < 2:
        return {name: edge}
    half = TWO_SIDED_95 * math.sqrt(deals / (deals - 1) * sum(part * part for part in by_deal.values()))
    return {name: edge, f"{name}_low": edge - half, f"{name}_high": edge + half}


def _balanced(played: Sequence[Episode], learner: PolicyId) -> list[float]:
    """One weight a game, all together 1 and the same for every player that the learner was; [] if it never was some.

    Without it a learner that is only ever one player would look like a player that wins.
    """
    learners = [[player for player, policy in enumerate(e.policies) if policy == learner] for e in played]
    seen = Counter(player for players in learners for player in players)
    num = len(played[0].policies) if played else 0
    if not num or len(seen) < num:
        return []
    return [sum(1 / (num * seen[player]) for player in players) for players in learners]


def _endings(played: Sequence[Episode], learner: PolicyId) -> Signs:
    num = len(played[0].returns)
    # A game that was cut may count as a draw, and is no sign of good play, as draws are.
    ends = [e for e in played if e.ending != "cut"]
    signs: Signs = {"cut_games": 1 - len(ends) / len(played)}
    if num > 1:
        winners = [_winner(e.returns) for e in played]
        if ends:
            signs["draw_rate"] = sum(_winner(e.returns) is None for e in ends) / len(ends)
        won = [(e, winner) for e, winner in zip(played, winners, strict=True) if winner is not None]
        if weights := _balanced([e for e, _ in won], learner):
            for player in range(num):
                shares = (weight for weight, (_, winner) in zip(weights, won, strict=True) if winner == player)
                signs[metric_names.of_player("win", player)] = math.fsum(shares)
    for player in range(num):
        offended = [e.offender == player for e in played if e.policies[player] == learner]
        if offended:
            signs[metric_names.of_player("illegal", player)] = sum(offended) / len(offended)
    return signs


def _winner(returns: Sequence[float]) -> int | None:
    """The one player who did best."""
    best = max(returns)
    return returns.index(best) if returns.count(best) == 1 else None


def _replies(trained: Trained) -> Signs:
    totals: dict[int, list[float]] = defaultdict(lambda: [0, 0.0, 0])  # turns, nats, tokens
    cut_off = unreadable = idle = 0
    for trajectory, row in trained:
        total = totals[trajectory.player]
        total[0] += len(trajectory.turns)
        for turn in trajectory.turns:
            total[1] -= sum(turn.logprobs)
            total[2] += turn.num_sampled
            cut_off += turn.finish == "length"
            unreadable += turn.move is None
        idle += sum(-NOTHING <= advantage <= NOTHING for advantage in row)
    signs: Signs = {}
    for player, (turns, nats, tokens) in sorted(totals.items()):
        if turns:
            signs[metric_names.of_player("entropy", player)] = nats / turns
            signs[metric_names.of_player("reply_tokens", player)] = tokens / turns
    if num_turns := sum(total[0] for total in totals.values()):
        signs |= {"cut_off": cut_off / num_turns, "unreadable": unreadable / num_turns, "zero_share": idle / num_turns}
    return signs


def _openings(played: Sequence[Episode]) -> Signs:
    openings = Counter(_opening(e) for e in played if e.players)
    if not openings:
        return {}
    total = openings.total()
    entropy = -sum(count / total * math.log(count / total) for count in openings.values())
    return {"first_moves": float(len({opening[0] for opening in openings})), "openings": math.exp(entropy)}


def _opening(episode: Episode) -> tuple[str | None, ...]:
    """The first two moves; None for one that was illegal, so that noise does not look like variety."""
    turns = [iter(trajectory.turns) for trajectory in episode.trajectories]
    first = [next(turns[player]) for player in episode.players[:2]]
    return tuple(turn.move if turn.legal else None for turn in first)


def _scores(played: Sequence[Episode], learner: PolicyId) -> Signs:
    kinds = _kinds({policy for e in played for policy in e.policies}, learner)
    won: dict[str, list[float]] = defaultdict(list)
    for episode in played if kinds else ():
        for kind, pairs in _pairs(episode, kinds, learner).items():
            won[kind].append(sum(pairs) / len(pairs))
    signs: Signs = {}
    for kind, shares in sorted(won.items()):
        signs |= {f"score_{kind}": sum(shares) / len(shares), f"games_{kind}": float(len(shares))}
    return signs


def _kinds(policies: Iterable[PolicyId], learner: PolicyId) -> dict[PolicyId, str]:
    """What each opponent is, the learner left out. An only snapshot is old: what was forgotten is asked first."""
    steps = {policy: step for policy in policies if (step := snapshot_step(policy, learner)) is not None}
    by_age = sorted(steps, key=lambda policy: steps[policy])
    num_old = (len(by_age) + 1) // 2
    kinds = {policy: "bots" if is_bot_id(policy) else "others" for policy in policies if policy != learner}
    return kinds | {policy: "old" if i < num_old else "new" for i, policy in enumerate(by_age)}


def _pairs(episode: Episode, kinds: Mapping[PolicyId, str], learner: PolicyId) -> dict[str, list[float]]:
    """By kind of opponent: 1, 1/2 or 0 for each pair of a player of the learner's and one of such an opponent."""
    pairs: dict[str, list[float]] = defaultdict(list)
    learner_returns = [r for policy, r in zip(episode.policies, episode.returns, strict=True) if policy == learner]
    for policy, reward in zip(episode.policies, episode.returns, strict=True):
        if learner_returns and policy != learner:
            pairs[kinds[policy]] += [outcome(own, reward) for own in learner_returns]
    return pairs
