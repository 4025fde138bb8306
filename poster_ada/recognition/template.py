"""`python -m poster_ada.data template ROOT`: measure a set's template, and put it into a checkpoint."""

from __future__ import annotations

from pathlib import Path

from poster_ada.checkpoints.create import load_checkpoint
from poster_ada.checkpoints.names import checkpoint_path
from poster_ada.checkpoints.own import read_own, save_checkpoint
from poster_ada.data.datasets import open_dataset
from poster_ada.errors import InputError
from poster_ada.recognition.alignment import measure_template
from poster_ada.recognition.detector import FaceDetector

NAMES = ("right eye", "left eye", "nose tip", "right mouth corner", "left mouth corner")


def report_template(root: Path, detector: str | None = None, checkpoint: str | None = None) -> None:
    """Measure on the training faces, print, and write into `checkpoint`, if one is given."""
    path = checkpoint_path(checkpoint) if checkpoint else None
    if path is not None and path.suffix != ".safetensors":
        raise InputError(f"{path} is a published file, which has no place for a template; give a .safetensors of this "
                         "project.")
    dataset = open_dataset(root, check=False, needs=("train",))
    measured = measure_template(dataset.train, FaceDetector(detector))
    print(f"{dataset.name}: a face was found in {measured.found} of {measured.faces} training pictures.")
    for name, (x, y) in zip(NAMES, measured.template, strict=True):
        print(f"  {name:18} {x:.3f} {y:.3f}")
    print(f"as shares of the side; faces lie {measured.deviation:.3f} of the side away from this (median).")
    if path is not None:
        model = load_checkpoint(path)
        model.face_template = measured.template
        save_checkpoint(model, path, read_own(path)[0].get("training"))
        print(f"written into {path}")
