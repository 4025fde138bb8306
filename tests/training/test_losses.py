"""The loss: the published sum, the quality term, and what of the model it reaches."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from small_runs import small

from poster_ada.data.loader import Batch
from poster_ada.errors import InputError
from poster_ada.model.poster import Features, Poster
from poster_ada.training.loop import Objective
from poster_ada.training.losses import class_balanced_weights, quality_loss, recipe_loss
from poster_ada.training.recipe import QUALITY_SOURCES


def batch_of(images, labels, quality=None):
    quality = torch.ones(len(labels)) if quality is None else quality
    return Batch(images, labels, quality, F.one_hot(labels, 7).float())


def test_recipe_loss_is_twice_the_smoothed_cross_entropy_and_the_plain_one():
    logits = torch.randn(5, 7, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([0, 6, 3, 3, 1])
    log_p = logits.log_softmax(1)
    plain = -log_p[range(5), labels].mean()
    for smoothing in (0.0, 0.2, 0.7):
        smoothed = (1 - smoothing) * plain - smoothing * log_p.mean()
        torch.testing.assert_close(recipe_loss(logits, labels, smoothing), 2 * smoothed + plain)
    torch.testing.assert_close(recipe_loss(logits, labels), recipe_loss(logits, labels, 0.2))
    assert recipe_loss(logits.bfloat16(), labels).dtype == torch.float32


def test_quality_loss_is_one_minus_the_correlation():
    norms, quality = torch.rand(50, generator=torch.Generator().manual_seed(1)), torch.linspace(0, 1, 50)
    expected = 1 - torch.corrcoef(torch.stack((norms, quality)))[0, 1]
    torch.testing.assert_close(quality_loss(norms, quality), expected)
    torch.testing.assert_close(quality_loss(3 * quality + 7, quality), torch.tensor(0.0))
    torch.testing.assert_close(quality_loss(-quality, quality), torch.tensor(2.0))
    assert quality_loss(norms.requires_grad_(), torch.ones(50)) == 1  # nothing known, nothing taught
    assert quality_loss(norms.bfloat16(), quality.double()).dtype == torch.float32


def test_quality_term_needs_known_quality_and_reaches_the_norm(faces):
    with pytest.raises(InputError, match="quality_weight 0.5 does not fit augmentation 'warp'"):
        small(faces, quality_weight=0.5)
    config = small(faces, head="adaface", augmentation="camera", quality_weight=0.5)
    torch.manual_seed(1)
    objective = Objective(Poster(config.model), config, torch.ones(7))
    batch = batch_of(torch.randn(8, 3, 24, 24), torch.arange(8) % 7, torch.rand(8))
    landmark_map = objective.model.landmark_map(batch.images)
    with_term, _ = objective(batch, landmark_map)
    objective.config = replace(config, quality_weight=0.0)
    without, _ = objective(batch, landmark_map)
    norms = objective.model.forward_features(batch.images, landmark_map).norm
    torch.testing.assert_close(with_term - without, 0.5 * quality_loss(norms, batch.quality))


def test_votes_are_learnt_where_they_are_asked_for():
    logits, votes = torch.randn(6, 7), torch.rand(6, 7)
    votes /= votes.sum(1, keepdim=True)
    by_hand = -(votes * logits.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(recipe_loss(logits, votes, 0.0), 3 * by_hand)
    labels = torch.arange(6)
    torch.testing.assert_close(recipe_loss(logits, F.one_hot(labels, 7).float(), 0.2), recipe_loss(logits, labels, 0.2))


@pytest.mark.parametrize("targets", ["labels", "votes"])
def test_objective_takes_the_targets_and_the_adjustment_of_its_recipe(faces, targets):
    config = small(faces, label_smoothing=0.0, targets=targets, logit_adjustment=0.7)
    torch.manual_seed(1)
    shares = torch.tensor([0.4, 0.3, 0.1, 0.1, 0.05, 0.05, 0.0])
    objective = Objective(Poster(config.model).eval(), config, shares)
    votes = torch.rand(8, 7)
    batch = batch_of(torch.randn(8, 3, 24, 24), torch.arange(8) % 7)._replace(votes=votes / votes.sum(1, keepdim=True))
    with torch.no_grad():
        loss, _ = objective(batch, objective.model.landmark_map(batch.images))
        adjusted = objective.model(batch.images) + 0.7 * shares.clamp(min=1e-6).log()
    wanted = batch.labels if targets == "labels" else batch.votes
    torch.testing.assert_close(loss, recipe_loss(adjusted, wanted, 0.0), rtol=1e-4, atol=1e-4)


def test_a_face_learnt_with_smoothing_and_adjustment_is_still_told_by_its_class(faces):
    """Smoothed evenly, the loss is smallest where many a face's largest logit is the rarest class's."""
    shares = torch.tensor([0.4, 0.3, 0.13, 0.1, 0.04, 0.028, 0.002])
    objective = Objective(Poster(small(faces).model), small(faces, logit_adjustment=1.0), shares)
    labels = torch.arange(7)
    for spread, right in ((objective.spread, 7), (None, 3)):
        logits = torch.zeros(7, 7, requires_grad=True)
        optimizer = torch.optim.LBFGS([logits], max_iter=200, line_search_fn="strong_wolfe")

        def step(logits=logits, spread=spread, optimizer=optimizer):
            optimizer.zero_grad()
            loss = recipe_loss(logits + objective.adjustment, labels, 0.2, spread=spread)
            loss.backward()
            return loss

        optimizer.step(step)
        assert (logits.argmax(1) == labels).sum() == right
    assert objective.spread.sum() == pytest.approx(1)


def test_objective_counts_margin_free_predictions_and_sees_the_margin(faces):
    torch.manual_seed(1)
    model = Poster(small(faces, head="cosface", margin=0.3, scale=8.0).model).eval()  # BatchNorm as it is
    images = torch.randn(20, 3, 24, 24)
    with torch.no_grad():
        predicted = model(images).argmax(1)
    labels = torch.where(torch.arange(20) < 13, predicted, (predicted + 1) % 7)
    config = small(faces, label_smoothing=0.1)
    loss, correct = Objective(model, config, torch.ones(7))(batch_of(images, labels), model.landmark_map(images))
    assert correct == 13 and not correct.requires_grad
    lowered = model(images) - 8.0 * 0.3 * F.one_hot(labels, 7)
    torch.testing.assert_close(loss, recipe_loss(lowered, labels, 0.1), rtol=1e-4, atol=1e-4)


def test_class_balanced_weights_are_one_over_the_effective_number():
    counts = torch.tensor([8733, 116, 0])
    by_hand = [(1 - 0.999) / (1 - 0.999**n) for n in (8733, 116, 1)]
    weights = class_balanced_weights(counts, 0.999)
    torch.testing.assert_close(weights, torch.tensor([3 * value / sum(by_hand) for value in by_hand]))
    torch.testing.assert_close(class_balanced_weights(counts, 0.0), torch.ones(3))


def test_weights_of_the_loss_are_the_faces(faces):
    logits, labels = torch.randn(6, 7), torch.arange(6)
    each = torch.stack([recipe_loss(logits[[row]], labels[[row]]) for row in range(6)])
    weights = torch.rand(6)
    torch.testing.assert_close(recipe_loss(logits, labels, weights=weights), (weights * each).mean())
    counts = torch.tensor([100.0, 50, 10, 10, 5, 5, 2])
    config = small(faces, class_balance=0.99)
    objective = Objective(Poster(config.model).eval(), config, counts)
    batch = batch_of(torch.randn(8, 3, 24, 24), torch.arange(8) % 7)
    with torch.no_grad():
        loss, _ = objective(batch, objective.model.landmark_map(batch.images))
        logits = objective.model(batch.images)
    expected = recipe_loss(logits, batch.labels, weights=class_balanced_weights(counts, 0.99)[batch.labels])
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-4)


def test_objective_tells_the_head_how_many_faces_each_class_has(faces):
    config = small(faces, head="ldam")
    model = Poster(config.model)
    Objective(model, config, torch.tensor([16.0, 16, 1, 1, 1, 1, 1]))
    assert model.head.class_margins.tolist() == [0.25, 0.25, 0.5, 0.5, 0.5, 0.5, 0.5]


def test_quality_comes_from_where_the_recipe_says(faces):
    features = Features(torch.randn(4, 16), torch.arange(4.0))
    votes = torch.tensor([[0.9, 0.1], [0.2, 0.8], [1.0, 0.0], [0.4, 0.6]])
    batch = Batch(torch.zeros(4), torch.tensor([0, 1, 0, 0]), torch.tensor([1.0, 0.5, 0.2, 0.0]), votes)
    expected = {"norm": [0.0, 1, 2, 3], "shuffled": [3.0, 0, 1, 2], "votes": [0.9, 0.8, 1.0, 0.4],
                "degradation": [1.0, 0.5, 0.2, 0.0]}
    assert set(expected) == set(QUALITY_SOURCES)
    for source, values in expected.items():
        config = small(faces, head="adaface", augmentation="camera", quality_from=source)
        quality = Objective(Poster(config.model), config, torch.ones(7)).quality(features, batch)
        torch.testing.assert_close(quality, torch.tensor(values))
    with pytest.raises(InputError, match="quality_from 'degradation' does not fit augmentation 'warp'"):
        small(faces, quality_from="degradation")
