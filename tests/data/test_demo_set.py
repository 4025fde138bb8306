"""The embedded demo faces: layout, counts, tables, and that the renderer still makes the committed pictures."""

import csv
import importlib.util
import io
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # the renderer lies beside its data, outside the installed package

from data.renderer.plan import SPLITS, class_counts, faces  # noqa: E402

DEMO = ROOT / "data" / "demo"
IMAGES = DEMO / "Image" / "aligned"


def _table(name: str) -> dict[str, dict[str, str]]:
    with (DEMO / f"{name}.csv").open(newline="") as file:
        return {row["file"]: row for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def labels() -> dict[str, int]:
    lines = (DEMO / "EmoLabel" / "list_patition_label.txt").read_text().splitlines()
    return {name: int(label) for name, label in (line.split() for line in lines)}


@pytest.mark.parametrize("split", ["train", "test"])
def test_class_counts_follow_the_published_imbalance(labels, split):
    total, published = SPLITS[split]
    found = Counter(label for name, label in labels.items() if name.startswith(split))
    assert [found[k] for k in range(1, 8)] == class_counts(total, published)
    assert sum(found.values()) == total
    assert all(abs(found[k] / total - published[k - 1] / sum(published)) < 1 / total for k in range(1, 8))


def test_every_listed_face_is_a_100_px_colour_jpeg_and_nothing_else_is_there(labels):
    files = {path.name for path in IMAGES.iterdir()}
    assert files == {name.replace(".jpg", "_aligned.jpg") for name in labels}
    for name in files:
        with Image.open(IMAGES / name) as image:
            assert (image.format, image.size, image.mode) == ("JPEG", (100, 100), "RGB"), name


def test_the_whole_folder_stays_under_12_mb():
    assert sum(path.stat().st_size for path in DEMO.rglob("*") if path.is_file()) < 12e6


def test_no_two_pictures_are_equal():
    assert len({path.read_bytes() for path in IMAGES.iterdir()}) == len(faces())


def test_identities_do_not_cross_the_splits_and_give_several_faces(labels):
    rows = _table("identity")
    assert rows.keys() == labels.keys()
    train = {row["identity"] for name, row in rows.items() if name.startswith("train")}
    test = {row["identity"] for name, row in rows.items() if name.startswith("test")}
    assert not train & test
    assert np.mean(list(Counter(row["identity"] for row in rows.values()).values())) > 3


def test_landmarks_are_complete_and_lie_where_rafdb_has_eyes_and_mouth(labels):
    rows = _table("landmarks")
    assert rows.keys() == labels.keys()
    points = np.array([[[float(row[f"x{i}"]), float(row[f"y{i}"])] for i in range(68)] for row in rows.values()])
    inner = points[:, 17:]
    inside = ((inner > 0) & (inner < 100)).all((1, 2))  # brows, nose, eyes and mouth; a chin may leave the picture
    assert inside.mean() > 0.995 and (inner < 106).all()  # with a roughly aligned face, now and then a lower lip too
    assert (points[:, :17] > -30).all() and (points[:, :17] < 135).all()
    right_eye, left_eye, mouth = points[:, 36:42].mean(1), points[:, 42:48].mean(1), points[:, 48:68].mean(1)
    assert np.abs(right_eye.mean(0) - (32, 38)).max() < 3 and np.abs(left_eye.mean(0) - (68, 38)).max() < 3
    assert (right_eye[:, 0] < left_eye[:, 0]).all() and (mouth[:, 1] > left_eye[:, 1]).all()
    assert 0.3 < right_eye.std(0).max() < 4  # aligned, but not perfectly


def test_quality_is_written_down_and_varied(labels):
    rows = _table("quality")
    assert rows.keys() == labels.keys()
    score = np.array([float(row["quality"]) for row in rows.values()])
    assert (score >= 0).all() and (score <= 1).all()
    assert np.quantile(score, 0.1) < 0.4 and np.quantile(score, 0.8) > 0.75


def test_low_quality_scores_mean_less_detail(labels):
    rows = _table("quality")

    def detail(name: str) -> float:
        grey = np.asarray(Image.open(IMAGES / name.replace(".jpg", "_aligned.jpg")).convert("L"), float)
        return float(np.abs(np.diff(grey, axis=0)).mean())

    quiet = [name for name in rows if float(rows[name]["noise_sigma"]) < 3]
    worst = [name for name in quiet if float(rows[name]["blur_sigma_px"]) > 1.2]
    best = [name for name in quiet if float(rows[name]["quality"]) > 0.8][:200]
    assert np.mean([detail(n) for n in worst]) < 0.6 * np.mean([detail(n) for n in best])


def test_action_units_agree_with_the_labels(labels):
    rows = _table("action_units")
    assert rows.keys() == labels.keys()

    def mean(unit: str, label: int) -> float:
        return float(np.mean([float(rows[name][unit]) for name in labels if labels[name] == label]))

    assert mean("AU12", 4) > 0.7 > 0.2 > mean("AU12", 7)
    assert mean("AU26", 1) > 0.6 and mean("AU15", 5) > 0.7 and mean("AU4", 6) > 0.7 and mean("AU9", 3) > 0.7
    assert mean("AU20", 2) > 0.7


@pytest.mark.parametrize("number", [3, 700, 1800])
def test_the_renderer_remakes_the_committed_face(number):
    missing = [name for name in ("anny", "mitsuba", "scipy") if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"rendering needs {', '.join(missing)}: pip install -e '.[render]'")
    from data.renderer.make import make

    face = faces()[number - 1]
    jpeg, record = make(face)
    assert record["label"] == face.label
    again = np.asarray(Image.open(io.BytesIO(jpeg)), float)
    committed = np.asarray(Image.open(IMAGES / face.aligned_file), float)
    assert np.abs(again - committed).mean() < 1.0  # of 255: JPEG rounding
    row = _table("landmarks")[face.file]
    assert all(abs(float(row[key]) - value) < 0.02 for key, value in record["landmarks"].items())
