"""Training of nano's landmark stream: the error by hand, warps that move points with pixels, and the kept epoch."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from face_sets import rafdb

import poster_ada.training.landmarks as landmarks
from poster_ada.checkpoints.own import read_own
from poster_ada.checkpoints.pretrained import landmark_fields
from poster_ada.data.datasets import open_dataset
from poster_ada.data.transforms import EvaluationTransform
from poster_ada.errors import InputError
from poster_ada.model.config import PRESETS
from poster_ada.model.landmark_stream import LandmarkStream
from poster_ada.training.landmarks import (
    MIRROR,
    MIRROR_FIVE,
    RealPoints,
    five_point_error,
    five_points,
    mean_error,
    normalised_mean_error,
    pictures_and_points,
    real_error,
    train_landmarks,
    warp,
)

NANO = PRESETS["nano"]


@pytest.fixture(scope="module")
def pointed(tmp_path_factory):
    """30 training and 8 test faces with 68 points each, around the places of one face."""
    root = rafdb(tmp_path_factory.mktemp("pointed"), train=30, test=8, sizes=((50, 50),))
    files = [line.split()[0] for line in (root / "EmoLabel" / "list_patition_label.txt").read_text().splitlines()]
    generator = np.random.default_rng(1)
    face = generator.uniform(10, 40, (68, 2))
    face[36], face[45] = (15, 20), (35, 20)
    points = (face + generator.normal(0, 1, (len(files), 68, 2))).reshape(len(files), 136)
    columns = [f"{axis}{i}" for i in range(68) for axis in "xy"]
    pd.DataFrame(points, pd.Index(files, name="file"), columns).to_csv(root / "landmarks.csv")
    return root


def test_the_error_is_the_mean_distance_over_that_of_the_eye_corners():
    true = torch.zeros(2, 68, 2)
    true[:, 45, 0] = torch.tensor([4.0, 10.0])
    predicted = true.clone()
    predicted[0, :34] += torch.tensor([3.0, 4.0])  # half of the points off by 5
    predicted[1, 0] += torch.tensor([0.0, 68.0])
    torch.testing.assert_close(normalised_mean_error(predicted, true), torch.tensor([2.5 / 4, 1.0 / 10]))


def test_mirroring_twice_changes_nothing_and_exchanges_the_eyes():
    assert torch.equal(MIRROR[MIRROR], torch.arange(68))
    assert MIRROR[36] == 45 and MIRROR[8] == 8 and MIRROR[0] == 16 and MIRROR[48] == 54 and MIRROR[30] == 30


def test_points_move_with_the_pixels():
    side, count = 96, 40
    images = torch.full((count, 3, side, side), -1.0)
    points = torch.full((count, 68, 2), 0.5)
    points[:, 36] = torch.tensor([0.35, 0.4])  # one bright spot at this point, no other
    rows, columns = np.mgrid[:side, :side]
    spot = np.exp(-((columns + 0.5 - 0.35 * side) ** 2 + (rows + 0.5 - 0.4 * side) ** 2) / 18)
    images[:] += torch.from_numpy(spot).float()
    moved, found = warp(images, points, torch.Generator().manual_seed(3))
    assert moved.shape == images.shape and found.shape == points.shape
    sides = set()
    for image, point in zip(moved.mean(1), found, strict=True):
        row, column = divmod(int(image.argmax()), side)
        here = torch.tensor([column + 0.5, row + 0.5]) / side
        # A mirrored face's left eye is the other eye's point.
        distances = (point[[36, 45]] - here).norm(dim=1)
        assert distances.min() < 0.03
        sides.add(int(distances.argmin()))
        centre = point[30]
        assert (centre - 0.5).abs().max() <= 0.06 + 0.03
    assert sides == {0, 1}
    spread = (found[:, 36] - found[:, 30]).norm(dim=1) / (points[0, 36] - points[0, 30]).norm()
    one = found[:, 45] - found[:, 30]
    spread = torch.maximum(spread, one.norm(dim=1) / (points[0, 36] - points[0, 30]).norm())
    assert 0.84 < spread.min() < 0.95 < 1.05 < spread.max() < 1.16


def test_a_warp_is_drawn_from_its_generator_alone():
    images, points = torch.randn(9, 3, 8, 8), torch.rand(9, 68, 2)
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        found.append(warp(images, points, torch.Generator().manual_seed(3)))
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_some_pictures_turn_grey_and_all_change_their_light():
    generator = torch.Generator().manual_seed(5)
    images = torch.zeros(300, 3, 8, 8)
    images[:, 0] = 1.0
    moved, _ = warp(images, torch.full((300, 68, 2), 0.5), generator)
    centre = moved[:, :, 4, 4]
    grey = (centre[:, 0] - centre[:, 1]).abs() < 1e-6
    assert 0.2 < grey.float().mean() < 0.4
    gain, offset = (centre[:, 0] - centre[:, 1])[~grey], centre[:, 1][~grey]
    assert 0.6 <= gain.min() < 0.7 and 1.3 < gain.max() <= 1.4
    assert -0.5 <= offset.min() < -0.4 and 0.4 < offset.max() <= 0.5
    torch.testing.assert_close(moved[grey][:, 0], moved[grey][:, 2])


def test_pictures_are_the_streams_and_points_are_fractions(pointed):
    split = open_dataset(pointed).train
    images, points = pictures_and_points(split, NANO)
    assert images.shape == (30, 3, 48, 48) and points.shape == (30, 68, 2)
    torch.testing.assert_close(images[4:5], EvaluationTransform(48, 48, "BGR")(split[4][0][None]))
    torch.testing.assert_close(points[4], torch.from_numpy(split.landmarks[4]) / 50)


def test_a_set_without_points_is_told(tmp_path):
    faces = rafdb(tmp_path / "faces", train=28, test=7)
    with pytest.raises(InputError, match="has no landmarks.csv"):
        train_landmarks(faces, tmp_path / "out.safetensors", epochs=1, quiet=True)


def test_the_mean_error_is_over_all_parts(pointed):
    torch.manual_seed(1)
    stream = LandmarkStream(NANO.landmark_stem, NANO.landmark_stages, NANO.embed_dim, NANO.grid).eval()
    images, points = pictures_and_points(open_dataset(pointed).train, NANO)
    many, more = images.repeat(10, 1, 1, 1), points.repeat(10, 1, 1)  # more than one part of 256
    with torch.no_grad():
        expected = normalised_mean_error(stream.landmarks(stream(images)).unflatten(1, (68, 2)), points).mean().item()
    assert mean_error(stream, many, more) == pytest.approx(expected, rel=1e-4)


def test_training_lowers_the_error_and_writes_what_nano_loads(pointed, tmp_path):
    out = tmp_path / "deep" / "out.safetensors"
    record = train_landmarks(pointed, out, epochs=4, batch_size=9, seed=5, quiet=True)
    description, tensors = read_own(out)
    assert description["model"] == landmark_fields(NANO)
    assert description["training"] == record == json.loads(json.dumps(record))
    assert (record["data"], record["channel_order"], record["epochs"], record["seed"]) == (
        open_dataset(pointed).name, "BGR", 4, 5)
    stream = LandmarkStream(NANO.landmark_stem, NANO.landmark_stages, NANO.embed_dim, NANO.grid)
    stream.load_state_dict(tensors)
    held_out = pictures_and_points(open_dataset(pointed).test, NANO)
    assert mean_error(stream.eval(), *held_out) == pytest.approx(record["test_nme"], abs=1e-4)
    # Points are one face and a little noise, so the average face is hard to beat and easy to reach.
    assert record["validation_nme"] < 0.2 and 0.03 < record["mean_face_nme"] < 0.1
    again = train_landmarks(pointed, tmp_path / "again.safetensors", epochs=4, batch_size=9, seed=5, quiet=True)
    assert again == record and (tmp_path / "again.safetensors").read_bytes() == out.read_bytes()
    other = train_landmarks(pointed, tmp_path / "other.safetensors", epochs=4, batch_size=9, seed=6, quiet=True)
    assert other["validation_nme"] != record["validation_nme"]


def test_it_starts_from_the_demo_faces_and_shows_its_progress(pointed, tmp_path, capsys):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "demo").symlink_to(pointed, target_is_directory=True)  # each test has a folder of its own
    record = train_landmarks(out=tmp_path / "out.safetensors", epochs=2, batch_size=9)
    shown = capsys.readouterr().err
    assert f"validation_error={100 * record['validation_nme']:.2f} %" in shown
    assert record["seed"] == 123 and "landmarks: 100%" in shown and "4/4" in shown and "epoch=2" in shown


def test_the_epoch_with_the_lowest_validation_error_is_kept(pointed, tmp_path, monkeypatch):
    errors, states = iter([0.5, 0.2, 0.3, 0.2, 0.1]), []

    def scripted(stream, images, points):
        assert not stream.training
        states.append({key: value.clone() for key, value in stream.state_dict().items()})
        return next(errors)

    monkeypatch.setattr(landmarks, "mean_error", scripted)
    record = train_landmarks(pointed, tmp_path / "out.safetensors", epochs=4, batch_size=9, quiet=True)
    assert record["validation_nme"] == 0.2 and record["test_nme"] == 0.1
    _, kept = read_own(tmp_path / "out.safetensors")
    for state in (states[1], states[4]):  # what was best is what is tested and written
        assert all(torch.equal(kept[name], value) for name, value in state.items())
    assert not torch.equal(states[1]["stem.0.conv.weight"], states[3]["stem.0.conv.weight"])


def test_five_points_are_the_eyes_nose_and_mouth_corners_of_the_68():
    points = torch.zeros(1, 68, 2)
    points[0, 36:42, 0], points[0, 42:48, 0], points[0, 30, 0] = torch.arange(6.0), torch.arange(6.0) + 10, 7.0
    points[0, 48, 1], points[0, 54, 1] = 3.0, 4.0
    five = five_points(points)
    assert five.tolist() == [[[2.5, 0], [12.5, 0], [7, 0], [0, 3], [0, 4]]]
    assert torch.equal(five_points(points[:, MIRROR]), five[:, MIRROR_FIVE])
    assert five_point_error(points, five + torch.tensor([3.0, 4.0])).item() == pytest.approx(5 / 10)
@pytest.mark.slow
def test_mini_learns_from_real_faces_of_which_five_points_are_known(pointed, tmp_path):
    mini = PRESETS["mini"]
    images, points = pictures_and_points(open_dataset(pointed).train, mini)
    # Real faces whose points lie elsewhere: only learning from them brings these down.
    five = torch.tensor([(0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.8), (0.65, 0.8)]).expand(len(points), 5, 2)
    real = RealPoints("real faces", images, five, images[:8], five[:8])
    record = train_landmarks(pointed, tmp_path / "out.safetensors", 25, 9, seed=5, quiet=True, preset="mini", real=real)
    assert read_own(tmp_path / "out.safetensors")[0]["model"] == landmark_fields(mini)
    assert record["real_faces"] == "real faces" and record["channel_order"] == "grey"
    untaught = train_landmarks(pointed, tmp_path / "alone.safetensors", 25, 9, seed=5, quiet=True, preset="mini")
    tensors = read_own(tmp_path / "alone.safetensors")[1]
    stream = LandmarkStream(mini.landmark_stem, mini.landmark_stages, mini.embed_dim, mini.grid).eval()
    stream.load_state_dict(tensors)
    assert "real_error" not in untaught
    assert record["real_error"] < 0.5 * real_error(stream, real)
