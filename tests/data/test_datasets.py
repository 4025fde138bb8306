"""Every layout opens, every broken set is answered by one sentence that names what is wrong."""

import ast
import hashlib
import shutil
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from face_sets import picture, rafdb
from PIL import Image

import poster_ada.data
from poster_ada.data.__main__ import main
from poster_ada.data.affectnet import AffectNet
from poster_ada.data.datasets import open_dataset
from poster_ada.data.findings import DataWarning
from poster_ada.data.folders import ClassFolders
from poster_ada.data.pictures import decode
from poster_ada.data.rafdb import RAFDB_TEST_COUNTS, RAFDB_TRAIN_COUNTS, NumberedFolders, RafDb
from poster_ada.data.splits import split_train_validation
from poster_ada.errors import InputError
from poster_ada.expressions import AFFECTNET_CLASSES, RAFDB_CLASSES


def label_file(root):
    return root / "EmoLabel" / "list_patition_label.txt"


def face_file(root, name="train_00003"):
    return root / "Image" / "aligned" / f"{name}_aligned.jpg"


def relabel(root, file, label):
    lines = label_file(root).read_text().splitlines()
    label_file(root).write_text("\n".join(f"{file} {label}" if line.startswith(file) else line for line in lines))


@pytest.fixture
def faces(tmp_path):
    return rafdb(tmp_path / "my faces")


def test_rafdb_layout(faces):
    dataset = open_dataset(faces)
    assert isinstance(dataset, RafDb)
    assert (dataset.name, dataset.channel_order, dataset.class_names) == ("my faces", "BGR", RAFDB_CLASSES)
    assert (len(dataset.train), len(dataset.test)) == (28, 14)
    assert dataset.test.files[0] == "test_0001.jpg"
    assert dataset.train.labels.dtype == np.int64
    image, label = dataset.train[5]
    assert label == 5
    assert np.array_equal(image.permute(1, 2, 0).numpy(), decode(face_file(faces, "train_00006")))


def test_set_is_found_inside_the_given_folder_and_named_after_it(tmp_path):
    rafdb(tmp_path / "people" / "raf-basic")
    assert open_dataset(tmp_path / "people").name == "people"


def test_only_the_published_counts_make_it_rafdb(tmp_path):
    root = rafdb(tmp_path / "RAF-DB")
    assert "RAF-DB" not in open_dataset(root, check=False).name.split(" in ")[0]
    lines = [f"{split}_{label}_{i}.jpg {label}" for split, counts in (("train", RAFDB_TRAIN_COUNTS),
             ("test", RAFDB_TEST_COUNTS)) for label, count in enumerate(counts, 1) for i in range(count)]
    label_file(root).write_text("\n".join(lines))
    full = open_dataset(root, check=False)
    assert full.is_full_rafdb and full.name == "RAF-DB basic"
    assert (len(full.train), len(full.test)) == (12_271, 3_068)


def test_tables_beside_the_set(faces):
    files = open_dataset(faces).train.files + open_dataset(faces).test.files
    points = np.arange(len(files) * 136).reshape(-1, 136) / 8
    landmarks = pd.DataFrame(points, columns=[f"{axis}{i}" for i in range(68) for axis in "xy"])
    landmarks.insert(0, "file", files)
    landmarks.iloc[::-1].to_csv(faces / "landmarks.csv", index=False)
    pd.DataFrame({"file": files, "blur": 1.0, "quality": np.linspace(0, 1, len(files))}).to_csv(
        faces / "quality.csv", index=False)
    pd.DataFrame({"file": files, "identity": np.arange(len(files)) // 3}).to_csv(faces / "identity.csv", index=False)
    assert open_dataset(faces).name == "my faces"
    pd.DataFrame({"file": files}).to_csv(faces / "action_units.csv", index=False)
    dataset = open_dataset(faces)
    assert dataset.name == "demo faces"
    assert dataset.test.landmarks.shape == (14, 68, 2)
    assert dataset.test.landmarks[0, 0].tolist() == points[28, :2].tolist()
    assert dataset.train.quality[0] == 0 and dataset.test.quality[-1] == 1
    assert dataset.train.subset([4, 1]).identity.tolist() == [1, 0]
    (faces / "quality.csv").write_text("file,quality\n,0.5\n")
    with pytest.raises(InputError, match="quality.csv has no row for train_00001.jpg and 27 more"):
        open_dataset(faces)
    (faces / "quality.csv").write_text("file,quality\na,1\nb,2,3\n")
    with pytest.raises(InputError, match="quality.csv is not a table [^\n]*; mend or remove it"):
        open_dataset(faces)
    pd.DataFrame({"file": files[1:], "quality": 0.5}).to_csv(faces / "quality.csv", index=False)
    with pytest.raises(InputError, match="quality.csv has no row for train_00001.jpg"):
        open_dataset(faces)


def test_sources_tell_the_person(faces):
    files = open_dataset(faces).train.files + open_dataset(faces).test.files
    people = ["Ann_Lee_0001.jpg", "Ann_Lee_0002.jpg", "Bo_3.jpg", "Bo_14.jpg"]
    sources = [people[i % 4] for i in range(len(files))]
    names = [file.replace(".jpg", "_aligned.jpg") for file in files]
    pd.DataFrame({"file": names, "source_file": sources}).to_csv(faces / "sources.csv", index=False)
    assert open_dataset(faces).train.identity[:4].tolist() == ["Ann_Lee", "Ann_Lee", "Bo", "Bo"]


def kaggle(root):
    for split, count in (("train", 14), ("test", 7)):
        rows = []
        for number in range(count):
            folder = root / "DATASET" / split / str(number % 7 + 1)
            folder.mkdir(parents=True, exist_ok=True)
            picture(number + 100 * (split == "test")).save(folder / f"{split}_{number}_aligned.jpg")
            rows.append((f"{split}_{number}_aligned.jpg", number % 7 + 1))
        pd.DataFrame(rows, columns=["image", "label"]).to_csv(root / f"{split}_labels.csv", index=False)
    return root


def test_kaggle_layout(tmp_path):
    dataset = open_dataset(kaggle(tmp_path / "k"))
    assert isinstance(dataset, NumberedFolders)
    assert dataset.class_names == RAFDB_CLASSES and dataset.channel_order == "BGR" and dataset.name == "k"
    assert dataset.train.class_counts.tolist() == [2] * 7 and dataset.test.class_counts.tolist() == [1] * 7


@pytest.mark.parametrize("line, sentence", [
    ("train_1_aligned.jpg,3", "says label 3 for train_1_aligned.jpg, but it lies in folder 2"),
    ("train_1_aligned.jpg,9", "label 9 of train_1_aligned.jpg is not in 1..7"),
    ("train_99_aligned.jpg,2", "train_99_aligned.jpg is listed in .* but missing"),
    ("", "train_1_aligned.jpg is not listed"),
])
def test_kaggle_table_and_folders_must_agree(tmp_path, line, sentence):
    table = kaggle(tmp_path) / "train_labels.csv"
    table.write_text(table.read_text().replace("train_1_aligned.jpg,2", line))
    with pytest.raises(InputError, match=sentence):
        open_dataset(tmp_path)


def class_folders(root, names, count=2):
    for s, split in enumerate(("train", "test")):
        for n, name in enumerate(names):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                picture(1000 * s + 10 * n + i).save(folder / f"{i}.png")
    return root


def test_class_folders(tmp_path):
    words = ["angry", "disgust", "fear", "happy", "neutral", "sad", "surprise"]
    dataset = open_dataset(class_folders(tmp_path / "seven", words))
    assert isinstance(dataset, ClassFolders)
    assert dataset.class_names == RAFDB_CLASSES and dataset.channel_order == "BGR"
    happy = dataset.train.files.index("happy/0.png")
    assert dataset.class_names[dataset.train.labels[happy]] == "Happiness"
    eight = open_dataset(class_folders(tmp_path / "eight", [*words, "Contempt"]))
    assert eight.class_names == AFFECTNET_CLASSES and eight.channel_order == "RGB"
    own = open_dataset(class_folders(tmp_path / "own", ["yawn", "blink"]))
    assert own.class_names == ("blink", "yawn") and own.channel_order == "RGB"
    (tmp_path / "own" / "test" / "wink").mkdir()
    with pytest.raises(InputError, match="wink is a class that the training split does not have"):
        open_dataset(tmp_path / "own")


@pytest.mark.parametrize("classes, separator", [(7, " "), (8, "\t")])
def test_affectnet_layout(tmp_path, classes, separator):
    root = tmp_path / "moods"
    for s, split in enumerate(("train", "valid")):
        folder = root / f"{split}_set"
        (folder / "images").mkdir(parents=True)
        for label in range(classes):
            picture(100 * s + label, (224, 224)).save(folder / "images" / f"{label}.jpg")
        text = "".join(f"{label}.jpg{separator}{label}\n" for label in range(classes))
        (folder / f"{split}_annotations_{classes}class.txt").write_text(text)
    dataset = open_dataset(root)
    assert isinstance(dataset, AffectNet)
    assert dataset.class_names == AFFECTNET_CLASSES[:classes] and dataset.channel_order == "RGB"
    assert dataset.test.labels.tolist() == list(range(classes))
    assert dataset.name == "moods"


def test_unknown_folder_says_what_was_looked_for_and_found(tmp_path):
    (tmp_path / "holiday.txt").write_text("")
    with pytest.raises(InputError, match=r"EmoLabel/ .* train_set/ .* found holiday.txt"):
        open_dataset(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        open_dataset(tmp_path / "nowhere")


def cut(path):
    data = path.read_bytes()
    path.write_bytes(data[:len(data) // 2])


BROKEN = {
    "missing label file": (lambda r: label_file(r).unlink(), "list_patition_label.txt is missing"),
    "label 0": (lambda r: relabel(r, "train_00003.jpg", 0), "line 3: label 0 of train_00003.jpg is not in 1..7"),
    "label 8": (lambda r: relabel(r, "train_00003.jpg", 8), "line 3: label 8 of train_00003.jpg is not in 1..7"),
    "word": (lambda r: relabel(r, "train_00003.jpg", "happy"), "line 3: expected a file name and a whole number"),
    "no label": (lambda r: label_file(r).write_text("train_00001.jpg\n"), "line 1: expected a file name"),
    "twice": (lambda r: label_file(r).write_text("train_1.jpg 1\ntrain_1.jpg 2\n"), "line 2: train_1.jpg is listed a"),
    "neither split": (lambda r: label_file(r).write_text("valid_1.jpg 1\n"), "neither 'train' nor 'test'"),
    "no file name": (lambda r: label_file(r).write_text("train\0.jpg 1\n"), "holds a character that no file name has"),
    "outside": (lambda r: label_file(r).write_text("train/../../x.jpg 1\n"), "leads out of the set's folder"),
    "missing picture": (lambda r: face_file(r).unlink(), "train_00003_aligned.jpg is listed but missing"),
    "truncated": (lambda r: cut(face_file(r)), "train_00003_aligned.jpg does not decode fully .*truncated"),
    "text": (lambda r: face_file(r).write_text("hello"), "train_00003_aligned.jpg is not a picture"),
    "empty file": (lambda r: face_file(r).write_text(""), "train_00003_aligned.jpg is not a picture"),
    "one pixel": (lambda r: picture(1, (1, 1)).save(face_file(r)), "train_00003_aligned.jpg is 1 x 1 pixels"),
    "empty label file": (lambda r: label_file(r).write_text(""), "has no training faces"),
    "binary label file": (lambda r: label_file(r).write_bytes(b"\xff\xfe\x00"), "cannot be read as text"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_broken_set_is_answered_by_one_sentence(faces, fault, capsys):
    spoil, sentence = BROKEN[fault]
    spoil(faces)
    with pytest.raises(InputError, match=sentence):
        open_dataset(faces)
    with pytest.raises(SystemExit) as stop:
        main(["check", str(faces)])
    output = capsys.readouterr()
    assert stop.value.code == 2 and output.out == ""
    assert output.err.startswith("error: ") and output.err.count("\n") == 1


def test_without_check_a_broken_picture_is_named_when_it_is_read(faces):
    cut(face_file(faces))
    dataset = open_dataset(faces, check=False)
    assert dataset.train[0][1] == 0
    with pytest.raises(InputError, match="train_00003"):
        dataset.train[2]


def test_windows_line_ends_and_a_byte_order_mark(faces):
    plain = open_dataset(faces).train
    text = label_file(faces).read_text().replace("\n", "\r\n") + "\r\n"
    label_file(faces).write_bytes(b"\xef\xbb\xbf" + text.encode())
    windows = open_dataset(faces).train
    assert windows.files == plain.files and windows.labels.tolist() == plain.labels.tolist()


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "RGBA"])
def test_any_picture_mode_is_read_as_rgb(faces, mode):
    colour = picture(7)
    form = "PNG" if mode in ("P", "RGBA") else "JPEG"
    (colour.quantize() if mode == "P" else colour.convert(mode)).save(face_file(faces), form)
    image, _ = open_dataset(faces).train[2]
    expected = np.asarray(colour.convert("L").convert("RGB") if mode == "L" else colour, int)
    assert image.shape == (3, 100, 100)
    assert np.abs(image.permute(1, 2, 0).numpy() - expected).mean() < 12


def test_exif_orientation_is_obeyed(faces):
    upright = picture(3, (60, 100))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera lay on its side
    upright.save(face_file(faces), exif=exif)
    dataset = open_dataset(faces, check=False)
    assert dataset.train.pictures.sizes[2].tolist() == [100, 60]
    assert dataset.train[2][0].shape == (3, 100, 60)


def test_same_picture_in_train_and_test_is_a_warning(faces):
    shutil.copy(face_file(faces), face_file(faces, "test_0003"))  # label 3 there too: 31st face
    with pytest.warns(DataWarning, match="train/train_00003.jpg = test/test_0003.jpg.*too high"):
        findings = open_dataset(faces).findings
    assert findings.across == [("train/train_00003.jpg", "test/test_0003.jpg")] and not findings.contradictory


def test_contradictory_labels_are_a_warning(faces):
    shutil.copy(face_file(faces), face_file(faces, "train_00004"))
    with pytest.warns(DataWarning, match="two different labels"), pytest.warns(DataWarning, match="more than once"):
        findings = open_dataset(faces).findings
    assert findings.contradictory == findings.within["train"] == [("train/train_00003.jpg", "train/train_00004.jpg")]


def test_check_command_prints_a_table(faces, capsys):
    picture(50).convert("L").save(face_file(faces))
    shutil.copy(face_file(faces), face_file(faces, "test_0003"))
    with pytest.raises(SystemExit) as stop:
        main(["check", str(faces)])
    assert stop.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    rows = {line[:20].strip(): line[20:].split() for line in lines if line}
    assert rows["Fear"] == ["4", "2"] and rows["all"] == ["28", "14"]
    assert rows["pixels"] == ["100x100", "100x100"] and rows["grey"] == ["3.6%", "7.1%"]
    assert rows["in train and test"] == ["1"] and "called 'my faces'" in lines[0]
    assert any(line.startswith("note: 1 picture is both in train and in test") for line in lines)


def test_clean_set_warns_of_nothing(faces):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        open_dataset(faces)


def test_validation_split_is_stratified_and_deterministic(tmp_path):
    faces = open_dataset(rafdb(tmp_path / "f", train=210), check=False).train
    train, validation = split_train_validation(faces, 0.1, seed=5)
    assert validation.class_counts.tolist() == [3] * 7 and train.class_counts.tolist() == [27] * 7
    assert not set(train.files) & set(validation.files)
    again, other = (split_train_validation(faces, 0.1, seed=seed)[1] for seed in (5, 6))
    assert again.files == validation.files != other.files
    assert validation[4][1] == validation.labels[4]
    assert (validation[4][0].permute(1, 2, 0).numpy() == decode(validation.paths[4])).all()


def test_validation_split_shares_no_person(tmp_path):
    faces = open_dataset(rafdb(tmp_path / "f", train=210), check=False).train
    faces.identity = np.random.default_rng(0).integers(0, 40, 210)
    train, validation = split_train_validation(faces, 0.1)
    assert not set(train.identity) & set(validation.identity)
    assert len(train) + len(validation) == 210 and 12 <= len(validation) <= 30
    assert split_train_validation(faces, 0.1)[1].files == validation.files
    faces.identity[:] = 1
    with pytest.raises(InputError, match="one person"):
        split_train_validation(faces)


@pytest.mark.parametrize("line", [
    "train_00003.jpg 5 3", "train_00003.jpg\t5\t3", "train_00003.jpg 5 3 # occluded", "train_00003 3",
    "3 train_00003.jpg", "train_00003.jpg,3", "train_00003.jpg " + "3" * 5000, "train_00003.jpg 3.0", "train_00003.jpg",
])
def test_a_line_of_any_other_form_than_name_and_number_is_named(faces, line):
    lines = label_file(faces).read_text().splitlines()
    lines[2] = line
    label_file(faces).write_text("\n".join(lines))
    with pytest.raises(InputError, match="line 3: expected a file name and a whole number"):
        open_dataset(faces)


def test_names_may_hold_blanks(faces):
    lines = label_file(faces).read_text().splitlines()
    face_file(faces).rename(face_file(faces, "train 3 기쁨"))
    for line in ("train 3 기쁨.jpg 3", "train 3 기쁨\t3"):
        lines[2] = line
        label_file(faces).write_text("\n".join(lines), encoding="utf-8")
        train = open_dataset(faces).train
        assert train.labels[2] == 2 and train.files[2].startswith("train 3 기쁨")


def write_counts(root, train, test):
    lines = [f"{split}_{label}_{i}.jpg {label}" for split, counts in (("train", train), ("test", test))
             for label, count in enumerate(counts, 1) for i in range(count)]
    label_file(root).write_text("\n".join(lines))


ALPHABETICAL = [RAFDB_CLASSES.index(name) for name in sorted(RAFDB_CLASSES)]


@pytest.mark.parametrize("share, order, told", [
    (1, ALPHABETICAL, "alphabetically;"), (1, [0, 2, 1, 3, 4, 5, 6],
     "in another order (Fear has the count of Disgust, Disgust has the count of Fear);"), (1, range(7), None),
    (5, ALPHABETICAL, "alphabetically;"), (5, [6, 0, 1, 2, 3, 4, 5], "in another order;"), (5, range(7), None),
    (40, ALPHABETICAL, None),
])
def test_labels_in_another_order_are_told_by_their_counts(faces, share, order, told):
    published = (RAFDB_TRAIN_COUNTS, RAFDB_TEST_COUNTS)
    write_counts(faces, *([counts[label] // share for label in order] for counts in published))
    sentences = open_dataset(faces, check=False).numbering()
    assert len(sentences) == (2 if told else 0)
    for sentence, split in zip(sentences, ("train", "test"), strict=False):
        assert f"class counts of {split} are those of RAF-DB" in sentence and f"numbered {told}" in sentence


@pytest.mark.filterwarnings("ignore::poster_ada.data.findings.DataWarning")
def test_the_check_says_that_labels_are_in_another_order(faces, monkeypatch):
    monkeypatch.setattr(RafDb, "published_counts", {"train": (1, 2, 3, 4, 5, 6, 7)})
    write_counts(faces, (7, 6, 5, 4, 3, 2, 1), (1,) * 7)
    for split, count in (("train", 7), ("test", 1)):
        for label in range(1, 8):
            for i in range(count):
                picture(100 * label + i + 1000 * (split == "test")).save(face_file(faces, f"{split}_{label}_{i}"))
    monkeypatch.setattr("poster_ada.data.layouts.ENOUGH_TO_TELL", 20)
    with pytest.warns(DataWarning, match="class counts of train are those of RAF-DB"):
        open_dataset(faces)


@pytest.mark.parametrize("name, picture_name", [
    ("train_00003_aligned.jpg", "train_00003_aligned.jpg"), ("train_00003.jpg", "train_00003.jpg"),
    ("train_00003.jpg", "train_00003_aligned.png"), ("train_00003.jpg", "train_00003_aligned.JPG"),
    ("train_00003.jpg", "train_00003.PNG"), ("train_00003_aligned.png", "train_00003.jpeg"),
])
def test_rafdb_names_with_and_without_aligned_and_any_suffix(faces, name, picture_name):
    face_file(faces).unlink()
    target = face_file(faces).with_name(picture_name)
    picture(77).save(target)
    text = label_file(faces).read_text().replace("train_00003.jpg", name)
    label_file(faces).write_text(text)
    quality = pd.DataFrame({"file": text.split()[::2], "quality": np.linspace(0, 1, 42)})
    quality.to_csv(faces / "quality.csv", index=False)
    dataset = open_dataset(faces)
    assert dataset.train.paths[2].name == picture_name and dataset.train.labels[2] == 2
    assert dataset.train.files[2] == name and dataset.train.quality[2] == pytest.approx(2 / 41)
    assert not dataset.notes and not dataset.passed_over


def test_two_pictures_for_one_name_and_one_picture_listed_twice_are_refused(faces):
    lines = label_file(faces).read_text()
    label_file(faces).write_text(lines + "train_00003_aligned.jpg 3\n")
    with pytest.raises(InputError, match=r"train_00003_aligned.jpg is listed a second time \(first as train_00003.jpg"):
        open_dataset(faces)
    label_file(faces).write_text(lines)
    face_file(faces).rename(face_file(faces).with_suffix(".png"))
    shutil.copy(face_file(faces).with_suffix(".png"), face_file(faces).with_name("train_00003.png"))
    with pytest.raises(InputError, match="not clear which of them is train_00003.jpg"):
        open_dataset(faces)


def test_pictures_outside_the_label_file_and_other_files_are_counted_and_named(faces, capsys):
    picture(99).save(face_file(faces, "train_09999"))
    (face_file(faces).parent / "faces.psd").write_text("")
    (face_file(faces).parent / "Thumbs.db").write_text("")
    label_file(faces).rename(label_file(faces).with_name("list_partition_label.txt"))  # a common correction
    with pytest.warns(DataWarning) as told:
        open_dataset(faces)
    sentences = " ".join(str(warning.message) for warning in told)
    assert "1 of the pictures in Image/aligned/ are not in the label file" in sentences
    assert "train_09999_aligned.jpg" in sentences
    assert "1 file among the pictures (.psd) passed over" in sentences and "Thumbs" not in sentences


@pytest.mark.filterwarnings("ignore::poster_ada.data.findings.DataWarning")
def test_a_set_with_one_split_opens_for_those_who_need_no_other(faces, capsys):
    text = label_file(faces).read_text()
    for split, other in (("train", "test"), ("test", "train")):
        label_file(faces).write_text("".join(line for line in text.splitlines(True) if line.startswith(split)))
        with pytest.raises(InputError, match=f"has no {other}"):
            open_dataset(faces)
        dataset = open_dataset(faces, needs=(split,))
        assert len(getattr(dataset, other)) == 0 and list(dataset.splits) == [split]
        with pytest.raises(SystemExit) as stop:
            main(["check", str(faces)])
        assert stop.value.code == 0 and f"there is no {other} split" in capsys.readouterr().out
        dataset.fingerprint()


def test_fingerprint_is_that_of_version_0_1(faces):
    dataset = open_dataset(faces, check=False)
    digest = hashlib.sha256()
    for split in (dataset.train, dataset.test):
        for name, path, label in zip(split.files, split.paths, split.labels, strict=True):
            digest.update(f"{name} {label} {path.stat().st_size}\n".encode())
    assert dataset.fingerprint() == digest.hexdigest()[:16]
    relabel(faces, "test_0001.jpg", 7)
    assert open_dataset(faces, check=False).fingerprint() != dataset.fingerprint()
    assert open_dataset(faces, check=False).train.fingerprint() == dataset.train.fingerprint()
    another = open_dataset(faces, check=False)
    face_file(faces).unlink()
    with pytest.raises(InputError, match="train_00003_aligned.jpg is listed but cannot be read"):
        another.fingerprint()
    assert dataset.fingerprint() == digest.hexdigest()[:16]  # files are asked once


def test_importing_the_package_and_reading_flags_loads_nothing_heavy(tmp_path):
    root = Path(poster_ada.data.__file__).parent
    assert not [line for line in (root / "__init__.py").read_text(encoding="utf-8").splitlines() if "import " in line
                and line.startswith(("import", "from"))]
    module = ast.parse((root / "__main__.py").read_text(encoding="utf-8"))
    imported = {node.module for node in module.body if isinstance(node, ast.ImportFrom)}
    assert {name for name in imported if name.startswith("poster_ada")} == {"poster_ada.errors", "poster_ada.flags"}
