"""Fetching and converting the public face set, against an archive of the tests' own making."""

import hashlib
import http.server
import json
import threading
import zipfile

import numpy as np
import pandas as pd
import pytest
from face_sets import picture

from poster_ada.data import fetch as fetching
from poster_ada.data.__main__ import main
from poster_ada.data.datasets import open_dataset
from poster_ada.data.fetch import content_digest, fetch_faces
from poster_ada.errors import InputError

EMOTIONS = ["surprise", "FEAR", "disgust", "Happiness", "sadness", "anger", "neutral"]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """images/ and data/legend.csv, with the faults of the real set."""
    root = tmp_path_factory.mktemp("facial_expressions")
    (root / "images").mkdir()
    (root / "data").mkdir()
    rows = []

    def add(name, emotion, number, size=(120, 120)):
        picture(number, size).save(root / "images" / name, quality=95)
        rows.append((name, emotion))

    for person in range(30):
        for number in range(1, 5):
            unique = 10 * person + number
            add(f"Person_{chr(65 + person % 26)}{person // 26}x_{number:04d}.jpg", EMOTIONS[unique % 7], unique)
    for number in range(30):
        add(f"Dileep_{number}.jpg", "happiness", 1000 + number, (90, 130))
    add("Twin_One_0001.jpg", "anger", 2000)
    add("Twin_One_0002.jpg", "anger", 2000)  # the same picture again
    add("Twin_Two_0001.jpg", "anger", 2001)
    add("Twin_Two_0002.jpg", "fear", 2001)  # the same picture, another label
    add("Two_Minds_0001.jpg", "anger", 2002)
    rows.append(("Two_Minds_0001.jpg", "sadness"))
    add("Proud_One_0001.jpg", "contempt", 2003)
    add("Half_File_0001.jpg", "neutral", 2004)
    half = root / "images" / "Half_File_0001.jpg"
    half.write_bytes(half.read_bytes()[:900])
    rows += [("No_File_0001.jpg", "neutral"), ("../../secret.jpg", "neutral")]
    picture(3000).save(root.parent / "secret.jpg")
    frame = pd.DataFrame(rows, columns=["image", "emotion"])
    frame.insert(0, "user.id", 628)
    frame.to_csv(root / "data" / "legend.csv", index=False)
    return root


@pytest.fixture(scope="module")
def archive(unpacked, tmp_path_factory):
    path = tmp_path_factory.mktemp("zip") / "master.zip"
    with zipfile.ZipFile(path, "w") as file:
        for member in sorted(unpacked.rglob("*.*")):
            file.write(member, f"facial_expressions-master/{member.relative_to(unpacked)}")
        file.writestr("../../escaped.txt", "no")
        file.writestr("facial_expressions-master/images/../../../escaped.jpg", "no")
    return path


def contents(root):
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*.*"))}


def test_conversion(unpacked, tmp_path, capsys):
    dataset = open_dataset(fetch_faces(tmp_path / "people", source=unpacked, cap=0))
    assert "left out: 1 damaged, 1 duplicates, 1 of another expression, 3 with contradictory labels, 2 without a " \
        "picture" in capsys.readouterr().out
    assert dataset.name == "people"
    assert len(dataset.train) + len(dataset.test) == 120 + 30 + 1
    assert not set(dataset.train.identity) & set(dataset.test.identity)
    assert 0.12 < len(dataset.test) / 151 < 0.32
    assert (dataset.train.class_counts > 0).all() and (dataset.test.class_counts > 0).all()
    assert dataset.findings.grey_share == {"train": 1.0, "test": 1.0}
    assert list(dataset.findings.sizes["train"]) == [(100, 100)] and not dataset.findings.sentences()
    sources = pd.read_csv(tmp_path / "people" / "raf-basic" / "sources.csv")
    assert list(sources) == ["file", "source_file", "emotion"] and len(sources) == 151
    assert sources["file"][0] == "train_00001_aligned.jpg"
    legend = pd.read_csv(unpacked / "data" / "legend.csv").drop_duplicates("image").set_index("image")["emotion"]
    for split, pattern in ((dataset.train, "train_{:05d}.jpg"), (dataset.test, "test_{:04d}.jpg")):
        assert split.files == [pattern.format(number) for number in range(1, len(split) + 1)]
        rows = sources.set_index("file").loc[[file.replace(".jpg", "_aligned.jpg") for file in split.files]]
        named = [split.class_names[label].lower() for label in split.labels]
        assert named == rows["emotion"].tolist() == legend[rows["source_file"]].str.lower().tolist()


def test_wide_picture_keeps_its_middle_square(unpacked, tmp_path):
    root = fetch_faces(tmp_path, source=unpacked, cap=0)
    sources = pd.read_csv(root / "sources.csv").set_index("source_file")["file"]
    from PIL import Image

    converted = np.asarray(Image.open(root / "Image" / "aligned" / sources["Dileep_4.jpg"]), int)
    square = picture(1004, (90, 130)).convert("L").crop((20, 0, 110, 90)).resize((100, 100), Image.BILINEAR)
    assert np.abs(converted - np.asarray(square, int)[..., None]).mean() < 4


def test_zip_gives_the_same_as_the_folder_and_nothing_escapes(unpacked, archive, tmp_path):
    first = fetch_faces(tmp_path / "a", str(archive))
    second = fetch_faces(tmp_path / "b", source=unpacked)
    assert contents(first) == contents(second)
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b"}
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["origin.json", "raf-basic"]


def test_origin_is_kept_and_the_content_compared_with_the_study(archive, unpacked, tmp_path, capsys, monkeypatch):
    commit = "0123456789abcdef0123456789abcdef01234567"
    marked = tmp_path / "master.zip"
    marked.write_bytes(archive.read_bytes())
    with zipfile.ZipFile(marked, "a") as file:
        file.comment = commit.encode()
    root = fetch_faces(tmp_path / "a", str(marked))
    output = capsys.readouterr().out
    assert commit in output and output.count("\n") == 3 and "this is not exactly the set of the study" in output
    origin = json.loads((tmp_path / "a" / "origin.json").read_text(encoding="utf-8"))
    assert origin["commit"] == commit and origin["sha256"] == hashlib.sha256(marked.read_bytes()).hexdigest()
    labels = (root / "EmoLabel" / "list_patition_label.txt").read_text(encoding="utf-8").splitlines()
    sources = pd.read_csv(root / "sources.csv")
    rows = zip(labels, sources["source_file"], sources["emotion"], strict=True)
    assert origin["content"] == content_digest(" ".join(row) for row in rows)
    monkeypatch.setattr(fetching, "STUDY_SHA256", origin["content"])
    fetch_faces(tmp_path / "b", source=unpacked)
    output = capsys.readouterr().out
    assert "this is exactly the set of the study" in output and "sha256" not in output
    fetch_faces(tmp_path / "c", str(archive), cap=0)
    output = capsys.readouterr().out
    assert "the study" not in output and "commit unknown" in output


def test_cap(unpacked, tmp_path):
    root = fetch_faces(tmp_path, source=unpacked, cap=15)
    counts = [open_dataset(root).train.class_counts, open_dataset(root).test.class_counts]
    assert counts[0][3] == 12 and counts[1][3] <= 3  # Happiness has more than the cap
    assert counts[0][4] + counts[1][4] > 15  # Sadness is not capped


def test_an_existing_set_is_not_overwritten(unpacked, tmp_path):
    fetch_faces(tmp_path, source=unpacked)
    with pytest.raises(InputError, match="exists already"):
        fetch_faces(tmp_path, source=unpacked)


def test_wrong_archives(tmp_path):
    broken, empty = tmp_path / "broken.zip", tmp_path / "empty.zip"
    broken.write_bytes(b"PK\x03\x04 half a file")
    zipfile.ZipFile(empty, "w").close()
    wrong = {broken: "not a complete zip", empty: "no data/legend.csv", tmp_path / "x": "does not exist"}
    for given, sentence in wrong.items():
        with pytest.raises(InputError, match=sentence):
            fetch_faces(tmp_path / "out", str(given))
    with pytest.raises(InputError, match="does not exist"):
        fetch_faces(tmp_path / "out", source=tmp_path / "nowhere")


class Server(http.server.BaseHTTPRequestHandler):
    """Serves `data`, in part when asked; breaks off after `stop_after` bytes while that is set."""

    data, stop_after, requests = b"", None, []

    def do_GET(self):
        wanted = self.headers.get("Range")
        fresh = self.headers.get("If-Range", '"v1"') == '"v1"'
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and fresh else 0
        self.requests.append(start)
        self.send_response(206 if start else 200)
        self.send_header("ETag", '"v1"')
        self.send_header("Content-Length", str(len(self.data) - start))
        self.end_headers()
        self.wfile.write(self.data[start:self.stop_after])
        self.close_connection = True

    def log_message(self, *ignored):
        pass


@pytest.fixture
def server(archive):
    handler = type("Handler", (Server,), {"data": archive.read_bytes(), "requests": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield handler, f"http://127.0.0.1:{running.server_port}/master.zip"
        running.shutdown()


def test_download_resumes_where_it_broke_off(server, archive, tmp_path):
    handler, url = server
    handler.stop_after = 50_000
    with pytest.raises(InputError, match="run the same command again"):
        fetch_faces(tmp_path / "a", url)
    handler.stop_after = None
    root = fetch_faces(tmp_path / "a", url)
    assert handler.requests == [0, 50_000]
    assert contents(root) == contents(fetch_faces(tmp_path / "b", str(archive)))
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["origin.json", "raf-basic"]


def test_without_network_the_command_says_so(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["fetch", "faces", "--out", str(tmp_path), "--archive", "http://127.0.0.1:9/master.zip"])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and "could not be downloaded" in error and "--archive" in error
    assert error.count("\n") == 1


def test_command_fetches_and_checks(archive, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["fetch", "faces", "--out", str(tmp_path / "set"), "--archive", str(archive)])
    assert stop.value.code == 0
    output = capsys.readouterr().out
    assert "RAF-DB layout, called 'set'" in output and "grey" in output
