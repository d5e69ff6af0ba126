"""A run that trains an adapter: what its directory holds, and every command that takes a run, over a base that no checkpoint has."""

import json
import shutil

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file
from spiral_models.byte.tokenizer import ByteTokenizer
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from spiral.api.errors import SpiralError
from spiral.commands.main import main
from spiral.config.loading import load
from spiral.evaluation.loaded_policy import LoadedPolicy
from spiral.plugins.registry import Plugins
from spiral.selfplay.setup import add_members, make_play_setup
from spiral.training.session import train

pytest.importorskip("peft")

IDS = torch.arange(5, 60)[None]
LORA = {"method": {"name": "lora", "args": {"rank": 4, "targets": ["q_proj", "down_proj"]}}}
SMALL = {
    "prompt": "plain", "steps": 2, "rollout": {"episodes": 8, "max_new_tokens": 8}, "threads": 1, "loggers": [],
    "evaluate": {"every": 0, "matches": 2}, "checkpoint": {"every": 1, "keep": 0}, "pool": {"every": 1, "size": 2},
    "opponents": "uniform_past", "warm_start": {"max_steps": 3, "batch": 8, "cache": False},
}  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A folder with a tiny Llama, whose head is tied."""
    path = tmp_path_factory.mktemp("models") / "base"
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    LlamaForCausalLM(LlamaConfig(vocab_size=272, tie_word_embeddings=True, **sizes)).save_pretrained(path)
    ByteTokenizer().save_pretrained(path)
    return path


def _train(path, base, *, resume=False, **config):
    config = {} if resume else {"model": str(base), **SMALL, "learner": {**LORA, "kl": 0.1}, **config}
    return train(config, run_dir=path, resume=resume, quiet=True)


@pytest.fixture(scope="module")
def run(base, tmp_path_factory):
    return _train(tmp_path_factory.mktemp("runs") / "a", base).path


def _spiral(*words, code=0, **options):
    done = CliRunner().invoke(main, [*map(str, words)], **options)
    assert done.exit_code == code, done.output
    return done.output


@torch.no_grad()
def _logprobs(model):
    return torch.log_softmax(model(input_ids=IDS).logits[0], -1)


def test_a_run_holds_adapters_alone(run):
    """Checkpoints, snapshots and the optimiser's moments: nothing is the size of the model, and nothing lies there
    twice. `model/` is an adapter as peft writes it, with the tokenizer."""
    checkpoint = run / "checkpoints" / "step-000002"
    files = [*checkpoint.rglob("*.safetensors"), *(run / "snapshots").glob("*")]
    assert {file.name for file in files} >= {
        "adapter_model.safetensors",
        "reference.safetensors",
        "step-000001.safetensors",
    }
    assert not (checkpoint / "live.safetensors").exists()
    assert all(".lora_" in name for file in files for name in load_file(file))
    moments = torch.load(checkpoint / "optimizer.pt", weights_only=True)["state"]
    assert len(moments) == len(load_file(checkpoint / "model" / "adapter_model.safetensors")) == 8
    asked = json.loads((checkpoint / "model" / "adapter_config.json").read_text())
    assert (asked["r"], sorted(asked["target_modules"])) == (4, ["down_proj", "q_proj"])
    assert (checkpoint / "model" / "tokenizer_config.json").exists()
    assert not (checkpoint / "model" / "README.md").exists()


def test_peft_loads_the_adapter_of_a_checkpoint(run, base):
    """Over the base that the file names, in a program that knows nothing of runs."""
    import peft

    folder = run / "checkpoints" / "step-000002" / "model"
    elsewhere = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder).eval()
    torch.testing.assert_close(_logprobs(elsewhere), _logprobs(LoadedPolicy.of_run(run).setup.model))
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == str(base)


def test_an_export_is_the_adapter_merged(run, base, tmp_path):
    """A standard folder: log-probabilities live, merged, and saved and loaded are equal, and not the base's."""
    live = _logprobs(LoadedPolicy.of_run(run).setup.model)
    _spiral("export", run, tmp_path / "out")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    assert not any("lora" in name for name, _ in loaded.named_parameters())
    torch.testing.assert_close(_logprobs(loaded), live, rtol=0, atol=1e-5)
    assert (_logprobs(AutoModelForCausalLM.from_pretrained(base).eval()) - live).abs().max() > 1e-4
    assert torch.equal(loaded.lm_head.weight, loaded.model.embed_tokens.weight)


def test_every_command_that_takes_a_run_takes_one_of_an_adapter(run, base, tmp_path):
    """Measured, played, met in a tournament and by another run, whose own learner is full."""
    _spiral("eval", run, "--games", 2, "--opponent", "random", "--opponent", f"{run}@1")
    _spiral("exploitability", run)
    _spiral("play", run, input="bet\npass\n" * 4)
    _spiral("tournament", run, f"{run}@1", "random", "--games", 2, "--out", tmp_path / "cup")
    members = {"members": [f"run:{run}@2"]}
    other = _train(tmp_path / "full", base, learner={"method": "full"}, opponents="mixture", pool=members, steps=1)
    seated = {policy for episode in other.episodes() for policy in episode["policies"]}
    assert f"run:{run}@2" in seated


def test_runs_of_one_base_and_kind_share_an_engine_and_no_others_do(run, base, tmp_path):
    """An adapter of another rank, or a whole model, is not a load away."""
    full = _train(tmp_path / "full", base, learner={"method": "full"}, steps=1).path
    config = {"model": {"name": "hf", "args": {"path": str(base)}}, **SMALL, "opponents": "mixture"}
    asked = load(None, [config, {"pool.members": [f"run:{run}@2", f"run:{full}@1"], "learner": LORA}])
    made = make_play_setup(asked, Plugins.installed())
    add_members(asked, made)
    assert made.pool.completer_of(f"run:{run}@2") is made.completer
    assert made.pool.completer_of(f"run:{full}@1") is not made.completer


def test_adapters_over_bases_that_were_drawn_are_told_apart_by_their_seeds(tmp_path):
    """A byte model's base is in no checkpoint: it is drawn again, as the run drew it."""
    words = {**SMALL, "learner": {"method": "lora"}, "steps": 1}
    runs = [train({**words, "seed": seed}, run_dir=tmp_path / str(seed), quiet=True).path for seed in (3, 4)]
    asked = load(None, [words, {"seed": 3, "pool.members": [f"run:{run}@1" for run in runs], "opponents": "mixture"}])
    made = make_play_setup(asked, Plugins.installed())
    add_members(asked, made)
    own, other = (made.pool.completer_of(f"run:{run}@1") for run in runs)
    assert own is made.completer
    assert other is not own
    drawn = dict(LoadedPolicy.of_run(runs[1]).setup.model.named_parameters())
    lanes = other.engine._engine._lanes[f"run:{runs[1]}@1"]._passes._lm.model
    assert all(torch.equal(weight, drawn[name]) for name, weight in lanes.named_parameters())


def test_a_run_goes_on_after_a_resume_bit_for_bit(run, base, tmp_path):
    """One step, then one more, are two: the same metrics and the same adapter."""
    shutil.copytree(run, tmp_path / "parts")
    shutil.rmtree(tmp_path / "parts" / "checkpoints" / "step-000002")
    parts = _train(tmp_path / "parts", base, resume=True).path
    whole, again = (
        load_file(path / "checkpoints" / "step-000002" / "model" / "adapter_model.safetensors") for path in (run, parts)
    )
    assert whole.keys() == again.keys()
    assert all(torch.equal(whole[name], again[name]) for name in whole)


@pytest.mark.parametrize("word", ["learner.method.args.rank=8", "learner.method=full"])
def test_a_resumed_run_keeps_its_way_to_learn(run, word):
    """Its checkpoints hold adapters of that rank, over weights that were not trained."""
    said = _spiral("train", "--run-dir", run, "--resume", word, code=2)
    assert f"--resume would change learner.method of {run}" in " ".join(said.split())


@pytest.mark.parametrize("change", ["moved", "other"])
def test_a_base_that_is_not_the_runs_is_refused(run, base, tmp_path, change):
    """Only the base of an adapter, which no checkpoint holds, is read from that path, and only if its content is what the
    run began with. Over another model it would play as neither; one sentence names both."""
    shutil.copytree(base, tmp_path / "base")
    own = _train(tmp_path / "run", tmp_path / "base", steps=1).path
    if change == "moved":
        (tmp_path / "base").rename(tmp_path / "elsewhere")
    else:
        torch.manual_seed(1)
        model = AutoModelForCausalLM.from_pretrained(base)
        model.get_input_embeddings().weight.data.add_(0.1)
        model.save_pretrained(tmp_path / "base")
    said = _spiral("eval", own, "--games", 2, "--opponent", "random", code=2)
    assert f"holds an adapter, and {tmp_path / 'base'} holds no model that is the one it was trained over" in " ".join(
        said.split()
    )


def test_an_adapters_folder_is_no_model_by_itself(run, base):
    """As an opponent, and as what a run starts from: the sentence says what to name."""
    folder = run / "checkpoints" / "step-000002" / "model"
    said = _spiral("eval", run, "--opponent", f"model:{folder}", "--games", 2, code=2)
    assert "holds an adapter, which plays over its base alone; name its run" in " ".join(said.split())
    with pytest.raises(
        SpiralError, match="which holds an adapter; merge it into its model first, as spiral export does of a run"
    ):
        _train(run.parent / "none", folder)


def test_a_warm_start_is_kept_for_the_adapter_that_it_trained(base, tmp_path, monkeypatch):
    """Another rank is another start, and so is full training."""
    monkeypatch.setenv("SPIRAL_CACHE", str(tmp_path / "cache"))
    start = {"max_steps": 2, "batch": 8, "legal": 0.0}
    for number, learner in enumerate(
        [LORA, LORA, {"method": {"name": "lora", "args": {"rank": 2}}}, {"method": "full"}], start=1
    ):
        _train(tmp_path / str(number), base, warm_start=start, learner=learner, steps=1)
        assert len([*(tmp_path / "cache").rglob("*.safetensors")]) == max(1, number - 1)
