"""The report's protocol: a training step's logits, and nothing of the model moves."""

import pytest
import torch

from poster_ada.evaluation.protocol import label_margin_logits


@pytest.mark.parametrize("head", ["mlp", "adaface", "arcface", "cosface"])
def test_label_margin_logits_are_those_of_a_training_step(tiny, head):
    model = tiny(head=head, **({"t_alpha": 0.1} if head == "adaface" else {}))
    images, labels = torch.randn(5, 3, 24, 24), torch.tensor([0, 1, 2, 3, 6])
    with torch.no_grad():
        features = model.forward_features(images)
        if head == "adaface":  # q of this batch alone, whatever the running statistics are
            model.head.batch_mean.fill_(features.norm.mean()), model.head.batch_std.fill_(features.norm.std())
        expected = model.head.margin_logits(features.embedding, labels, features.norm)
        if head == "adaface":
            model.head.batch_mean.fill_(20.0), model.head.batch_std.fill_(100.0)
    for training in (True, False):
        model.train(training)
        found = label_margin_logits(model, images, labels)
        torch.testing.assert_close(found, expected)
        assert model.training is training and model.head.training is training and not found.requires_grad
        if head == "adaface":
            assert (model.head.batch_mean.item(), model.head.batch_std.item(), model.head.t_alpha) == (20, 100, 0.1)
