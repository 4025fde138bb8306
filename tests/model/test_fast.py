"""The fast copy predicts what the model predicts."""

import pytest
import torch
from golden_recipe import KEYS, golden, recipe_images, recipe_state_dict

from poster_ada.checkpoints.create import create_model, load_checkpoint
from poster_ada.errors import InputError
from poster_ada.model.fast import prediction_copy
from poster_ada.model.poster import Poster

IMAGES = torch.randn(19, 3, 48, 48, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", list(KEYS))
def test_float32_agrees_with_the_published_outputs(name, tmp_path):
    path = tmp_path / f"{name}.pth"
    torch.save({"model_state_dict": recipe_state_dict(name)}, path)
    model = prediction_copy(load_checkpoint(path), "float32")
    expected = golden(name)
    with torch.inference_mode():
        features = model.forward_features(recipe_images())
        logits = model.head(features.embedding)
    torch.testing.assert_close(features.embedding, expected["embedding"], atol=1e-4, rtol=0)
    actual = logits if "logits" in expected else logits / model.config.scale
    torch.testing.assert_close(actual, expected.get("logits", expected.get("cosine")), atol=1e-4, rtol=0)


def trained_like(**overrides) -> Poster:
    """A nano model whose BatchNorm statistics and affines are not the trivial ones."""
    torch.manual_seed(0)
    model = create_model("nano", **overrides)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.1)
    return model.eval()


@pytest.mark.parametrize("source", ["embedding", "image", "pre_norm"])
def test_batches_beyond_one_chunk_keep_order_norms_and_logits(source):
    model = trained_like(head="adaface", norm_source=source)
    quick = prediction_copy(model, "float32")
    with torch.inference_mode():
        expected, actual = model.forward_features(IMAGES), quick.forward_features(IMAGES)
        known = quick.forward_features(IMAGES, model.landmark_map(IMAGES))
        torch.testing.assert_close(quick(IMAGES), model(IMAGES), atol=1e-3, rtol=0)
    for features in (actual, known):
        torch.testing.assert_close(features.embedding, expected.embedding, atol=1e-4, rtol=0)
        torch.testing.assert_close(features.norm, expected.norm, atol=1e-4, rtol=1e-5)


def test_bfloat16_stays_close_and_returns_float32():
    model = trained_like()
    with torch.inference_mode():
        expected, actual = model(IMAGES), prediction_copy(model, "bfloat16")(IMAGES)
    assert actual.dtype == torch.float32
    assert (actual - expected).abs().max() < 0.05 * expected.abs().max()


def test_the_model_is_left_as_it_was_and_the_copy_does_not_train():
    model = trained_like().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    quick = prediction_copy(model, "bfloat16")
    assert model.training and not quick.train().training
    assert not any(parameter.requires_grad for parameter in quick.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_copy_can_be_printed_and_auto_keeps_a_narrow_model_in_float32():
    assert repr(prediction_copy(trained_like())) == "FastPoster(depth 2, mlp head, torch.float32)"


def test_an_unknown_precision_is_refused():
    with pytest.raises(InputError, match="int4"):
        prediction_copy(trained_like(), "int4")
