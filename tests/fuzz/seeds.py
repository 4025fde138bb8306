"""Whole files of every kind that comes from outside, for the fuzzer to break."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from poster_ada.checkpoints.create import create_model
from poster_ada.checkpoints.own import save_checkpoint

PICTURES = {"jpg": ("JPEG", {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"}),
            "png": ("PNG", {}), "tif": ("TIFF", {"compression": "tiff_lzw"}), "webp": ("WEBP", {}), "gif": ("GIF", {})}
# Where each label file lies in its set, and a good one.
LABELS = {
    "EmoLabel/list_patition_label.txt": "train_00001.jpg 5\ntrain_00002.jpg 1\ntest_0001.jpg 7\n",
    "train_set/train_annotations_7class.txt": "a.jpg 5\nb c.jpg 0\n",
    "train_set/train_annotations_8class.txt": "a.jpg\t7\n",
    "fer2013.csv": "emotion,pixels,Usage\n" + f"3,{'7 ' * 2303}7,Training\n0,{'9 ' * 2303}9,PrivateTest\n",
    "fer2013new.csv": "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF\n"
                      "Training,fer0000000.png,8,0,0,1,1,0,0,0,0,0\n"
                      "PrivateTest,fer0000001.png,0,9,0,1,0,0,0,0,0,0\n",
    "training.csv": "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,"
                    "arousal\n1/a.jpg,0,0,9,9,1;2,1,0.1,0.2\n",
    "train_labels.csv": "image,label\na.jpg,1\n", "train_set/annotations/1_exp.npy": "",
}

# What else has to lie there, for the set to be recognised.
BESIDE = {
    "train_labels.csv": {"train/1/a.jpg": b""}, "fer2013new.csv": {"fer2013.csv": LABELS["fer2013.csv"].encode()},
    "train_set/annotations/1_exp.npy": {"train_set/images/1.jpg": b""},
    "training.csv": {"Manually_Annotated_Images/1/a.jpg": b""},
    "EmoLabel/list_patition_label.txt": {f"Image/aligned/{name}_aligned.jpg": b"" for name in (
        "train_00001", "train_00002", "test_0001")},
    "train_set/train_annotations_7class.txt": {f"train_set/images/{name}.jpg": b"" for name in ("a", "b c")},
    "train_set/train_annotations_8class.txt": {"train_set/images/a.jpg": b""},
}


class Acts:
    """Unpickled in the ordinary way, it would make a folder."""

    def __reduce__(self) -> tuple:
        return os.mkdir, ("executed",)


def picture_seeds() -> dict[str, bytes]:
    """Small pictures by suffix."""
    pixels = np.random.default_rng(0).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    image = Image.fromarray(pixels).resize((40, 32), Image.Resampling.BILINEAR)
    seeds = {}
    for suffix, (kind, options) in PICTURES.items():
        file = io.BytesIO()
        image.save(file, kind, **options)
        seeds[suffix] = file.getvalue()
    return seeds


def label_seeds() -> dict[str, bytes]:
    """Label files by their place in a set."""
    seeds = {place: text.encode() for place, text in LABELS.items()}
    array = io.BytesIO()
    np.save(array, np.array("3"))
    seeds["train_set/annotations/1_exp.npy"] = array.getvalue()
    return seeds


def checkpoint_seeds(folder: Path) -> dict[str, bytes]:
    """This project's format, both of torch's, harmless and not, and a bare pickle."""
    torch.manual_seed(0)
    model = create_model("nano", head="adaface")
    save_checkpoint(model, folder / "own.safetensors", {"epoch": 1})
    state = OrderedDict(("module." + key, value) for key, value in list(model.state_dict().items())[:8])
    seeds = {"own.safetensors": (folder / "own.safetensors").read_bytes()}
    for name, extra in (("data", np.float64(0.9)), ("code", Acts())):
        for legacy in (False, True):
            file = io.BytesIO()
            torch.save({"state_dict": state, "extra": extra, "optimizer": {"state": {0: {"step": 1}}}}, file,
                       _use_new_zipfile_serialization=not legacy)
            seeds[f"{name}-{'legacy' if legacy else 'zip'}.pth"] = file.getvalue()
    seeds["bare.pth"] = pickle.dumps(Acts())
    return seeds


def pickle_inside(data: bytes) -> bytes | None:
    """The pickle of a zip checkpoint, whose checksum would catch a change from outside."""
    if not data.startswith(b"PK"):
        return None
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))


def with_pickle(data: bytes, content: bytes) -> bytes:
    """The same zip with another pickle in it."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(file, "w") as new:
        for name in old.namelist():
            new.writestr(name, content if name.endswith("data.pkl") else old.read(name))
    return file.getvalue()
