"""Heads by hand: cosines, margins, AdaFace's quality and statistics, and how a configuration finds its head."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from poster_ada.errors import InputError
from poster_ada.model import heads
from poster_ada.model.config import HEADS, PRESETS, PosterConfig
from poster_ada.model.heads import (
    AdaFaceHead,
    ArcFaceHead,
    CosFaceHead,
    Head,
    LdamHead,
    MarginHead,
    MlpHead,
    adacos_scale,
    make_head,
)

LABELS = torch.tensor([0, 2, 1, 2])


def embeddings(count: int = 4, dim: int = 6) -> torch.Tensor:
    return 3 * torch.randn(count, dim, generator=torch.Generator().manual_seed(1))


def head_of(kind, **choices):
    torch.manual_seed(2)
    return kind(6, 3, **choices)


def true_cosines(head, x) -> torch.Tensor:
    return (F.normalize(x) @ F.normalize(head.kernel, dim=0)).gather(1, LABELS[:, None]).squeeze(1)


def test_every_named_head_is_declared_and_found():
    assert set(Head.classes) == set(HEADS) == {"mlp", "adaface", "arcface", "cosface", "ldam"}
    assert [Head.classes[name] for name in HEADS] == [MlpHead, AdaFaceHead, ArcFaceHead, CosFaceHead, LdamHead]
    for of in ("title", "colour"):
        assert len({getattr(head, of) for head in Head.classes.values()}) == 5
    assert all(head.colour.startswith("#") for head in Head.classes.values())


def test_a_new_head_is_one_class(monkeypatch):
    monkeypatch.setattr(Head, "classes", dict(Head.classes))

    class Twice(MlpHead):
        name, title, colour = "twice", "Twice", "#000000"

    class Unnamed(MlpHead):
        pass

    assert Head.classes["twice"] is Twice and Unnamed not in Head.classes.values() and len(Head.classes) == 6
    with pytest.raises(NotImplementedError):
        Head().margin_logits(None, None, None)
    with pytest.raises(NotImplementedError):
        MarginHead.target_cosine(None, None, None)


def test_a_configuration_makes_its_head_with_its_own_settings():
    chosen = dict(scale=8.0, margin=0.7, concentration=0.5, t_alpha=0.25)
    ada = make_head(PosterConfig(head="adaface", **chosen))
    assert {name: getattr(ada, name) for name in chosen} == chosen
    assert tuple(ada.kernel.shape) == (512, 7)
    arc, cos, mlp = (make_head(PosterConfig(head=name, num_classes=8, **chosen))
                     for name in ("arcface", "cosface", "mlp"))
    assert (arc.margin, arc.scale, cos.margin, cos.scale) == (0.7, 8.0, 0.7, 8.0)
    assert type(mlp) is MlpHead and (mlp.in_features, mlp.out_features) == (512, 8) and mlp.bias is not None
    assert [make_head(PosterConfig(head=name)).margin for name in ("adaface", "arcface", "cosface")] == [0.4, 0.5, 0.4]
    assert make_head(PosterConfig(head="arcface", margin=0.0)).margin == 0.0
    assert [ArcFaceHead(6, 3).scale, AdaFaceHead(6, 3).concentration, AdaFaceHead(6, 3).t_alpha] == [64.0, 0.333, 1.0]


def test_mlp_is_one_linear_layer_without_a_margin():
    head, x = head_of(MlpHead), embeddings()
    assert isinstance(head, nn.Linear)
    torch.testing.assert_close(head(x), x @ head.weight.T + head.bias)
    assert torch.equal(head.margin_logits(x, LABELS, x.norm(dim=1)), head(x))


@pytest.mark.parametrize("kind", [AdaFaceHead, ArcFaceHead, CosFaceHead])
def test_class_directions_start_at_unit_length_in_every_direction(kind):
    torch.manual_seed(3)
    kernel = kind(50, 40).kernel
    torch.testing.assert_close(kernel.norm(dim=0), torch.ones(40))
    assert kernel.requires_grad and abs(kernel.mean().item()) < 0.02 and kernel.min() < -0.1 < 0.1 < kernel.max()


@pytest.mark.parametrize("kind", [AdaFaceHead, ArcFaceHead, CosFaceHead])
def test_logits_are_scaled_cosines_whatever_the_lengths(kind):
    head, x = head_of(kind, scale=10.0), embeddings()
    head.kernel.data *= torch.tensor([1.0, 5.0, 0.1])
    expected = 10 * torch.stack([F.cosine_similarity(x, column[None], dim=1) for column in head.kernel.T], 1)
    torch.testing.assert_close(head(x), expected)
    torch.testing.assert_close(head(100 * x), expected)
    with torch.autocast("cpu", torch.bfloat16):
        logits = head(x)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, expected)
    assert head(x.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize("kind", [AdaFaceHead, ArcFaceHead, CosFaceHead])
def test_the_margin_moves_the_true_class_alone(kind):
    head, x = head_of(kind, scale=10.0), embeddings()
    moved = head.margin_logits(x, LABELS, x.norm(dim=1)) != head(x)
    assert torch.equal(moved, F.one_hot(LABELS, 3).bool())


def test_cosface_subtracts_m_and_arcface_adds_it_to_the_angle():
    x = embeddings()
    head = head_of(CosFaceHead, margin=0.3, scale=2.0)
    true = head.margin_logits(x, LABELS, x.norm(dim=1)).gather(1, LABELS[:, None]).squeeze(1)
    torch.testing.assert_close(true, 2 * (true_cosines(head, x) - 0.3))
    head = head_of(ArcFaceHead, margin=0.3, scale=2.0)
    true = head.margin_logits(x, LABELS, x.norm(dim=1)).gather(1, LABELS[:, None]).squeeze(1)
    torch.testing.assert_close(true, 2 * (true_cosines(head, x).acos() + 0.3).cos())


@pytest.mark.parametrize("kind", [AdaFaceHead, ArcFaceHead, CosFaceHead])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_ends_of_the_range_keep_a_finite_gradient(kind, sign):
    head = head_of(kind, scale=1.0)
    x = (sign * 4 * head.kernel.detach().T).requires_grad_()  # straight at the class, or straight away from it
    logits = head.margin_logits(x, torch.arange(3), torch.full((3,), 4.0))
    logits.diagonal().sum().backward()
    assert x.grad.isfinite().all() and logits.isfinite().all()
    end = sign * (1 - (1e-3 if kind is AdaFaceHead else 1e-4))
    cosine = head.cosine(x).diagonal().clamp(-abs(end), abs(end))
    torch.testing.assert_close(cosine, torch.full((3,), end), atol=1e-6, rtol=0)
    if kind is CosFaceHead:
        torch.testing.assert_close(logits.diagonal(), cosine - 0.4)
    if kind is ArcFaceHead:
        angle = min(math.acos(end) + 0.5, math.pi - 1e-4)
        torch.testing.assert_close(logits.diagonal(), torch.full((3,), math.cos(angle)), atol=1e-6, rtol=0)


def test_adaface_moves_angle_and_cosine_by_the_quality():
    head, x = head_of(AdaFaceHead, margin=0.4, scale=2.0, concentration=0.5), embeddings()
    head.eval()
    head.batch_mean.fill_(10.0), head.batch_std.fill_(4.0)
    norms = torch.tensor([10.0, 14.0, 7.0, 90.0])
    q = ((norms - 10) / (4 + 1e-3) * 0.5).clamp(-1, 1)
    assert q[0] == 0 and q[3] == 1 and q[2] < 0
    torch.testing.assert_close(head.quality_indicator(norms), q)
    torch.testing.assert_close(head.quality_indicator(norms[:, None]), q[:, None])
    angle = (true_cosines(head, x).acos() - 0.4 * q).clamp(1e-3, math.pi - 1e-3)
    true = head.margin_logits(x, LABELS, norms).gather(1, LABELS[:, None]).squeeze(1)
    torch.testing.assert_close(true, 2 * (angle.cos() - (0.4 + 0.4 * q)), rtol=1e-4, atol=1e-5)
    lowest, least = (head.quality_indicator(torch.tensor([value])) for value in (0.0, 0.001))
    assert lowest == least
    assert head.quality_indicator(torch.tensor([1e6])) == head.quality_indicator(torch.tensor([100.0]))
    head.batch_mean.fill_(0.0), head.batch_std.fill_(0.0)
    torch.testing.assert_close(head.quality_indicator(torch.tensor([0.0, 5e-4, 1e-3])), torch.full((3,), 0.5))


def test_adaface_angles_stay_between_0_and_pi():
    head = head_of(AdaFaceHead, margin=0.4, scale=1.0).eval()
    head.batch_mean.fill_(0.0), head.batch_std.fill_(1e-6)
    away = -head.kernel.detach().T
    logits = head.margin_logits(away, torch.arange(3), torch.full((3,), 50.0))  # q = 1 turns it towards the class
    angle = math.acos(-1 + 1e-3) - 0.4
    torch.testing.assert_close(logits.diagonal(), torch.full((3,), math.cos(angle) - 0.8), atol=1e-4, rtol=0)
    head.batch_mean.fill_(99.0)  # q = -1 would turn it beyond pi, and towards the class beyond 0
    logits = head.margin_logits(away, torch.arange(3), torch.full((3,), 50.0))
    torch.testing.assert_close(logits.diagonal(), torch.full((3,), math.cos(math.pi - 1e-3)), atol=1e-6, rtol=0)
    head.batch_mean.fill_(0.0)
    logits = head.margin_logits(-away, torch.arange(3), torch.full((3,), 50.0))
    torch.testing.assert_close(logits.diagonal(), torch.full((3,), math.cos(1e-3) - 0.8), atol=1e-6, rtol=0)


def test_adaface_statistics_are_blended_in_training_alone():
    head, x = head_of(AdaFaceHead, t_alpha=0.25), embeddings()
    assert (head.batch_mean.item(), head.batch_std.item()) == (20.0, 100.0)
    assert {"batch_mean", "batch_std"} <= set(head.state_dict())
    norms = torch.tensor([2.0, 4.0, 6.0, 1000.0])
    head.eval().margin_logits(x, LABELS, norms)
    assert head.batch_mean.item() == 20.0
    head.train().margin_logits(x, LABELS, norms)
    seen = torch.tensor([2.0, 4.0, 6.0, 100.0])
    assert head.batch_mean.item() == pytest.approx(0.75 * 20 + 0.25 * seen.mean().item(), rel=1e-5)
    assert head.batch_std.item() == pytest.approx(0.75 * 100 + 0.25 * seen.std().item(), rel=1e-5)
    assert tuple(head.batch_mean.shape) == tuple(head.batch_std.shape) == (1,)


def test_one_norm_moves_the_mean_and_not_the_spread():
    head = head_of(AdaFaceHead)
    head.update_statistics(torch.tensor([[5.0]]))
    assert (head.batch_mean.item(), head.batch_std.item()) == (5.0, 100.0)
    head.update_statistics(torch.zeros(1, 1))
    assert head.batch_mean.item() == pytest.approx(0.001)  # no norm counts as less
    head.update_statistics(torch.tensor([[5.0], [7.0]]))
    assert (head.batch_mean.item(), head.batch_std.item()) == (6.0, pytest.approx(math.sqrt(2)))


def test_statistics_and_margin_send_no_gradient_into_the_norm():
    head, x = head_of(AdaFaceHead), embeddings()
    norms = torch.full((4,), 9.0, requires_grad=True)
    head.margin_logits(x.requires_grad_(), LABELS, norms).sum().backward()
    assert norms.grad is None and x.grad is not None and not head.batch_mean.requires_grad


def test_statistics_are_gathered_only_among_several_processes(monkeypatch):
    gathered = []

    def all_gather(parts, own):
        gathered.append(len(parts))
        parts[0].copy_(own), parts[1].copy_(own + 10)

    monkeypatch.setattr(heads.dist, "is_initialized", lambda: True)
    monkeypatch.setattr(heads.dist, "get_world_size", lambda: 1)
    monkeypatch.setattr(heads.dist, "all_gather", all_gather)
    head = head_of(AdaFaceHead)
    head.update_statistics(torch.tensor([1.0, 3.0]))
    assert not gathered and head.batch_mean.item() == 2.0
    monkeypatch.setattr(heads.dist, "get_world_size", lambda: 2)
    head.update_statistics(torch.tensor([1.0, 3.0]))
    assert gathered == [2] and head.batch_mean.item() == 7.0


@pytest.mark.parametrize("kind", [AdaFaceHead, ArcFaceHead, CosFaceHead])
def test_a_model_without_memory_has_shapes(kind):
    with torch.device("meta"):
        assert kind(6, 3)(torch.empty(5, 6)).shape == (5, 3)


def test_a_head_tells_its_settings():
    assert repr(ArcFaceHead(6, 3, margin=0.25, scale=8.0)) == "ArcFaceHead(dim=6, classes=3, m=0.25, s=8.0)"


@pytest.mark.parametrize("head", ["cosface", "arcface", "adaface"])
def test_the_margin_never_raises_the_true_class(head):
    """The bound that protocol.py proves: winning by the margin implies winning without it."""
    cos = torch.cat((torch.linspace(-1, 1, 2001), torch.tensor([-1 + 1e-4, 1 - 1e-4, -0.999, 0.999]))).double()
    for margin in (0.0, 0.1, 0.4, 0.75, 1.5, 3.0):
        layer = make_head(PosterConfig(head=head, margin=margin)).eval().double()
        held = cos.clamp(-1 + layer.cos_eps, 1 - layer.cos_eps)
        for q in torch.linspace(-1, 1, 41) if head == "adaface" else (torch.tensor(0.0),):
            if head == "adaface":
                layer.quality_indicator = lambda norms, q=q: q.double().expand_as(norms)
            lowered = layer.target_cosine(held[:, None], torch.ones(len(cos), 1).double())[:, 0]
            assert (lowered <= held + 1e-12).all(), (margin, float(q))
            if head == "adaface" and q > 0:
                assert (lowered <= held - margin + 1e-12).all()


@pytest.mark.parametrize("head", ["cosface", "arcface", "adaface"])
def test_whoever_wins_by_the_margin_wins_without_it(head):
    torch.manual_seed(2)
    layer = make_head(PosterConfig(head=head, margin=0.4, embed_dim=8, num_heads=2)).train()
    embedding, labels = torch.randn(20_000, 8) * torch.rand(20_000, 1) * 30, torch.randint(7, (20_000,))
    with torch.no_grad():
        by_margin = layer.margin_logits(embedding, labels, embedding.norm(dim=1)).argmax(1) == labels
        free = layer(embedding).argmax(1) == labels
    assert 100 < by_margin.sum() < free.sum() and (free | ~by_margin).all()


def test_ldam_gives_rare_classes_the_larger_margin():
    head, x = head_of(LdamHead, scale=10.0), embeddings()
    head.count_classes(torch.tensor([1600, 100, 0]))  # a class without faces counts as one with one
    torch.testing.assert_close(head.class_margins, 0.5 * torch.tensor([1600.0, 100.0, 1.0]) ** -0.25)
    head.count_classes(torch.tensor([1600, 100, 100]))
    torch.testing.assert_close(head.class_margins, torch.tensor([0.25, 0.5, 0.5]))
    expected = head(x) - 10 * torch.tensor([0.25, 0.5, 0.5, 0.5])[:, None] * F.one_hot(LABELS, 3)
    torch.testing.assert_close(head.margin_logits(x, LABELS, x.norm(dim=1)), expected)
    assert "class_margins" in head.state_dict()


def test_a_learned_scale_is_learned_and_predicts():
    head, x = head_of(CosFaceHead, scale=20.0, scale_rule="learned"), embeddings()
    fixed = head_of(CosFaceHead, scale=20.0)
    torch.testing.assert_close(head(x), fixed(x))
    F.cross_entropy(head.margin_logits(x, LABELS, x.norm(dim=1)), LABELS).backward()
    assert head.log_scale.grad.abs() > 0 and set(head.state_dict()) - set(fixed.state_dict()) == {"log_scale"}
    with torch.no_grad():
        head.log_scale += math.log(2)
    torch.testing.assert_close(head(x), 2 * fixed(x))


@pytest.mark.parametrize("kind", [AdaFaceHead, LdamHead])
def test_a_simplex_keeps_all_classes_equally_far_apart_and_is_not_learned(kind):
    head, x = head_of(kind, class_vectors="simplex"), embeddings()
    cosines = F.normalize(head.kernel, dim=0).T @ F.normalize(head.kernel, dim=0)
    torch.testing.assert_close(cosines, torch.full((3, 3), -0.5).fill_diagonal_(1.0))
    x.requires_grad_()
    F.cross_entropy(head.margin_logits(x, LABELS, x.norm(dim=1)), LABELS).backward()
    assert head.kernel.grad is None and x.grad.abs().sum() > 0 and "kernel" in head.state_dict()
    with pytest.raises(InputError, match="a simplex of 200 classes does not fit embed_dim 64"):
        replace(PRESETS["nano"], num_classes=200, class_names=(), head="adaface", class_vectors="simplex")


def test_adacos_scale_follows_the_training_batch_alone():
    assert adacos_scale(7) == pytest.approx(math.sqrt(2) * math.log(6))
    head, x = head_of(CosFaceHead, margin=0.0, scale_rule="adacos"), embeddings()
    first = adacos_scale(3)
    torch.testing.assert_close(head.eval()(x), first * head.cosine(x))
    head.margin_logits(x, LABELS, x.norm(dim=1))
    assert float(head.current_scale) == pytest.approx(first)
    cos = head.cosine(x).detach()
    others = (first * cos).exp().masked_fill(F.one_hot(LABELS, 3).bool(), 0).sum(1).mean()
    angle = min(math.pi / 4, float(true_cosines(head, x).acos().median()))
    logits = head.train().margin_logits(x, LABELS, x.norm(dim=1))
    assert float(head.current_scale) == pytest.approx(float(others.log()) / math.cos(angle), rel=1e-4)
    torch.testing.assert_close(logits, head.current_scale * cos)
    assert not logits.isnan().any() and "batch_scale" in head.state_dict()
