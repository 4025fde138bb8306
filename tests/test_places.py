"""What students have: blanks and Korean letters in paths, consoles that cannot show them, processes that start anew."""

import os
import subprocess
import sys

import pytest
from face_sets import rafdb

COMMAND = [sys.executable, "-m"]
TINY = ["--preset", "nano", "--epochs", "1", "--batch-size", "8", "--device", "cpu"]


@pytest.mark.slow
def test_blanks_and_korean_letters_in_every_path(tmp_path):
    place = tmp_path / "얼굴 세트"
    rafdb(place / "raf-basic")
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "OMP_NUM_THREADS": "1"}
    run = tmp_path / "실험 1"
    done = subprocess.run([*COMMAND, "poster_ada.train", "--data", str(place), "--run-dir", str(run), *TINY],
                          capture_output=True, cwd=tmp_path, env=environment, check=False)
    assert done.returncode == 0, done.stderr.decode()
    checkpoint = str(run / "best.safetensors")
    done = subprocess.run([*COMMAND, "poster_ada.test", "--data", str(place), "-p", "-c", checkpoint],
                          capture_output=True, cwd=tmp_path, env=environment, check=False)
    assert done.returncode == 0, done.stderr.decode()
    folder, = (tmp_path / "runs").iterdir()
    assert folder.name == "test-실험 1-best-얼굴-세트"
    assert {path.name for path in folder.iterdir()} >= {"predictions.csv", "metrics.json", "confusion_matrix.pdf"}


SPAWNING = """
import multiprocessing
from poster_ada import fit_recipe, open_dataset
from poster_ada.training.loop import train

if __name__ == "__main__":
    multiprocessing.set_start_method("spawn")
    from poster_ada.data import loader, pictures
    loader.CACHE_BYTES = loader.FaceLoader.__init__.__kwdefaults__["cache_bytes"] = 1000  # so that workers decode
    faces = open_dataset("faces", check=False)
    config = fit_recipe(faces, "nano", epochs=1, batch_size=8)
    run = train(config, "run", device="cpu", quiet=True, dataset=faces, workers=2)
    print(run.finished)
"""


@pytest.mark.slow
def test_training_where_processes_start_anew(tmp_path):
    """Windows and macOS spawn: nothing may rely on what a forked process would inherit."""
    rafdb(tmp_path / "faces")
    (tmp_path / "script.py").write_text(SPAWNING, encoding="utf-8")
    done = subprocess.run([sys.executable, "script.py"], capture_output=True, text=True, cwd=tmp_path, check=False,
                          env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=240)
    assert done.stdout.strip().endswith("True"), done.stderr[-2000:]
    assert "do not fit" in done.stderr
