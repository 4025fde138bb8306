"""A model tested on a face set with other classes: matched by name, renormalised, and said."""

from dataclasses import replace

import face_sets
import numpy as np
import pytest
import torch

from poster_ada.checkpoints.create import create_model
from poster_ada.data.datasets import open_dataset
from poster_ada.errors import InputError
from poster_ada.evaluation.matching import match_classes
from poster_ada.evaluation.metrics import compute_metrics
from poster_ada.evaluation.predict import predict_split
from poster_ada.evaluation.predictions import class_names_of, probabilities_of
from poster_ada.expressions import AFFECTNET_CLASSES, RAFDB_CLASSES


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    return open_dataset(face_sets.rafdb(tmp_path_factory.mktemp("set"), train=0, test=21), check=False, needs=()).test


def model_of(class_names):
    torch.manual_seed(0)
    return create_model("nano", num_classes=len(class_names), class_names=tuple(class_names)).eval()


def renamed(split, class_names):
    """The same faces, as a set with these classes numbers them; faces of others are taken out."""
    meanings = [{"happy": "Happiness", "suprise": "Surprise"}.get(name, name.capitalize()) for name in class_names]
    kept = split.subset(np.array([split.class_names[label] in meanings for label in split.labels]))
    labels = np.array([meanings.index(split.class_names[label]) for label in kept.labels])
    return replace(kept, labels=labels, class_names=tuple(class_names))


@pytest.mark.parametrize("class_names", [
    AFFECTNET_CLASSES[:7], ("Surprise", "Fear", "Disgust", "happy", "Sadness", "Anger", "Neutral"),
    ("neutral", "happy", "anger", "suprise", "fear"), ("fear", "sadness")])
def test_a_set_gets_its_own_classes(split, class_names):
    """In another order, in other words, five of the seven, two of them."""
    model = model_of(RAFDB_CLASSES)
    own = renamed(split, class_names)
    table, full = predict_split(model, own), predict_split(model, split).set_index("file").loc[own.files]
    assert class_names_of(table) == class_names and table["file"].to_list() == own.files
    assert table["label"].to_list() == [class_names[label] for label in own.labels]
    meanings = [{"happy": "happiness", "suprise": "surprise"}.get(name.lower(), name.lower()) for name in class_names]
    expected = full[[f"p_{name}" for name in meanings]].to_numpy()
    expected /= expected.sum(1, keepdims=True)
    np.testing.assert_allclose(probabilities_of(table), expected, atol=1e-6)
    assert table["prediction"].to_list() == [class_names[best] for best in expected.argmax(1)]
    assert compute_metrics(table, intervals=False)["faces"] == len(own)
    assert (table.attrs["matching"] is None) == (meanings == [name.lower() for name in RAFDB_CLASSES])


def test_faces_that_the_model_cannot_name_are_left_out_and_counted(split):
    labels = split.labels.copy()
    labels[:4] = 7
    eight = replace(split, labels=labels, class_names=(*RAFDB_CLASSES, "Contempt"))
    table = predict_split(model_of(RAFDB_CLASSES), eight)
    assert table["file"].to_list() == split.files[4:] and class_names_of(table) == RAFDB_CLASSES
    assert "does not know Contempt: 4 faces left out" in table.attrs["matching"]
    with pytest.raises(InputError, match="no face has one of"):
        predict_split(model_of(RAFDB_CLASSES), eight.subset(range(4)))


def test_labels_reach_no_prediction_of_other_classes(split):
    own = renamed(split, AFFECTNET_CLASSES[:7])
    wrong = replace(own, labels=(own.labels + 1) % 7)
    first, second = (predict_split(model_of(RAFDB_CLASSES), faces).drop(columns="label") for faces in (own, wrong))
    assert first.equals(second)


def test_the_report_protocol_takes_the_margin_off_the_right_class(split):
    torch.manual_seed(0)
    model = create_model("nano", head="cosface", class_names=RAFDB_CLASSES).eval()
    own = renamed(split, AFFECTNET_CLASSES[:7])
    table, other = (predict_split(model, faces, protocol="label-margin") for faces in (split, own))
    columns = [f"p_{name.lower()}" for name in RAFDB_CLASSES]
    np.testing.assert_allclose(other[columns].to_numpy(), table[columns].to_numpy(), atol=1e-6)


def test_what_cannot_be_matched_is_one_sentence():
    with pytest.raises(InputError, match="cat, dog.*none in common"):
        match_classes(RAFDB_CLASSES, ("cat", "dog"))
    with pytest.raises(InputError, match="1 in common"):
        match_classes(RAFDB_CLASSES, ("fear", "dog"))
    with pytest.raises(InputError, match="two mean the same"):
        match_classes(RAFDB_CLASSES, ("happy", "happiness", "fear"))
    own = match_classes(("cat", "Dog"), ("dog", "cat"))
    assert own.class_names == ("dog", "cat") and own.outputs == (1, 0)
