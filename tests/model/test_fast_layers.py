"""The layers written for speed compute what torch's own layers compute, forwards and backwards."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops import StochasticDepth

from poster_ada.model.config import PRESETS
from poster_ada.model.fusion import DropPath, scaled_dot_product
from poster_ada.model.poster import Poster
from poster_ada.model.prelu import PReLU


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def results(layer: nn.Module, forward, x: torch.Tensor) -> list[torch.Tensor]:
    """Output and every gradient of `forward`, which uses the parameters of `layer`."""
    layer.zero_grad()
    x = x.clone(memory_format=torch.preserve_format).requires_grad_()
    output = forward(x)
    output.square().sum().backward()
    return [output.detach(), x.grad, *(parameter.grad for parameter in layer.parameters())]


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_prelu_is_torchs(memory_format, dtype):
    layer = PReLU(16)
    layer.weight.data.uniform_(-0.5, 1)
    layer.to(dtype)
    x = noise(4, 16, 6, 6).to(dtype, memory_format=memory_format)
    x[0, :, 0, 0] = 0  # the kink
    actual, expected = results(layer, layer, x), results(layer, lambda x: nn.PReLU.forward(layer, x), x)
    for a, e in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, e)


def test_a_maps_prelu_is_torchs_with_and_without_a_graph_and_keeps_its_layout():
    """Half a register of channels, and sides that are no powers of two."""
    layer = PReLU(8)
    layer.weight.data.uniform_(-0.5, 1)
    for x in (noise(3, 8, 5, 7), noise(3, 8, 5, 7).to(memory_format=torch.channels_last), noise(2, 3, 8, 5, 7)[:, 1]):
        torch.testing.assert_close(layer(x), nn.PReLU.forward(layer, x), rtol=0, atol=0)
        with torch.no_grad():
            y = layer(x)
        torch.testing.assert_close(y, nn.PReLU.forward(layer, x), rtol=0, atol=0)
        assert y.shape == x.shape and y.is_contiguous(memory_format=torch.channels_last) == x.is_contiguous(
            memory_format=torch.channels_last)


def test_prelu_under_autocast_keeps_float32_gradients_of_its_slopes():
    layer = PReLU(16)
    with torch.autocast("cpu", torch.bfloat16):
        output = layer(noise(4, 16, 6, 6).bfloat16())
    output.float().sum().backward()
    assert output.dtype == torch.bfloat16 and layer.weight.grad.dtype == torch.float32


@pytest.mark.parametrize("spatial_tokens", [False, True])
def test_gradients_of_a_channels_last_image_stream_stay_so(spatial_tokens):
    model = Poster(replace(PRESETS["nano"], spatial_tokens=spatial_tokens)).to(memory_format=torch.channels_last)
    kept = []
    for layer in model.image_stream.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.register_full_backward_pre_hook(
                lambda _, gradient: kept.append(gradient[0].is_contiguous(memory_format=torch.channels_last))
            )
    model.margin_logits(noise(2, 3, 48, 48), torch.tensor([0, 1])).sum().backward()
    assert len(kept) > 8 and all(kept)


def test_short_attention_in_bfloat16_is_attention():
    q, k, v = (noise(2, 4, 50, 16 + i)[..., :16].bfloat16() for i in range(3))
    expected = F.scaled_dot_product_attention(q.float(), k.float(), v.float())
    torch.testing.assert_close(scaled_dot_product(q, k, v).float(), expected, atol=0.02, rtol=0.02)


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_drop_path_is_torchvisions(p, dtype):
    x, outputs = noise(64, 5, 8).to(dtype), []
    for layer in (DropPath(p), StochasticDepth(p, "row")):
        torch.manual_seed(7)
        outputs.append(layer.train()(x))
        assert layer.eval()(x) is x
    assert torch.equal(*outputs)
