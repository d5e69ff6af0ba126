"""The whole chain on an enumerable game: what rollouts, batch and learner add up to is the gradient of the expected
return, exactly.

Kuhn poker has 6 deals and 5 courses of play. Every course, and every point at which a player may fail to write a
legal move, is played once through the real rollouts, by an engine that says what it is told to; its turns carry the
model's own log-probabilities, and its advantages are return times the course's probability. The learner's gradient
of that batch must then be the derivative of the expected return, which is computed here by another way: plain forwards
of the model, chances multiplied down the tree, autograd. Each player's own chances are differentiated while the
other's are held: self-play's gradient.

Illegal replies are too many to list. But the offender's own return in all of them is the worst one, -2; with -2 as
the baseline of both players their own last turn has no advantage, so one such reply can stand for all, and a baseline
does not change an expected gradient.
"""

from collections import defaultdict

import pytest
import torch
from accelerate import Accelerator
from spiral_games.native.kuhn_poker import HANDS, KuhnPoker
from spiral_models import MODELS

from spiral.api.records import LEARNER, Completion
from spiral.config.schema import LearnerConfig, RolloutConfig
from spiral.evaluation.move_probabilities import move_probabilities
from spiral.learning.full_learner import FullLearner
from spiral.learning.objective import Objective
from spiral.learning.packing import pack
from spiral.models.logits import TokenLogits
from spiral.models.prompt_cache import Prompter
from spiral.models.prompts import PlainFormat
from spiral.plugins.registry import Plugins
from spiral.policies.completer import Completer
from spiral.policies.pool import Pool
from spiral.selfplay.curriculum import Weighted
from spiral.selfplay.rollouts import Rollouts
from spiral.theory.best_response import GameTree, outcomes

torch.set_num_threads(1)

WORST = -2.0


@pytest.fixture(scope="module")
def table():
    """The model, its prompter, the tree, and the chances that the core's own move_probabilities gives."""
    torch.manual_seed(3)
    model, tokenizer = MODELS["byte-0.1m"](context=64)
    prompter, tree = Prompter(PlainFormat(tokenizer)), GameTree.of(KuhnPoker())
    _teach(model, prompter, tree)
    completer = Completer.of(None, prompter, 16)
    legal, illegal = move_probabilities(TokenLogits(model), completer, KuhnPoker().rules, tree.decisions)
    return model, prompter, tree, legal, illegal


def _teach(model, prompter, tree):
    """A few steps of cloning, so that legal moves have chances worth measuring; uneven, so that nothing cancels."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(1)
    rows = [
        (prompter.encode("", d.observation), prompter.reply(m), float(torch.rand((), generator=generator)) + 0.1)
        for d in tree.decisions
        for m in d.moves
    ]
    for _ in range(40):
        loss = -sum(w * _logprob(model, p, r) for p, r, w in rows) / len(rows)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.zero_grad()


def _token_logprobs(model, prompt, reply):
    logits = model(input_ids=torch.tensor([[*prompt, *reply]])).logits[0]
    logprobs = torch.log_softmax(logits, -1)
    at = torch.arange(len(reply)) + len(prompt) - 1
    return logprobs[at, torch.tensor(reply)]


def _logprob(model, prompt, reply):
    return _token_logprobs(model, prompt, reply).sum()


def _chances(model, prompter, tree):
    """observation -> move -> probability of its reply among all replies, differentiable."""
    return {
        d.observation: {
            m: _logprob(model, prompter.encode("", d.observation), prompter.reply(m)).exp() for m in d.moves
        }
        for d in tree.decisions
    }


def _expected_return(game, chances, player):
    """E[return of `player`] over legal and illegal courses; only the player's own chances are differentiated."""
    who = game.current_player()
    if who is None:
        return torch.tensor(game.returns()[player])
    row = chances[game.observe(who)]
    if who != player:
        row = {move: p.detach() for move, p in row.items()}
    moves = list(game.legal_moves())
    total = (1 - sum(row[m] for m in moves)) * (WORST if who == player else -WORST)
    for move in moves:
        after = KuhnPoker()
        after.reset_to(game._deal)
        for said in game._moves.split():
            after.play(said)
        after.play(move)
        total = total + row[move] * _expected_return(after, chances, player)
    return total


class Teller:
    """An engine that answers with the replies it was given, in order, at the model's own log-probabilities."""

    def __init__(self, model, replies):
        self.model, self.replies, self.queue, self.known = model, replies, [], {}

    def submit(self, request):
        self.queue.append(request)

    def step(self):
        queue, self.queue = self.queue, []
        return [self._answer(request) for request in queue]

    def load_weights(self, policy, weights, version):
        pass

    def _answer(self, request):
        reply = tuple(self.replies.pop(0))
        key = request.prompt, reply
        if key not in self.known:
            with torch.no_grad():
                self.known[key] = tuple(_token_logprobs(self.model, *key).tolist())
        return Completion(request.id, reply, self.known[key], "stop", 0)


def _courses(table):
    """(deal, replies, probability among all replies) of every course of play, legal to its end or not."""
    _, prompter, tree, legal, illegal = table
    courses, endings = [], defaultdict(float)
    for outcome in outcomes(tree, legal):
        probability, prefix = 1 / len(HANDS), ()
        for _, observation, move in outcome.moves:
            endings[outcome.deal, prefix] = probability * illegal[observation]
            probability *= legal[observation][move] * (1 - illegal[observation])
            prefix = (*prefix, move)
        courses.append((outcome.deal, [prompter.reply(m) for m in prefix], probability))
    stop = prompter.stop_ids
    courses += [(d, [*(prompter.reply(m) for m in p), stop], q) for (d, p), q in endings.items()]
    return courses


def _play(table, deal, replies):
    """The episode of one course, through the real rollouts."""
    model, prompter = table[:2]

    class Dealt(KuhnPoker):
        def reset(self, rng):
            self.reset_to((HANDS[deal],))

    class Mirror:
        def seat(self, game, num_players, pool, rng):
            return [LEARNER] * num_players

    engine = Teller(model, list(replies))
    pool = Pool(Plugins(), Completer.of(engine, prompter, 16))
    rollouts = Rollouts({"kuhn": Dealt}, Weighted({"kuhn": 1.0}), Mirror(), pool, RolloutConfig())
    [episode] = rollouts.play(1, (0,))
    assert engine.replies == []
    return episode


def test_courses_of_play_are_all_of_them(table):
    """30 legal ends and 24 points of failure, whose probabilities add up to 1; the model fails often enough to matter."""
    courses = _courses(table)
    assert len(courses) == 30 + 24
    assert sum(q for _, _, q in courses) == pytest.approx(1.0, abs=1e-5)
    assert 0.05 < sum(q for _, _, q in courses[30:]) < 0.95


def test_the_learners_gradient_is_that_of_the_expected_return(table):
    """sum over courses of probability * (return + 2) * grad log pi, as batch and learner make it, against autograd."""
    model, prompter, tree, _, _ = table
    trajectories, advantages, returns = [], [], 0.0
    for deal, replies, probability in _courses(table):
        episode = _play(table, deal, replies)
        returns += probability * episode.returns[0]
        for t in episode.trajectories:
            trajectories.append(t)
            advantages.append([probability * (t.reward - WORST)] * len(t.turns))
    learner = FullLearner(model, LearnerConfig(), 1, Accelerator(cpu=True))
    model.zero_grad()
    terms = learner._backward(pack(trajectories, advantages, 600), 1, Objective())
    found = [-p.grad.clone() for p in model.parameters()]  # the learner descends on minus the objective
    model.zero_grad()

    chances = _chances(model, prompter, tree)
    values = [torch.zeros(()), torch.zeros(())]
    for hand in HANDS:
        for player in range(2):
            game = KuhnPoker()
            game.reset_to((hand,))
            values[player] = values[player] + _expected_return(game, chances, player) / len(HANDS)
    assert values[0].item() == pytest.approx(returns, abs=1e-5)
    assert values[0].item() == pytest.approx(-values[1].item(), abs=1e-6)
    expected = torch.autograd.grad(values[0] + values[1], list(model.parameters()))

    norm = torch.cat([g.flatten() for g in expected]).norm()
    assert norm > 0.05
    for mine, theirs in zip(found, expected, strict=True):
        assert float((mine - theirs).norm()) < 2e-4 * float(norm)
    assert terms["gap"] < 1e-4
    model.zero_grad()


def test_a_baseline_changes_nothing_in_expectation(table):
    """Legal courses alone, each weighted by its chance among legal ones: sum of q * grad log q is 0 for a constant.

    So with every advantage 1 the gradient is that of the legal mass of the courses, which autograd gives too.
    """
    model, prompter, tree, _, _ = table
    trajectories, advantages = [], []
    for deal, replies, probability in _courses(table)[:30]:
        for t in _play(table, deal, replies).trajectories:
            trajectories.append(t)
            advantages.append([probability] * len(t.turns))
    learner = FullLearner(model, LearnerConfig(), 1, Accelerator(cpu=True))
    model.zero_grad()
    learner._backward(pack(trajectories, advantages, 600), 1, Objective())
    found = torch.cat([-p.grad.flatten() for p in model.parameters()])
    model.zero_grad()
    chances = _chances(model, prompter, tree)
    mass = torch.zeros(())
    for outcome in outcomes(tree, table[3]):
        product = torch.tensor(1 / len(HANDS))
        for _, observation, move in outcome.moves:
            product = product * chances[observation][move]
        mass = mass + product
    expected = torch.cat([g.flatten() for g in torch.autograd.grad(mass, list(model.parameters()))])
    assert float((found - expected).norm()) < 2e-4 * float(expected.norm())
