"""The vLLM engine over a fake vLLM: its options, its faults and what is replayed after them, sleep, capacity, adapters."""

import copy
import threading

import pytest
import torch
from spiral_models import MODELS
from transformers import LlamaConfig, LlamaForCausalLM

from spiral.api.errors import PromptTooLong, RunError, SpiralError
from spiral.api.records import LEARNER, Request, Sampling
from spiral.cluster.buckets import FetchFailed, Received
from spiral.engines.sleeping import asleep
from spiral.engines.vllm.engine import VllmEngine
from spiral.engines.vllm.form import ModelForm
from spiral.engines.vllm.instance import Finished
from spiral.engines.vllm.options import OWN, check_names
from spiral.models.logits import parameters
from spiral.runs.files import WriteError

MODEL = MODELS["byte-0.1m"](context=64)[0].eval()
LLAMA = LlamaConfig(
    vocab_size=64,
    hidden_size=16,
    intermediate_size=16,
    num_hidden_layers=1,
    num_attention_heads=2,
    max_position_embeddings=64,
)


class FakeVllm:
    """Answers each request one step after it came, by its seed and one number of its policy's weights; fails as it is
    told to.

    `faults`: what to do at the n-th call of a method, over all that were made: `{("step", 1): error}`.
    """

    def __init__(self, faults=()):
        self.faults, self.made, self.calls, self.counts = dict(faults), [], [], {}
        self.queue, self.weights, self.salts = [], {}, []

    def make(self, form, context, options):
        """Stands for vLLM's own start."""
        self.meet("make")
        fake = FakeVllm.__new__(FakeVllm)
        fake.__dict__ |= self.__dict__ | {"queue": [], "weights": {}, "salts": []}
        self.made.append((fake, dict(options)))
        return fake

    def meet(self, method):
        self.calls.append(method)
        self.counts[method] = self.counts.get(method, 0) + 1
        fault = self.faults.get((method, self.counts[method]))
        if isinstance(fault, threading.Event):
            fault.wait(20)
        elif fault is not None:
            raise fault

    def add(self, key, policy, prompt, salt, sampling, seed):
        self.meet("add")
        self.queue.append((key, seed, self.weights[policy]))
        self.salts.append(salt)

    def step(self):
        self.meet("step")
        done, self.queue = self.queue, []
        return [Finished(key, (seed % 100, round(weight)), (-1.0, -2.0), "length") for key, seed, weight in done]

    def load(self, policy, weights):
        first = float(next(iter(weights))[1].flatten()[0])
        self.meet("load")
        self.weights[policy] = first

    def drop(self, policy):
        self.meet("drop")
        del self.weights[policy]

    def sleep(self):
        self.meet("sleep")

    def wake(self):
        self.meet("wake")

    def close(self):
        self.meet("close")


def _weights(value):
    return {name: torch.full_like(tensor, value) for name, tensor in parameters(MODEL).items()}


def _engine(faults=(), value=5.0, **args):
    fake = FakeVllm(faults)
    engine = VllmEngine(MODEL, make=fake.make, **args)
    if value is not None:
        engine.load_weights(LEARNER, _weights(value), version=3)
    return engine, fake


def _request(number, policy=LEARNER, prompt=(1, 2, 3), tokens=2):
    return Request(number, policy, tuple(prompt), Sampling(tokens, ()), seed=number * 11 + 1)


def _replies(engine, numbers, policy=LEARNER):
    for number in numbers:
        engine.submit(_request(number, policy))
    done = {}
    for _ in range(20):
        done |= {c.request_id: c for c in engine.step()}
    return done


# Faults


def test_a_step_that_fails_stops_the_run_and_says_why():
    """One sentence: what failed, with how many requests, and the settings that help."""
    engine, _ = _engine({("step", 1): MemoryError("no blocks left")})
    engine.submit(_request(0))
    with pytest.raises(RunError, match="vLLM failed with 1 requests in flight .MemoryError: no blocks left.; see its "):
        engine.step()


def test_a_step_that_hangs_is_named_within_the_deadline():
    """The wait ends although vLLM does not return; so a run can stop and be resumed."""
    stuck = threading.Event()
    engine, _ = _engine({("step", 1): stuck}, deadline_s=0.3)
    engine.submit(_request(0))
    with pytest.raises(RunError, match="vLLM has been at a step for 0.3 s; see its log, or raise engine.args.deadline"):
        engine.step()
    stuck.set()


def test_a_start_that_hangs_is_named():
    stuck = threading.Event()
    with pytest.raises(RunError, match="vLLM has been at its start for 0.2 s"):
        _engine({("make", 1): stuck}, deadline_s=0.2)
    stuck.set()


def test_a_refused_request_is_named_and_the_others_go_on():
    """What vLLM says of one request is no fault of the engine: nothing is made anew, and the others are answered."""
    engine, fake = _engine({("add", 2): ValueError("token 999 is\nno token")}, restart=3)
    engine.submit(_request(0))
    with pytest.raises(
        RunError, match="refused a request of 'learner' with a prompt of 3 tokens and 2 to sample: ValueE.* is no token"
    ):
        engine.submit(_request(1))
    assert {*_replies(engine, [2])} == {0, 2}
    assert len(fake.made) == 1


def test_a_reply_that_was_given_up_is_not_taken_for_a_short_one(monkeypatch):
    """A request that vLLM aborted stops the run: as a reply cut at its length it would be trained on."""
    engine, _ = _engine()
    monkeypatch.setattr(FakeVllm, "step", lambda self: [Finished("0", (1,), (-1.0,), "abort")])
    engine.submit(_request(0))
    with pytest.raises(RunError, match="vLLM ended a reply with 'abort', neither at a stop id nor at its length"):
        engine.step()


def test_a_load_that_fails_serves_nothing():
    """After half a load every request is refused, until a whole one was taken."""
    engine, _ = _engine({("load", 2): OSError("lost")})
    with pytest.raises(RunError, match="vLLM failed as version 4 of the weights was loaded .OSError: lost."):
        engine.load_weights(LEARNER, _weights(6.0), version=4)
    with pytest.raises(RunError, match="vLLM holds no whole weights of 'learner', since their last load failed"):
        engine.submit(_request(0))
    engine.load_weights(LEARNER, _weights(7.0), version=5)
    assert [(c.ids, c.version) for c in _replies(engine, [0]).values()] == [((1, 7), 5)]


@pytest.mark.parametrize("restart", [0, 2])
def test_weights_that_do_not_arrive_are_no_fault_of_vllms(restart):
    """The cause is told as it is, no engine is made anew for it, and none of these weights is served: this model's are all
    read before the first is loaded, so the old ones are whole."""

    def fetch(key):
        raise ConnectionError("the peer is gone")

    engine, fake = _engine(restart=restart)
    layout = {name: (weight.dtype, tuple(weight.shape)) for name, weight in _weights(6.0).items()}
    with pytest.raises(FetchFailed, match="bucket 1 of 1 of its weights did not arrive"):
        engine.load_weights(LEARNER, Received([(layout, 0)], fetch), version=4)
    assert [(c.ids, c.version) for c in _replies(engine, [0]).values()] == [((1, 5), 3)]
    engine.load_weights(LEARNER, _weights(7.0), version=5)
    assert [(c.ids, c.version) for c in _replies(engine, [0]).values()] == [((1, 7), 5)]
    assert len(fake.made) == 1


def test_an_engine_that_is_made_anew_replays_what_was_lost():
    """Same seeds and the weights of the time, though the learner has changed its own since: the same replies."""
    expected = _replies(_engine()[0], range(4))
    engine, fake = _engine({("step", 1): RuntimeError("died"), ("step", 2): RuntimeError("again")}, None, restart=2)
    weights = _weights(5.0)
    engine.load_weights(LEARNER, weights, version=3)
    for tensor in weights.values():
        tensor.fill_(9.0)
    assert _replies(engine, range(4)) == expected
    assert len(fake.made) == 3


def test_an_engine_that_hangs_is_made_anew():
    stuck = threading.Event()
    engine, fake = _engine({("step", 1): stuck}, restart=1, deadline_s=0.3)
    assert _replies(engine, range(3)) == _replies(_engine()[0], range(3))
    assert len(fake.made) == 2
    stuck.set()


def test_an_engine_that_is_closed_frees_each_of_its_own():
    """So that the next model has room; one that does not end cleanly is told, and the others end."""
    engine, fake = _engine({("close", 1): RuntimeError("stuck")}, capacity=2)
    engine.load_weights("other", _weights(6.0), version=1)
    engine.close()
    assert fake.calls.count("close") == 2


def test_restarts_end():
    """After as many as were asked for the fault stops the run; also where the new engine does not start."""
    faults = {("step", 1): RuntimeError("died"), ("make", 2): RuntimeError("no memory")}
    engine, _ = _engine(faults, restart=1)
    engine.submit(_request(0))
    with pytest.raises(RunError, match="vLLM failed with 1 requests in flight .RuntimeError: no memory."):
        engine.step()


def test_a_load_that_fails_is_done_again_by_a_new_engine():
    engine, _ = _engine({("load", 2): OSError("lost")}, restart=1)
    engine.load_weights(LEARNER, _weights(6.0), version=4)
    assert [(c.ids, c.version) for c in _replies(engine, [0]).values()] == [((1, 6), 4)]


def test_an_interrupted_wait_loses_no_reply(monkeypatch):
    """A signal that ends the wait for a step leaves its replies to the next one."""
    engine, _ = _engine()
    engine.submit(_request(0))
    [instance] = engine._instances
    call = instance._thread.call

    def interrupted(*args):
        call(*args)
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(instance._thread, "call", interrupted)
    with pytest.raises(KeyboardInterrupt):
        engine.step()
    assert [c.request_id for c in engine.step()] == [0]


# Policies


def test_capacity_is_refused_with_the_way_out():
    """A vLLM engine each, made when it is needed; one that was dropped is used again."""
    engine, fake = _engine(capacity=2)
    engine.load_weights("snapshot:1", _weights(7.0), version=1)
    assert len(fake.made) == 2
    with pytest.raises(
        SpiralError, match=r"holds 2 policies .*learner, snapshot:1. and was given 'averaged'; set engine.args.capaci"
    ):
        engine.load_weights("averaged", _weights(8.0), version=1)
    engine.drop("snapshot:1")
    engine.load_weights("averaged", _weights(8.0), version=1)
    assert len(fake.made) == 2
    assert _replies(engine, [0], "averaged")[0].ids == (1, 8)
    assert _replies(engine, [1])[1].ids == (12, 5)


def test_requests_that_cannot_be_answered_are_refused():
    """No weights, no prompt, no room: each before vLLM hears of it."""
    engine, fake = _engine()
    with pytest.raises(SpiralError, match="no weights for 'snapshot:7' .it has: learner."):
        engine.submit(_request(0, "snapshot:7"))
    with pytest.raises(PromptTooLong, match="a prompt of 0 tokens"):
        engine.submit(_request(0, prompt=()))
    with pytest.raises(
        PromptTooLong, match="a prompt of 63 tokens leaves room for a reply of 1 in the model's context "
    ):
        engine.submit(_request(0, prompt=[1] * 63))
    with pytest.raises(
        SpiralError, match="a prompt of 'learner' holds the id 272, and the model's ids are 0 to 271; use"
    ):
        engine.submit(_request(0, prompt=[1, 272]))
    assert "add" not in fake.calls


def test_weights_of_another_model_are_refused():
    """vLLM would pass over a name that it does not know, and keep what it has."""
    engine, _ = _engine()
    weights = _weights(1.0)
    weights["model.other"] = weights.pop("model.embed_tokens.weight")
    with pytest.raises(RunError, match="these weights belong to another model"):
        engine.load_weights(LEARNER, weights, version=4)


def test_weights_are_not_loaded_under_a_request():
    engine, _ = _engine()
    engine.submit(_request(0))
    with pytest.raises(SpiralError, match="'learner' were loaded while its requests were in flight"):
        engine.load_weights(LEARNER, _weights(6.0), version=4)


def test_prompts_of_different_versions_share_no_prefix():
    """The salt of a request names its policy and the version of its weights."""
    engine, fake = _engine()
    engine.submit(_request(0))
    engine.step()
    engine.load_weights(LEARNER, _weights(6.0), version=4)
    engine.submit(_request(1))
    [(vllm, _)] = fake.made
    assert vllm.salts == ["learner@3", "learner@4"]


def test_a_policy_is_not_dropped_under_a_request():
    """Its replies would be lost, and its vLLM engine would be the next policy's with them in flight."""
    engine, _ = _engine()
    engine.submit(_request(0))
    with pytest.raises(SpiralError, match="'learner' was dropped while its requests were in flight; finish them first"):
        engine.drop(LEARNER)
    assert [c.request_id for c in engine.step()] == [0]
    engine.drop(LEARNER)


# Adapters


def _adapted(model=None, **config):
    peft = pytest.importorskip("peft")
    settings = {"r": 4, "target_modules": ["q_proj", "down_proj"], **config}
    return peft.get_peft_model(model or LlamaForCausalLM(LLAMA), peft.LoraConfig(**settings))


def _adapters(faults=(), policies=("learner", "snapshot:1"), **args):
    """An engine whose policies answer with 5, 6 and so on."""
    fake, model = FakeVllm(faults), _adapted()
    engine = VllmEngine(model, make=fake.make, **args)
    weights = {5 + n: {name: torch.full_like(t, 5.0 + n) for name, t in parameters(model).items()} for n in range(9)}
    for n, policy in enumerate(policies):
        engine.load_weights(policy, weights[5 + n], version=n)
    return engine, fake, weights


def test_adapters_share_one_vllm_engine():
    """Eight by default, as many as its capacity says, requests of all in one step; each policy's own answers."""
    policies = [LEARNER, *(f"snapshot:{n}" for n in range(7))]
    engine, fake, weights = _adapters(policies=policies)
    for n, policy in enumerate(policies):
        engine.submit(_request(n, policy))
    assert [(c.ids[1], c.version) for c in engine.step()] == [(5 + n, n) for n in range(8)]
    assert (len(fake.made), engine.capacity) == (1, 8)
    with pytest.raises(
        SpiralError,
        match="holds 8 policies .* and was given 'averaged'; set engine.args.capacity=9 where memory allows one more "
        r"adapter, or keep fewer snapshots .pool.size.",
    ):
        engine.load_weights("averaged", weights[5], 1)
    engine.drop("snapshot:3")
    engine.load_weights("averaged", weights[6], 1)
    assert _replies(engine, [0], "averaged")[0].ids[1] == 6
    assert (len(fake.made), fake.calls.count("drop")) == (1, 1)


def test_an_adapter_is_loaded_while_others_play_but_not_under_its_own_requests():
    """The other policy's replies are its own."""
    engine, _, weights = _adapters()
    engine.submit(_request(0, "snapshot:1"))
    engine.load_weights(LEARNER, weights[7], 4)
    with pytest.raises(
        SpiralError, match="'snapshot:1' were loaded while its requests were in flight; finish them fir"
    ):
        engine.load_weights("snapshot:1", weights[8], 4)
    engine.submit(_request(1))
    assert [(c.ids[1], c.version) for c in engine.step()] == [(6, 1), (7, 4)]


def test_an_adapter_whose_load_fails_serves_nothing_and_the_others_go_on():
    engine, _, weights = _adapters({("load", 3): OSError("lost")})
    engine.submit(_request(0, "snapshot:1"))
    with pytest.raises(RunError, match="vLLM failed as version 4 of the weights was loaded .OSError: lost."):
        engine.load_weights(LEARNER, weights[7], 4)
    with pytest.raises(RunError, match="vLLM holds no whole weights of 'learner'"):
        engine.submit(_request(1))
    assert [c.ids[1] for c in engine.step()] == [6]
    engine.load_weights(LEARNER, weights[8], 5)
    assert _replies(engine, [1])[1].ids[1] == 8


@pytest.mark.parametrize("fault", [("step", 1), ("load", 3), ("drop", 1)])
def test_an_engine_of_adapters_is_made_anew_with_all_of_them(fault):
    """Whatever failed: every policy has its weights of the time again, what was in flight is replayed once, and the load
    or drop that was asked for is done."""
    engine, fake, weights = _adapters({fault: RuntimeError("died")}, restart=1)
    engine.submit(_request(0, "snapshot:1"))
    if fault[0] == "drop":
        engine.load_weights("averaged", weights[9], 3)
        engine.drop("averaged")
        assert len(fake.made) == 2
    engine.load_weights(LEARNER, weights[7], 4)
    engine.submit(_request(1))
    weights[6]["base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight"].fill_(99.0)
    done = [c for _ in range(4) for c in engine.step()]
    assert [(c.request_id, c.ids[1], c.version) for c in done] == [(0, 6, 1), (1, 7, 4)]
    vllm, _ = fake.made[-1]
    assert (len(fake.made), vllm.weights.keys()) == (2, {LEARNER, "snapshot:1"})


def test_weights_of_the_base_are_no_adapter():
    """A whole model's, as those of a run without adapters, are refused by name."""
    engine, _, _ = _adapters()
    with pytest.raises(RunError, match="these weights belong to another model"):
        engine.load_weights(LEARNER, parameters(LlamaForCausalLM(LLAMA)), 4)


@pytest.mark.parametrize(
    ("config", "what"),
    [
        ({"use_dora": True}, r"weight-decomposed .DoRA."),
        ({"lora_bias": True}, "biases in its matrices"),
        ({"bias": "all"}, r"trained biases .bias=all."),
        ({"modules_to_save": ["norm"]}, r"whole modules trained beside it .modules_to_save."),
        ({"trainable_token_indices": [1, 2]}, "trained embeddings of tokens"),
        (
            {"target_modules": ["q_proj", "embed_tokens"]},
            "an adapter of the embedding, and vLLM applies them to the lin",
        ),
        (
            {"target_modules": ["q_proj", "lm_head"]},
            "an adapter of the head, and vLLM applies them to the linear layers",
        ),
        ({"r": 600}, "of rank 600, and vLLM's highest is 512; lower the rank, or take engine=torch"),
        ({"rank_pattern": {"down_proj": 513}}, "of rank 513, and vLLM's highest is 512"),
    ],
)
def test_what_vllm_cannot_apply_is_refused_before_it_starts(config, what):
    """In one sentence that names the way out."""
    fake = FakeVllm()
    with pytest.raises(SpiralError, match=what) as told:
        VllmEngine(_adapted(**config), make=fake.make)
    assert "take engine=torch" in str(told.value)
    assert not fake.made


def test_an_adapter_of_another_kind_is_refused():
    peft = pytest.importorskip("peft")
    fake, config = FakeVllm(), peft.IA3Config(target_modules=["q_proj", "down_proj"], feedforward_modules=["down_proj"])
    with pytest.raises(SpiralError, match="an adapter, of peft's kind IA3, and vLLM applies plain low-rank ones"):
        VllmEngine(peft.get_peft_model(LlamaForCausalLM(LLAMA), config), make=fake.make)
    assert not fake.made


def test_an_adapter_of_joined_matrices_is_taken_apart():
    """A byte model is a Llama to vLLM: query, key and value have the first matrix in common, and rows of the second; the
    scale of each layer is in these, so that each product is what the model adds."""
    model = _adapted(MODELS["byte-0.1m"](context=64)[0], target_modules=["qkv_proj", "down_proj"], lora_alpha=6)
    with torch.no_grad():
        for weight in parameters(model).values():
            weight.normal_()
    form = ModelForm.of(model, 2)
    assert form.arguments["lora_target_modules"] == ["down_proj", "k_proj", "q_proj", "v_proj"]
    found, whole = form.adapter.as_vllm_reads(parameters(model)), copy.deepcopy(model).merge_and_unload()
    base, merged = form.base(), MODEL.standard_weights(parameters(whole))
    assert base.keys() == merged.keys()
    adapted = {name.removesuffix(".lora_A.weight") for name in found if "lora_A" in name}
    assert len(adapted) == 4 * MODEL.config.num_hidden_layers
    for name, weight in merged.items():
        module = "base_model.model." + name.removesuffix(".weight")
        added = 0
        if module in adapted:
            added = found[f"{module}.lora_B.weight"] @ found[f"{module}.lora_A.weight"]
        torch.testing.assert_close(base[name] + added, weight, atol=1e-5, rtol=1e-5)


def test_vllm_is_told_the_adapters_shape():
    """Room for the highest rank of a layer, for as many adapters as there may be policies, in the modules that have
    one; the base weights by the names that they have without it."""
    model = _adapted(rank_pattern={"down_proj": 12}, r=9)
    form = ModelForm.of(model, 5)
    assert form.arguments == {
        "load_format": "safetensors",
        "enable_lora": True,
        "max_loras": 5,
        "max_lora_rank": 16,
        "lora_target_modules": ["down_proj", "q_proj"],
    }
    assert form.base().keys() == parameters(LlamaForCausalLM(LLAMA)).keys()
    whole = ModelForm.of(MODEL, None)
    assert (whole.arguments, dict(whole.base()), whole.policies) == ({"load_format": "dummy"}, {}, 1)


def test_a_base_model_that_finds_no_room_is_told(monkeypatch, tmp_path):
    """vLLM reads it from a temporary folder: one sentence with its size and the setting."""

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("spiral.engines.vllm.form.save_file", full)
    with pytest.raises(WriteError, match="cannot be written: no space is left on the disk; it needs about .* TMPDIR"):
        ModelForm.of(_adapted(), 2).write(str(tmp_path))


# Options


def test_options_reach_vllm():
    _, fake = _engine(tensor_parallel_size=2, gpu_memory_utilization=0.5, dtype="bfloat16")
    assert fake.made[0][1] == {"tensor_parallel_size": 2, "gpu_memory_utilization": 0.5, "dtype": "bfloat16"}


@pytest.mark.parametrize("name", [*OWN, "data_parallel_size", "spec_model"])
def test_what_spiral_sets_itself_is_refused_with_the_reason(name):
    with pytest.raises(
        SpiralError, match=f"engine vllm was given {name}=1, which is not the config's to say: .{{13,}}"
    ):
        _engine(**{name: 1})


@pytest.mark.parametrize(
    "option",
    [
        {"download_dir": "/tmp/x"},
        {"speculative_config": {"model": "other"}},
        {"worker_cls": "mine.Worker"},
        {"kv_transfer_config": {"kv_ip": "10.0.0.1"}},
        {"logits_processors": ["mine:Code"]},
        {"otlp_traces_endpoint": "http://elsewhere"},
    ],
)
def test_an_option_names_no_address_file_or_code(option):
    """An argument of vLLM's that a config gives is a number, a truth value or one of a few listed names: none names an
    address, a file or code."""
    with pytest.raises(SpiralError, match="is a number or true or false here, and a text only for dtype, "):
        _engine(**option)


def test_code_beside_a_model_is_never_run_by_vllm():
    """To vLLM, `trust_remote_code` is refused, whatever its value."""
    with pytest.raises(
        SpiralError, match="trust_remote_code=True, which is not the config's to say: code beside a mod"
    ):
        _engine(trust_remote_code=True)


def test_an_unknown_option_is_told_with_near_ones():
    known = {"max_num_seqs", "dtype", "enforce_eager"}
    check_names({"max_num_seqs": 4}, known)
    with pytest.raises(SpiralError, match="has no argument 'max_num_seq', .* did you mean max_num_seqs"):
        check_names({"max_num_seq": 4}, known)
    with pytest.raises(SpiralError, match="did you mean capacity"):
        check_names({"capacty": 4}, known)


@pytest.mark.parametrize("args", [{"capacity": 0}, {"restart": -1}, {"deadline_s": 0.0}])
def test_own_arguments_out_of_range_are_refused(args):
    with pytest.raises(SpiralError, match="capacity must be 1 or more, restart 0 or more, and deadline_s above 0"):
        _engine(**args)


# Sleep


def test_an_engine_sleeps_around_an_update_where_it_was_asked_to():
    """Each vLLM engine gives its memory away before the block and takes it back after it, also when the block fails."""
    engine, fake = _engine(enable_sleep_mode=True)
    during = []

    def update():
        with asleep(engine):
            during.append(fake.calls[-1])
            raise KeyError

    with pytest.raises(KeyError):
        update()
    assert [*during, fake.calls[-1]] == ["sleep", "wake"]

    engine, fake = _engine()
    with asleep(engine):
        pass
    assert not {"sleep", "wake"} & {*fake.calls}


def test_an_engine_with_requests_in_flight_does_not_sleep():
    """vLLM would abort them."""
    engine, _ = _engine(enable_sleep_mode=True)
    engine.submit(_request(0))
    with pytest.raises(SpiralError, match="sent to sleep while requests were in flight"):
        engine.sleep()
