"""What the test command does with files that do not tell their margin, and with faces of one name."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from face_sets import rafdb
from golden_recipe import recipe_state_dict
from small_runs import small

from poster_ada.checkpoints.own import save_checkpoint
from poster_ada.evaluation.predictions import probabilities_of, read_predictions
from poster_ada.model.poster import Poster
from poster_ada.test import main


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run(*argv) -> int:
    with pytest.raises(SystemExit) as stopped:
        main([str(word) for word in argv])
    return stopped.value.code


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A published AdaFace file, which tells neither margin nor norm source, and a few faces."""
    folder = tmp_path_factory.mktemp("published")
    torch.save({"model_state_dict": recipe_state_dict("rafdb_small_adaface", "module.")}, folder / "best.pth")
    return folder / "best.pth", rafdb(folder / "faces", train=7, test=6)


@pytest.mark.slow
def test_a_published_file_is_tested_with_the_margin_and_norm_that_are_told(published, capsys):
    checkpoint, faces = published
    words = ("-c", checkpoint, "--data", faces, "--protocol", "label-margin", "--device", "cpu", "--quiet")
    found = {}
    for name, told in {"assumed": (), "margin": ("--margin", 0.75), "norm": ("--norm-source", "pre_norm")}.items():
        assert run(*words, *told, "--out", name) == 0
        said = capsys.readouterr().err
        record = json.loads(Path(name, "metrics.json").read_text(encoding="utf-8"))
        margin, source = 0.75 if name == "margin" else 0.4, "pre_norm" if name == "norm" else "embedding"
        assert (record["margin"], record["norm_source"]) == (margin, source)
        assert f"assumed: margin {margin}, norm source {source} " in said and "--margin and --norm-source" in said
        found[name] = np.log(probabilities_of(read_predictions(Path(name, "predictions.csv"))))
    assert not np.allclose(found["assumed"], found["margin"], atol=1)
    assert not np.allclose(found["assumed"], found["norm"], atol=0.01)


def test_an_own_file_says_its_margin_itself(published, capsys):
    save_checkpoint(Poster(small(Path(), head="adaface", margin=0.3).model), "own.safetensors")
    words = ("-c", "own.safetensors", "--data", published[1], "--protocol", "label-margin", "--out", "out", "--quiet")
    assert run(*words) == 0
    assert "assumed" not in capsys.readouterr().err
    assert json.loads(Path("out/metrics.json").read_text(encoding="utf-8"))["margin"] == 0.3
    assert run(*words, "--margin", "0.5") == 2
    assert "own.safetensors says margin = 0.3 itself; leave out margin 0.5." in capsys.readouterr().err
    assert run(*words, "--margin", "0.3") == 0


def test_a_margin_out_of_range_is_one_sentence(published, capsys):
    assert run("-c", published[0], "--data", published[1], "--margin", "-1") == 2
    error = capsys.readouterr().err
    assert "margin is -1.0; it must be at least 0" in error and error.count("\n") == 1


def test_a_test_on_other_faces_of_one_name_does_not_overwrite_the_first():
    save_checkpoint(Poster(small(Path()).model), "own.safetensors")
    first, second = rafdb(Path("a/faces"), train=7, test=7), rafdb(Path("b/faces"), train=7, test=9)
    for faces in (first, second, first):
        assert run("-c", "own.safetensors", "--data", faces, "--quiet") == 0
    tables = {path.parent.name: len(read_predictions(path)) for path in Path("runs").glob("*/predictions.csv")}
    other = next(name for name in tables if name != "test-own-faces")
    assert tables == {"test-own-faces": 7, other: 9} and other.startswith("test-own-faces-")
    assert run("-c", "own.safetensors", "--data", first, "--quiet", "--protocol", "label-margin") == 0
    assert sorted(path.name for path in Path("runs").iterdir()) == sorted([*tables, "test-own-faces-label-margin"])
