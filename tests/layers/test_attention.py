"""Attention against its explicit forms, torch's own, and what low precision does to it."""

import math
import warnings
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck

from reference import vitgan as reference
from reference.draws import normal, perturb
from vitgan.layers.attention import (
    FUSED_FROM_TOKENS,
    AttentionConfig,
    SelfAttention,
    dot_attention_weights,
    fused_l2_attention,
    l2_attention_weights,
)
from vitgan.layers.linear import EqualizedLinear


def attention(*sizes: Any, **options: Any) -> SelfAttention:
    return SelfAttention(AttentionConfig(*sizes, **options))


def by_head(weights: list[Tensor]) -> Tensor:
    return torch.stack(weights)


def test_l2_weights_equal_the_explicit_pairwise_distances() -> None:
    qk = normal(2, 3, 7, 4)
    expected = torch.stack([by_head([reference.l2_attention_weights(head) for head in sample]) for sample in qk])
    torch.testing.assert_close(l2_attention_weights(qk, qk), expected)
    torch.testing.assert_close(l2_attention_weights(qk.float(), qk.float()), expected.float())


def test_nearer_tokens_weigh_more() -> None:
    """The sign: without the minus of the negative distance every token would attend to the farthest."""
    tokens = torch.tensor([0.0, 1.0, 3.0, 7.0, 15.0])[:, None] * torch.tensor([0.3, 0.4])  # on a line
    weights = l2_attention_weights(tokens[None, None], tokens[None, None])[0, 0]
    distances = torch.cdist(tokens, tokens)
    assert torch.equal(weights.argsort(dim=1, descending=True), distances.argsort(dim=1))
    assert torch.equal(weights.argmax(dim=1), torch.arange(5))


def test_l2_weights_do_not_change_when_all_tokens_shift() -> None:
    qk, shift = normal(2, 3, 7, 4), normal(2, 3, 1, 4, seed=1) * 1000
    torch.testing.assert_close(
        l2_attention_weights(qk + shift, qk + shift), l2_attention_weights(qk, qk), rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("autocast", [False, True])
def test_l2_weights_are_accurate_in_bf16_under_a_large_common_offset(autocast: bool) -> None:
    """Compared with float64 on the same rounded input; the expanded square in bf16 is off by nearly everything."""
    qk = (normal(2, 2, 16, 32) + 30 * normal(1, 1, 1, 32, seed=1)).bfloat16()
    exact = torch.stack([by_head([reference.l2_attention_weights(h) for h in s]) for s in qk.double()])
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        weights = l2_attention_weights(qk, qk)
        expanded = (2 * qk @ qk.transpose(-2, -1) - qk.square().sum(-1).unsqueeze(-2)) / math.sqrt(32)
    assert weights.dtype == torch.float32
    assert (weights - exact).abs().max() < 1e-5
    assert (expanded.float().softmax(-1) - exact).abs().max() > 0.5


def test_l2_weights_differentiate_twice() -> None:
    def tied(qk: Tensor) -> Tensor:
        return l2_attention_weights(qk, qk)

    qk = normal(1, 2, 4, 3).requires_grad_()
    assert gradcheck(tied, qk)
    assert gradgradcheck(tied, qk)


def literal_layer(layer: SelfAttention, x: Tensor) -> Tensor:
    """One sample (N, dim) through the reference, with the layer's own effective weights."""

    def linear(module: nn.Module, tokens: Tensor) -> Tensor:
        assert isinstance(module, EqualizedLinear)
        return tokens @ module.effective_weight().t() + module.state_dict().get("bias", torch.zeros(()))

    projected = [linear(projection, x) for projection in layer.projections.values()]
    q, k, v = (projected[0], projected[0], projected[1]) if layer.kind == "l2" else projected
    p = layer.state_dict()
    q = reference.head_norm(p, "q_norm", q, layer.num_heads)
    k = reference.head_norm(p, "k_norm", k, layer.num_heads)
    return linear(layer.out, reference.attention(q, k, v, layer.num_heads, layer.kind))


@pytest.mark.parametrize("kernel", ["explicit", "fused", "auto"])
@pytest.mark.parametrize("qk_norm", [False, True])
@pytest.mark.parametrize("kind", ["l2", "dot"])
def test_layer_equals_the_loop_over_heads(kind, qk_norm: bool, kernel) -> None:
    layer = perturb(attention(6, 2, kind, qk_norm=qk_norm, kernel=kernel).double())
    x = normal(3, 5, 6)
    torch.testing.assert_close(layer(x)[0], torch.stack([literal_layer(layer, sample) for sample in x]))


@pytest.mark.parametrize("convolutional_projection", [False, True])
@pytest.mark.parametrize("kernel", ["explicit", "fused"])
@pytest.mark.parametrize("qk_norm", [False, True])
@pytest.mark.parametrize("kind", ["l2", "dot"])
def test_rows_of_the_first_queries_are_those_of_all(
    kind, qk_norm: bool, kernel, convolutional_projection: bool
) -> None:
    layer = attention(
        6, 2, kind, "none", True, convolutional_projection, num_prefix_tokens=1, qk_norm=qk_norm, kernel=kernel
    )
    layer, x = perturb(layer.double()), normal(3, 5, 6)
    torch.testing.assert_close(layer(x, num_queries=2)[0], layer(x)[0][:, :2])


@pytest.mark.parametrize("kind", ["l2", "dot"])
def test_auto_takes_the_fused_kernel_for_many_tokens(kind) -> None:
    """Which gives the same to rounding."""
    torch.manual_seed(0)
    layer = attention(8, 2, kind)
    x = normal(1, FUSED_FROM_TOKENS["cpu"][kind], 8, dtype=torch.float32)
    automatic = layer(x)[0]
    layer.kernel = "fused"
    assert torch.equal(automatic, layer(x)[0])
    layer.kernel = "explicit"
    torch.testing.assert_close(automatic, layer(x)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("head_dim", [3, 5, 8, 16])
def test_fused_l2_attention_equals_the_explicit_form_and_its_gradient(head_dim: int) -> None:
    """Widths that are and are not multiples of 8 once the bias has its columns."""
    qk, v = normal(2, 2, 7, head_dim).requires_grad_(), normal(2, 2, 7, head_dim, seed=1).requires_grad_()
    fused, explicit = fused_l2_attention(qk, qk, v), l2_attention_weights(qk, qk) @ v
    torch.testing.assert_close(fused, explicit)
    cotangent = normal(2, 2, 7, head_dim, seed=2)
    ours = torch.autograd.grad((fused * cotangent).sum(), (qk, v))
    exact = torch.autograd.grad((explicit * cotangent).sum(), (qk, v))
    for a, b in zip(ours, exact, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-8)


def test_fused_l2_attention_in_bf16_keeps_the_bias_of_distant_tokens() -> None:
    """Far tokens have large norms, which a bias in bf16 would round by more than whole units of the scores."""
    qk = (normal(1, 2, 32, 16) * 6).bfloat16()
    v = normal(1, 2, 32, 16, seed=1).bfloat16()
    exact = l2_attention_weights(qk.double(), qk.double()) @ v.double()
    result = fused_l2_attention(qk, qk, v)
    assert result.dtype == torch.bfloat16
    assert (result - exact).abs().max() < 0.1


def test_qk_norm_makes_scores_independent_of_the_tokens_size() -> None:
    for kind in ("l2", "dot"):
        layer = attention(8, 2, kind, qk_norm=True)
        for projection in layer.projections.values():
            if "bias" in projection.state_dict():
                nn.init.zeros_(projection.get_parameter("bias"))
        x = normal(1, 5, 8, dtype=torch.float32)
        torch.testing.assert_close(
            layer(100 * x, return_attention=True)[1], layer(x, return_attention=True)[1], rtol=1e-4, atol=1e-5
        )
    assert layer.q_norm is not layer.k_norm
    tied = attention(8, 2, "l2", qk_norm=True)
    assert tied.q_norm is tied.k_norm  # or the distance would not be one


def test_l2_attention_has_one_projection_for_query_and_key() -> None:
    layer = attention(6, 2, "l2")
    assert set(layer.projections) == {"qk", "v"}
    q, k, v = layer.project(normal(1, 5, 6, dtype=torch.float32))
    assert torch.equal(q, k)
    assert not torch.equal(k, v)


def test_dot_attention_equals_torchs() -> None:
    """nn.MultiheadAttention with the same weights, its map included, and the fused function."""
    layer = perturb(attention(6, 2, "dot", equalized=False).double())
    theirs = nn.MultiheadAttention(6, 2, batch_first=True, dtype=torch.float64)
    q, k, v = (layer.projections[name].state_dict() for name in "qkv")
    key_bias = normal(6, seed=3)  # any: it adds the same to every score of a row
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([q["weight"], k["weight"], v["weight"]]))
        theirs.in_proj_bias.copy_(torch.cat([q["bias"], k.get("bias", key_bias), v["bias"]]))
    theirs.out_proj.load_state_dict(layer.out.state_dict())
    x = normal(3, 5, 6)
    expected, weights = theirs(x, x, x, average_attn_weights=False)
    torch.testing.assert_close(layer(x)[0], expected)
    torch.testing.assert_close(layer(x, return_attention=True)[1], weights)
    fused = F.scaled_dot_product_attention(*layer.project(x)).transpose(1, 2).flatten(2)
    torch.testing.assert_close(layer(x)[0], layer.out(fused))


@pytest.mark.parametrize("kind", ["l2", "dot"])
def test_convolutional_projection_is_a_convolution_over_the_token_map(kind) -> None:
    """Class token through the centre tap, borders padded with zeros, then attention as ever."""
    layer = perturb(attention(4, 2, kind, convolutional_projection=True, num_prefix_tokens=1, equalized=False).double())
    x = normal(2, 1 + 9, 4)
    expected = []
    for sample in x:
        projected = [
            reference.convolve_tokens(sample, p.get_parameter("weight"), p.state_dict().get("bias", 0.0))
            for p in layer.projections.values()
        ]
        q, k, v = (projected[0], projected[0], projected[1]) if kind == "l2" else projected
        expected.append(layer.out(reference.attention(q, k, v, 2, kind)))
    torch.testing.assert_close(layer(x)[0], torch.stack(expected))


def test_convolutional_projection_sees_neighbours() -> None:
    """A token's query depends on the eight tokens around it and on no other."""
    layer = attention(4, 1, "l2", convolutional_projection=True, num_prefix_tokens=1)
    x = normal(1, 1 + 25, 4, dtype=torch.float32).requires_grad_()
    query = layer.project(x)[0][0, 0, 1 + 12]  # the map's middle
    (gradient,) = torch.autograd.grad(query.sum(), x)
    reached = gradient[0].abs().sum(dim=1).nonzero().flatten().tolist()
    assert reached == [1 + 5 * y + x for y in (1, 2, 3) for x in (1, 2, 3)]


@pytest.mark.parametrize("kind", ["l2", "dot"])
def test_attention_map_is_a_distribution_in_float32(kind) -> None:
    layer = attention(8, 2, kind)
    x = normal(2, 5, 8, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        weights = layer(x, return_attention=True)[1]
        y = layer(x)[0]
    assert weights.shape == (2, 2, 5, 5)
    assert weights.dtype == torch.float32
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, 2, 5))
    torch.testing.assert_close(y.float(), layer(x)[0], rtol=0.05, atol=0.05)


@pytest.mark.parametrize("convolutional", [False, True])
@pytest.mark.parametrize("kind", ["l2", "dot"])
def test_every_parameter_matters(kind, convolutional: bool) -> None:
    """In float64 a gradient that is zero by symmetry would be below 1e-15; optimisers would follow its rounding."""
    prefix = 1 if convolutional else 0
    layer = attention(6, 2, kind, convolutional_projection=convolutional, num_prefix_tokens=prefix).double()
    (layer(normal(2, 4 + prefix, 6))[0] * normal(2, 4 + prefix, 6, seed=1)).sum().backward()
    for name, parameter in layer.named_parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().max() > 1e-6, name


def test_l2_attention_starts_neither_uniform_nor_on_itself() -> None:
    """At initialisation a token weighs itself about exp(2) times as much as an independent one, at any width."""
    for dim, num_heads in ((48, 2), (96, 1)):
        torch.manual_seed(0)
        layer = attention(dim, num_heads, "l2")
        x = F.layer_norm(normal(8, 24, dim, dtype=torch.float32), (dim,))
        logarithms = layer(x, return_attention=True)[1].log()
        others = (logarithms.sum(-1) - logarithms.diagonal(dim1=-2, dim2=-1)) / 23
        assert abs((logarithms.diagonal(dim1=-2, dim2=-1) - others).mean().item() - 2) < 0.4


def test_query_and_key_norms_of_a_bf16_layer_are_rounded_once() -> None:
    """torch warns where an RMSNorm's input and weight differ in precision; once a process, unless told to always."""
    layer = attention(8, 2, qk_norm=True)
    assert layer.q_norm is not None
    scale = layer.q_norm.weight.data = normal(4, seed=1).bfloat16()
    layer = layer.bfloat16()
    x = normal(2, 5, 8, dtype=torch.float32).bfloat16()
    torch.set_warn_always(True)
    try:
        with warnings.catch_warnings(action="error"):
            q = layer.project(x)[0]
    finally:
        torch.set_warn_always(False)
    layer.q_norm = None
    exact = F.rms_norm(layer.project(x)[0].double(), (4,), scale.double(), eps=1e-6)
    torch.testing.assert_close(q, exact.bfloat16(), rtol=2**-8, atol=0)


def test_dot_weights_in_bf16_are_rounded_once() -> None:
    q, k = normal(1, 2, 8, 16).bfloat16(), normal(1, 2, 8, 16, seed=1).bfloat16()
    exact = torch.softmax(q.double() @ k.double().transpose(-2, -1) / 4, dim=-1)
    weights = dot_attention_weights(q, k)
    assert weights.dtype == torch.float32
    assert (weights - exact).abs().max() < 0.02
