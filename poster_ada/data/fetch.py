"""Real faces in one command: muxspace/facial_expressions from GitHub (Apache-2.0), converted into RAF-DB's layout.

The set holds LFW and IMFDB faces with one of eight emotions, chosen by students and by an emotion API, so its labels
are noisy. Converted faces are grey: colour gives away which source, and so which class, a face came from. A number
measured on them is not an RAF-DB result.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from tqdm import tqdm

from poster_ada.data.archive import Archive, Folder, download
from poster_ada.data.labels import expression_of
from poster_ada.data.pictures import decode_bytes
from poster_ada.data.splits import disjoint_part, person_in
from poster_ada.errors import InputError
from poster_ada.expressions import RAFDB_CLASSES

URL = "https://github.com/muxspace/facial_expressions/archive/refs/heads/master.zip"
SIDE = 100  # pixels
TEST_SHARE = 0.22
CAPPED = ("Happiness", "Neutral")  # each several times as large as all the others together
CAP = 750  # of each of these
SEED = 123
# Of the set that the study's numbers were measured on: its lines `train_00001.jpg 4 Some_One_0026.jpg happiness`, with
# every setting above. The address names a branch, which may move on.
STUDY_SHA256 = "380948ed6ecdda2f7a662fab7d4de7add8197d2bb9b3438935f3f6e73133adb4"


@dataclass(frozen=True)
class _Face:
    source_file: str
    expression: str
    jpeg: bytes


def fetch_faces(out: Path, archive: str = URL, source: Path | None = None, cap: int = CAP) -> Path:
    """Download (unless `archive` is a file, or `source` an unpacked folder) and convert; returns `out`/raf-basic.

    `cap` keeps at most so many faces of Happiness and of Neutral, 4/5 of them for training; 0 keeps all. The result is
    the same on every run; `out`/origin.json keeps where from: checksums of the archive and of the labels, and commit.
    Raises InputError if the archive cannot be had or is not that set.
    """
    target = out / "raf-basic"
    if target.exists():
        raise InputError(f"{target} exists already; open it, or delete it to fetch the set anew.")
    place: Archive | Folder
    if source is not None:
        place = Folder(source)
    elif archive.startswith(("http://", "https://")):
        place = Archive(download(archive, out / "facial_expressions.zip"))
    else:
        place = Archive(Path(archive))
    faces, dropped = _usable_faces(place)
    splits = _split(faces, cap)
    partial = out / ".raf-basic.partial"
    shutil.rmtree(partial, ignore_errors=True)
    content = _write(partial, splits)
    origin = {"archive": archive if source is None else None, "sha256": None, "commit": None, "content": content,
              "cap": cap}
    if isinstance(place, Archive):
        origin |= {"sha256": place.sha256(), "commit": place.commit}
    (out / "origin.json").write_text(json.dumps(origin, indent=1) + "\n", encoding="utf-8")
    os.replace(partial, target)
    if isinstance(place, Archive) and archive.startswith(("http://", "https://")):
        place.close()
        (out / "facial_expressions.zip").unlink()
    left = ", ".join(f"{count} {reason}" for reason, count in sorted(dropped.items()))
    print(f"{target}: {len(splits['train'])} train, {len(splits['test'])} test faces"
          + (f"; left out: {left}" if left else ""))
    if isinstance(place, Archive):
        print(f"archive: sha256 {origin['sha256']}, commit {place.commit or 'unknown'} (kept in {out / 'origin.json'})")
    if cap == CAP:
        print("this is exactly the set of the study." if content == STUDY_SHA256 else
              "note: this is not exactly the set of the study (its archive has changed since, or Pillow reads "
              f"other pictures as equal); compare numbers with care. Content {content[:16]}, not "
              f"{STUDY_SHA256[:16]}.")
    return target


def _usable_faces(place: Archive | Folder) -> tuple[list[_Face], Counter[str]]:
    """Faces with one certain label, in order of their names, and how many were left out for what reason."""
    labels, dropped = _labels(place)
    groups = defaultdict(list)  # equal pixels -> faces
    for file in tqdm(sorted(labels), "converting", delay=5, unit="face", leave=False):
        data = place.read(f"images/{file}")
        if data is None:
            dropped["without a picture"] += 1
            continue
        try:
            pixels, jpeg = _convert(data, file)
        except InputError:
            dropped["damaged"] += 1
            continue
        groups[hashlib.blake2b(pixels).digest()].append(_Face(file, labels[file], jpeg))
    faces = []
    for same in groups.values():
        if len({face.expression for face in same}) > 1:
            dropped["with contradictory labels"] += len(same)
        else:
            dropped["duplicates"] += len(same) - 1
            faces.append(same[0])
    if not faces:
        raise InputError(f"{place.path} holds no labelled face; it should be the set {URL}.")
    return faces, +dropped


def _labels(place: Archive | Folder) -> tuple[dict[str, str], Counter[str]]:
    """Expression of each picture named in data/legend.csv (columns user.id, image, emotion)."""
    legend = place.read("data/legend.csv")
    if legend is None:
        raise InputError(f"{place.path} holds no data/legend.csv; it should be the set {URL}.")
    try:
        table = pd.read_csv(io.BytesIO(legend), dtype=str, encoding="utf-8-sig")[["image", "emotion"]].dropna()
    except (KeyError, ValueError, pd.errors.ParserError) as error:
        raise InputError(f"data/legend.csv in {place.path} has no columns image and emotion ({error}).") from None
    votes = defaultdict(set)
    dropped: Counter[str] = Counter()
    for image, emotion in zip(table["image"], table["emotion"], strict=True):
        expression = expression_of(emotion)
        votes[image.strip()].add(expression)
    labels = {}
    for image, expressions in votes.items():
        expression, *others = expressions
        if others:
            dropped["with contradictory labels"] += 1
        elif expression not in RAFDB_CLASSES:
            dropped["of another expression"] += 1
        else:
            labels[image] = expression
    return labels, dropped


def _convert(data: bytes, name: str) -> tuple[bytes, bytes]:
    """Grey pixels of the middle square at 100 x 100, and the JPEG with three equal channels made of them."""
    picture = Image.fromarray(decode_bytes(data, name)).convert("L")
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    picture = picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR, (left, top, left + side, top + side))
    file = io.BytesIO()
    picture.convert("RGB").save(file, "JPEG", quality=95, subsampling=0)
    return picture.tobytes(), file.getvalue()


def _split(faces: list[_Face], cap: int) -> dict[str, list[_Face]]:
    """Train and test share no person; both in random order, the same on every run."""
    generator = np.random.default_rng(SEED)
    labels = np.array([RAFDB_CLASSES.index(face.expression) for face in faces])
    testing = disjoint_part(labels, np.array([person_in(face.source_file) for face in faces]), TEST_SHARE, SEED)
    splits: dict[str, list[_Face]] = {"train": [], "test": []}
    room = {(split, expression): limit for expression in CAPPED
            for split, limit in (("train", cap - cap // 5), ("test", cap // 5))} if cap else {}
    for index in generator.permutation(len(faces)):
        split, face = ("test" if testing[index] else "train"), faces[index]
        room_left = room.get((split, face.expression), 1)
        if room_left:
            splits[split].append(face)
            if cap and face.expression in CAPPED:
                room[split, face.expression] = room_left - 1
    return splits


def _write(root: Path, splits: dict[str, list[_Face]]) -> str:
    """Write the set; returns the SHA-256 of its lines of file, label, source and emotion."""
    (root / "EmoLabel").mkdir(parents=True)
    (root / "Image" / "aligned").mkdir(parents=True)
    lines, sources = [], []
    for split, faces in splits.items():
        for number, face in enumerate(faces, 1):
            name = f"{split}_{number:0{5 if split == 'train' else 4}d}"
            (root / "Image" / "aligned" / f"{name}_aligned.jpg").write_bytes(face.jpeg)
            lines.append(f"{name}.jpg {RAFDB_CLASSES.index(face.expression) + 1}\n")
            sources.append((f"{name}_aligned.jpg", face.source_file, face.expression.lower()))
    (root / "EmoLabel" / "list_patition_label.txt").write_text("".join(lines), encoding="utf-8")
    table = pd.DataFrame(sources, columns=["file", "source_file", "emotion"])
    table.to_csv(root / "sources.csv", index=False, lineterminator="\n", encoding="utf-8")
    return content_digest(line.rstrip() + f" {source} {emotion}" for line, (_, source, emotion)
                          in zip(lines, sources, strict=True))


def content_digest(lines: Iterable[str]) -> str:
    """SHA-256, hexadecimal, of lines `file label source emotion`."""
    digest = hashlib.sha256()
    for line in lines:
        digest.update(f"{line}\n".encode())
    return digest.hexdigest()
