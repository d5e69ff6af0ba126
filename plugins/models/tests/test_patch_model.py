"""Every byte's probability is exact, however it is computed, and depends on the bytes before it alone."""

import copy
import math
import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from spiral_models import MODELS
from spiral_models.patch.config import PatchConfig
from spiral_models.patch.entropy import stops_by
from spiral_models.patch.model import PatchForCausalLM, PatchModel
from spiral_models.patch.presets import LONGEST, SHAPES, THRESHOLD, patch_config
from transformers import AutoModel, AutoModelForCausalLM, DynamicCache

from spiral import SpiralError

torch.set_num_threads(1)

TEXT = b"The pot is 3; you hold a K.\nWords of internationalization, [4] | x! \xff\xc0 and 12 more words "
EXACT = 1e-5
"""Nats in float32."""


@pytest.fixture(scope="module", params=LONGEST)
def model(request):
    return tiny(request.param)


def tiny(pooling, **changed):
    torch.manual_seed(0)
    stops = stops_by(None, THRESHOLD) if pooling == "entropy" else ""
    config = PatchConfig(
        stops=stops, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
        local_hidden_size=32, local_intermediate_size=48, local_num_attention_heads=1, encoder_layers=1,
        decoder_layers=2, pooling=pooling, patch=LONGEST[pooling], max_position_embeddings=256, init_scale=1.5, **changed,
    )  # fmt: skip
    return PatchForCausalLM(config).eval()


def rows(num, length, seed=0):
    """Pieces of text in which every fifth id is another one, special or not."""
    generator = torch.Generator().manual_seed(seed)
    starts = torch.randint(0, len(TEXT), (num, 1), generator=generator)
    text = torch.tensor(list(TEXT))[(starts + torch.arange(length)) % len(TEXT)]
    other = torch.randint(0, 272, (num, length), generator=generator)
    return torch.where(torch.rand(num, length, generator=generator) < 0.2, other, text)


def logprobs(logits):
    return logits.float().log_softmax(-1)


def streamed(model, ids, cuts):
    """Logits of all places: ids between each two cuts in a pass over the model's own cache."""
    num, length = ids.shape
    cache, parts = model.row_cache(num, model.device, model.dtype), []
    for start, stop in zip(cuts, [*cuts[1:], length], strict=True):
        cache.reserve(num, stop)
        positions = torch.arange(start, stop).expand(num, -1)
        window = cache.window(0, num, positions, stop)
        parts.append(model(ids[:, start:stop], position_ids=positions, past_key_values=window).logits)
    return torch.cat(parts, 1)


@torch.inference_mode()
@pytest.mark.parametrize("cuts", [[0], [0, 32], [0, 37], [0, 50, 51, 64], [0, 40, *range(41, 90)], range(90)])
def test_over_the_cache_log_probabilities_are_those_of_one_pass(model, cuts):
    ids = rows(4, 90)
    assert (logprobs(streamed(model, ids, list(cuts))) - logprobs(model(ids).logits)).abs().max() <= EXACT


@torch.inference_mode()
@pytest.mark.parametrize("kind", ["bool", "float"])
def test_under_a_mask_they_are_too(model, kind):
    ids = rows(3, 90)
    mask = torch.ones(90, 90, dtype=torch.bool).tril()[None, None]
    if kind == "float":
        mask = torch.zeros(mask.shape).masked_fill(~mask, -torch.inf)
    found = model(ids, attention_mask=mask, position_ids=torch.arange(90)[None]).logits
    assert (logprobs(found) - logprobs(model(ids).logits)).abs().max() <= EXACT


@torch.inference_mode()
@pytest.mark.parametrize("shared", [1, 7, 29, 30])
def test_a_tree_is_its_texts(model, shared):
    """Three texts with one beginning, a fourth with half of it, and a row of padding beside them; patches that begin in
    the shared part and end in a branch are another one in each."""
    begin, half = rows(1, shared)[0].tolist(), (shared + 1) // 2
    branches = [rows(1, 23, seed)[0].tolist() for seed in (1, 2, 3)]
    ids, parents = list(begin), list(range(-1, shared - 1))
    texts = [[*range(shared)]]
    for number, branch in enumerate([*branches, branches[0]]):
        path = list(range(shared if number < 3 else half))
        for byte in branch:
            parents.append(path[-1])
            path.append(len(ids))
            ids.append(byte)
        texts.append(path)
    width = len(ids) + 3
    mask = torch.eye(width, dtype=torch.bool)
    for column, parent in enumerate(parents):
        if parent >= 0:
            mask[column] |= mask[parent]
    tree = torch.tensor([ids + [0] * 3, *rows(1, width).tolist()])
    plain = torch.ones(width, width, dtype=torch.bool).tril()
    found = logprobs(model(tree, attention_mask=torch.stack((mask, plain))[:, None]).logits)
    for path in texts:
        alone = logprobs(model(tree[:1, path]).logits)
        assert (found[0, path] - alone[0]).abs().max() <= EXACT
    assert (found[1] - logprobs(model(tree[1:]).logits)[0]).abs().max() <= EXACT
    assert found.isfinite().all()


@torch.inference_mode()
def test_a_byte_changes_nothing_before_it_to_the_bit(model):
    ids = rows(1, 64)
    before = model(ids).logits
    cached = streamed(model, ids, [0, 20, *range(21, 64)])
    for place in range(64):
        other = ids.clone()
        other[0, place] = (other[0, place] + 1) % 256
        after = model(other).logits
        assert torch.equal(after[:, :place], before[:, :place])
        assert not torch.equal(after[:, place], before[:, place])
        if place % 9 == 0:
            assert torch.equal(streamed(model, other, [0, 20, *range(21, 64)])[:, :place], cached[:, :place])


@pytest.mark.parametrize("pooling", LONGEST)
def test_random_bytes_cannot_be_told(pooling):
    """A mean over a whole patch that reached the bytes inside of it would be learnt within these steps."""
    model = tiny(pooling).train()
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(60):
        ids = torch.randint(0, 256, (16, 64), generator=generator)
        model(ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    ids = torch.randint(0, 256, (100, 101), generator=generator)
    with torch.inference_mode():
        bits = model.eval()(ids, labels=ids).loss.item() / math.log(2)
    assert 7.95 < bits < 8.3


@torch.inference_mode()
def test_a_row_is_the_same_alone_ten_times_and_beside_padding(model):
    ids = rows(1, 47)
    alone = logprobs(model(ids).logits)[0]
    ten = logprobs(model(ids.expand(10, -1)).logits)
    longer = torch.cat((torch.cat((ids, torch.full((1, 30), 256)), 1), rows(1, 77, 5)))
    mask = torch.ones_like(longer)
    mask[0, 47:] = 0
    left, left_mask = torch.cat((torch.full((1, 9), 256), ids), 1), torch.ones(1, 56, dtype=torch.long)
    left_mask[0, :9] = 0
    for found in (*ten, logprobs(model(longer).logits)[0, :47]):
        assert (found - alone).abs().max() <= 1e-6
    for found in (
        model(longer, attention_mask=mask).logits[0, :47],
        model(left, attention_mask=left_mask).logits[0, 9:],
    ):
        assert (logprobs(found) - alone).abs().max() <= EXACT  # sums over the whole row, in another order


@torch.inference_mode()
@pytest.mark.parametrize("length", [1, 2, 15, 16, 17, 33])
def test_short_texts(model, length):
    ids = rows(2, length)
    full = logprobs(model(ids).logits)
    assert full.shape == (2, length, 272)
    assert (logprobs(streamed(model, ids, list(range(length)))) - full).abs().max() <= EXACT
    no_end = torch.full((1, length), ord("a"))  # no patch ends in it at first
    assert (logprobs(streamed(model, no_end, [0])) - logprobs(model(no_end).logits)).abs().max() <= EXACT


@torch.inference_mode()
def test_rows_of_the_cache_are_copied_cut_and_gone_on_with(model):
    """As an engine does with prefixes and replies that differ: at any id, in the middle of a patch too."""
    ids, other = rows(1, 80), rows(1, 80, 4)
    full, positions = logprobs(model(ids).logits), torch.arange(80)[None]
    for length in (32, 41):
        cache = model.row_cache(4, model.device, model.dtype)
        cache.reserve(1, 80)
        model(ids, past_key_values=cache.window(0, 1, positions, 80))
        kept = cache.read(0, length)
        cache.reserve(4, 80)
        model(other, past_key_values=cache.window(2, 3, positions, 80))
        cache.write(2, kept)
        cache.copy([(2, 3)])
        rest = model(ids[:, length:], past_key_values=cache.window(3, 4, positions[:, length:], 80)).logits
        assert (logprobs(rest) - full[:, length:]).abs().max() <= EXACT
        one = model(
            ids[:, length : length + 1], past_key_values=cache.window(2, 3, positions[:, length : length + 1], 80)
        )
        assert (logprobs(one.logits) - full[:, length : length + 1]).abs().max() <= EXACT
    cache.reserve(5, 2000)
    used = cache.num_bytes
    cache.trim()
    assert cache.num_bytes == used
    cache.trim()  # nothing was asked for since
    assert cache.num_bytes == 0


@torch.inference_mode()
def test_greedy_generation_is_that_of_full_passes(model):
    ids = rows(3, 10)
    options = {"max_new_tokens": 8, "do_sample": False, "eos_token_id": None}
    found, loop = model.generate(ids, attention_mask=torch.ones_like(ids), **options), ids
    for _ in range(8):
        loop = torch.cat((loop, model(loop).logits[:, -1].argmax(-1, keepdim=True)), 1)
    assert torch.equal(found, loop)
    padded = torch.cat((torch.full((3, 5), 256), ids), 1)
    left = torch.cat((torch.zeros(3, 5, dtype=torch.long), torch.ones_like(ids)), 1)
    assert torch.equal(model.generate(padded, attention_mask=left, **options)[:, 5:], loop)
    with pytest.raises(ValueError, match="DynamicCache has no place for"):
        model(ids, past_key_values=DynamicCache())


def test_save_and_load(model, tmp_path):
    ids = rows(2, 60)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert type(loaded) is PatchForCausalLM
    assert torch.equal(loaded(ids).logits, model(ids).logits)
    assert loaded.lm_head.weight is loaded.model.embed_tokens.weight
    assert torch.equal(loaded.model.boundaries.stops, model.model.boundaries.stops)
    assert {name for name, _ in model.named_parameters()} | {"lm_head.weight"} == model.state_dict().keys()
    trunk = AutoModel.from_pretrained(tmp_path).eval()
    assert type(trunk) is PatchModel
    assert torch.equal(trunk(ids).last_hidden_state, model.model(ids).last_hidden_state)
    assert loaded.generation_config.use_cache is False


@torch.inference_mode()
def test_half_precision_runs_by_every_road(model, tmp_path):
    ids, mask = rows(2, 40), torch.ones(1, 1, 40, 40, dtype=torch.bool).tril()
    full = model(ids).logits
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = model(ids).logits, model(ids, attention_mask=mask).logits
    model.save_pretrained(tmp_path)
    halves = (
        copy.deepcopy(model).to(torch.bfloat16),
        AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16),
    )
    found = [
        logits
        for half in halves
        for logits in (half(ids).logits, half(ids, attention_mask=mask).logits, streamed(half, ids, [0, 30, 31]))
    ]
    for logits in (*mixed, *found):
        assert logits.dtype == torch.bfloat16
        torch.testing.assert_close(logits.float(), full, rtol=0.2, atol=0.3)


def test_gradients_reach_every_weight_and_are_those_of_the_tree(model):
    ids, mask = rows(2, 40), torch.ones(1, 1, 40, 40, dtype=torch.bool).tril()
    found = []
    for given in (None, mask):
        model.zero_grad()
        model(ids, attention_mask=given, labels=ids).loss.backward()
        found.append({name: p.grad.clone() for name, p in model.named_parameters()})
    for name, gradient in found[0].items():
        assert gradient.abs().max() > 0
        torch.testing.assert_close(gradient, found[1][name], rtol=1e-4, atol=1e-6)


def test_dropout_acts_in_train_mode_only_and_where_it_is_asked_for(monkeypatch):
    model, ids = tiny("spaces"), rows(2, 40)
    clean = model(ids).logits
    model.set_dropout(0.5)
    assert torch.equal(model(ids).logits, clean)
    model.train()
    assert not torch.equal(model(ids).logits, model(ids).logits)
    for places, num in ((["embeddings"], 1), (["attention"], 5), (["feed_forward"], 5)):  # five blocks
        model.set_dropout(0.5, places)
        calls = []
        monkeypatch.setattr(F, "dropout", lambda x, rate, to=calls: (to.append(x.dim()), x)[1])
        assert torch.equal(model(ids).logits, clean)
        assert calls == [3] * num  # never on the probabilities, (B, H, T, S)
    model.set_dropout(0.0)
    assert torch.equal(model(ids).logits, clean)


def test_the_context_ends(model):
    model(torch.zeros(1, 256, dtype=torch.long))
    with pytest.raises(ValueError, match="context of 256"):
        model(torch.zeros(1, 257, dtype=torch.long))


def test_logits_to_keep_and_labels(model):
    ids = rows(2, 20)
    full = model(ids).logits
    torch.testing.assert_close(model(ids, logits_to_keep=3).logits, full[:, -3:])
    torch.testing.assert_close(model(ids, logits_to_keep=torch.tensor([2, 5])).logits, full[:, [2, 5]])
    loss = F.cross_entropy(full[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    torch.testing.assert_close(model(ids, labels=ids).loss, loss)


@pytest.mark.parametrize("name", SHAPES)
def test_presets_have_the_size_of_the_flat_ones(name):
    with torch.device("meta"):
        model = PatchForCausalLM(patch_config(name))
    flat = MODELS[name.replace("patch", "byte")].skeleton()
    assert model.num_parameters() == pytest.approx(flat.num_parameters(), rel=0.03)
    for part in ("", "local_"):
        heads, size = getattr(model.config, f"{part}num_attention_heads"), getattr(model.config, f"{part}head_dim")
        assert size in {32, 64}
        assert heads * size == getattr(model.config, f"{part}hidden_size")


def test_the_documented_table_is_true():
    text = (Path(__file__).parents[3] / "docs" / "guides" / "models.md").read_text(encoding="utf-8")
    lines = [line.split("|") for line in re.findall(r"^\| `patch-.*", text, re.M)]
    rows = {row[1].strip(" `"): [cell.strip().replace(",", "") for cell in row] for row in lines if len(row) == 13}
    assert list(rows) == list(SHAPES)
    for name, row in rows.items():
        s = SHAPES[name]
        assert row[2:6] == [
            str(s.local), f"{s.encoders} + {s.decoders}", f"{s.local_heads} ({s.local_kv_heads}) x 32", str(s.local_inner)
        ]  # fmt: skip
        assert row[6:10] == [str(s.hidden), str(s.layers), f"{s.heads} ({s.kv_heads}) x {s.head_dim}", str(s.inner)]
        assert int(row[10]) == MODELS[name].skeleton().num_parameters()
        cache = MODELS[name].skeleton().row_cache(1, torch.device("meta"), torch.float32)
        cache.reserve(1, 640)
        cache.reserve_patches(639)
        assert cache.num_bytes == 2 * 640 * sum(map(int, row[11].split(" + ")))  # a row for prefixes besides


def test_arguments(tmp_path):
    text = tmp_path / "text"
    text.write_bytes(b"aXbX" * 1000)
    torch.manual_seed(0)
    model, tokenizer = MODELS["patch-0.1m"](
        context=64, pooling="entropy", patch=20, entropy_text=str(text), threshold=2
    )
    assert (model.config.window, tokenizer.model_max_length, model.config.pooling) == (21, 64, "entropy")
    assert not torch.equal(
        model.model.boundaries.stops, MODELS["patch-0.1m"](pooling="entropy")[0].model.boundaries.stops
    )
    assert MODELS["patch-0.1m"].skeleton(pooling="fixed", patch=3).config.patch == 3
    for args, words in (
        ({"context": 0}, "context=0"),
        ({"patch": 0}, "patch=0"),
        ({"threshold": 2.0}, "pooling=entropy reads, and its pooling is spaces"),
        ({"pooling": "fixed", "entropy_text": "x"}, "entropy_text='x', which pooling=entropy reads"),
        ({"pooling": "entropy", "entropy_text": str(tmp_path / "none")}, "cannot be read"),
    ):
        with pytest.raises(SpiralError, match=words):
            MODELS["patch-0.1m"](**args)
    with pytest.raises(ValueError, match="needs stops"):
        PatchForCausalLM(PatchConfig(pooling="entropy"))
    with pytest.raises(ValueError, match="must be more than patch"):
        PatchForCausalLM(PatchConfig(patch=16, window=16))


def test_an_engine_that_knows_llamas_only_is_refused():
    with pytest.raises(SpiralError, match="vLLM every layer once a token.*set engine=torch"):
        tiny("spaces").standard_config()
