"""The forms in which published sets go round: each opens with the right counts, or is refused by one sentence."""

import numpy as np
import pytest
from face_sets import BALLOTS, VOTES, fer2013, ferplus, folders, picture

from poster_ada.data.__main__ import main
from poster_ada.data.affectnet import AffectNet, AffectNetArrays, AffectNetLists
from poster_ada.data.datasets import LAYOUTS, open_dataset
from poster_ada.data.fer import FER2013_CLASSES, Fer2013, FerPlus, FerPlusTable
from poster_ada.data.findings import DataWarning
from poster_ada.data.folders import ClassFolders
from poster_ada.data.labels import expression_of, is_picture
from poster_ada.data.rafdb import NumberedFolders
from poster_ada.errors import InputError
from poster_ada.expressions import AFFECTNET_CLASSES, RAFDB_CLASSES

pytestmark = pytest.mark.filterwarnings("ignore::poster_ada.data.findings.DataWarning")


def refused(arguments, sentence, capsys):
    """`check` ends with one sentence and status 2."""
    with pytest.raises(SystemExit) as stop:
        main(["check", *map(str, arguments)])
    output = capsys.readouterr()
    assert stop.value.code == 2 and output.out == "" and output.err.count("\n") == 1
    assert sentence in output.err


def checked(arguments, capsys):
    """Rows of the table that `check` prints, by their first word."""
    with pytest.raises(SystemExit) as stop:
        main(["check", *map(str, arguments)])
    assert stop.value.code == 0
    return {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines() if line}


NUMBERED = {f"{split}/{label}": label for split in ("Train", "valid") for label in range(1, 8)}


@pytest.mark.parametrize("train, test", [("train", "test"), ("Train", "Test"), ("train", "valid"), ("TRAIN", "val")])
def test_numbered_folders_without_their_tables(tmp_path, train, test, capsys):
    names = {"Train": train, "valid": test}
    folders(tmp_path / "raf", {f"{names[key.split('/')[0]]}/{key[-1]}": count for key, count in NUMBERED.items()})
    dataset = open_dataset(tmp_path / "raf")
    assert isinstance(dataset, NumberedFolders) and dataset.class_names == RAFDB_CLASSES
    assert dataset.train.class_counts.tolist() == dataset.test.class_counts.tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert dataset.validation is None
    assert checked([tmp_path / "raf"], capsys)["all"] == ["28", "28"]


def test_tables_beside_numbered_folders_take_a_name_and_a_number(tmp_path, capsys):
    root = folders(tmp_path, {f"{split}/{label}": 1 for split in ("train", "test") for label in range(1, 8)})
    for label in range(1, 8):
        for split in ("train", "test"):
            (root / split / str(label) / "0.png").rename(root / split / str(label) / f"{label}.png")
    table = root / "train_labels.csv"
    table.write_text("image,label\n" + "".join(f"{label}.png,{label}\n" for label in range(1, 8)))
    assert open_dataset(root).train.class_counts.tolist() == [1] * 7
    table.write_text("image,label\n" + "".join(f"{label}.png,{label},1\n" for label in range(1, 8)))
    refused([root], "train_labels.csv line 2: 3 fields where 2 are expected", capsys)


def test_tables_of_numbered_folders_may_name_pictures_with_or_without_aligned(tmp_path, capsys):
    root = folders(tmp_path, {f"{split}/{label}": 1 for split in ("train", "test") for label in range(1, 8)})
    for label in range(1, 8):
        (root / "train" / str(label) / "0.png").rename(root / "train" / str(label) / f"train_{label}.png")
    rows = "".join(f"train_{label}_aligned.jpg,{label}\n" for label in range(1, 8))
    (root / "train_labels.csv").write_text(f"image,label\n{rows}")
    assert open_dataset(root).train.class_counts.tolist() == [1] * 7
    picture(500).save(root / "train" / "2" / "train_1.png")
    refused([root], "are one name in", capsys)


@pytest.mark.parametrize("words", [
    ["0_angry", "1_disgust", "2_fear", "3_happy", "4_neutral", "5_sad", "6_surprise"],
    ["angry_0", "disgust_1", "fear_2", "happy_3", "neutral_4", "sad_5", "surprise_6"],
    ["Angry", "DISGUST", "fear", "Happiness", "neutral", "sadness", "suprise"],
])
def test_class_folders_by_numbered_and_misspelt_words(tmp_path, words):
    counts = dict(zip(words, range(1, 8), strict=True))
    layout = {f"{split}/{word}": count for split in ("train", "test") for word, count in counts.items()}
    dataset = open_dataset(folders(tmp_path / "own", layout, ".JPG"))
    assert isinstance(dataset, ClassFolders) and dataset.class_names == RAFDB_CLASSES
    assert dataset.channel_order == "BGR"
    expected = [next(count for word, count in counts.items() if expression_of(word) == name) for name in RAFDB_CLASSES]
    assert dataset.train.class_counts.tolist() == dataset.test.class_counts.tolist() == expected


def test_a_validation_folder_is_the_validation_split(tmp_path, capsys):
    layout = {f"{split}/{word}": count for split, count in (("train", 3), ("val", 2), ("test", 1))
              for word in ("happy", "sad")}
    root = folders(tmp_path / "own", layout)
    dataset = open_dataset(root)
    assert [len(split) for split in (dataset.train, dataset.validation, dataset.test)] == [6, 4, 2]
    assert checked([root], capsys)["all"] == ["6", "4", "2"]
    before = dataset.fingerprint()
    (root / "val" / "sad" / "0.png").rename(root / "val" / "happy" / "9.png")
    assert open_dataset(root).fingerprint() != before
    (root / "val").rename(tmp_path / "elsewhere")
    assert open_dataset(root).validation is None


def test_a_picture_in_two_splits_is_told_for_every_pair(tmp_path):
    root = folders(tmp_path / "own", {"train/a": 2, "val/a": 2, "test/a": 2})
    for split in ("val", "test"):
        (root / split / "a" / "0.png").write_bytes((root / "train" / "a" / "1.png").read_bytes())
    with pytest.warns(DataWarning) as told:
        findings = open_dataset(root).findings
    text = " ".join(str(warning.message) for warning in told)
    for one, other in (("train", "test"), ("train", "validation"), ("validation", "test")):
        assert len(findings.between(one, other)) == 1 and f"both in {one} and in {other}" in text


def test_classes_that_are_only_numbered_and_loose_pictures_are_told(tmp_path):
    root = folders(tmp_path / "own", {"train/0": 1, "train/8": 1, "test/0": 1})
    picture(9).save(root / "test" / "loose.png")
    with pytest.warns(DataWarning) as told:
        open_dataset(root)
    text = " ".join(str(warning.message) for warning in told)
    assert "class folders only have numbers" in text and "in no class folder and are passed over (loose.png)" in text


@pytest.mark.parametrize("suffix", [".tif", ".TIFF", ".jfif", ".gif", ".webp", ".bmp", ".jpe", ".ppm", ".avif", ".jp2"])
def test_what_pillow_reads_is_read(tmp_path, suffix):
    if not is_picture(f"a{suffix}"):
        pytest.skip(f"this Pillow does not read {suffix}")
    dataset = open_dataset(folders(tmp_path / "own", {"train/a": 2, "test/a": 1}, suffix))
    assert (len(dataset.train), len(dataset.test)) == (2, 1) and dataset.train[0][0].shape == (3, 48, 48)


@pytest.mark.parametrize("suffix", [".pdf", ".eps", ".wmf", ".mpg", ".h5", ".txt", ".svg", ""])
def test_what_needs_another_program_or_is_no_picture_is_passed_over_by_name(tmp_path, suffix, capsys):
    root = folders(tmp_path / "own", {"train/a": 2, "test/a": 1})
    (root / "train" / "a" / f"paper{suffix}").write_text("")
    assert open_dataset(root).passed_over == [f"train/a/paper{suffix}"]
    with pytest.raises(SystemExit):
        main(["check", str(root)])
    output = capsys.readouterr().out
    assert f"1 file among the pictures ({suffix or 'no suffix'}) passed over" in output and f"paper{suffix}" in output


def affectnet_text(root, classes, names=("train", "valid")):
    for number, split in enumerate(names):
        folder = root / f"{split}_set"
        (folder / "images").mkdir(parents=True, exist_ok=True)
        labels = [1, *range(max(classes))]
        for index in range(len(labels)):
            picture(100 * number + index, (48, 48)).save(folder / "images" / f"{index}.jpg")
        for count in classes:
            text = "".join(f"{i}.jpg {label}\n" for i, label in enumerate(labels) if label < count)
            (folder / f"{split}_annotations_{count}class.txt").write_text(text)
    return root


def test_affectnet_opens_exactly_the_classes_that_are_asked_for(tmp_path, capsys):
    both = affectnet_text(tmp_path / "both", (7, 8))
    assert [len(open_dataset(both, num_classes=n).class_names) for n in (7, 8, None)] == [7, 8, 7]
    assert len(open_dataset(both, num_classes=8).test) == 9
    for there, asked in ((7, 8), (8, 7)):
        root = affectnet_text(tmp_path / f"only{there}", (there,))
        assert len(open_dataset(root).class_names) == there
        refused([root, "--classes", asked], f"train_annotations_{asked}class.txt is missing", capsys)
    with pytest.raises(InputError, match="7 or 8 classes, not 5"):
        open_dataset(both, num_classes=5)


def test_other_sets_do_not_pretend_to_have_the_classes_that_are_asked_for(tmp_path, capsys):
    root = folders(tmp_path / "own", {f"{split}/{label}": 1 for split in ("train", "test") for label in range(1, 8)})
    assert len(open_dataset(root, num_classes=7).class_names) == 7
    refused([root, "--classes", 8], "has 7 classes, not 8", capsys)


def test_a_form_of_another_set_than_the_one_asked_for_is_refused(tmp_path):
    root = folders(tmp_path / "raf", {f"{split}/{label}": 1 for split in ("train", "test") for label in range(1, 8)})
    assert open_dataset(root, family="rafdb").layout == "RAF-DB, Kaggle"
    with pytest.raises(InputError, match="holds the layout RAF-DB, Kaggle, but affectnet was asked for"):
        open_dataset(root, family="affectnet", num_classes=7)
    own = folders(tmp_path / "own", {"train/happy": 1, "test/happy": 1})
    assert len(open_dataset(own, family="affectnet").train) == 1


def test_class_folders_of_affectnet_leave_contempt_out_only_when_asked(tmp_path):
    layout = {f"{split}/{name}": 2 for split in ("train", "test") for name in AFFECTNET_CLASSES}
    root = folders(tmp_path / "eight", layout)
    assert len(open_dataset(root).train) == 16
    seven = open_dataset(root, num_classes=7)
    assert seven.class_names == AFFECTNET_CLASSES[:7] and len(seven.train) == 14
    assert seven.left_out == {"of another class": 4}


def test_the_variant_of_the_published_system_comes_with_the_set():
    variants = {layout: (dict(layout.variant), {head: dict(more) for head, more in layout.head_variant.items()})
                for layout in LAYOUTS}
    for layout, variant in variants.items():
        published = ({"token_mixing": False, "balanced": True}, {"adaface": {"lr": 2e-6}})
        assert variant == (published if issubclass(layout, AffectNet) else ({}, {}))


def test_affectnet_says_when_happiness_is_not_the_largest(tmp_path):
    root = affectnet_text(tmp_path, (7,))
    assert not open_dataset(root).numbering()
    path = root / "train_set" / "train_annotations_7class.txt"
    path.write_text(path.read_text().replace("0.jpg 1\n", "0.jpg 3\n"))
    with pytest.warns(DataWarning, match="largest training class of AffectNet is Happiness, but here it is Surprise"):
        open_dataset(root)


def affectnet_arrays(root, labels=(1, 1, 0, 7, 8), kind="<U1"):
    for number, split in enumerate(("train_set", "val_set")):
        for name in ("images", "annotations"):
            (root / split / name).mkdir(parents=True)
        for index, label in enumerate(labels):
            picture(100 * number + index, (48, 48)).save(root / split / "images" / f"{index}.jpg")
            np.save(root / split / "annotations" / f"{index}_exp.npy", np.array(label).astype(kind))
            np.save(root / split / "annotations" / f"{index}_val.npy", np.array("0.5"))
    return root


@pytest.mark.parametrize("kind", ["<U2", "S2", "int64", "float32"])
def test_affectnet_as_its_authors_hand_it_out(tmp_path, kind, capsys):
    root = affectnet_arrays(tmp_path, kind=kind)
    dataset = open_dataset(root)
    assert isinstance(dataset, AffectNetArrays) and dataset.class_names == AFFECTNET_CLASSES
    assert dataset.train.labels.tolist() == dataset.test.labels.tolist() == [1, 1, 0, 7]
    assert dataset.left_out == {"of another class": 2} and dataset.channel_order == "RGB"
    assert checked([root, "--classes", 7], capsys)["all"] == ["3", "3"]


def test_broken_affectnet_arrays(tmp_path, capsys):
    root = affectnet_arrays(tmp_path)
    annotation = root / "val_set" / "annotations" / "2_exp.npy"
    whole = annotation.read_bytes()
    for content in (b"", b"hello", b"\x93NUMPY", whole.replace(b"}", b"("), whole[:-4] + b"\xff\xff\xff\x7f"):
        annotation.write_bytes(content)
        refused([root], "2_exp.npy does not hold one expression", capsys)
    np.save(annotation, np.array([1, 2]))
    refused([root], "2_exp.npy does not hold one expression", capsys)
    np.save(annotation, np.array([{}], dtype=object), allow_pickle=True)
    refused([root], "2_exp.npy does not hold one expression", capsys)
    for value in (1.5, float("inf")):
        np.save(annotation, np.array(value))
        refused([root], "2_exp.npy does not hold one expression", capsys)
    np.save(annotation, np.array("11"))
    refused([root], "holds expression 11", capsys)
    annotation.unlink()
    refused([root], "2_exp.npy is missing, the label of images/2.jpg", capsys)
    (root / "val_set" / "images" / "2.jpg").unlink()
    (root / "val_set" / "images" / "1.jpg").unlink()
    refused([root], "1_exp.npy is the label of a picture that is not in", capsys)


@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("folder", ["Manually_Annotated_Images", "Manually_Annotated/Manually_Annotated_Images", "."])
@pytest.mark.parametrize("lists", [".", "Manually_Annotated_file_lists"])
def test_affectnet_of_2017(tmp_path, folder, lists, header, capsys):
    names = ",".join(AffectNetLists.columns)
    (tmp_path / lists).mkdir(exist_ok=True)
    for number, name in enumerate(("training.csv", "validation.csv")):
        rows = [names] * header
        for index, label in enumerate((1, 1, 0, 7, 8, 10)):
            picture(100 * number + index, (48, 48)).save(
                (tmp_path / folder / "689").mkdir(parents=True, exist_ok=True) or
                tmp_path / folder / "689" / f"{number}{index}.jpg")
            rows.append(f"689/{number}{index}.jpg,1,2,40,40,1.5;2.5,{label},0.1,-0.2")
        (tmp_path / lists / name).write_text("\n".join(rows))
    dataset = open_dataset(tmp_path)
    assert isinstance(dataset, AffectNetLists)
    assert dataset.train.labels.tolist() == dataset.test.labels.tolist() == [1, 1, 0, 7]
    assert checked([tmp_path, "--classes", "7"], capsys)["all"] == ["3", "3"]
    table = tmp_path / lists / "training.csv"
    table.write_text(table.read_text().replace(",7,0.1", ",11,0.1"))
    refused([tmp_path], "expression 11 of 689/03.jpg is not in 0..10", capsys)


def split_class(split, row):
    return split.class_names[split.labels[row]]


def test_ferplus_majority(tmp_path, capsys):
    root = ferplus(tmp_path / "data" / "votes" / "data")
    dataset = open_dataset(tmp_path / "data" / "votes")
    expected = [winner for _, winner in BALLOTS if winner]
    for split in (dataset.train, dataset.validation, dataset.test):
        assert [split.class_names[label] for label in split.labels] == expected
    assert isinstance(dataset, FerPlus) and dataset.class_names == AFFECTNET_CLASSES and dataset.name == "votes"
    assert dataset.label_file == "label.csv" and dataset.train.files[2] == "fer0000003.png"
    # 6 neutral, 4 sadness; and counts of one are in the votes, though not in the majority
    assert dataset.train.votes[:3].tolist() == [[0, 10, 0, 0, 0, 0, 0, 0], [6, 0, 4, 0, 0, 0, 0, 0],
                                                [5, 0, 1, 1, 1, 0, 1, 1]]
    assert dataset.train.subset([1]).votes.tolist() == [[6, 0, 4, 0, 0, 0, 0, 0]]
    # Learning from votes takes those without a majority too, as long as a class leads: 5 neutral and 5 sadness do.
    assert [split_class(dataset.voted, row) for row in range(len(dataset.voted))] == [
        "Happiness", "Neutral", "Neutral", "Neutral", "Contempt", "Fear"]
    assert dataset.voted.files[2] == "fer0000002.png" and dataset.voted.votes[2].tolist() == [5, 0, 5, 0, 0, 0, 0, 0]
    assert dataset.left_out == {"without a majority": 6, "for which most chose something else": 6}
    seven = open_dataset(root, num_classes=7)
    assert seven.class_names == AFFECTNET_CLASSES[:7] and seven.train.votes.shape == (4, 7)
    assert len(seven.voted) == 5  # contempt leads in one, and is no class here
    assert checked([root], capsys)["all"] == ["5", "5", "5"]
    assert checked([root, "--classes", 7], capsys)["all"] == ["4", "4", "4"]


def new_votes(path, swapped=False):
    """fer2013new.csv for the pictures of `ferplus`; one row without a picture, votes of the first two swapped."""
    lines, number = [f"Usage,Image name,{VOTES}", "Training,,0,0,0,0,0,0,0,0,0,10"], 0
    for usage in ("Training", "PublicTest", "PrivateTest"):
        ballots = [votes for votes, _ in BALLOTS]
        ballots[:2] = ballots[1::-1] if swapped else ballots[:2]
        for votes in ballots:
            lines.append(f"{usage},fer{number:07d}.png,{','.join(map(str, votes))}")
            number += 1
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_ferplus_label_file_is_chosen_by_naming_it(tmp_path, capsys):
    root = ferplus(tmp_path / "faces" / "data")
    table = new_votes(tmp_path / "faces" / "fer2013new.csv", swapped=True)
    by_folder, by_table = open_dataset(root.parent), open_dataset(table)
    assert (by_folder.label_file, by_table.label_file) == ("label.csv", "fer2013new.csv")
    assert by_folder.train.labels[:2].tolist() == [1, 0] and by_table.train.labels[:2].tolist() == [0, 1]
    assert by_folder.fingerprint() != by_table.fingerprint()
    with pytest.raises(SystemExit):
        main(["check", str(table)])
    assert "labels from fer2013new.csv" in capsys.readouterr().out
    for folder in root.iterdir():
        (folder / "label.csv").unlink()
    assert open_dataset(root).label_file == "fer2013new.csv"
    table.unlink()
    refused([root], "label.csv is missing", capsys)
    refused([root / "FER2013Train" / "fer0000000.png"], "is a file and none of the label files", capsys)


@pytest.mark.parametrize("line, sentence", [
    ('fer0000000.png,"(0, 0, 48, 48)",0,10,0,0,0,0,0,0,0', "line 1"),
    ('fer0000000.png,"(0, 0, 48, 48)",0,ten,0,0,0,0,0,0,0,0', "label.csv line 1: the votes for happiness"),
    ('../fer0000000.png,"(0, 0, 48, 48)",0,10,0,0,0,0,0,0,0,0', "leads out of the set's folder"),
    ('fer9999999.png,"(0, 0, 48, 48)",0,10,0,0,0,0,0,0,0,0', "fer9999999.png is listed but missing"),
])
def test_broken_ferplus_lines(tmp_path, line, sentence, capsys):
    table = ferplus(tmp_path) / "FER2013Train" / "label.csv"
    rest = table.read_text().split("\n", 1)[1]
    table.write_text(line + "\n" + rest)
    refused([tmp_path], "label.csv is not a table" if sentence == "line 1" else sentence, capsys)


@pytest.mark.parametrize("name, header", [("fer2013.csv", "emotion,pixels,Usage"),
                                          ("icml_face_data.csv", "emotion, Usage, pixels")])
def test_fer2013_table(tmp_path, name, header, capsys):
    path = fer2013(tmp_path / "표 정" / name, header)
    for place in (path, path.parent):
        dataset = open_dataset(place)
        assert isinstance(dataset, Fer2013) and dataset.class_names == FER2013_CLASSES
        assert dataset.train.labels.tolist() == dataset.test.labels.tolist() == list(range(7))
    image, label = dataset.validation[2]  # row 9
    assert image.shape == (3, 48, 48) and label == 2 and dataset.validation.files[2] == f"{name}:11"
    assert np.array_equal(image[1].numpy(), np.asarray(picture(9, (48, 48)).convert("L")))
    assert dataset.train.pictures.at_one_size(48).shape == (7, 3, 48, 48)
    assert open_dataset(path, check=False).train[0][0].shape == (3, 48, 48)
    assert open_dataset(path, check=False).train.pictures.one_size
    assert checked([path], capsys)["all"] == ["7", "7", "7"]


@pytest.mark.parametrize("old, new, sentence", [
    ("0,", "7,", "line 2: emotion 7 is not in 0..6"), ("0,", "x,", "line 2: the emotion should be a whole number"),
    ("Training", "Traning", "line 2: Usage 'Traning' is none of Training, PublicTest, PrivateTest"),
    (" ", " 256 ", "the pixels should be whole numbers in 0..255"), (" ", " 7 ", "2305 pixels do not fill a square"),
    ("emotion,", "feeling,", "'emotion' is missing"), (",Training", "", "line 2: 2 fields where 3 are expected"),
])
def test_broken_fer2013_tables(tmp_path, old, new, sentence, capsys):
    path = fer2013(tmp_path / "fer2013.csv")
    path.write_text(path.read_text().replace(old, new, 1))
    refused([path], sentence, capsys)


def test_ferplus_from_the_two_tables(tmp_path, capsys):
    pixels = fer2013(tmp_path / "fer2013.csv", per_split=len(BALLOTS))
    header, *rows = pixels.read_text().splitlines()
    pixels.write_text("\n".join([header, rows[0], *rows]) + "\n")  # the first has no name in fer2013new.csv
    table = new_votes(tmp_path / "fer2013new.csv")
    dataset = open_dataset(tmp_path)
    assert isinstance(dataset, FerPlusTable) and dataset.label_file == "fer2013new.csv"
    expected = [winner for _, winner in BALLOTS if winner]
    for split in (dataset.train, dataset.validation, dataset.test):
        assert [split.class_names[label] for label in split.labels] == expected
    assert dataset.train.files[2] == "fer0000003.png"
    assert np.array_equal(dataset.train[2][0][0].numpy(), np.asarray(picture(3, (48, 48)).convert("L")))
    assert isinstance(open_dataset(pixels), Fer2013)  # named, so its own labels count
    assert checked([table], capsys)["all"] == ["5", "5", "5"]
    table.write_text(table.read_text().rsplit("\n", 2)[0] + "\n")
    refused([table], "do not belong together", capsys)
    new_votes(table)
    pixels.write_text("\n".join([header, rows[0], *rows[:-1]]) + "\n")
    refused([table], "ends after line 28", capsys)
