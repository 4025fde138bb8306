"""Scores agree with scikit-learn and with hand calculation, and come from the prediction table alone."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, precision_recall_fscore_support

from poster_ada.errors import InputError
from poster_ada.evaluation import metrics
from poster_ada.evaluation.metrics import (
    calibration_bins,
    calibration_error,
    compare,
    compute_metrics,
    confusion_matrix,
    mcnemar,
)
from poster_ada.evaluation.predictions import class_names_of, probability_columns, read_predictions, write_predictions
from poster_ada.expressions import RAFDB_CLASSES


def table(labels, predicted, names=RAFDB_CLASSES, confidence=0.7) -> pd.DataFrame:
    """A prediction table whose predicted class has this probability, the others equal shares of the rest."""
    labels, predicted = np.asarray(labels), np.asarray(predicted)
    confidence = np.broadcast_to(np.asarray(confidence, float), labels.shape)
    p = np.repeat((1 - confidence)[:, None] / (len(names) - 1), len(names), 1)
    p[np.arange(len(labels)), predicted] = confidence
    names_array = np.array(names, dtype=object)
    frame = pd.DataFrame({"file": [f"test_{i:04d}.jpg" for i in range(len(labels))], "label": names_array[labels],
                          "prediction": names_array[predicted], "norm": 1.0})
    frame[probability_columns(names)] = p
    return frame


@pytest.fixture
def random_pair():
    generator = np.random.default_rng(5)
    labels = generator.choice(7, 400, p=[0.2, 0.05, 0.1, 0.3, 0.1, 0.05, 0.2])
    predicted = np.where(generator.random(400) < 0.7, labels, generator.integers(0, 7, 400))
    return labels, predicted


def test_scores_are_those_of_scikit_learn(random_pair):
    labels, predicted = random_pair
    scores = compute_metrics(table(labels, predicted))
    assert scores["accuracy"] == pytest.approx(accuracy_score(labels, predicted))
    assert scores["mean_class_accuracy"] == pytest.approx(balanced_accuracy_score(labels, predicted))
    assert scores["macro_f1"] == pytest.approx(f1_score(labels, predicted, average="macro"))
    expected = zip(*precision_recall_fscore_support(labels, predicted), strict=True)
    for name, values in zip(RAFDB_CLASSES, expected, strict=True):
        row = scores["per_class"][name]
        assert [row["precision"], row["recall"], row["f1"], row["support"]] == pytest.approx(list(values))


def test_intervals_are_the_percentile_bootstrap_over_faces(random_pair):
    labels, predicted = random_pair
    frame = table(labels, predicted)
    intervals = compute_metrics(frame)["intervals"]
    assert intervals == compute_metrics(frame)["intervals"]  # seeded
    # Here face by face, without the shortcut through the confusion matrix.
    faces = np.random.default_rng(1).integers(400, size=(4000, 400))
    right, drawn = (labels == predicted)[faces], labels[faces]
    recall = np.mean([(right & (drawn == label)).sum(1) / (drawn == label).sum(1) for label in range(7)], 0)
    for name, values in (("accuracy", right.mean(1)), ("mean_class_accuracy", recall)):
        assert intervals[name] == pytest.approx(np.percentile(values, [2.5, 97.5]).tolist(), abs=0.006)
    low, high = intervals["accuracy"]
    share = accuracy_score(labels, predicted)
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(share * (1 - share) / 400), rel=0.06)
    assert intervals["macro_f1"][0] < compute_metrics(frame)["macro_f1"] < intervals["macro_f1"][1]
    assert "intervals" not in compute_metrics(frame, intervals=False)


def test_intervals_end_at_2_5_and_97_5_percent():
    assert metrics._interval(np.arange(1001)) == pytest.approx([25.0, 975.0])
    assert metrics._interval(np.array([*range(1001), np.nan])) == pytest.approx([25.0, 975.0])


def test_a_class_without_faces_is_named_and_left_out_of_the_means():
    # No Fear face; one Happiness face is taken for Fear, one Neutral face for Happiness.
    labels, predicted = [3, 3, 3, 6, 6, 0], [3, 3, 1, 6, 3, 0]
    scores = compute_metrics(table(labels, predicted))
    assert scores["absent_classes"] == ["Fear", "Disgust", "Sadness", "Anger"]
    assert scores["per_class"]["Fear"] == {"precision": 0.0, "recall": None, "f1": None, "support": 0}
    assert scores["per_class"]["Disgust"]["precision"] is None
    assert scores["mean_class_accuracy"] == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    assert scores["macro_f1"] == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)
    assert scores["intervals"]["recall"]["Fear"] is None
    assert json.loads(json.dumps(scores, allow_nan=False)) == scores
    shares = confusion_matrix(table(labels, predicted), normalise=True)
    assert np.isnan(shares[1]).all() and shares[3, 1] == pytest.approx(1 / 3)


def test_a_class_that_is_never_predicted_has_f1_zero():
    scores = compute_metrics(table([0, 0, 1], [0, 0, 0], names=("Up", "Down")))
    assert scores["per_class"]["Down"] == {"precision": None, "recall": 0.0, "f1": 0.0, "support": 1}
    assert scores["macro_f1"] == pytest.approx((0.8 + 0.0) / 2)


def test_calibration_error_by_hand():
    # 10 faces at confidence 0.9 with 8 right, 10 at 0.62 with 5 right: (0.1 + 0.12) / 2.
    right = [1] * 8 + [0] * 2 + [1] * 5 + [0] * 5
    frame = table([0] * 20, [0 if r else 1 for r in right], confidence=[0.9] * 10 + [0.62] * 10)
    assert calibration_error(frame) == pytest.approx(0.11)
    bins = calibration_bins(frame)
    assert len(bins) == 15 and bins["faces"].to_list() == [0] * 9 + [10, 0, 0, 0, 10, 0]
    assert calibration_error(table([0, 1], [0, 1], confidence=1.0)) == 0
    assert calibration_error(table([0, 1], [1, 0], confidence=1.0)) == 1


def test_mcnemar_is_the_exact_test_on_matched_files():
    # a alone right on 15 faces, b alone on 5: p = 2 P(X <= 5), X ~ Binomial(20, 1/2) = 43400 / 2^20.
    a, b = table([0] * 50, [0] * 45 + [1] * 5), table([0] * 50, [1] * 15 + [0] * 35)
    expected = {"both_right": 30, "only_a_right": 15, "only_b_right": 5, "both_wrong": 0}
    result = mcnemar(a, b.sample(frac=1, random_state=1))
    assert {key: result[key] for key in expected} == expected
    assert result["p_value"] == pytest.approx(43400 / 2**20)
    assert mcnemar(a, a)["p_value"] == 1.0
    both = compare(a, b)
    assert both["difference"] == pytest.approx(0.2) and both["faces"] == 50
    assert (both["accuracy_a"], both["accuracy_b"]) == pytest.approx((0.9, 0.7))
    # Standard error of the mean of 50 differences in {-1, 0, 1}: sqrt((20 - 10^2 / 50) / 50^2).
    assert both["interval"] == pytest.approx([0.2 - 1.96 * 0.0849, 0.2 + 1.96 * 0.0849], abs=0.03)
    assert compare(a, a)["interval"] == [0.0, 0.0]


def test_only_tables_on_the_same_faces_and_labels_can_be_compared():
    a = table([0, 1, 2], [0, 1, 2])
    with pytest.raises(InputError, match=r"not about the same faces \(3 and 2 rows; test_0002.jpg"):
        mcnemar(a, a[:2])
    with pytest.raises(InputError, match="label of test_0001.jpg .Fear and Disgust"):
        compare(a, table([0, 2, 2], [0, 1, 2]))
    with pytest.raises(InputError, match="no rows"):
        compute_metrics(a[:0])


def test_tables_survive_the_file(tmp_path, random_pair):
    frame = table(*random_pair, confidence=np.random.default_rng(2).uniform(0.2, 1, 400))
    write_predictions(frame, tmp_path / "predictions.csv")
    first = (tmp_path / "predictions.csv").read_text().splitlines()[0]
    assert first == "file,label,prediction,norm,p_surprise,p_fear,p_disgust,p_happiness,p_sadness,p_anger,p_neutral"
    digits = (tmp_path / "predictions.csv").read_text().splitlines()[1].split(",")[4].replace("0.", "")
    assert len(digits.lstrip("0")) <= 9
    again = read_predictions(tmp_path / "predictions.csv")
    pd.testing.assert_frame_equal(again, frame, rtol=1e-8, check_dtype=False)
    scores, expected = compute_metrics(again), compute_metrics(frame)
    assert scores.pop("calibration_error") == pytest.approx(expected.pop("calibration_error"))
    intervals = [each["intervals"].pop("calibration_error") for each in (scores, expected)]
    assert intervals[0] == pytest.approx(intervals[1])
    assert scores == expected


def test_any_class_names_survive_the_file(tmp_path):
    names = ("None", "nan", "big Smile")
    write_predictions(table([0, 1], [1, 0], names), tmp_path / "predictions.csv")
    again = read_predictions(tmp_path / "predictions.csv")
    assert again["label"].to_list() == ["None", "nan"]
    assert class_names_of(again) == ("None", "nan", "big smile")  # no face shows the last one's capitals
    assert compute_metrics(again)["absent_classes"] == ["big smile"]


@pytest.mark.parametrize(("damage", "message"), [
    (lambda t: t.drop(columns="norm"), "has no column norm"),
    (lambda t: t[["file", "label", "prediction", "norm"]], "has no columns p_<class>"),
    (lambda t: t[:0], "has no rows"),
    (lambda t: pd.concat([t, t[:1]]), "test_0000.jpg twice"),
    (lambda t: t.assign(label="Joy"), "label 'Joy' of test_0000.jpg"),
    (lambda t: t.assign(prediction="fear"), "prediction 'Fear'|label 'Fear'"),
    (lambda t: t.assign(p_fear="much"), "something else than a number"),
    (lambda t: t.assign(norm=np.nan), "something else than a number"),
    (lambda t: t.assign(p_fear=0.9), "sum 1"),
])
def test_a_broken_table_is_named_in_one_sentence(tmp_path, damage, message):
    path = tmp_path / "predictions.csv"
    damage(table([0, 1, 2], [0, 1, 2])).to_csv(path, index=False)
    with pytest.raises(InputError, match=message) as caught:
        read_predictions(path)
    assert str(path) in str(caught.value)


def test_what_is_no_table_at_all(tmp_path):
    with pytest.raises(InputError, match="there is no prediction table"):
        read_predictions(tmp_path / "absent.csv")
    (tmp_path / "picture.csv").write_bytes(bytes(range(128, 256)) * 4)
    with pytest.raises(InputError, match="is not a table"):
        read_predictions(tmp_path / "picture.csv")
    (tmp_path / "empty.csv").write_bytes(b"")
    with pytest.raises(InputError, match="is not a table"):
        read_predictions(tmp_path / "empty.csv")


def test_the_calibration_error_has_an_interval():
    labels = np.arange(700) % 7
    predicted = np.where(np.arange(700) % 5 == 0, (labels + 1) % 7, labels)  # 80 % are right
    scores = compute_metrics(table(labels, predicted, confidence=0.95))
    low, high = scores["intervals"]["calibration_error"]
    assert low < 0.15 < high and scores["calibration_error"] == pytest.approx(0.15)
    assert 0.1 < low < 0.14 and 0.16 < high < 0.2  # 1.96 times sqrt(0.8 * 0.2 / 700) is 0.03
