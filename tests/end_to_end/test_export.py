"""`spiral export`: a folder that transformers loads where neither spiral nor its plug-ins can be imported."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from spiral_models import MODELS
from spiral_models.byte.tokenizer import ByteTokenizer
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from spiral.commands.main import main
from spiral.models.logits import load_parameters
from spiral.runs.checkpoints import evaluated_weights
from spiral.training.session import train

TINY = {
    "steps": 2, "rollout.episodes": 16, "warm_start": {"max_steps": 20, "cache": False}, "loggers": [],
    "evaluate.matches": 2, "checkpoint": {"every": 1, "keep": 0},
}  # fmt: skip
TEXTS = ["Card: K pot 2\nbet?", "<|eot|>héé 日本 \U0001f600 \x00\x07", "", " two  spaces\t\n"]
IDS = [[257, 65, 66, 260, 98, 101, 116, 261]]
READER = """
import json, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("spiral", "spiral_models"):
            raise ImportError(name + " must not be needed")

sys.meta_path.insert(0, Blocked())
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

folder, texts, ids = json.loads(sys.argv[1])
model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
with torch.no_grad():
    logits = model(torch.tensor(ids)).logits.tolist()
chat = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
print(json.dumps({
    "model": type(model).__module__, "tokenizer": type(tokenizer).__module__, "logits": logits,
    "plain": [tokenizer.encode(t, add_special_tokens=False, split_special_tokens=True) for t in texts],
    "special": [tokenizer.encode(t, add_special_tokens=False) for t in texts],
    "decoded": [tokenizer.decode(tokenizer.encode(t, add_special_tokens=False)) for t in texts],
    "chat": tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True)["input_ids"],
    "ends": model.generation_config.eos_token_id, "bos": tokenizer.bos_token_id, "eos": tokenizer.eos_token_id,
    "size": len(tokenizer),
}))
"""


def _elsewhere(folder, texts=TEXTS, ids=IDS):
    """What transformers makes of the folder in a process without this package."""
    done = subprocess.run(
        [sys.executable, "-c", READER, json.dumps([str(folder), texts, ids])],
        capture_output=True, text=True, timeout=240, cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("byte") / "run"
    train(TINY, run_dir=path, quiet=True)
    return path


def _export(*words):
    return CliRunner().invoke(main, ["export", *map(str, words)])


def test_a_byte_model_is_a_llama_with_equal_logits_and_equal_ids(run, tmp_path):
    """Of the step that is named, the averaged weights; every text has the ids that it has here."""
    done = _export(f"{run}@1", tmp_path / "out")
    assert done.exit_code == 0, done.output
    found = _elsewhere(tmp_path / "out")
    assert (found["model"], found["tokenizer"].split(".")[0]) == (
        "transformers.models.llama.modeling_llama",
        "transformers",
    )
    model, tokenizer = MODELS["byte-0.1m"]()
    with torch.no_grad():
        load_parameters(model, evaluated_weights(run / "checkpoints" / "step-000001"))
        logits = model(torch.tensor(IDS)).logits
    np.testing.assert_allclose(np.array(found["logits"]), logits.numpy(), rtol=0, atol=2e-5)
    options = {"add_special_tokens": False}
    assert found["plain"] == [tokenizer.encode(t, split_special_tokens=True, **options) for t in TEXTS]
    assert found["special"] == [tokenizer.encode(t, **options) for t in TEXTS]
    assert found["special"][1][0] == 261
    assert found["decoded"] == TEXTS
    chat = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    assert (
        found["chat"] == tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True)["input_ids"]
    )
    assert (found["bos"], found["eos"], found["ends"], found["size"]) == (257, 261, 261, 272)


def test_a_patched_model_is_written_as_itself(tmp_path):
    """No class of transformers computes patches; the card says what makes its own known."""
    train({**TINY, "model": "patch-0.1m"}, run_dir=tmp_path / "run", quiet=True)
    assert _export(tmp_path / "run", tmp_path / "out").exit_code == 0
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    (line,) = [line for line in card.splitlines() if "once its own classes are known" in line]
    imports = line.split("`")[-2]
    code = f"""
{imports}
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained("out")
print(AutoModelForCausalLM.from_pretrained("out")(torch.tensor([tokenizer.encode("Züge 1 2")])).logits.sum().item())
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    model, tokenizer = MODELS["patch-0.1m"]()
    with torch.no_grad():
        load_parameters(model, evaluated_weights(tmp_path / "run" / "checkpoints" / "step-000002"))
        logits = model(torch.tensor([tokenizer.encode("Züge 1 2")])).logits
    assert float(done.stdout) == pytest.approx(logits.sum().item(), abs=1e-2)


def test_the_card_holds_the_runs_figures_and_how_it_is_asked(run, tmp_path):
    """The newest step without one; command, config, what was measured last, versions, and a first prompt."""
    assert _export(run, tmp_path / "mine").exit_code == 0
    card = (tmp_path / "mine" / "README.md").read_text()
    last = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()][-1]
    assert card.startswith("---\nlibrary_name: transformers")
    assert "# mine" in card
    assert "after 2 of 2 steps" in card
    assert f"| NashConv kuhn_poker | {last['eval/kuhn_poker/nash_conv']:.3f} |" in card
    assert "spiral train config.yaml" in card
    assert "episodes: 16" in card
    assert f"torch {torch.__version__}" in card
    assert "spiral-models 0" in card
    assert "<|act|>" in card


def test_every_end_of_the_original_generation_config_survives(tmp_path):
    """Several EOS ids, and settings that transformers would refuse to save, go through training and export."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=272, eos_token_id=261, bos_token_id=257, **sizes))
    model.save_pretrained(tmp_path / "model")
    ByteTokenizer().save_pretrained(tmp_path / "model")
    settings = {"eos_token_id": [261, 256, 259], "temperature": 0.6, "top_p": 0.9, "do_sample": False}
    (tmp_path / "model" / "generation_config.json").write_text(json.dumps(settings))
    done = CliRunner().invoke(
        main,
        ["train", "--run-dir", str(tmp_path / "run"), f"model={tmp_path / 'model'}", "prompt=plain", "steps=1",
         "rollout={episodes: 4, max_new_tokens: 8}", "evaluate.every=0", "loggers=[]"],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert _export(tmp_path / "run", tmp_path / "out").exit_code == 0
    kept = GenerationConfig.from_pretrained(tmp_path / "out")
    assert kept.eos_token_id == [261, 256, 259]
    checkpoint = tmp_path / "run" / "checkpoints" / "step-000001"
    assert [file.name for file in checkpoint.rglob("*.safetensors")] == ["model.safetensors"]


def test_what_cannot_be_exported_is_one_sentence(run, tmp_path):
    """A model, something that is no run, a step that is not there, a folder that holds something."""
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    for words, says in [
        ([run / "checkpoints" / "step-000002" / "model", tmp_path / "out"], "is a saved model already"),
        ([tmp_path / "none", tmp_path / "out"], "is not a run"),
        ([f"{run}@9", tmp_path / "out"], "no checkpoint of step 9; it has: 1, 2"),
        ([run, tmp_path / "full"], "is not an empty folder"),
    ]:
        done = _export(*words)
        assert done.exit_code == 2
        assert says in done.output
    assert not (tmp_path / "out").exists()
