"""`python -m poster_ada.test` on published and own checkpoints, and the prediction behind it."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import face_sets
import numpy as np
import pytest
import torch
from golden_recipe import recipe_state_dict
from PIL import Image

from poster_ada.checkpoints.create import create_model, load_checkpoint
from poster_ada.checkpoints.own import save_checkpoint
from poster_ada.data.datasets import open_dataset
from poster_ada.errors import InputError
from poster_ada.evaluation.predict import predict_split, predict_with_embeddings
from poster_ada.evaluation.predictions import probabilities_of, read_predictions
from poster_ada.evaluation.protocol import label_margin_logits
from poster_ada.expressions import AFFECTNET_CLASSES, RAFDB_CLASSES
from poster_ada.model.poster import Poster
from poster_ada.test import main

TEST_FACES = 40


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    return face_sets.rafdb(tmp_path_factory.mktemp("set"), train=7, test=TEST_FACES)


@pytest.fixture(scope="module")
def split(faces):
    return open_dataset(faces, check=False).test


def nano(**choices) -> Poster:
    torch.manual_seed(0)
    return create_model("nano", **choices).eval()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("run-a") / "best.safetensors"
    save_checkpoint(nano(head="adaface"), path)
    return path


def run(*argv) -> int:
    with pytest.raises(SystemExit) as stopped:
        main([str(value) for value in argv])
    return stopped.value.code


def published_input(paths, image_size, channels=slice(None, None, -1)) -> torch.Tensor:
    """What the published code feeds: Pillow's resize, for RAF-DB BGR under RGB statistics."""
    mean, std = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)
    pictures = [np.asarray(Image.open(path).convert("RGB").resize((image_size,) * 2, Image.BILINEAR)) for path in paths]
    return torch.from_numpy((np.stack(pictures)[..., channels] / np.float32(255) - mean) / std).permute(0, 3, 1, 2)


@pytest.mark.slow
def test_published_checkpoint_through_the_command_equals_eager_float32(tmp_path):
    faces = face_sets.rafdb(tmp_path / "set", train=7, test=8)
    path, out = tmp_path / "rafdb_best.pth", tmp_path / "out"
    torch.save({"model_state_dict": recipe_state_dict("rafdb_small_adaface", "module."), "iter": 3}, path)
    command = [sys.executable, "-m", "poster_ada.test", "--checkpoint", path, "--data", faces, "--out", out, "-p",
               "--val_batch_size", "5", "--gpu", "0,1", "--modeltype", "small", "--optimizer", "adam", "--lr", "4e-5"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

    split = open_dataset(faces, check=False).test
    with torch.no_grad():
        probabilities = load_checkpoint(path)(published_input(split.paths, 224)).softmax(1).numpy()
    table = read_predictions(out / "predictions.csv")
    assert table["file"].to_list() == split.files
    assert table["label"].to_list() == [RAFDB_CLASSES[label] for label in split.labels]
    assert table["prediction"].to_list() == [RAFDB_CLASSES[label] for label in probabilities.argmax(1)]
    np.testing.assert_allclose(probabilities_of(table), probabilities, atol=1e-5)

    accuracy = (table["label"] == table["prediction"]).mean()
    assert f"\nTest accuracy: {accuracy:.4f}\n" in done.stdout
    record = json.loads((out / "metrics.json").read_text())
    assert record["accuracy"] == pytest.approx(accuracy)
    assert [record[key] for key in ("checkpoint", "protocol", "precision", "size", "head", "faces")] == [
        "rafdb_best.pth", "margin-free", "float32", "small", "adaface", 8]
    assert "RAF-DB" not in record["data"] and len(record["sha256"]) == 64
    for kind, start in (("png", b"\x89PNG"), ("pdf", b"%PDF"), ("csv", b"true,Surprise,Fear,Disgust,Happiness,")):
        assert (out / f"confusion_matrix.{kind}").read_bytes().startswith(start)


def test_labels_never_reach_a_prediction(split):
    model = nano(head="adaface")
    wrong = replace(split, labels=(split.labels + 1) % 7)
    columns = [column for column in predict_split(model, split) if column != "label"]
    assert predict_split(model, split)[columns].equals(predict_split(model, wrong)[columns])


def test_predict_gives_norms_and_features_and_leaves_the_model_alone(split):
    model = nano(head="adaface").train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    table, embeddings = predict_with_embeddings(model, split)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert embeddings.shape == (TEST_FACES, 64) and embeddings.dtype == np.float32
    np.testing.assert_allclose(table["norm"], np.linalg.norm(embeddings, axis=1), rtol=1e-5)
    np.testing.assert_allclose(probabilities_of(table).sum(1), 1)
    assert table["prediction"].to_list() == [RAFDB_CLASSES[i] for i in probabilities_of(table).argmax(1)]


@pytest.mark.parametrize(("choices", "tolerance"), [({"batch_size": 7}, 1e-5), ({"precision": "bfloat16"}, 0.1)])
def test_batches_and_precision_change_little(split, choices, tolerance):
    model = nano()
    expected, found = predict_split(model, split), predict_split(model, split, **choices)
    np.testing.assert_allclose(probabilities_of(found), probabilities_of(expected), atol=tolerance)


def test_predict_refuses_what_does_not_fit(split):
    with pytest.raises(InputError, match="classes Surprise.*trained on Neutral, calm: 1 in common"):
        predict_split(nano(num_classes=2, class_names=("Neutral", "calm")), split)
    with pytest.raises(InputError, match="float8"):
        predict_split(nano(), split, precision="float8")
    with pytest.raises(InputError, match="fair"):
        predict_split(nano(), split, protocol="fair")
    broken = nano()
    broken.head.bias.data[2] = torch.nan
    with pytest.raises(InputError, match="test_0001.jpg is not finite"):
        predict_split(broken, split)


def test_label_margin_protocol_says_that_it_is_no_accuracy(faces, split, checkpoint, tmp_path, capsys):
    assert run("-c", checkpoint, "--data", faces, "--out", tmp_path, "--protocol", "label-margin",
               "--val-batch-size", 3) == 0
    model = load_checkpoint(checkpoint)
    images, labels = published_input(split.paths, model.config.image_size), torch.from_numpy(split.labels)
    logits = torch.cat([label_margin_logits(model, *part)  # batches of 32, whatever the flag says
                        for part in zip(images.split(32), labels.split(32), strict=True)])
    table = read_predictions(tmp_path / "predictions.csv")
    np.testing.assert_allclose(probabilities_of(table), logits.softmax(1).numpy(), atol=1e-4)
    assert not np.allclose(probabilities_of(table), probabilities_of(predict_split(model, split)), atol=1e-2)
    score = (logits.argmax(1) == labels).float().mean().item()
    printed = capsys.readouterr().out
    assert f"Label-margin score: {score:.4f} (not an accuracy" in printed and "Test accuracy" not in printed
    record = json.loads((tmp_path / "metrics.json").read_text())
    assert record["label_margin_score"] == pytest.approx(score) and "accuracy" not in record


def test_comparison_and_default_folder(faces, checkpoint, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("--checkpoint", checkpoint, "--data", faces) == 0
    folder = Path("runs") / f"test-{checkpoint.parent.name}-best-{faces.name}"
    assert sorted(path.name for path in folder.iterdir()) == ["metrics.json", "predictions.csv"]
    assert run("--checkpoint", checkpoint, "--data", faces, "--out", "again", "--quiet", "--compare",
               folder / "predictions.csv") == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert "difference +0.0000 (95 % interval +0.0000 to +0.0000)" in last and "McNemar p = 1" in last
    assert json.loads(Path("again/metrics.json").read_text())["compared_with"]["faces"] == TEST_FACES


def test_the_checkpoints_channel_order_wins_and_is_noted(faces, split, tmp_path, capsys):
    model = nano(channel_order="RGB")
    save_checkpoint(model, tmp_path / "rgb.safetensors")
    assert run("-c", tmp_path / "rgb.safetensors", "--data", faces, "--out", tmp_path) == 0
    assert "takes RGB and gets it" in capsys.readouterr().err
    with torch.no_grad():
        expected = model(published_input(split.paths, model.config.image_size, slice(3))).softmax(1).numpy()
    np.testing.assert_allclose(probabilities_of(read_predictions(tmp_path / "predictions.csv")), expected, atol=1e-5)


@pytest.mark.parametrize(("flags", "message"), [
    (["--modeltype", "large"], "is a nano model, not large"),
    (["--dataset", "affectnet"], "data/AffectNet is not there; data/README.md"),
    (["--data", "nowhere"], "nowhere does not exist"),
    (["--compare", "absent.csv"], "there is no prediction table absent.csv"),
    (["--compare", "absent.csv", "--protocol", "label-margin"], "--compare needs accuracies"),
    (["--gpu", "first"], "--gpu first is not a list"),
    (["--val_batch_size", "0"], "must be above 0"),
    (["-c", "absent.pth"], "there is no checkpoint file absent.pth"),
])
def test_wrong_use_is_one_sentence(faces, checkpoint, tmp_path, monkeypatch, capsys, flags, message):
    monkeypatch.chdir(tmp_path)
    data = [] if "--data" in flags or "--dataset" in flags else ["--data", faces]
    assert run("-c", checkpoint, *data, *flags) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_other_classes_are_matched_by_name_and_said(faces, tmp_path, capsys):
    eight = nano(num_classes=8, class_names=AFFECTNET_CLASSES)
    save_checkpoint(eight, tmp_path / "eight.safetensors")
    assert run("-c", tmp_path / "eight.safetensors", "--data", faces, "--out", tmp_path / "out", "-p") == 0
    said = "the set has no Contempt: left out, the other probabilities renormalised"
    assert said in capsys.readouterr().err
    assert said in json.loads((tmp_path / "out" / "metrics.json").read_text())["classes"]
    table = read_predictions(tmp_path / "out" / "predictions.csv")
    assert list(table.columns[4:]) == [f"p_{name.lower()}" for name in RAFDB_CLASSES] and len(table) == TEST_FACES
    assert run("-c", tmp_path / "eight.safetensors", "--data", faces, "--classes", "8") == 2
    assert "has 7 classes, not 8" in capsys.readouterr().err


def test_accuracy_without_the_faces_that_are_in_training_too(tmp_path, checkpoint, capsys):
    faces = face_sets.rafdb(tmp_path / "set", train=7, test=8)
    aligned = faces / "Image" / "aligned"
    for number in (1, 3):  # a mirrored copy and an equal one
        with Image.open(aligned / f"train_0000{number}_aligned.jpg") as picture:
            face = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if number == 1 else picture
            face.save(aligned / f"test_000{number}_aligned.jpg", quality=95)
    assert run("-c", checkpoint, "--data", faces, "--out", tmp_path) == 0
    table = read_predictions(tmp_path / "predictions.csv").set_index("file").drop(["test_0001.jpg", "test_0003.jpg"])
    accuracy = (table["label"] == table["prediction"]).mean()
    assert f"twin in training: {accuracy:.4f} (6 faces)" in capsys.readouterr().out
    record = json.loads((tmp_path / "metrics.json").read_text())
    assert record["faces"] == 8 and record["test_without_twins"]["faces"] == 6
    assert record["test_without_twins"]["accuracy"] == pytest.approx(accuracy)


def test_a_set_with_only_a_test_split_is_tested(tmp_path, checkpoint):
    face_sets.rafdb(tmp_path / "set", train=0, test=7)
    assert run("-c", checkpoint, "--data", tmp_path / "set", "--out", tmp_path) == 0


def test_missing_plotting_is_one_sentence(faces, checkpoint, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert run("-c", checkpoint, "--data", faces, "-p") == 2
    assert "-p needs matplotlib" in capsys.readouterr().err
