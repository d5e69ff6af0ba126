"""After a load an engine is probed: whatever it computes with, and however it samples, must be what it was asked for."""

import copy
import weakref
from dataclasses import replace

import pytest
import torch
from spiral_models import MODELS

from spiral.api.errors import RunError
from spiral.api.records import LEARNER, Request, Sampling
from spiral.engines.probe import EVERY, PROMPT_TOKENS, ProbedEngine
from spiral.engines.sleeping import asleep
from spiral.engines.torch.engine import TorchEngine
from spiral.models.logits import parameters
from spiral.models.room import give_up_room, room_for
from spiral.models.sharded import WholeWeights

torch.set_num_threads(1)


def _model(seed=0, context=256):
    torch.manual_seed(seed)
    return MODELS["byte-0.1m"](context=context)[0].eval().requires_grad_(False)


def _moved(model, by=0.3):
    other = copy.deepcopy(model)
    for parameter in other.parameters():
        parameter.add_(by * torch.randn_like(parameter))
    return parameters(other)


class Faulty(TorchEngine):
    """An engine with the fault that a test gives it."""

    def submit(self, request):
        super().submit(self.changed(request))

    def changed(self, request):
        return request


def _run(engine, requests):
    for request in requests:
        engine.submit(request)
    done = []
    while len(done) < len(requests):
        done += engine.step()
    return done


def test_an_engine_that_loads_what_it_is_given_passes():
    """Every policy and version; the requests of others are answered as without a probe, bit for bit."""
    model = _model()
    probed, plain = ProbedEngine(TorchEngine(model, None), model), TorchEngine(model, None)
    requests = [Request(n, LEARNER, (7, 8, 9), Sampling(6, (261,)), 1000 + n) for n in range(5)]
    for version in range(2 * EVERY + 1):
        weights = _moved(model, 0.02 * version)
        for engine in (probed, plain):
            engine.load_weights(LEARNER, weights, version)
        if version % EVERY in (0, 1):
            assert _run(probed, requests) == _run(plain, requests)


def test_a_load_that_changes_nothing_is_found():
    """The number, the version, and that it answers as before."""
    model = _model()
    engine = TorchEngine(model, None)
    probed = ProbedEngine(engine, model)
    probed.load_weights(LEARNER, parameters(model), 0)
    lane = engine._lanes[LEARNER]
    lane.load = lambda policy, weights, version: None
    with pytest.raises(
        RunError, match=rf"after version {EVERY} of 'learner' was loaded, .* it answers as it did before"
    ):
        probed.load_weights(LEARNER, _moved(model), EVERY)


def test_a_load_that_reaches_some_layers_is_found():
    """One matrix of the old weights is enough."""
    model = _model()
    engine = TorchEngine(model, None)
    probed = ProbedEngine(engine, model)
    load = engine.load_weights
    old = parameters(copy.deepcopy(model))
    engine.load_weights = lambda policy, weights, version: load(
        policy, {**weights, "model.layers.1.down_proj.weight": old["model.layers.1.down_proj.weight"]}, version
    )
    probed.load_weights(LEARNER, old, 0)
    with pytest.raises(
        RunError, match=r"nats away from the model's own .at most 0.001.; likely a load that reached onl"
    ):
        probed.load_weights(LEARNER, _moved(model), EVERY)


def test_another_temperature_is_found():
    """One that the engine does not apply, told as such."""

    class Cold(Faulty):
        def changed(self, request):
            return replace(request, sampling=replace(request.sampling, temperature=1.0))

    model = _model()
    with pytest.raises(RunError, match="it does not sample at the temperature asked for; leave engine.args to its def"):
        ProbedEngine(Cold(model, None), model).load_weights(LEARNER, parameters(model), 0)


def test_stop_ids_that_are_not_honoured_are_found():
    class Endless(Faulty):
        def changed(self, request):
            return replace(request, sampling=replace(request.sampling, stop_ids=()))

    model = _model()
    with pytest.raises(RunError, match="the engine does not end replies as it is asked to: a probe with stop ids"):
        ProbedEngine(Endless(model, None), model).load_weights(LEARNER, parameters(model), 0)


def test_a_log_probability_that_is_no_number_is_found():
    model = _model()
    weights = {name: torch.full_like(tensor, float("nan")) for name, tensor in parameters(model).items()}
    engine = TorchEngine(model, None)
    load = engine.load_weights
    engine.load_weights = lambda policy, given, version: load(policy, parameters(model), version)
    with pytest.raises(RunError, match="inf nats away"):
        ProbedEngine(engine, model).load_weights(LEARNER, weights, 0)


@pytest.mark.parametrize("context", [4, PROMPT_TOKENS])
def test_a_short_context_is_probed_in_what_it_has(context):
    model = _model(context=context)
    engine = TorchEngine(model, None)
    probed = ProbedEngine(engine, model)
    probed.load_weights(LEARNER, parameters(model), 0)
    engine._lanes[LEARNER].load = lambda policy, weights, version: None
    with pytest.raises(RunError, match="it answers as it did before"):
        probed.load_weights(LEARNER, _moved(model), EVERY)


def test_replies_to_others_that_come_meanwhile_are_kept():
    """A probe of one policy while another's request is in flight: that one's reply is given at the next step."""
    model = _model()
    probed = ProbedEngine(TorchEngine(model, None), model)
    probed.load_weights(LEARNER, parameters(model), 0)
    probed.submit(Request(5, LEARNER, (1, 2), Sampling(2, ()), 3))
    probed.load_weights("snapshot:1", _moved(model), 1)
    assert [c.request_id for c in probed.step()] == [5]


class Sleepy(TorchEngine):
    """Forgets its weights as it sleeps, if `forgets`."""

    forgets = False

    def sleep(self):
        return True

    def wake(self):
        if self.forgets:
            for policy in self._lanes:
                self.load_weights(policy, {name: weight * 0 for name, weight in self.given.items()}, 1)


@pytest.mark.parametrize("forgets", [False, True])
def test_weights_that_are_lost_in_sleep_are_found(forgets):
    """Also those of a policy that nothing loads again, such as a snapshot."""
    model = _model()
    engine = Sleepy(model, None)
    engine.forgets, engine.given = forgets, parameters(model)
    probed = ProbedEngine(engine, model)
    probed.load_weights("snapshot:1", parameters(model), 1)
    if not forgets:
        with asleep(probed):
            pass
        return
    with pytest.raises(RunError, match="lost the weights of 'snapshot:1' as it slept"), asleep(probed):
        pass


def test_a_large_model_is_probed_at_every_load(monkeypatch):
    """A small one at every EVERY-th version and at a policy's first load."""
    model, checked = _model(), []
    for limit in (10**9, 0):
        monkeypatch.setattr("spiral.engines.probe.SMALL", limit)
        probed = ProbedEngine(TorchEngine(model, None), model)
        monkeypatch.setattr(probed, "_check", lambda policy, weights, version: checked.append(version))
        probed._last[LEARNER] = []
        for version in range(2 * EVERY):
            probed.load_weights(LEARNER, parameters(model), version)
    assert checked == [0, EVERY, *range(2 * EVERY)]


def test_a_tied_embedding_is_scored_as_it_is_loaded():
    """The head is the embedding again: weights name it once."""
    model = _model()
    assert not any("lm_head" in name for name in parameters(model))
    probed = ProbedEngine(TorchEngine(model, None), model)
    weights = _moved(model)
    probed.load_weights(LEARNER, weights, 0)
    assert max(scored.gap for scored in probed._last[LEARNER]) < 1e-4


def test_weights_that_are_gathered_as_they_are_read_are_probed():
    """As a learner in parts gives them: one whole tensor at a time is alive, and a load that changes nothing is found."""
    model = _model()
    engine, given = TorchEngine(model, None), _moved(model)
    probed, weights = ProbedEngine(engine, copy.deepcopy(model)), Gathered(given)
    probed.load_weights(LEARNER, weights, 0)
    assert weights.num_read >= 2 * len(given)
    assert weights.most_alive <= 2  # the one that was copied last, until the next takes its place
    engine._lanes[LEARNER].load = lambda policy, weights, version: None
    with pytest.raises(RunError, match="it answers as it did before"):
        probed.load_weights(LEARNER, Gathered(_moved(model)), EVERY)


def test_a_template_without_memory_has_it_while_it_is_needed():
    """As beside a learner in parts: a policy that is new, one that is known, and one of other weights answer as they
    would otherwise, bit for bit; a load that changes nothing is found; nothing is kept."""
    model, requests = _model(), [Request(n, "new", (7, 8, 9), Sampling(6, (261,)), n) for n in range(3)]
    given, answers = _moved(model), []
    for is_empty in (False, True):
        template = copy.deepcopy(model)
        engine = TorchEngine(template, None)
        probed = ProbedEngine(engine, template)
        probed.load_weights(LEARNER, parameters(model), 0)
        if is_empty:
            give_up_room(template)
        probed.load_weights("new", Gathered(given), 0)
        probed.load_weights(LEARNER, Gathered(given), EVERY)
        answers.append(_run(probed, requests))
        assert sum(p.untyped_storage().nbytes() for p in template.parameters()) == 0 or not is_empty
    assert answers[0] == answers[1]
    engine._lanes[LEARNER].load = lambda policy, weights, version: None
    with pytest.raises(RunError, match="it answers as it did before"):
        probed.load_weights(LEARNER, Gathered(_moved(model)), 2 * EVERY)


def test_weights_of_a_file_give_up_their_memory_too(tmp_path):
    """Tensors that share a storage, and those that lie in a file, which torch cannot make smaller."""
    torch.save({"weight": torch.ones(3, 4)}, tmp_path / "weights.pt")
    model = torch.nn.ModuleList([torch.nn.Linear(4, 3, bias=False) for _ in range(3)])
    both = torch.arange(24.0)
    for layer, data in zip(model, (both[:12], both[12:]), strict=False):
        layer.weight.data = data.view(3, 4)
    model[2].weight.data = torch.load(tmp_path / "weights.pt", mmap=True)["weight"]
    give_up_room(model)
    assert [p.untyped_storage().nbytes() for p in model.parameters()] == [0, 0, 0]
    assert both.tolist() == list(range(24))
    with room_for(model) as is_undefined, torch.no_grad():
        assert is_undefined
        for n, parameter in enumerate(model.parameters()):
            parameter.fill_(n)
        assert [p.sum().item() for p in model.parameters()] == [0, 12, 24]
    with room_for(torch.nn.Linear(2, 2)) as is_undefined:
        assert not is_undefined


class Gathered(WholeWeights):
    """Counts the whole tensors that it gave and are still there."""

    def __init__(self, parts):
        super().__init__(parts)
        self.num_read = self.most_alive = 0
        self._given = []

    def __getitem__(self, name):
        whole = super().__getitem__(name).clone()
        self._given = [one for one in self._given if one() is not None] + [weakref.ref(whole)]
        self.num_read, self.most_alive = self.num_read + 1, max(self.most_alive, len(self._given))
        return whole
