"""What a launcher or accelerate's config asks for and a run cannot have is one sentence, with what to do."""

import pytest

from spiral.api.errors import RunError
from spiral.config.schema import LearnerConfig
from spiral.learning.launchers import check_accelerate_config, num_asked

FSDP = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}


@pytest.fixture(autouse=True)
def asked(monkeypatch):
    """Sets the environment that a launcher leaves, and nothing else of it."""
    for name in ("WORLD_SIZE", "RANK", "MASTER_ADDR", "MASTER_PORT", "ACCELERATE_MIXED_PRECISION", *FSDP):
        monkeypatch.delenv(name, raising=False)

    def ask(**env):
        for name, value in env.items():
            monkeypatch.setenv(name, value)

    return ask


@pytest.mark.parametrize(
    ("env", "sentence"),
    [
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, "DeepSpeed, whose engine averages gradients .* as examples/fsdp2.yaml"),
        ({"ACCELERATE_USE_MEGATRON_LM": "true"}, "Megatron-LM, .* as examples/fsdp2.yaml"),
        ({"ACCELERATE_USE_PARALLELISM_CONFIG": "true"}, "a parallelism_config, .* remove it"),
        ({**FSDP, "FSDP_OFFLOAD_PARAMS": "true"}, "fsdp_offload_params, .* set it to false"),
        ({**FSDP, "FSDP_ACTIVATION_CHECKPOINTING": "true"}, "set it to false, and learner.checkpoint_activations=true"),
        ({**FSDP, "FSDP_IGNORED_MODULES": "head"}, "fsdp_ignored_modules, .* remove it"),
        ({**FSDP, "FSDP_VERSION": "1"}, "version 1 of FSDP, .* fsdp_version: 2 there"),
        ({"ACCELERATE_USE_FSDP": "true"}, "version 1 of FSDP, .* fsdp_version: 2 there"),
    ],
)
def test_what_no_run_can_have_is_refused(asked, env, sentence):
    """As accelerate's launcher tells it to the processes that it starts."""
    asked(**env)
    with pytest.raises(RunError, match=f"accelerate's config asks for .*{sentence}"):
        check_accelerate_config(LearnerConfig())


@pytest.mark.parametrize(
    ("mixed", "precision"), [("bf16", "float32"), ("fp16", "mixed"), ("fp8", "bf16"), ("bf16", "bf16")]
)
def test_another_precision_than_the_runs_is_refused(asked, mixed, precision):
    """Both are named; the run's own config decides."""
    asked(ACCELERATE_MIXED_PRECISION=mixed)
    with pytest.raises(
        RunError, match=f"mixed_precision: {mixed}, and learner.precision is {precision}, which decides"
    ):
        check_accelerate_config(LearnerConfig(precision=precision))


@pytest.mark.parametrize(
    ("mixed", "precision"), [("no", "float32"), ("no", "mixed"), ("bf16", "mixed"), ("no", "bf16")]
)
def test_a_config_that_agrees_is_taken(asked, mixed, precision):
    """`no` is what accelerate writes where nothing was asked for; false and no are nothing asked for."""
    off = dict.fromkeys(("FSDP_OFFLOAD_PARAMS", "FSDP_ACTIVATION_CHECKPOINTING", "ACCELERATE_USE_DEEPSPEED"), "false")
    asked(**FSDP, **off, ACCELERATE_MIXED_PRECISION=mixed)
    check_accelerate_config(LearnerConfig(precision=precision))


def test_moments_of_8_bits_are_not_shared_out(asked):
    """They have blocks of one number of processes; one process alone, and data parallel ones, may have them."""
    alone = {"WORLD_SIZE": "1", "RANK": "0"}
    several = {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500"}
    learner = LearnerConfig(optimizer="adamw_8bit")
    asked(**FSDP, **alone)
    check_accelerate_config(learner)
    asked(**several)
    with pytest.raises(RunError, match=r"FSDP, and learner.optimizer is adamw_8bit, .*; set learner.optimizer=adamw, "):
        check_accelerate_config(learner)
    asked(ACCELERATE_USE_FSDP="false")
    check_accelerate_config(learner)


@pytest.mark.parametrize("missing", ["MASTER_ADDR", "MASTER_PORT"])
def test_processes_that_have_no_place_to_meet_are_refused(asked, monkeypatch, missing):
    """As on several machines, where each has its number and none the address of the first."""
    asked(WORLD_SIZE="4", RANK="2", MASTER_ADDR="10.0.0.1", MASTER_PORT="29500")
    assert num_asked() == 4
    monkeypatch.delenv(missing)
    with pytest.raises(
        RunError, match="WORLD_SIZE is 4, and the processes have no place to meet .* --rdzv-endpoint HOST"
    ):
        num_asked()
