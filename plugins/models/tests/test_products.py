"""Products by oneDNN are those of torch but for rounding, with their gradients, and small or unlike ones are torch's own."""

import copy

import pytest
import torch
import torch.nn.functional as F
from spiral_models import MODELS, products
from spiral_models.products import Linear, linear, use_fast_products
from torch import nn

torch.set_num_threads(1)


@pytest.fixture
def calls(monkeypatch):
    """Shapes (rows, inputs, outputs) of the products that oneDNN computes, whatever the processor."""
    seen, by_onednn = [], products._by_onednn

    def counted(x, weight, bias=None):
        seen.append((x.numel() // x.shape[-1], *reversed(weight.shape)))
        return by_onednn(x, weight, bias)

    monkeypatch.setattr(products, "_BY_ONEDNN", True)
    monkeypatch.setattr(products.linear, "__defaults__", (None, products.FEWEST_AGAIN))
    monkeypatch.setattr(products, "_by_onednn", counted)
    return seen


def tensors(*shape, bias=False):
    torch.manual_seed(0)
    x = torch.randn(*shape, 128, requires_grad=True)
    weight = torch.randn(160, 128, requires_grad=True)
    return x, weight, torch.randn(160, requires_grad=True) if bias else None


@pytest.mark.parametrize("shape", [(64,), (4, 30)])
@pytest.mark.parametrize("bias", [False, True])
def test_large_products_and_their_gradients(calls, shape, bias):
    """In one line of rows and in a batch, with a bias and without; each of the three products is oneDNN's."""
    found, expected = tensors(*shape, bias=bias), tensors(*shape, bias=bias)
    out, reference = linear(*found), F.linear(*expected)
    torch.testing.assert_close(out, reference, atol=1e-4, rtol=1e-5)
    for result in (out, reference):
        result.square().sum().backward()
    for mine, own in zip(found, expected, strict=True):
        if mine is not None:
            torch.testing.assert_close(mine.grad, own.grad, atol=1e-2, rtol=1e-5)
    rows = out.numel() // 160
    assert calls == [(rows, 128, 160), (rows, 160, 128), (160, rows, 128)]


def test_without_gradients_none_is_prepared(calls):
    """Neither for frozen weights over numbers that need none, nor for inputs that need none."""
    x, weight, _ = tensors(64)
    with torch.no_grad():
        assert linear(x, weight).grad_fn is None
    assert linear(x.detach(), weight.detach()).grad_fn is None
    linear(x.detach(), weight).sum().backward()
    assert x.grad is None
    assert weight.grad is not None
    assert len(calls) == 4  # no gradient of x


def test_gradients_of_gradients(calls):
    """Exact: a second derivative is torch's."""
    sums = []
    for function in (linear, F.linear):
        x, weight, _ = tensors(64)
        (gradient,) = torch.autograd.grad(function(x, weight).pow(3).sum(), x, create_graph=True)
        sums.append(torch.autograd.grad(gradient.square().mean(), weight)[0])
    torch.testing.assert_close(*sums, rtol=1e-4, atol=1e-2)


def test_other_products_are_torchs(calls):
    """Few rows, other precisions, autocast."""
    x, weight, _ = tensors(3)
    assert torch.equal(linear(x, weight), F.linear(x, weight))
    x, weight, _ = tensors(64)
    assert linear(x.double(), weight.double()).dtype == torch.float64
    assert linear(x.bfloat16(), weight.bfloat16()).dtype == torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        assert linear(x, weight).dtype == torch.bfloat16
    assert linear(x.to("meta"), weight.to("meta")).shape == (64, 160)
    assert linear(x[:0], weight).shape == (0, 160)
    assert calls == []


def test_one_product_gives_one_result(calls):
    """The same bits each time, on which resuming rests."""
    x, weight, _ = tensors(64)
    assert torch.equal(linear(x, weight), linear(x.clone(), weight.clone()))


def test_models_of_transformers_take_them(calls):
    """Their linear layers, and no others; a copy too, and the names of the weights stay."""
    model = nn.Sequential(nn.Linear(128, 160), nn.ReLU(), nn.LayerNorm(160))
    names, x = list(model.state_dict()), torch.randn(64, 128)
    expected = model(x)
    use_fast_products(model)
    assert list(model.state_dict()) == names
    assert type(model[0]) is Linear
    assert isinstance(model[0], nn.Linear)
    torch.testing.assert_close(copy.deepcopy(model)(x), expected, atol=1e-5, rtol=1e-5)
    assert calls == [(64, 128, 160)]


def test_a_byte_models_loss_is_the_same(calls):
    """Value and gradients of a whole model by both libraries."""
    torch.manual_seed(0)
    model, other = (MODELS["byte-1m"](context=128)[0] for _ in range(2))
    other.load_state_dict(model.state_dict())
    ids = torch.randint(256, (4, 100))
    model(ids, labels=ids).loss.backward()
    assert len(calls) == 3 * (4 * 6 + 1)  # four products a layer and the head, each with two gradients
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(products, "_BY_ONEDNN", False)
        other(ids, labels=ids).loss.backward()
    for mine, own in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, own.grad, atol=2e-5, rtol=1e-3)


def test_the_processor_is_asked_for_its_maker(monkeypatch, tmp_path):
    """By Linux's list of processors; elsewhere by what Python says."""
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    for vendor, answer in (("AuthenticAMD", True), ("GenuineIntel", False)):
        file = tmp_path / vendor
        file.write_text(f"processor\t: 0\nvendor_id\t: {vendor}\nmodel name\t: some\n")
        monkeypatch.setattr(products, "Path", lambda _, file=file: file)
        assert products.has_unused_vectors() is answer
    monkeypatch.setattr(products, "Path", lambda _: tmp_path / "none")
    monkeypatch.setattr(products.platform, "processor", lambda: "AMD64 Family 25 Model 97, AuthenticAMD")
    assert products.has_unused_vectors()
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert not products.has_unused_vectors()
