"""Policies of one shape in one pass of the engine: each answers as if it were alone, whoever comes and goes."""

import copy

import pytest
import torch
from spiral_models import MODELS
from spiral_models.byte.stack import ByteStack

from spiral.api.errors import RunError
from spiral.api.records import LEARNER, Request, Sampling
from spiral.engines.torch.engine import TorchEngine
from spiral.models.logits import parameters
from spiral.models.stacking import own_stack
from spiral.testing.engines import forward_logprobs

torch.set_num_threads(1)

POLICIES = (LEARNER, "averaged", "snapshot:1", "snapshot:2")


@pytest.fixture(scope="module")
def models():
    """One for each policy."""
    made = {}
    for seed, policy in enumerate(POLICIES):
        torch.manual_seed(seed)
        made[policy] = MODELS["byte-0.1m"](context=256)[0].eval().requires_grad_(False)
    return made


@pytest.fixture
def passes(monkeypatch):
    """(rows, whether logits were wanted) of each pass of a stack."""
    seen, call = [], ByteStack.__call__

    def counted(self, keys, first, ids, starts, policies, wants_logits=True):
        seen.append((len(ids), wants_logits))
        return call(self, keys, first, ids, starts, policies, wants_logits)

    monkeypatch.setattr(ByteStack, "__call__", counted)
    return seen


def engine(models, policies=POLICIES, **args):
    made = TorchEngine(models[LEARNER], None, **args)
    for policy in policies:
        made.load_weights(policy, parameters(models[policy]), 3)
    return made


def prompt(length, salt):
    return tuple((7 * salt + 13 * i + i * i) % 256 for i in range(length))


def requests(num=24, tokens=8):
    """Of all policies in turn, prompts that share 32 ids."""
    common = prompt(32, 1)
    return [
        Request(n, POLICIES[n % len(POLICIES)], common + prompt(3 + n % 5, n // 4), Sampling(tokens, ()), 77 * n + 1)
        for n in range(num)
    ]


def run(made, asked):
    for request in asked:
        made.submit(request)
    done = []
    while len(done) < len(asked):
        done += made.step()
    return sorted(done, key=lambda completion: completion.request_id)


def test_all_policies_take_one_pass_a_token(models, passes):
    """24 requests of four policies, 8 tokens each: 8 passes, after one for the prefixes of all four."""
    done = run(engine(models), requests())
    assert passes == [(4, False)] + [(24, True)] * 8
    for request, completion in zip(requests(), done, strict=True):
        expected = forward_logprobs(models[request.policy], request.prompt, completion.ids)
        assert completion.logprobs == pytest.approx(expected, abs=2e-5)


def test_prefixes_of_one_length_are_computed_together_as_far_as_the_budget_goes(models, passes):
    """Four prefixes of 32 ids, and 64 a pass: two passes."""
    run(engine(models, prefill_tokens=64), requests(tokens=1))
    assert [one for one in passes if not one[1]][:2] == [(1, False)] * 2
    passes.clear()
    run(engine(models, prefill_tokens=200), requests(tokens=1))
    assert max(rows for rows, wants_logits in passes if not wants_logits) > 1


def test_company_changes_no_reply(models):
    """Each policy alone in an engine says what it says among the others."""
    together = run(engine(models), requests())
    for policy in POLICIES:
        own = [request for request in requests() if request.policy == policy]
        alone = run(engine(models, [policy]), own)
        assert [one.ids for one in alone] == [one.ids for one in together if one.request_id in {r.id for r in own}]


def test_the_order_in_which_policies_came_changes_no_bit(models):
    """A resumed run loads them in another order than a run in which snapshots came and went."""
    expected = run(engine(models), requests())
    used = engine(models, ("snapshot:2", "averaged"))
    used.load_weights("snapshot:0", parameters(models[LEARNER]), 1)
    used.load_weights("snapshot:1", parameters(models["snapshot:1"]), 3)
    run(used, [Request(0, "snapshot:0", prompt(40, 3), Sampling(9, ()), 5)])
    used.drop("snapshot:0")
    used.load_weights(LEARNER, parameters(models[LEARNER]), 3)
    assert run(used, requests()) == expected


def test_policies_come_and_go_under_requests_of_others(models):
    """In the middle of a reply: another policy is loaded, one is loaded anew, and one dropped."""
    asked = [request for request in requests() if request.policy == "averaged"]
    expected = run(engine(models, ["averaged"]), asked)
    made = engine(models, ("averaged", "snapshot:2"))
    for request in asked:
        made.submit(request)
    made.step()
    made.load_weights(LEARNER, parameters(models[LEARNER]), 9)
    made.step()
    made.load_weights(LEARNER, parameters(models["snapshot:1"]), 10)
    made.step()
    made.drop("snapshot:2")
    done = []
    while len(done) < len(asked):
        done += made.step()
    assert [one.ids for one in sorted(done, key=lambda one: one.request_id)] == [one.ids for one in expected]


def test_rows_are_limited_for_each_policy(models, passes):
    """Two rows a policy: eight of 24 at once, and nothing is lost."""
    expected = run(engine(models), requests())
    passes.clear()
    done = run(engine(models, max_rows=2), requests())
    assert [one.ids for one in done] == [one.ids for one in expected]
    assert max(rows for rows, _ in passes) == 8


def test_weights_of_another_model_are_refused_and_change_nothing(models):
    """Neither the policies that are there, nor who is known."""
    made = engine(models)
    torch.manual_seed(0)
    other = MODELS["byte-0.4m"](context=256)[0]
    with pytest.raises(RunError, match="these weights belong to another model"):
        made.load_weights("snapshot:9", parameters(other), 4)
    assert run(made, requests()) == run(engine(models), requests())
    assert made._lanes.keys() == set(POLICIES)


def test_when_a_model_is_not_stacked(models):
    """In another precision than float32, where passes are recorded, and where the model has no stack."""
    assert isinstance(own_stack(models[LEARNER]), ByteStack)
    assert own_stack(copy.deepcopy(models[LEARNER]).bfloat16()) is None
    assert own_stack(MODELS["patch-0.1m"](context=256)[0]) is None
    recorded = engine(models, record=lambda: lambda work: work)
    assert len(set(map(id, recorded._lanes.values()))) == len(POLICIES)
    assert [one.ids for one in run(recorded, requests())] == [one.ids for one in run(engine(models), requests())]
