"""What the model promises its users: no labels in predictions, no drift in evaluation, a truly frozen stream."""

import inspect

import pytest
import torch

from poster_ada.checkpoints.create import create_model
from poster_ada.errors import InputError
from poster_ada.evaluation.protocol import label_margin_logits
from poster_ada.model.config import NORM_SOURCES, PosterConfig
from poster_ada.model.poster import Poster
from poster_ada.model.summary import component_table, summary_table

IMAGES = torch.randn(6, 3, 48, 48, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 3, 4, 5])


def nano(**overrides) -> Poster:
    torch.manual_seed(0)
    return create_model("nano", **overrides)


def snapshot(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("head", ["mlp", "adaface", "arcface", "cosface"])
def test_labels_cannot_reach_a_prediction(head):
    model = nano(head=head).eval()
    before = model(IMAGES)
    with pytest.raises(TypeError):
        model(IMAGES, LABELS)
    with pytest.raises(TypeError):
        model(IMAGES, labels=LABELS)
    with pytest.raises(TypeError):
        model.forward_features(IMAGES, labels=LABELS)
    assert list(inspect.signature(model.forward).parameters) == ["images"]
    # The report's protocol, with any labels and in either mode, leaves no trace in the next prediction.
    for labels in (LABELS, LABELS.flip(0)):
        for mode in (True, False):
            label_margin_logits(model.train(mode), IMAGES, labels)
            assert model.training == mode
        assert torch.equal(model(IMAGES), before)
    # A forward pass of training moves the statistics the same way whatever the labels are.
    twins = [nano(head=head).train() for _ in range(2)]
    for twin, labels in zip(twins, (LABELS, LABELS.flip(0)), strict=True):
        twin.margin_logits(IMAGES, labels)
    assert torch.equal(twins[0].eval()(IMAGES), twins[1].eval()(IMAGES))


@pytest.mark.parametrize("head", ["adaface", "arcface", "cosface"])
def test_prediction_is_scaled_cosine_and_the_margin_lowers_only_the_true_class(head):
    model = nano(head=head, scale=10.0).eval()
    logits, margin = model(IMAGES), model.margin_logits(IMAGES, LABELS)
    assert logits.abs().max() <= 10
    true = torch.nn.functional.one_hot(LABELS, 7).bool()
    torch.testing.assert_close(margin[~true], logits[~true])
    assert (margin[true] < logits[true]).all()


@pytest.mark.parametrize("head", ["mlp", "adaface"])
def test_evaluation_changes_no_buffer(head):
    model = nano(head=head).eval()
    before = snapshot(model)
    model(IMAGES)
    model.margin_logits(IMAGES, LABELS)
    label_margin_logits(model, IMAGES, LABELS)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_running_statistics_follow_t_alpha_and_only_in_training():
    model = nano(head="adaface", t_alpha=0.25).train()
    model.margin_logits(IMAGES, LABELS)
    norms = nano(head="adaface").train().forward_features(IMAGES).norm
    assert model.head.batch_mean.item() == pytest.approx(0.75 * 20 + 0.25 * norms.mean().item(), rel=1e-5)
    assert model.head.batch_std.item() == pytest.approx(0.75 * 100 + 0.25 * norms.std().item(), rel=1e-5)


def test_one_image_leaves_the_spread_finite():
    model = nano(head="adaface").eval()
    model.head.train()
    model.margin_logits(IMAGES[:1], LABELS[:1])
    assert model.head.batch_std.item() == 100


def test_landmark_stream_is_frozen_under_train_but_can_be_differentiated_for_grad_cam():
    model = nano().train()
    before = snapshot(model.landmark_stream)
    model.margin_logits(IMAGES, LABELS).sum().backward()
    assert all(p.grad is None for p in model.landmark_stream.parameters())
    assert all(torch.equal(before[k], v) for k, v in model.landmark_stream.state_dict().items())
    images = IMAGES.clone().requires_grad_()
    assert not model.landmark_map(images).requires_grad
    landmark_map = model.eval().landmark_map(images)
    landmark_map.retain_grad()
    model.head(model.forward_features(images, landmark_map).embedding)[:, 0].sum().backward()
    assert landmark_map.grad.abs().sum() > 0


@pytest.mark.parametrize("source", NORM_SOURCES)
def test_norm_source_changes_the_norm_and_not_the_prediction(source):
    model, published = nano(head="adaface", norm_source=source).eval(), nano(head="adaface").eval()
    assert torch.equal(model(IMAGES), published(IMAGES))
    same = torch.allclose(model.forward_features(IMAGES).norm, published.forward_features(IMAGES).norm)
    assert same == (source == "embedding")


def test_no_gradient_flows_through_the_quality():
    model = nano(head="adaface").train()
    features = model.forward_features(IMAGES)
    norms = features.norm.detach().requires_grad_()
    model.head.margin_logits(features.embedding, LABELS, norms).sum().backward()
    assert norms.grad is None


def test_feature_layer_is_the_only_addition_of_the_mlp_variant():
    plain, variant = nano(head="adaface"), nano(head="adaface", feature_layer=True)
    assert set(variant.state_dict()) - set(plain.state_dict()) == {"feature_layer.weight", "feature_layer.bias"}


@pytest.mark.slow
def test_summary_gives_the_published_size_and_cost():
    model = create_model("large")
    total = component_table(model)[-1]
    assert round(total.trainable / 1e6, 1) == 58.0
    assert round(total.multiply_adds / 1e9, 2) == 7.86
    assert "57.995 M" in summary_table(model) and repr(model) == summary_table(model)


@pytest.mark.parametrize("head", ["adaface", "arcface", "cosface"])
def test_every_head_prints(head):
    assert f"{head} head" in repr(nano(head=head))


def test_configuration_round_trips_through_plain_values():
    import json

    config = PosterConfig(head="adaface", num_classes=8, channel_order="RGB", token_mixing=False)
    assert PosterConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("values", "word"),
    [({"head": "softmax"}, "softmax"), ({"norm_source": "pixels"}, "pixels"), ({"channel_order": "GBR"}, "GBR"),
     ({"class_names": ("a", "b")}, "2 class names")],
)
def test_bad_configuration_is_one_sentence(values, word):
    with pytest.raises(InputError, match=word):
        PosterConfig(**values)


def test_wrong_image_size_is_named():
    with pytest.raises(InputError, match="60"):
        nano()(torch.zeros(1, 3, 60, 60))


def test_both_streams_see_every_second_row_and_column():
    images, model = torch.randn(2, 3, 96, 96), nano().eval()
    assert torch.equal(model(images), model(images[..., ::2, ::2]))
