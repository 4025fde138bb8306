"""A run folder and a checkpoint that version 0.1 wrote still open, and the run goes on."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from face_sets import rafdb

from poster_ada.checkpoints.create import load_checkpoint
from poster_ada.data.datasets import open_dataset
from poster_ada.evaluation.predictions import read_predictions
from poster_ada.training.loop import train
from poster_ada.training.runs import Run

OLD = Path(__file__).parents[1] / "data_v01" / "run-0.1"
# What version 0.1 computed with its checkpoint.
LOGITS = [-6.433162, -14.032184, -4.705443, 29.885017, 18.297207, -3.696424, 3.812588]


def test_the_checkpoint_computes_what_it_did():
    images = torch.linspace(-2, 2, 3 * 24 * 24).view(1, 3, 24, 24)
    with torch.no_grad():
        logits = load_checkpoint(OLD / "best.safetensors")(images)[0]
    torch.testing.assert_close(logits, torch.tensor(LOGITS), atol=1e-4, rtol=0)


def test_the_run_tells_what_it_told():
    run = Run(OLD)
    assert run.exists and run.finished and run.config.model.head == "adaface" and run.config.epochs == 1
    assert run.log["train_loss"].to_list() == pytest.approx([110.62102])
    assert run.record["best_epoch"] == 1 and run.record["fingerprint"] == "c1f664ab2dc4b3b4"
    assert len(read_predictions(run.path / "predictions.csv")) == 14


def test_the_run_goes_on(tmp_path):
    run = Run(Path(shutil.copytree(OLD, tmp_path / "run")))
    faces = rafdb(tmp_path / "faces", train=28, test=14)  # as they were made then, but for Pillow's JPEG
    run.write("record.json", run.record | {"fingerprint": open_dataset(faces).fingerprint()})
    first = run.log
    longer = train(replace(run.config, data=str(faces), epochs=2), run.path, device="cpu", quiet=True)
    assert longer.finished and len(longer.log) == 2 and longer.config.epochs == 2
    assert longer.log["train_loss"][0] == first["train_loss"][0] and longer.log["lr"][1] == pytest.approx(2e-3 * 0.86)
    assert "starting_weights" in longer.record
