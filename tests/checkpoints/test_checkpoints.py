"""Checkpoint files: untrusted ones are only ever read as tensors, broken ones are named in one sentence."""

import json
import os
import pickle
import time
import warnings

import numpy as np
import pytest
import torch
from golden_recipe import recipe_state_dict
from safetensors.torch import save_file

from poster_ada.checkpoints.create import create_model, load_checkpoint
from poster_ada.checkpoints.own import read_own, save_checkpoint
from poster_ada.checkpoints.pretrained import _warn_once, load_ir50, load_mobilefacenet, load_pretrained_parts
from poster_ada.checkpoints.published import export_published
from poster_ada.errors import InputError
from poster_ada.files import write_atomically
from poster_ada.model.fast import prediction_copy


@pytest.fixture(scope="module")
def state():
    return recipe_state_dict("rafdb_small_mlp")


class Malicious:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_that_would_run_code_is_refused(tmp_path, legacy):
    marker, path = tmp_path / "executed", tmp_path / "evil.pth"
    torch.save({"model_state_dict": {"w": torch.zeros(2)}, "x": Malicious(marker)}, path,
               _use_new_zipfile_serialization=not legacy)
    with pytest.raises(InputError, match=r"evil\.pth holds code"):
        load_checkpoint(path)
    assert not marker.exists()


def test_a_bare_malicious_pickle_is_refused(tmp_path):
    marker, path = tmp_path / "executed", tmp_path / "evil.pth"
    path.write_bytes(pickle.dumps(Malicious(marker)))
    with pytest.raises(InputError, match=r"evil\.pth"):
        load_checkpoint(path)
    assert not marker.exists()


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_zip_and_legacy_files_with_and_without_prefix(tmp_path, state, legacy, prefix):
    path = tmp_path / "best.pth.tar"
    torch.save({"epoch": 216, "best_acc": np.float64(0.92), "state_dict": {prefix + k: v for k, v in state.items()}},
               path, _use_new_zipfile_serialization=not legacy)
    model = load_checkpoint(path)
    assert torch.equal(model.head.weight, state["head.linear.weight"])
    assert model.config.depth == 4 and model.config.channel_order == "BGR" and not model.training


@pytest.mark.slow
def test_variants_are_read_from_the_keys(tmp_path):
    path = tmp_path / "c.pth"
    torch.save(recipe_state_dict("affectnet8_large_mlp"), path)
    config = load_checkpoint(path).config
    assert (config.depth, config.num_classes, config.token_mixing, config.channel_order) == (8, 8, False, "RGB")
    assert config.class_names[-1] == "Contempt"
    torch.save(recipe_state_dict("rafdb_small_adaface"), path)
    assert load_checkpoint(path).config.head == "adaface"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "not a PyTorch checkpoint"),
        (b"not a checkpoint at all", "not a PyTorch checkpoint"),
        (b"\n<!DOCTYPE html><html>Google Drive - Virus scan warning", "web page"),
        (b"PK\x03\x04 cut short", "not a PyTorch checkpoint"),
    ],
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_wrong_files_are_named(tmp_path, content, sentence, suffix):
    path = tmp_path / f"wrong{suffix}"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"wrong\.") as error:
        load_checkpoint(path)
    if suffix == ".pth":
        assert sentence in str(error.value)


def test_a_truncated_checkpoint_is_named(tmp_path, state):
    path = tmp_path / "cut.pth"
    torch.save(state, path)
    path.write_bytes(path.read_bytes()[:1_000_000])
    with pytest.raises(InputError, match=r"cut\.pth .*cut short"):
        load_checkpoint(path)


def test_missing_unknown_and_misshapen_tensors_are_named(tmp_path, state):
    path = tmp_path / "c.pth"
    for change, sentence in [
        ({"se_block.linear1.bias": None}, r"lacks se_block\.linear1\.bias"),
        ({"extra.weight": torch.zeros(1)}, r"extra\.weight, which this model does not know"),
        ({"head.linear.bias": torch.zeros(9)}, r"head\.linear\.bias has shape \(9,\), expected \(7,\)"),
        ({"head.linear.weight": None, "head.linear.bias": None}, "not a POSTER checkpoint"),
    ]:
        torch.save({k: v for k, v in (state | change).items() if v is not None}, path)
        with pytest.raises(InputError, match=sentence):
            load_checkpoint(path)
    with pytest.raises(InputError, match="no checkpoint file"):
        load_checkpoint(tmp_path / "absent.pth")


def test_own_format_round_trips_with_its_record(tmp_path):
    model = create_model("nano", head="adaface", margin=0.75, norm_source="pre_norm")
    save_checkpoint(model, tmp_path / "best.safetensors", {"epoch": 3, "data": "demo faces"})
    again = load_checkpoint(tmp_path / "best.safetensors")
    assert again.config == model.config
    assert all(torch.equal(a, b) for a, b in zip(again.state_dict().values(), model.state_dict().values(), strict=True))
    assert read_own(tmp_path / "best.safetensors")[0]["training"] == {"epoch": 3, "data": "demo faces"}
    assert not any(p.requires_grad for p in again.landmark_stream.parameters())
    assert all(p.requires_grad for p in again.image_stream.parameters())


def test_a_foreign_safetensors_file_is_named(tmp_path):
    from safetensors.torch import save_file

    save_file({"w": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    with pytest.raises(InputError, match="not written by this project"):
        load_checkpoint(tmp_path / "foreign.safetensors")


@pytest.mark.parametrize("change", [
    {"depth": 10**7}, {"image_blocks": [10**7, 1, 2]}, {"num_classes": 10**9, "class_names": []}, {"embed_dim": None},
    {"embed_dim": 1 << 40}, {"class_names": 5}, {"image_blocks": "ab"}, {"nonsense": 1}, {"depth": "many"},
], ids=str)
def test_a_damaged_header_is_one_sentence_at_once(tmp_path, change):
    from safetensors.torch import save

    model = create_model("nano")
    path, began = tmp_path / "own.safetensors", time.monotonic()
    header = {"poster_ada": json.dumps({"model": model.config.to_dict() | change, "training": {}})}
    path.write_bytes(save({key: value.contiguous() for key, value in model.state_dict().items()}, header))
    with pytest.raises(InputError, match=r"own\.safetensors has a model configuration that cannot be built"):
        load_checkpoint(path)
    assert time.monotonic() - began < 5


def test_only_published_sizes_export(tmp_path):
    with pytest.raises(InputError, match="only the published sizes"):
        export_published(create_model("nano"), tmp_path / "x.pth")
    assert not list(tmp_path.iterdir())


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing_behind(tmp_path):
    path = tmp_path / "best.safetensors"
    path.write_text("old")

    def fail(temporary):
        temporary.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_atomically(path, fail)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_pretrained_parts_load_and_their_absence_is_warned_of_once(tmp_path, state):
    def part(prefix, translate=lambda k: k):
        return {translate(k[len(prefix):]): v for k, v in state.items() if k.startswith(prefix)}

    ir50 = part("ir_back.") | {"body.21.res_layer.0.weight": torch.zeros(256), "output_layer.4.bias": torch.zeros(512)}
    torch.save(ir50, tmp_path / "ir50.pth")
    torch.save({"state_dict": {f"module.{k}": v for k, v in part("face_landback.").items()}},
               tmp_path / "mobilefacenet_model_best.pth.tar")
    model = create_model("small")
    assert len(load_pretrained_parts(model, tmp_path)) == 2
    assert torch.equal(model.image_stream.stem[0].weight, state["ir_back.input_layer.0.weight"])
    assert torch.equal(model.landmark_stream.head.linear.weight, state["face_landback.output_layer.linear.weight"])
    assert not any(p.requires_grad for p in model.landmark_stream.parameters())
    with pytest.raises(InputError, match="lacks"):
        load_mobilefacenet(model.landmark_stream, tmp_path / "ir50.pth")
    del ir50["body.20.res_layer.4.bias"]
    torch.save(ir50, tmp_path / "ir50.pth")
    with pytest.raises(InputError, match=r"lacks body\.20"):
        load_ir50(model.image_stream, tmp_path / "ir50.pth")

    _warn_once.cache_clear()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            create_model("small", pretrained=tmp_path / "nowhere")
    assert len(caught) == 1 and "random weights" in str(caught[0].message)


def test_temperature_and_face_template_go_with_the_checkpoint(tmp_path):
    model = create_model("nano").eval()
    images = torch.randn(2, 3, 48, 48)
    plain = model(images)
    model.temperature, model.face_template = 2.5, tuple((x / 10, 0.5) for x in range(5))
    save_checkpoint(model, tmp_path / "model.safetensors")
    again = load_checkpoint(tmp_path / "model.safetensors")
    assert (again.temperature, again.face_template) == (model.temperature, model.face_template)
    for predicting in (again, prediction_copy(again, "float32")):
        torch.testing.assert_close(predicting(images), plain / 2.5, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("prediction", [
    {"temperature": 0}, {"temperature": "warm"}, {"temperature": float("nan")}, {"face_template": [[0, 1]]},
    {"face_template": [[0, "left"]] * 5}, [1],
])
def test_unusable_temperatures_and_templates_are_refused(tmp_path, prediction):
    path = tmp_path / "model.safetensors"
    save_checkpoint(create_model("nano"), path)
    description, tensors = read_own(path)
    save_file(tensors, path, {"poster_ada": json.dumps(description | {"prediction": prediction})})
    with pytest.raises(InputError, match="model.safetensors has a temperature or a face template"):
        load_checkpoint(path)
