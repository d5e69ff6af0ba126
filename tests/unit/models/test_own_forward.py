"""A model plays and learns as it is, or is refused: its own forward against the engine's and the learner's."""

import pytest
import torch
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    GptOssConfig,
    GptOssForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from spiral.api.errors import SpiralError
from spiral.api.records import LEARNER, Request, Sampling
from spiral.engines.torch.engine import TorchEngine
from spiral.evaluation.move_probabilities import sequence_logprobs
from spiral.learning.samples import Sample
from spiral.models.logits import TokenLogits, parameters
from spiral.models.own_forward import check_own_forward

torch.set_num_threads(1)

SIZES = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 2, "max_position_embeddings": 64,
}  # fmt: skip


def _model(config, make, **changed):
    torch.manual_seed(0)
    return make(config(**{**SIZES, **changed})).eval()


NARROW = {
    "mistral": lambda: _model(MistralConfig, MistralForCausalLM, sliding_window=8),
    "gemma": lambda: _model(Gemma3TextConfig, Gemma3ForCausalLM, head_dim=16, sliding_window=8),
    "qwen": lambda: _model(
        Qwen3Config, Qwen3ForCausalLM, head_dim=16, use_sliding_window=True, sliding_window=8, max_window_layers=0
    ),
    "gpt_oss": lambda: _model(
        GptOssConfig, GptOssForCausalLM, head_dim=16, num_local_experts=2, num_experts_per_tok=1, sliding_window=8
    ),
}
WHOLE = {
    "llama": lambda: _model(LlamaConfig, LlamaForCausalLM),
    "mistral, window as wide as the context": lambda: _model(MistralConfig, MistralForCausalLM, sliding_window=64),
    "qwen": lambda: _model(Qwen3Config, Qwen3ForCausalLM, head_dim=16),
    "gemma, logits capped": lambda: _model(
        Gemma3TextConfig, Gemma3ForCausalLM, head_dim=16, final_logit_softcapping=3.0, attn_logit_softcapping=5.0
    ),
    "gpt_oss, learned sinks": lambda: _model(
        GptOssConfig, GptOssForCausalLM, head_dim=16, num_local_experts=2, num_experts_per_tok=1, sliding_window=64
    ),
    "gpt2": lambda: GPT2LMHeadModel(
        GPT2Config(vocab_size=64, n_positions=64, n_embd=32, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0)
    ).eval(),
}


@pytest.mark.parametrize("name", NARROW)
def test_a_window_narrower_than_the_context_is_refused(name):
    """Engine and learner would agree with each other and be another model than the one that was trained."""
    with pytest.raises(SpiralError, match=r"attends to 8 tokens.*context is 64.*model.args.context=8 or less"):
        check_own_forward(NARROW[name]())


@pytest.mark.parametrize("name", NARROW)
def test_within_its_window_a_model_is_itself(name):
    """With a context of 8, which its plug-in sets, nothing is narrowed."""
    model = NARROW[name]()
    model.context = 8
    check_own_forward(model)


@pytest.mark.parametrize("name", WHOLE)
def test_engine_learner_and_own_forward_agree_at_full_context(name):
    """A prompt of 56 ids and a reply of 8 in a context of 64: three log-probabilities of each reply within 1e-4."""
    model = WHOLE[name]()
    check_own_forward(model)
    prompt = tuple(torch.randint(3, 60, (56,), generator=torch.Generator().manual_seed(1)).tolist())
    engine = TorchEngine(model, None)
    engine.load_weights(LEARNER, parameters(model), 0)
    for number in range(2):  # two replies to one prompt: the learner's row is then a tree
        engine.submit(Request(number, LEARNER, prompt, Sampling(8, (64,)), number))
    done = []
    while len(done) < 2:
        done += engine.step()
    assert len({reply.ids for reply in done}) == 2
    samples = [Sample(prompt, ids, (0.0,) * 8, count=1) for ids in sorted(reply.ids for reply in done)]
    by_reply = {reply.ids: sum(reply.logprobs) for reply in done}
    learner = sequence_logprobs(TokenLogits(model), samples, 4096).tolist()
    for sample, scored in zip(samples, learner, strict=True):
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([[*prompt, *sample.reply]])).logits[0, 55:63]
        own = torch.log_softmax(logits, -1).gather(-1, torch.tensor(sample.reply)[:, None]).sum().item()
        assert scored == pytest.approx(own, abs=1e-4)
        assert by_reply[sample.reply] == pytest.approx(own, abs=1e-4)


class Forgetful(LlamaForCausalLM):
    """Attends to its last 8 tokens, which nothing in its configuration tells."""

    def forward(self, input_ids=None, attention_mask=None, **kwargs):
        if attention_mask is None:
            num = input_ids.shape[1]
            seen = torch.ones(num, num, dtype=torch.bool).tril().triu(-7)
            attention_mask = torch.zeros(1, 1, num, num).masked_fill(~seen, -torch.inf)
        return super().forward(input_ids=input_ids, attention_mask=attention_mask, **kwargs)


def test_a_window_that_no_configuration_tells_is_measured():
    """The probe finds it, and says how far apart the two are."""
    with pytest.raises(SpiralError, match=r"Forgetful gives other log-probabilities.*nats apart over 64 tokens"):
        check_own_forward(_model(LlamaConfig, Forgetful))


def test_a_model_that_takes_no_positions_is_one_sentence():
    """Bloom counts its positions from a mask of another form."""
    config = BloomConfig(vocab_size=64, hidden_size=32, n_layer=1, n_head=2)
    with pytest.raises(SpiralError, match="BloomForCausalLM cannot be run with positions, masks and a cache"):
        check_own_forward(BloomForCausalLM(config).eval())
