"""Photographs end to end: are faces found, does alignment keep the accuracy, what is doubted, how long does it take?

    python -m benchmarks.photographs --ferplus data/ferplus --faces data/faces

`pasted`: FER+ validation faces, small, turned and off-centre in larger pictures, against the same faces as crops;
`collages`: up to twelve test faces of another set on varied backgrounds; `doubt`: what is flagged of pictures without
faces, and of faces; `coverage`: how right the rest of the faces is, the surest first; `time`: of each step, and frames
per second of a video, beside a pipeline that one would write from OpenCV and plain torch. Backgrounds come out of
scikit-learn's wheel and, where it is installed, scikit-image's. Nothing but tables is written.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch
from sklearn.datasets import load_sample_images

from poster_ada.data.datasets import open_dataset
from poster_ada.data.pictures import decode
from poster_ada.data.splits import FaceSplit
from poster_ada.errors import InputError, command
from poster_ada.evaluation.matching import match_classes
from poster_ada.evaluation.metrics import compare
from poster_ada.files import write_atomically
from poster_ada.recognition.detector import FaceDetector
from poster_ada.recognition.doubt import LEAST_CONFIDENCE, LEAST_FACE_SCORE
from poster_ada.recognition.recognizer import DEFAULT_CHECKPOINT, Recognizer
from poster_ada.recognition.video import recognise_video

PARTS = ("pasted", "collages", "doubt", "coverage", "time")
# Pictures without a face inside scikit-image's wheel.
TEXTURES = ("brick", "grass", "gravel", "coins", "page", "text", "clock", "moon", "checkerboard", "coffee", "chelsea",
            "hubble_deep_field", "immunohistochemistry", "rocket", "cell", "horse", "colorwheel", "retina", "cat")
CELL, COLUMNS, ROWS = 360, 4, 3  # pixels; places of a collage


def backgrounds() -> dict[str, np.ndarray]:
    """Pictures without a face, uint8 (H, W, 3), by name."""
    samples = load_sample_images()
    found = {Path(name).stem: image for name, image in zip(samples.filenames, samples.images, strict=True)}
    try:
        data = import_module("skimage.data")
    except ModuleNotFoundError:
        return found
    for name in TEXTURES:
        try:
            image = np.asarray(getattr(data, name)())
        except Exception:  # noqa: S112 - not in this wheel: it would be downloaded
            continue
        image = image if image.dtype == np.uint8 else (255.0 * image / image.max()).astype(np.uint8)
        image = image if image.ndim == 3 else np.stack([image] * 3, 2)
        found[name] = np.ascontiguousarray(image[..., :3])
    return found


def paste(canvas: np.ndarray, face: np.ndarray, centre: tuple[float, float], side: float, degrees: float) -> None:
    """Put uint8 (S, S, 3) on the canvas, in place: `side` pixels large, turned about its centre."""
    matrix = cv2.getRotationMatrix2D((face.shape[1] / 2, face.shape[0] / 2), degrees, side / face.shape[0])
    matrix[:, 2] += np.array(centre) - (face.shape[1] / 2, face.shape[0] / 2)
    cv2.warpAffine(face, matrix, canvas.shape[1::-1], dst=canvas, flags=cv2.INTER_CUBIC,
                   borderMode=cv2.BORDER_TRANSPARENT)


def canvas_of(background: np.ndarray, height: int, width: int, random: np.random.Generator) -> np.ndarray:
    """A part of a background, at this size."""
    side = int(random.integers(min(background.shape[:2]) // 2, min(background.shape[:2]) + 1))
    top, left = (int(random.integers(0, most - side + 1)) for most in background.shape[:2])
    return cv2.resize(background[top:top + side, left:left + side], (width, height), interpolation=cv2.INTER_CUBIC)


def pictures_of(split: FaceSplit, rows: Sequence[int]) -> list[np.ndarray]:
    return [np.ascontiguousarray(split[int(row)][0].permute(1, 2, 0).numpy()) for row in rows]


def predictions(split: FaceSplit, rows: Sequence[int], recognizer: Recognizer, crops: Sequence[np.ndarray | None]
                ) -> pd.DataFrame:
    """The table that `compare` takes; a face that was not found is predicted as nothing."""
    match = match_classes(recognizer.class_names, split.class_names)
    there = [crop for crop in crops if crop is not None]
    named = iter(recognizer.recognise(there)[0][:, list(match.outputs)].argmax(1) if there else ())
    names = [split.class_names[split.labels[int(row)]] for row in rows]
    return pd.DataFrame({"file": [split.files[int(row)] for row in rows], "label": names, "prediction": [
        "not found" if crop is None else match.class_names[next(named)] for crop in crops]})


def compared(split: FaceSplit, rows: Sequence[int], recognizer: Recognizer, found: Sequence[np.ndarray | None],
             whole: Sequence[np.ndarray]) -> dict[str, Any]:
    """Accuracy end to end against that of the crops, in percent, with the paired interval; then the same of the faces
    that were found alone: what alignment costs, without what detection misses."""
    ours, theirs = predictions(split, rows, recognizer, found), predictions(split, rows, recognizer, whole)
    there = [crop is not None for crop in found]
    row: dict[str, Any] = {"faces": len(rows)}
    for suffix, a, b in (("", ours, theirs), ("_of_found", ours[there], theirs[there])):
        if len(a):
            test = compare(a, b)
            row |= {f"accuracy{suffix}": 100 * test["accuracy_a"], f"accuracy_of_crops{suffix}": 100 * test[
                "accuracy_b"], f"difference{suffix}": 100 * test["difference"]}
            row |= {f"{end}{suffix}": 100 * value for end, value in zip(("low", "high"), test["interval"], strict=True)}
    return row


def pasted(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Every n-th validation face of FER+ alone on a background, at sizes and turns of its own."""
    split = open_dataset(given.ferplus, check=False, num_classes=8).validation
    if split is None:
        raise InputError(f"{given.ferplus} has no validation faces; give FER+ with --ferplus.")
    rows = np.unique(np.linspace(0, len(split) - 1, min(given.most, len(split))).astype(int))
    recognizer = Recognizer(given.checkpoint, crop="detect", detector=given.detector)
    faces, scenes = pictures_of(split, rows), list(backgrounds().values())
    whole = [recognizer_crop(recognizer, face) for face in faces]
    for low, high in ((60, 100), (100, 200), (200, 300)):
        random, found = np.random.default_rng(123), []
        for face in faces:
            canvas = canvas_of(scenes[int(random.integers(len(scenes)))], 480, 640, random)
            side, degrees = random.uniform(low, high), random.uniform(-20, 20)
            centre = random.uniform(0.6 * side, 640 - 0.6 * side), random.uniform(
                min(240, 0.6 * side), max(240, 480 - 0.6 * side))
            paste(canvas, face, centre, side, degrees)
            inside = [each for each in recognizer.faces_of(canvas)
                      if each.found and holds(centre, side, each.found.box)]
            found.append(inside[0].crop if inside else None)
        yield {"side": f"{low} to {high}", "recall": 100 * np.mean([crop is not None for crop in found]),
               **compared(split, rows, recognizer, found, whole)}


def recognizer_crop(recognizer: Recognizer, face: np.ndarray) -> np.ndarray:
    """A face crop at the model's size, as `--crop none` takes it."""
    side = recognizer.model.config.image_size
    return face if face.shape[0] == side else cv2.resize(face, (side, side), interpolation=cv2.INTER_AREA)


def holds(centre: tuple[float, float], side: float, box: Sequence[float]) -> bool:
    """Whether a detection is that of the face pasted here: its centre lies in it."""
    x, y = box[0] + box[2] / 2 - centre[0], box[1] + box[3] / 2 - centre[1]
    return max(abs(x), abs(y)) < side / 2


def collages(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Up to twelve faces on a background, 60 to 240 pixels large, turned by up to 20 degrees."""
    if not given.faces:
        raise InputError("collages need other faces; give --faces ROOT.")
    dataset = open_dataset(given.faces, check=False)
    split = dataset.test if given.on == "test" else dataset.train
    recognizer = Recognizer(given.checkpoint, crop="detect", detector=given.detector)
    random, scenes = np.random.default_rng(123), list(backgrounds().values())
    rows, found, whole, seen, right = [], [], [], 0, 0
    order = random.permutation(len(split))[:given.most]
    start = 0
    while start < len(order):
        part = order[start:start + int(random.integers(1, COLUMNS * ROWS + 1))]
        start += len(part)
        canvas = canvas_of(scenes[int(random.integers(len(scenes)))], CELL * ROWS, CELL * COLUMNS, random)
        places = []
        for row, place in zip(part, random.permutation(COLUMNS * ROWS), strict=False):
            side = random.uniform(60, 240)
            room = CELL / 2 - 0.65 * side
            centre = ((place % COLUMNS + 0.5) * CELL + random.uniform(-room, room),
                      (place // COLUMNS + 0.5) * CELL + random.uniform(-room, room))
            face = pictures_of(split, [row])[0]
            paste(canvas, face, centre, side, random.uniform(-20, 20))
            places.append((row, centre, side, face))
        detections = [each for each in recognizer.faces_of(canvas) if each.found]
        seen += len(detections)
        for row, centre, side, face in places:
            inside = [each for each in detections if each.found and holds(centre, side, each.found.box)]
            right += bool(inside)
            rows.append(row)
            found.append(inside[0].crop if inside else None)
            whole.append(recognizer_crop(recognizer, face))
    yield {"recall": 100 * right / len(rows), "precision": 100 * right / max(1, seen), "detections": seen,
           **compared(split, rows, recognizer, found, whole)}


def doubt(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """What share of each kind of picture, taken whole, is flagged; for faces also how right the rest is."""
    recognizer = Recognizer(given.checkpoint, crop="none", detector=given.detector)
    split = open_dataset(given.ferplus, check=False, num_classes=8).validation
    assert split is not None and recognizer.detector is not None
    rows = np.unique(np.linspace(0, len(split) - 1, min(given.most, len(split))).astype(int))
    kinds: dict[str, list[np.ndarray]] = {"FER+ validation faces": pictures_of(split, rows)}
    random = np.random.default_rng(123)
    kinds["parts of pictures without faces"] = [
        cv2.resize(canvas_of(image, 96, 96, random), (48, 48), interpolation=cv2.INTER_AREA)
        for image in backgrounds().values() for _ in range(40)]
    kinds["noise"] = [random.integers(0, 256, (48, 48, 3), np.uint8) for _ in range(100)]
    kinds["smooth noise"] = [
        cv2.normalize(cv2.GaussianBlur(image, (0, 0), 4), None, 0, 255, cv2.NORM_MINMAX) for image in kinds["noise"]]
    kinds["one colour"] = [np.full((48, 48, 3), level, np.uint8) for level in range(0, 256, 5)]
    for kind, images in kinds.items():
        confidence = recognizer.recognise(images)[0].max(1)
        score = np.array([recognizer.detector.face_score(image) for image in images])
        row = {"pictures": kind, "number": len(images), "no_face_seen": 100 * np.mean(score < LEAST_FACE_SCORE),
               "not_sure": 100 * np.mean(confidence < LEAST_CONFIDENCE),
               "flagged": 100 * np.mean((score < LEAST_FACE_SCORE) | (confidence < LEAST_CONFIDENCE))}
        if kind.startswith("FER+"):
            right = recognizer.recognise(images)[0].argmax(1) == split.labels[rows]
            kept = (score >= LEAST_FACE_SCORE) & (confidence >= LEAST_CONFIDENCE)
            row |= {"accuracy": 100 * right.mean(), "accuracy_of_the_rest": 100 * right[kept].mean()}
            # What the thresholds of recognition/doubt.py have to be for 95 % of these faces to pass each.
            row |= {"confidence_that_95%_reach": np.quantile(confidence, 0.05),
                    "score_that_95%_reach": np.quantile(score, 0.05)}
        yield row


def coverage(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The risk-coverage curve of FER+ validation faces: how right the surest share of them is; and where doubt lies."""
    recognizer = Recognizer(given.checkpoint, crop="none", detector=given.detector)
    split = open_dataset(given.ferplus, check=False, num_classes=8).validation
    assert split is not None and recognizer.detector is not None
    rows = np.unique(np.linspace(0, len(split) - 1, min(given.most, len(split))).astype(int))
    images = pictures_of(split, rows)
    probabilities = recognizer.recognise(images)[0]
    confidence, right = probabilities.max(1), probabilities.argmax(1) == split.labels[rows]
    surest = right[np.argsort(-confidence, kind="stable")]
    for percent in range(1, 101):
        kept = surest[:max(1, round(len(surest) * percent / 100))]
        yield {"kept_by": "confidence", "coverage": percent, "accuracy": 100 * kept.mean()}
    score = np.array([recognizer.detector.face_score(image) for image in images])
    kept = right[(score >= LEAST_FACE_SCORE) & (confidence >= LEAST_CONFIDENCE)]
    yield {"kept_by": "doubt", "coverage": 100 * len(kept) / len(right), "accuracy": 100 * kept.mean()}


def milliseconds(work: Callable[[], Any], repeats: int = 15) -> float:
    """Median over some runs, after one that warms up."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return 1000 * median(times)


def scene(width: int, height: int, faces: Sequence[np.ndarray], side: int) -> np.ndarray:
    """A picture with these faces in a grid."""
    canvas = canvas_of(next(iter(backgrounds().values())), height, width, np.random.default_rng(1))
    columns = 1 if len(faces) == 1 else 4
    rows = max(1, len(faces) // columns)
    for number, face in enumerate(faces):
        centre = (number % columns + 0.5) * width / columns, (number // columns + 0.5) * height / rows
        paste(canvas, face, centre, side, 0)
    return canvas


def time_(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Milliseconds of each step (align: the second look and the warp) for 1 and 12 faces in a small and a large
    picture; frames per second of a video."""
    faces = pictures_of(open_dataset(given.demo, check=False).test, range(12))
    recognizer = Recognizer(given.checkpoint, detector=given.detector)
    assert recognizer.detector is not None
    with tempfile.TemporaryDirectory() as folder:
        for width, height, number, side in ((640, 480, 1, 200), (640, 480, 12, 120), (4000, 3000, 1, 1200),
                                            (4000, 3000, 12, 700)):
            image = scene(width, height, faces[:number], side)
            path = Path(folder) / "photo.jpg"
            cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
            found = recognizer.faces_of(image)
            table, crops = recognizer(image), [face.crop for face in found]
            row: dict[str, Any] = {"picture": f"{width} x {height}", "faces": number, "found": len(found)}
            row["decode"] = milliseconds(lambda path=path: decode(path))
            row["detect"] = milliseconds(lambda image=image: recognizer.detector.detect(image))  # type: ignore[union-attr]
            row["align"] = max(0.0, milliseconds(lambda image=image: recognizer.faces_of(image)) - row["detect"])
            row["recognise"] = milliseconds(lambda crops=crops: recognizer.recognise(crops))
            row["draw"] = milliseconds(lambda image=image, table=table: recognizer.draw(image, table))
            yield row | {"together": sum(row[step] for step in ("decode", "detect", "align", "recognise", "draw"))}
        path = Path(folder) / "clip.mp4"
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 25, (640, 480))
        still = scene(640, 480, faces[:1], 200)
        for number in range(100):
            writer.write(cv2.cvtColor(np.roll(still, number, 1), cv2.COLOR_RGB2BGR))
        writer.release()
        ways: dict[str, Callable[[], Any]] = {
            "by hand": lambda: by_hand(recognizer, FaceDetector(given.detector), path),
            "default": lambda: list(recognise_video(recognizer, path, None, quiet=True)),
            "default, annotated copy": lambda: list(
                recognise_video(recognizer, path, Path(folder) / "copy.mp4", quiet=True)),
        }
        taken = {way: [] for way in ways}
        for _ in range(5):
            for way, work in ways.items():
                taken[way].append(milliseconds(work, 1))
        for way, values in taken.items():
            yield {"video": way, "frames_per_second": 100_000 / median(values)}


def by_hand(recognizer: Recognizer, detector: FaceDetector, path: Path) -> None:
    """What one would write from OpenCV and torch: detect on every frame, cut out the box, resize, the eager model."""
    capture, model, network = cv2.VideoCapture(str(path)), recognizer.model, detector._network
    while True:
        more, frame = capture.read()
        if not more:
            break
        network.setInputSize((frame.shape[1], frame.shape[0]))
        _, rows = network.detect(frame)
        for x, y, wide, high in np.int32(rows[:, :4]) if rows is not None else ():
            crop = cv2.resize(frame[max(0, y):y + high, max(0, x):x + wide], (48, 48))
            grey = cv2.cvtColor(cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2RGB)
            with torch.no_grad():
                model(recognizer.transform(torch.from_numpy(grey).permute(2, 0, 1)[None])).softmax(1)
    capture.release()


def parser() -> argparse.ArgumentParser:
    """The command's flags."""
    p = argparse.ArgumentParser("python -m benchmarks.photographs", description=__doc__.splitlines()[0])
    p.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="default all")
    p.add_argument("--ferplus", metavar="ROOT", default="data/ferplus", help="default data/ferplus")
    p.add_argument("--faces", metavar="ROOT", help="other real faces, for collages")
    p.add_argument("--on", choices=("test", "train"), default="test", help="which of them (default test; train for "
                   "choosing how faces are found)")
    p.add_argument("--demo", metavar="ROOT", default="data/demo", help="default data/demo")
    p.add_argument("--checkpoint", default=DEFAULT_CHECKPOINT, metavar="FILE", help=f"default {DEFAULT_CHECKPOINT}")
    p.add_argument("--detector", metavar="FILE", help="the detector's file, instead of downloading it")
    p.add_argument("--most", type=int, default=3000, metavar="N", help="faces of a part (default 3000)")
    p.add_argument("--results", type=Path, metavar="DIR", default=Path("results"))
    return p


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    given = parser().parse_args(argv)
    parts = {"pasted": pasted, "collages": collages, "doubt": doubt, "coverage": coverage, "time": time_}
    for part in given.only:
        table = pd.DataFrame(list(parts[part](given)))
        print(table.T.to_string(header=False, float_format="{:.2f}".format), flush=True)
        path = given.results / f"photographs_{part}.csv"
        write_atomically(path, lambda temporary, table=table: table.to_csv(temporary, index=False, float_format="%.5g"))


if __name__ == "__main__":
    main()
