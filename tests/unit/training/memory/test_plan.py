"""What fits, and the cheapest change that makes it fit."""

import json

import click
import pytest
from click.testing import CliRunner

from spiral.api.errors import RunError, SpiralError
from spiral.api.hooks import hookimpl
from spiral.commands.main import main
from spiral.config.loading import load
from spiral.plugins.pretrained import find_model
from spiral.plugins.registry import Plugins
from spiral.training.memory import planning
from spiral.training.memory.architecture import Adapter, Architecture
from spiral.training.memory.devices import GB, Devices, found_devices, parse_gpus
from spiral.training.memory.plan import Plan, cheapest_change
from spiral.training.memory.settings import EngineSettings, LearnerSettings

QWEN3_4B = {"model_type": "qwen3", "hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36}
QWEN3_4B |= {"num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936}
QWEN3_4B |= {"tie_word_embeddings": True, "max_position_embeddings": 32768}
GPU = Devices(1, 80 * GB, is_gpu=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Qwen3-4B's config.json, and nothing else."""
    path = tmp_path_factory.mktemp("qwen3-4b")
    (path / "config.json").write_text(json.dumps(QWEN3_4B))
    return path


@pytest.fixture(scope="module")
def architecture(folder):
    plugins = Plugins.installed()
    config = load(None, [f"model={folder}"], find_model(plugins))
    return Architecture.of(planning.skeleton(config, plugins))


def _plan(architecture, devices=GPU, shards=1, rows=8, claims=None, sleeps=False, **learner):
    engine = EngineSettings(1, rows, 1024, dtype="bfloat16", claims=claims, sleeps=sleeps)
    return Plan(architecture, LearnerSettings(**{"row_tokens": 4096, **learner}), engine, devices, shards)


def test_the_parameters_are_those_of_the_config(architecture):
    """Qwen3-4B has 4.02 billion; nothing of its 8 GB is read, nor made."""
    assert architecture.num_parameters == 4_022_468_096
    assert (architecture.layers, architecture.kv_elements) == (36, 2 * 36 * 8 * 128)


def test_what_fits_is_not_changed(architecture):
    """An adapter on one GPU of 80 GB."""
    plan = _plan(architecture, precision="bf16", adapter=Adapter(16, ()))
    assert plan.fits
    assert plan.needed_bytes < 60 * GB


def test_four_billion_parameters_in_float32_do_not_fit_80_gb(architecture):
    """16 bytes a parameter are 60 GB before an activation, a quarter of them gradients that only an update has."""
    plan = _plan(architecture)
    assert not plan.fits
    held = sum(part.num_bytes for part in plan.parts if part.holder == "learner" and part.when == "always")
    gradients = next(part for part in plan.parts if part.name == "gradients")
    assert (held, gradients.num_bytes) == (12 * architecture.num_parameters, 4 * architecture.num_parameters)
    assert gradients.when == "learning"


@pytest.mark.parametrize(
    ("size", "overrides"),
    [
        (100, ["learner.micro_batch_tokens=1024"]),
        (85, ["learner.checkpoint_activations=true"]),
        (60, ["learner.micro_batch_tokens=1024", "learner.precision=bf16"]),
        (24, ["learner.checkpoint_activations=true", "learner.method=lora"]),
        (16, ["learner.checkpoint_activations=true", "learner.precision=bf16", "learner.method=lora"]),
    ],
)
def test_the_cheapest_change_comes_first(architecture, size, overrides):
    """Smaller micro-batches where they do, then checkpoints, then precision, then an adapter: and nothing needless, so
    a checkpoint of activations makes smaller micro-batches superfluous."""
    plan = _plan(architecture, Devices(1, size * GB, is_gpu=True))
    remedy = cheapest_change(plan)
    assert not plan.fits
    assert remedy.plan.fits
    assert list(remedy.overrides) == overrides


def test_gpus_that_are_there_are_used_before_anything_is_rounded(architecture):
    """Sharding changes no result: full training in float32 fits eight GPUs of 40 GB."""
    remedy = cheapest_change(_plan(architecture, Devices(8, 40 * GB, True)))
    assert remedy.shards == 8
    assert not any("precision" in word or "lora" in word for word in remedy.overrides)


@pytest.mark.parametrize("size", [24, 10])
def test_moments_of_8_bits_and_sharding_are_not_told_together(architecture, size):
    """A run refuses the two: whichever a plan has, the other is no change that would make it fit."""
    eight_bit = cheapest_change(_plan(architecture, Devices(8, size * GB, True), optimizer="adamw_8bit"))
    assert eight_bit is None or eight_bit.shards == 1
    sharded = cheapest_change(_plan(architecture, Devices(8, size * GB, True), shards=8))
    assert sharded is None or "learner.optimizer=adamw_8bit" not in sharded.overrides


def test_an_engine_that_takes_a_share_is_given_what_is_left(architecture):
    """vLLM takes nine tenths of a GPU by itself, also where the learner needs most of it."""
    plan = _plan(architecture, precision="bf16", claims=0.92)
    assert not plan.fits
    remedy = cheapest_change(plan)
    (word,) = remedy.overrides
    assert word == f"engine.args.gpu_memory_utilization={remedy.plan.engine.claims}"
    assert 0.2 < remedy.plan.engine.claims < 0.6
    assert remedy.plan.engine_has_room


def test_an_engine_that_sleeps_leaves_its_memory_to_the_learner(architecture):
    """The larger of the two counts, not their sum."""
    awake, asleep = (_plan(architecture, precision="bf16", claims=0.5, sleeps=sleeps) for sleeps in (False, True))
    assert asleep.needed_bytes < awake.needed_bytes - 10 * GB


def test_nothing_helps_where_the_weights_alone_are_too_large(architecture):
    """No change is made up."""
    assert cheapest_change(_plan(architecture, Devices(1, 4 * GB, True))) is None


@pytest.mark.parametrize(("word", "num", "size"), [("8x80GB", 8, 80), ("24GB", 1, 24), ("2 x 141 gb", 2, 141)])
def test_gpus_are_written_by_number_and_size(word, num, size):
    assert parse_gpus(word) == Devices(num, size * GB, is_gpu=True)


@pytest.mark.parametrize("word", ["8x", "H100", "0x80GB", "8x0GB", "80", "-1x80GB", ""])
def test_a_word_that_names_no_gpus_is_refused(word):
    with pytest.raises(SpiralError, match=r"names no GPUs; write how many .* such as 8x80GB"):
        parse_gpus(word)


def test_this_machine_has_some_memory():
    devices = found_devices()
    assert devices.num >= 1
    assert devices.num_bytes > 0


def _command(*words):
    result = CliRunner().invoke(main, ["plan", *map(str, words)])
    return result.exit_code, result.output


def test_the_command_says_what_each_part_takes(folder):
    """By holder, with the sum, the tokens, and whether it fits, for a folder without weights."""
    code, text = _command(f"model={folder}", "learner.micro_batch_tokens=2048", "--gpus", "1x141GB")
    assert code == 0
    assert "4,022,468,096 parameters, all trained" in text
    for part in ("learner: weights", "learner: optimiser state", "engine: keys and values", "in all at once"):
        assert part in text
    assert "2,048 a micro-batch" in text
    assert text.endswith("it fits\n")


def test_what_the_command_proposes_fits(folder):
    """The change is the command's own language: with it, the plan is one that fits."""
    words = [f"model={folder}", "--gpus", "2x48GB", "--json"]
    code, text = _command(*words)
    told = json.loads(text)
    assert (code, told["fits"]) == (1, False)
    change = told["change"]
    code, text = _command(*words, *change["overrides"], "--shards", change["shards"])
    again = json.loads(text)
    assert (code, again["fits"]) == (0, True)
    assert again["needed_bytes"] == change["needed_bytes"]


def test_json_has_all_that_is_counted(folder):
    """Parts add up to what is needed; tokens of a step are those of its games."""
    _, text = _command(
        f"model={folder}", "rollout.episodes=8", "rollout.max_new_tokens=100", "--gpus", "80GB", "--json"
    )
    told = json.loads(text)
    by_time = {when: sum(p["bytes"] for p in told["parts"] if p["when"] == when) for when in ("always", "learning")}
    assert told["needed_bytes"] == sum(by_time.values())
    assert told["text_tokens"] == 1124
    assert told["tokens_a_step"] == 8 * 1124
    assert told["texts_at_once"] == 8


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--gpus", "two"], "spiral: --gpus 'two' names no GPUs"),
        (["--gpus", "80GB", "--shards", "2"], "spiral: --shards 2 asks for more GPUs than there are, 1 GPU of 80.0 GB"),
        (["model=EMPTY"], "holds no config.json"),
        (["model=OTHER"], "describes no causal language model"),
        (["model=NOWHERE/x"], "is not a directory on this machine"),
    ],
)
def test_bad_input_is_one_sentence(words, sentence, tmp_path):
    """Exit code 2, before anything is loaded."""
    (tmp_path / "EMPTY").mkdir()
    (tmp_path / "OTHER").mkdir()
    (tmp_path / "OTHER" / "config.json").write_text('{"model_type": "a-model-of-tomorrow"}')
    places = {f"model={name}": f"model={tmp_path / name}" for name in ("EMPTY", "OTHER", "NOWHERE/x")}
    result = CliRunner().invoke(main, ["plan", *(places.get(word, word) for word in words)])
    assert result.exit_code == 2
    assert sentence in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not isinstance(result.exception, click.ClickException)


def _small_config(**overrides):
    plugins = Plugins.installed()
    return load(None, [{"model": "byte-3m", **overrides}], find_model(plugins)), plugins


def test_a_run_that_cannot_fit_a_gpu_is_refused(monkeypatch):
    """By arithmetic alone, with what it needs, what is free, and what would help."""
    config, plugins = _small_config()
    monkeypatch.setattr(planning, "found_devices", lambda: Devices(1, 64 << 20, is_gpu=True))
    with pytest.raises(RunError, match=r"needs 0\.\d GB of each GPU, and 0\.1 GB of it is free; with learner\."):
        planning.check_memory(config, plugins)
    monkeypatch.setattr(planning, "found_devices", lambda: Devices(1, 8 << 30, is_gpu=True))
    planning.check_memory(config, plugins)


def test_a_model_is_not_made_to_be_refused(monkeypatch):
    """A stranger's factory without `skeleton`: the run finds out by itself; a plan makes the model and counts it."""
    made = []

    def theirs():
        made.append(1)
        return Plugins.installed().make("model", "byte-0.1m")

    class Theirs:
        @hookimpl
        def register_models(self, register):
            register("theirs", theirs)

    plugins = Plugins.installed()
    plugins.add(Theirs(), "theirs")
    config = load(None, ["model=theirs"], find_model(plugins))
    monkeypatch.setattr(planning, "found_devices", lambda: Devices(1, 1 << 20, is_gpu=True))
    planning.check_memory(config, plugins)
    assert not made
    assert planning.plan_of(config, plugins, GPU).architecture.num_parameters == 116_032
    assert made


def test_on_a_cpu_it_is_warned_of(monkeypatch, caplog):
    """An operating system may swap, and other programs may end."""
    config, plugins = _small_config()
    monkeypatch.setattr(planning, "found_devices", lambda: Devices(1, 64 << 20, is_gpu=False))
    planning.check_memory(config, plugins)
    assert "this run needs" in caplog.text
    caplog.clear()
    monkeypatch.setattr(planning, "found_devices", lambda: Devices(1, 8 << 30, is_gpu=False))
    planning.check_memory(config, plugins)
    assert not caplog.text


def test_a_launcher_that_shards_says_over_how_many(monkeypatch):
    """What accelerate's FSDP leaves in the environment; data parallelism shards nothing."""
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert planning.shards_of_launcher() == 1
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    assert planning.shards_of_launcher() == 4
