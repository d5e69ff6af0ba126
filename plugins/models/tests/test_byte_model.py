"""What the engine and the learner rely on: one distribution, however it is computed."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from spiral_models import MODELS
from spiral_models.byte.config import ByteConfig
from spiral_models.byte.model import ByteForCausalLM, ByteModel
from spiral_models.byte.presets import SHAPES, byte_config
from transformers import AutoModel, AutoModelForCausalLM
from transformers.cache_utils import Cache, DynamicCache, StaticCache

from spiral import SpiralError

NAMED_SIZES = {
    "byte-0.1m": 0.12e6,
    "byte-0.4m": 0.42e6,
    "byte-1m": 1.12e6,
    "byte-3m": 3.2e6,
    "byte-10m": 10.0e6,
    "byte-50m": 51.8e6,
    "byte-100m": 100.9e6,
}


class BufferCache(Cache):
    """A static cache as an engine would write it: nothing but `update`, writing at a column it was told."""

    def __init__(self, config: ByteConfig, rows: int, columns: int):
        shape = (config.num_hidden_layers, rows, config.num_key_value_heads, columns, config.head_dim)
        # NaN where nothing was written: reading an unwritten column would show at once.
        self.keys, self.values, self.column = torch.full(shape, torch.nan), torch.full(shape, torch.nan), 0

    def update(self, key_states, value_states, layer_idx, *args, **kwargs):
        stop = self.column + key_states.shape[2]
        self.keys[layer_idx, :, :, self.column : stop] = key_states
        self.values[layer_idx, :, :, self.column : stop] = value_states
        return self.keys[layer_idx, :, :, :stop], self.values[layer_idx, :, :, :stop]


@pytest.fixture(params=["byte-0.1m", "byte-1m"])
def model(request):
    torch.manual_seed(0)
    return MODELS[request.param](context=64)[0].eval()


def random_ids(rows, length, seed=0):
    """Any bytes and specials, so nearly never valid UTF-8."""
    return torch.randint(0, 272, (rows, length), generator=torch.Generator().manual_seed(seed))


def logprobs(logits, ids):
    """The log-probability of each id but the first."""
    return logits[:, :-1].log_softmax(-1).gather(-1, ids[:, 1:, None]).squeeze(-1)


def stream(model, ids, prompt):
    """Logits of all positions: the prompt at once, then one id at a time through a static buffer."""
    rows, length = ids.shape
    cache, parts = BufferCache(model.config, rows, length), []
    for start, stop in [(0, prompt), *((t, t + 1) for t in range(prompt, length))]:
        positions = torch.arange(start, stop).expand(rows, -1)
        mask = torch.arange(stop) <= positions[:, None, :, None]
        out = model(ids[:, start:stop], attention_mask=mask, position_ids=positions, past_key_values=cache)
        parts.append(out.logits)
        cache.column = stop
    return torch.cat(parts, dim=1)


@torch.inference_mode()
def test_streamed_log_probabilities_are_the_teacher_forced_ones(model):
    ids = random_ids(4, 40)
    ids[0] = torch.tensor([0xFF, 0xC0, 0x80, 0xED] * 10)
    full = model(ids)
    assert full.past_key_values is None
    difference = logprobs(stream(model, ids, prompt=17), ids) - logprobs(full.logits, ids)
    assert difference.abs().max() <= 1e-4


@torch.inference_mode()
@pytest.mark.parametrize("t", [1, 13, 29])
def test_a_byte_changes_nothing_before_it(model, t):
    ids = random_ids(3, 30)
    other = ids.clone()
    other[:, t] = (other[:, t] + 1) % 256
    before, after = model(ids).logits, model(other).logits
    assert torch.equal(before[:, :t], after[:, :t])
    assert not torch.equal(before[:, t:], after[:, t:])


@torch.inference_mode()
def test_a_right_padded_row_equals_the_row_alone(model):
    """Within 2e-5: another batch shape may sum in another order."""
    ids = random_ids(3, 32)
    ids[1, 20:] = model.config.pad_token_id
    alone = model(ids[1:2, :20]).logits
    torch.testing.assert_close(model(ids).logits[1:2, :20], alone, rtol=0, atol=2e-5)
    mask = torch.ones_like(ids)
    mask[1, 20:] = 0
    torch.testing.assert_close(model(ids, attention_mask=mask).logits[1:2, :20], alone, rtol=0, atol=2e-5)


@torch.inference_mode()
def test_a_left_padded_row_equals_the_row_alone(model):
    ids, mask = random_ids(2, 24), torch.ones(2, 24, dtype=torch.long)
    ids[1, :9], mask[1, :9] = model.config.pad_token_id, 0
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    padded = model(ids, attention_mask=mask, position_ids=positions).logits[1:, 9:]
    assert padded.isfinite().all()
    torch.testing.assert_close(padded, model(ids[1:, 9:]).logits, rtol=0, atol=2e-5)


@torch.inference_mode()
@pytest.mark.parametrize("kind", ["bool", "float"])
def test_a_tree_mask_equals_separate_rows(model, kind):
    """One prompt of 6, two replies of 4 beside each other in one row."""
    prompt, first, second = random_ids(1, 6), random_ids(1, 4, seed=1), random_ids(1, 4, seed=2)
    mask = torch.ones(14, 14, dtype=torch.bool).tril()
    mask[10:, 6:10] = False
    if kind == "float":
        mask = torch.zeros(14, 14).masked_fill(~mask, -torch.inf)
    positions = torch.tensor([[*range(10), *range(6, 10)]])
    tree = model(torch.cat((prompt, first, second), 1), attention_mask=mask[None, None], position_ids=positions).logits
    for reply, columns in ((first, slice(6, 10)), (second, slice(10, 14))):
        row = model(torch.cat((prompt, reply), 1)).logits
        torch.testing.assert_close(tree[:, columns], row[:, 6:], rtol=0, atol=2e-5)


@torch.inference_mode()
def test_a_query_that_may_attend_nowhere_gives_numbers(model):
    mask = torch.zeros(2, 1, 5, 5, dtype=torch.bool)
    mask[0] = torch.ones(5, 5, dtype=torch.bool).tril()
    logits = model(random_ids(2, 5), attention_mask=mask, position_ids=torch.arange(5)[None]).logits
    assert logits.isfinite().all()


@torch.inference_mode()
def test_a_second_piece_without_a_mask_is_causal(model):
    ids, cache = random_ids(2, 20), DynamicCache(config=model.config)
    model(ids[:, :8], past_key_values=cache)
    torch.testing.assert_close(
        model(ids[:, 8:], past_key_values=cache).logits, model(ids).logits[:, 8:], rtol=0, atol=2e-5
    )


@torch.inference_mode()
def test_logits_to_keep_and_labels(model):
    ids = random_ids(2, 12)
    full = model(ids).logits
    torch.testing.assert_close(model(ids, logits_to_keep=3).logits, full[:, -3:])
    torch.testing.assert_close(model(ids, logits_to_keep=torch.tensor([2, 5])).logits, full[:, [2, 5]])
    labels = ids.clone()
    labels[:, :6] = -100
    expected = -logprobs(full, ids)[:, 5:].mean()
    torch.testing.assert_close(model(ids, labels=labels).loss, expected)
    torch.testing.assert_close(model(ids, return_dict=False)[0], full)
    hidden = model.model(ids).last_hidden_state
    torch.testing.assert_close(model.get_output_embeddings()(hidden), full)


def test_gradients_reach_every_weight(model):
    model(random_ids(2, 12), labels=random_ids(2, 12)).loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_the_end_of_the_context_is_an_error(model):
    ids = random_ids(1, 65)
    mask = torch.ones(1, 1, 1, 1, dtype=torch.bool)
    model(ids[:, :64])
    with pytest.raises(ValueError, match="position 64 is outside the model's context of 64"):
        model(ids)
    with pytest.raises(ValueError, match="position 70 is outside"):
        model(ids[:, :1], attention_mask=mask, position_ids=torch.tensor([[70]]))
    cache = DynamicCache(config=model.config)
    model(ids[:, :64], past_key_values=cache)
    with pytest.raises(ValueError, match="position 64 is outside"):
        model(ids[:, 64:], past_key_values=cache)


def test_save_and_load(model, tmp_path):
    ids = random_ids(2, 20)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert type(loaded) is ByteForCausalLM
    assert torch.equal(loaded(ids).logits, model(ids).logits)
    assert loaded.lm_head.weight is loaded.model.embed_tokens.weight
    assert torch.equal(loaded.model.rotary.table, model.model.rotary.table)
    trunk = AutoModel.from_pretrained(tmp_path).eval()
    assert type(trunk) is ByteModel
    assert torch.equal(trunk(ids).last_hidden_state, model.model(ids).last_hidden_state)


@torch.inference_mode()
def test_half_precision_runs_by_every_road(model, tmp_path):
    ids = random_ids(2, 9)
    full = model(ids).logits
    model.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16).eval()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = model(ids).logits
    for logits in (loaded(ids).logits, mixed, model.to(torch.bfloat16)(ids).logits):
        assert logits.dtype == torch.bfloat16
        torch.testing.assert_close(logits.float(), full, rtol=0.1, atol=0.1)


@torch.inference_mode()
def test_greedy_generation_is_the_same_by_every_road(model):
    ids = random_ids(3, 10)
    options = {"max_new_tokens": 8, "do_sample": False, "eos_token_id": None}
    mask = torch.ones_like(ids)
    dynamic = model.generate(ids, attention_mask=mask, **options)
    static = model.generate(ids, attention_mask=mask, cache_implementation="static", **options)
    loop = ids
    for _ in range(8):
        loop = torch.cat((loop, model(loop).logits[:, -1].argmax(-1, keepdim=True)), dim=1)
    assert torch.equal(dynamic, loop)
    assert torch.equal(static, loop)
    padded = torch.cat((torch.full((3, 5), 256), ids), dim=1)
    left = torch.cat((torch.zeros(3, 5, dtype=torch.long), mask), dim=1)
    assert torch.equal(model.generate(padded, attention_mask=left, **options)[:, 5:], loop)


@torch.inference_mode()
def test_sampled_generation_runs_and_stops(model):
    torch.manual_seed(0)
    out = model.generate(random_ids(4, 6), max_new_tokens=5, do_sample=True, top_k=0)
    assert out.shape[0] == 4
    assert 7 <= out.shape[1] <= 11


@torch.inference_mode()
def test_a_static_cache_of_transformers_works_too(model):
    ids = random_ids(2, 12)
    cache = StaticCache(config=model.config, max_cache_len=32)
    first = model(ids[:, :9], past_key_values=cache).logits
    rest = [model(ids[:, t : t + 1], past_key_values=cache).logits for t in range(9, 12)]
    torch.testing.assert_close(torch.cat((first, *rest), 1), model(ids).logits, rtol=0, atol=2e-5)


def test_dropout_acts_in_train_mode_only(model):
    ids = random_ids(2, 12)
    clean = model(ids).logits
    model.set_dropout(0.5)
    assert torch.equal(model(ids).logits, clean)
    model.train()
    assert not torch.equal(model(ids).logits, model(ids).logits)
    model.set_dropout(0.0)
    assert torch.equal(model(ids).logits, clean)
    with pytest.raises(ValueError, match=r"\[0, 1\)"):
        model.set_dropout(1.0)


def _dropped(model, monkeypatch) -> list[tuple[int, ...]]:
    """The shapes that dropout is asked for in a forward pass of 3 tokens."""
    shapes: list[tuple[int, ...]] = []
    dropout = F.dropout
    monkeypatch.setattr(F, "dropout", lambda x, p: (shapes.append(tuple(x.shape)), dropout(x, p))[1])
    model(random_ids(1, 3))
    return shapes


@pytest.mark.parametrize(
    ("on", "times"), [(["embeddings"], 1), (["attention"], "layers"), (["feed_forward"], "layers"), ([], 0)]
)
def test_dropout_acts_where_it_is_asked_for(model, monkeypatch, on, times):
    """Once on the embeddings or once a layer, always on (B, T, hidden): never on attention probabilities."""
    model.set_dropout(0.5, on)
    model.train()
    config = model.config
    num = config.num_hidden_layers if times == "layers" else times
    assert _dropped(model, monkeypatch) == [(1, 3, config.hidden_size)] * num
    model.eval()
    assert _dropped(model, monkeypatch) == []


def test_dropout_acts_at_three_places_by_default_and_at_no_other(model, monkeypatch):
    model.set_dropout(0.5)
    model.train()
    assert len(_dropped(model, monkeypatch)) == 1 + 2 * model.config.num_hidden_layers
    with pytest.raises(ValueError, match="not on 'probabilities'"):
        model.set_dropout(0.5, ["probabilities"])


def test_a_saved_model_keeps_where_its_dropout_acts(model, tmp_path):
    model.set_dropout(0.25, ["attention"])
    model.save_pretrained(tmp_path)
    loaded = ByteForCausalLM.from_pretrained(tmp_path)
    assert (loaded.config.dropout, list(loaded.config.dropout_places)) == (0.25, ["attention"])
    assert not loaded.training


@pytest.mark.parametrize("name", SHAPES)
def test_presets_have_the_size_their_name_says(name):
    with torch.device("meta"):
        model = ByteForCausalLM(byte_config(name))
    assert model.num_parameters() == pytest.approx(NAMED_SIZES[name], rel=0.04)
    assert model.config.head_dim in {32, 64}
    assert model.config.hidden_size == model.config.num_attention_heads * model.config.head_dim


def test_the_documented_table_is_true():
    text = (Path(__file__).parents[3] / "docs" / "guides" / "models.md").read_text()
    tables = (line.split("|") for line in re.findall(r"^\| `byte-.*", text, re.M))
    rows = {row[1].strip(" `"): row for row in tables if len(row) == 10}  # not that of fewer parameters
    assert list(rows) == list(SHAPES)
    for name, row in rows.items():
        shape, number = SHAPES[name], [cell.strip().replace(",", "") for cell in row]
        with torch.device("meta"):
            assert int(number[6]) == ByteForCausalLM(byte_config(name)).num_parameters()
        assert number[2:4] == [str(shape.hidden), str(shape.layers)]
        assert number[4:6] == [f"{shape.heads} ({shape.kv_heads}) x {shape.head_dim}", str(shape.inner)]
        assert int(number[7]) == 8 * shape.layers * shape.kv_heads * shape.head_dim


def test_fresh_weights_descend_from_the_global_seed_and_scale():
    def embedding(seed, **args):
        torch.manual_seed(seed)
        return MODELS["byte-0.1m"](**args)[0].model.embed_tokens.weight

    assert torch.equal(embedding(3), embedding(3))
    assert not torch.equal(embedding(3), embedding(4))
    torch.testing.assert_close(embedding(3, init_scale=2.0), 2 * embedding(3))


@pytest.mark.parametrize("args", [{"context": 0}, {"init_scale": -1.0}])
def test_impossible_arguments_are_one_sentence(args):
    with pytest.raises(SpiralError, match="model 'byte-1m' was given"):
        MODELS["byte-1m"](**args)


def test_importing_the_plugin_loads_nothing_heavy():
    code = (
        "import sys, spiral_models; names = []; spiral_models.register_models(lambda n, f: names.append(n));"
        "assert {'byte-1m', 'hf'} <= set(names); assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
