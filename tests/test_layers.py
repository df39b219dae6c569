from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from musegen.models import attention, fused
from musegen.models.attention import Rotation, Segments, attend, rotate
from musegen.models.layers import Block, RMSNorm

HEADS, KV, SIZE = 4, 2, 8


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def plain_attention(mixed, turning, segments):
    """Attention as the books have it: one big table of scores."""
    batch, length, _ = mixed.shape
    parts = mixed.view(batch, length, HEADS + 2 * KV, SIZE).transpose(1, 2)
    q = parts[:, :HEADS].reshape(batch, KV, HEADS // KV, length, SIZE)
    k, v = parts[:, HEADS : HEADS + KV, None].squeeze(2), parts[:, HEADS + KV :]
    cos, sin = turning
    q, k = rotate(q, cos, sin), rotate(k, cos[:, :, 0], sin[:, :, 0])
    scores = torch.einsum("bkgis,bkjs->bkgij", q, k) * SIZE**-0.5
    allowed = torch.ones(length, length, dtype=torch.bool).tril()
    allowed = allowed & (segments[:, :, None] == segments[:, None, :])
    scores = scores.masked_fill(~allowed[:, None, None], -torch.inf)
    read = torch.einsum("bkgij,bkjs->bkgis", scores.softmax(-1), v)
    return read.reshape(batch, HEADS, length, SIZE).transpose(1, 2).reshape(batch, length, -1)


def inputs(batch=2, length=150, axes=(0, 1), dtype=torch.float64):
    mixed = torch.randn(batch, length, (HEADS + 2 * KV) * SIZE, dtype=dtype)
    rotation = Rotation(SIZE, axes, (1.0, 0.5), 100.0).double()
    places = torch.stack(
        (torch.arange(length).double(), torch.arange(length).double() ** 0.5), dim=-1
    )
    return mixed, tuple(t.to(dtype) for t in rotation(places.expand(batch, length, 2)))


def packed(batch, length, documents):
    lengths = torch.arange(length) * documents // length + 1
    segments = lengths.expand(batch, length).clone()
    segments[0, -5:] = 0  # padding
    return segments


@pytest.mark.parametrize("axes", [(0, 0), (0, 1)])
@pytest.mark.parametrize("documents", [1, 3, 40])
@pytest.mark.parametrize("length", [1, 63, 64, 65, 150])
def test_chunked_attention_is_attention(axes, documents, length):
    mixed, turning = inputs(length=length, axes=axes)
    mixed.requires_grad_(True)
    segments = packed(2, length, documents)
    if documents == 1:
        segments = torch.ones_like(segments)
    prepared = Segments.of(segments, True, mixed.dtype)
    weight = torch.randn(2, length, HEADS * SIZE, dtype=mixed.dtype)
    weight = weight * (segments != 0)[..., None]  # what padding reads does not matter
    found = attend(mixed, HEADS, KV, turning, prepared)
    (found * weight).sum().backward()
    grad, mixed.grad = mixed.grad, None
    expected = plain_attention(mixed, turning, segments)
    (expected * weight).sum().backward()
    real = segments != 0
    torch.testing.assert_close(found[real], expected[real])
    torch.testing.assert_close(grad, mixed.grad)


def test_chunked_attention_in_bfloat16_is_near():
    mixed, turning = inputs(dtype=torch.float32)
    segments = packed(2, 150, 3)
    expected = plain_attention(mixed, turning, segments)
    prepared = Segments.of(segments, True, torch.bfloat16)
    found = attend(mixed.bfloat16(), HEADS, KV, turning, prepared)
    real = segments != 0
    assert (found.float() - expected)[real].abs().max() < 0.05


def test_the_mask_for_other_devices_says_the_same():
    segments = packed(2, 20, 3)
    mask = Segments.of(segments, False, torch.float32).mask
    allowed = torch.ones(20, 20, dtype=torch.bool).tril()
    assert torch.equal(mask[:, 0], allowed & (segments[:, :, None] == segments[:, None, :]))
    one = Segments.of(torch.ones(2, 20, dtype=torch.long), False, torch.float32).mask
    assert torch.equal(one[:, 0], allowed.expand(2, 20, 20))


@pytest.mark.gpu
def test_attention_on_the_gpu_is_attention():
    mixed, turning = inputs(dtype=torch.float32)
    segments = packed(2, 150, 3)
    expected = plain_attention(mixed, turning, segments)
    on_gpu = [each.cuda() for each in (mixed, *turning)]
    prepared = Segments.of(segments.cuda(), False, torch.float32)
    found = attend(on_gpu[0], HEADS, KV, (on_gpu[1], on_gpu[2]), prepared).cpu()
    real = segments != 0
    torch.testing.assert_close(found[real], expected[real], atol=1e-3, rtol=1e-3)


def test_rotation_sees_distances_only():
    rotation = Rotation(SIZE, (0,), (1.0,), 100.0)
    q, k = torch.randn(2, 1, 1, 1, 1, SIZE)

    def score(a, b):
        turned = [rotate(x, *rotation(torch.tensor([[[place]]]))) for x, place in ((q, a), (k, b))]
        return float((turned[0] * turned[1]).sum())

    assert score(3.25, 1.0) == pytest.approx(score(103.25, 101.0), abs=1e-4)
    assert score(3.25, 1.0) != pytest.approx(score(3.75, 1.0), abs=1e-4)


def test_each_kv_head_follows_its_axis():
    rotation = Rotation(SIZE, (0, 1), (1.0, 0.5), 100.0)
    cos, _ = rotation(torch.tensor([[[2.0, 4.0]]]))
    assert cos.shape == (1, 2, 1, 1, SIZE // 2)
    torch.testing.assert_close(cos[:, 0], cos[:, 1])  # 2 * 1.0 = 4 * 0.5
    cos, _ = rotation(torch.tensor([[[2.0, 5.0]]]))
    assert not torch.allclose(cos[:, 0], cos[:, 1])


@pytest.mark.parametrize("rows", [1, 5, 2500])
@pytest.mark.parametrize("added", [True, False])
def test_the_fused_norm_is_the_norm(rows, added):
    x, y, w, g, h = (torch.randn(rows, 6, dtype=torch.float64) for _ in range(5))
    w = w[0]
    leaves = [x, w, *([y] if added else [])]
    for leaf in leaves:
        leaf.requires_grad_(True)
    total, out = (
        fused.add_norm(x, y, w, 1e-5, x.dtype) if added else (x, fused.norm(x, w, 1e-5, x.dtype))
    )
    found = torch.autograd.grad((total * g).sum() + (out * h).sum(), leaves)
    total = x + y if added else x
    plain = F.rms_norm(total, (6,), w, 1e-5)
    expected = torch.autograd.grad((total * g).sum() + (plain * h).sum(), leaves)
    torch.testing.assert_close(out, plain)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_the_fused_norm_when_only_the_norm_is_used():
    x, y = torch.randn(2, 3, 6, dtype=torch.float64, requires_grad=True)
    w = torch.ones(6, dtype=torch.float64)
    out = fused.add_norm(x, y, w, 1e-5, x.dtype)[1].square().sum()
    expected = F.rms_norm(x + y, (6,), w, 1e-5).square().sum()
    for one, other in zip(
        torch.autograd.grad(out, (x, y)), torch.autograd.grad(expected, (x, y)), strict=True
    ):
        torch.testing.assert_close(one, other)


def test_the_fused_gate_is_the_gate():
    x = torch.randn(2, 700, 10, dtype=torch.float64, requires_grad=True)
    g = torch.randn(2, 700, 5, dtype=torch.float64)
    first, second = x.chunk(2, -1)
    expected = F.silu(first) * second
    out = fused.gate(x)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(
        torch.autograd.grad((out * g).sum(), x), torch.autograd.grad((expected * g).sum(), x)
    )


def test_the_norm_answers_in_the_working_type():
    norm, x = RMSNorm(8, 1e-5), torch.randn(2, 8)
    assert norm(x).dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert norm(x).dtype == torch.bfloat16
        total, normed = norm.after(x, torch.randn(2, 8).bfloat16())
    assert total.dtype == torch.float32 and normed.dtype == torch.bfloat16


def test_a_block_keeps_shapes_and_drops_in_training_only():
    block = Block(32, HEADS, KV, 64, 1e-5, dropout=0.5)
    x = torch.randn(1, 5, 32)
    turning = Rotation(SIZE, (0, 0), (1.0,), 100.0)(torch.zeros(1, 5, 1))
    nothing = Segments(None, None)
    one, two = (block(x, None, turning, nothing)[1] for _ in range(2))
    assert one.shape == x.shape and not torch.equal(one, two)
    block.eval()
    one, two = (block(x, None, turning, nothing)[1] for _ in range(2))
    assert torch.equal(one, two)


def test_chunk_is_what_the_tests_cross():
    assert attention.CHUNK == 64, "lengths of the first test stand on both sides of it"


@pytest.mark.parametrize("codes", [False, True])
def test_weights_computed_again_give_the_same_derivative(monkeypatch, codes):
    mixed = torch.randn(2, 150, (HEADS + 2 * KV) * SIZE)
    turning = Rotation(SIZE, (0, 0), (1.0,), 100.0)(torch.arange(150.0).expand(2, 150)[..., None])
    numbers = torch.arange(150) // 40 + 1 if codes else torch.ones(150, dtype=torch.long)
    segments = Segments.of(numbers.expand(2, 150), True, torch.float32)
    found = []
    for kept in (1024, 100):
        monkeypatch.setattr(attention, "KEPT", kept)
        entry = mixed.clone().requires_grad_()
        out = attention.attend(entry, HEADS, KV, turning, segments)
        out.square().sum().backward()
        found.append((out.detach(), entry.grad))
    assert torch.equal(found[0][0], found[1][0]) and torch.equal(found[0][1], found[1][1])
