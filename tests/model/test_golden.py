"""Agreement with the published implementation, float32, 1e-4 absolute."""

import pytest
import torch
from golden_recipe import KEYS, RECIPE_LABELS, golden, recipe_images, recipe_state_dict

from poster_ada.checkpoints.create import load_checkpoint
from poster_ada.checkpoints.published import export_published, infer_config, read_published_tensors
from poster_ada.devices import choose_device
from poster_ada.evaluation.protocol import label_margin_logits
from poster_ada.model.config import PRESETS
from poster_ada.model.heads import AdaFaceHead, ArcFaceHead, CosFaceHead


@pytest.fixture(scope="module", params=list(KEYS))
def published(request, tmp_path_factory):
    """(name, model loaded from a published-format file, path of the file)"""
    path = tmp_path_factory.mktemp("published") / f"{request.param}.pth"
    torch.save({"iter": 1, "model_state_dict": recipe_state_dict(request.param, "module.")}, path)
    return request.param, load_checkpoint(path), path


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(
    not torch.cuda.is_available(), reason="no GPU here"))])
def test_every_stage_agrees(published, device):
    name, path = published[0], published[2]
    device = choose_device(device)
    model, expected, images = load_checkpoint(path).to(device), golden(name), recipe_images().to(device)
    with torch.no_grad():
        landmark_map, tokens = model.landmark_map(images), model.image_tokens(images)
        actual = {
            "landmark_map": landmark_map[:, ::32],
            "landmarks": model.landmark_stream.landmarks(landmark_map),
            "image_tokens": tokens[:, ::6, ::32],
            "fused": model.fusion(tokens, landmark_map.flatten(2).mT)[0],
            "embedding": model.forward_features(images).embedding,
        }
        if model.config.head == "mlp":
            actual["logits"] = model(images)
        else:
            actual["norms"] = model.forward_features(images).norm[:, None]
            actual["cosine"] = model(images) / model.config.scale
            actual["margin_logits"] = label_margin_logits(model, images, RECIPE_LABELS.to(device))
    assert set(actual) == set(expected) - {"labels"}
    for stage, value in actual.items():
        torch.testing.assert_close(value.cpu(), expected[stage], atol=1e-4, rtol=0,
                                   msg=lambda m, s=stage: f"{s}: {m}")


def test_export_has_the_published_keys_and_shapes_and_round_trips_bit_for_bit(published, tmp_path):
    name, model, path = published
    export_published(model, tmp_path / "export.pth")
    exported, original = read_published_tensors(tmp_path / "export.pth"), read_published_tensors(path)
    assert {k: list(v.shape) for k, v in exported.items()} == KEYS[name]
    again = load_checkpoint(tmp_path / "export.pth")
    assert again.config == model.config
    assert all(torch.equal(a, b) for a, b in zip(again.state_dict().values(), model.state_dict().values(), strict=True))
    live = [k for k in exported if not k.startswith("ir_back.output_layer") and k != "pyramid_fuse.cls_token"]
    assert all(torch.equal(exported[k], original[k]) for k in live)


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("adaface_0.4", AdaFaceHead(512, 7, 0.4)), ("adaface_0.75", AdaFaceHead(512, 7, 0.75)),
        ("arcface_0.5", ArcFaceHead(512, 7)), ("cosface_0.4", CosFaceHead(512, 7)),
    ],
)
def test_margin_heads_agree(name, head):
    expected = golden("heads")
    head.kernel.data = expected["kernel"]
    features = expected["features"]
    logits = head.train().margin_logits(features, expected["labels"], features.norm(dim=1))
    torch.testing.assert_close(logits, expected[name], atol=1e-4, rtol=0)


@pytest.mark.parametrize("size", ["small", "base", "large"])
def test_presets_are_the_published_sizes(size):
    shapes = {key: torch.empty(shape, device="meta") for key, shape in KEYS[f"rafdb_{size}_mlp"].items()}
    assert infer_config(shapes, "published") == PRESETS[size]
