"""Predictions of a split: what the model computes face by face, in the split's order, and nothing else changed."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import poster_ada.evaluation.predict as predict
from poster_ada.data.loader import FaceLoader
from poster_ada.data.pictures import WORKERS
from poster_ada.data.transforms import EvaluationTransform
from poster_ada.errors import InputError
from poster_ada.evaluation.predict import predict_split, predict_with_embeddings, prepared
from poster_ada.evaluation.predictions import probabilities_of
from poster_ada.evaluation.protocol import label_margin_logits
from poster_ada.expressions import RAFDB_CLASSES
from poster_ada.model.fast import FastPoster


def inputs(split, order="BGR"):
    """What the model is fed, from the pictures one by one."""
    transform = EvaluationTransform(24, 24, order)
    return torch.cat([transform(image[None]) for image, _ in (split[i] for i in range(len(split)))])


@pytest.mark.parametrize("order", ["BGR", "RGB"])
def test_the_table_is_the_models_softmax_face_by_face(split, tiny, order):
    model = tiny(channel_order=order, head="adaface", scale=9.0, norm_source="pre_norm")
    table, embeddings = predict_with_embeddings(model, split, quiet=True)
    images = inputs(split, order)
    with torch.no_grad():
        features = model.forward_features(images)
        probabilities = model(images).softmax(1).numpy()
    columns = ["file", "label", "prediction", "norm", *(f"p_{name.lower()}" for name in RAFDB_CLASSES)]
    assert table.columns.to_list() == columns
    assert table["file"].to_list() == split.files
    assert table["label"].to_list() == [RAFDB_CLASSES[label] for label in split.labels]
    assert table["prediction"].to_list() == [RAFDB_CLASSES[i] for i in probabilities.argmax(1)]
    np.testing.assert_allclose(probabilities_of(table), probabilities, atol=1e-5)
    np.testing.assert_allclose(table["norm"], features.norm.numpy(), rtol=1e-4)
    np.testing.assert_allclose(embeddings, features.embedding.numpy(), atol=1e-4)
    assert embeddings.dtype == np.float32 and table.attrs["protocol"] == "margin-free"
    np.testing.assert_allclose(probabilities_of(table).sum(1), 1, atol=1e-12)


def test_labels_never_reach_a_prediction(split, tiny):
    model = tiny(head="adaface")
    wrong = replace(split, labels=(split.labels + 1) % 7)
    columns = [column for column in predict_split(model, split) if column != "label"]
    assert predict_split(model, split)[columns].equals(predict_split(model, wrong)[columns])


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("protocol", ["margin-free", "label-margin"])
def test_the_model_is_left_as_it_was(split, tiny, training, protocol):
    model = tiny(head="adaface").train(training)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    predict_split(model, split, protocol=protocol, quiet=True)
    assert model.training is training and not torch.is_inference_mode_enabled()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_model_is_left_as_it_was_when_prediction_fails(split, tiny):
    model = tiny().train()
    with pytest.raises(RuntimeError), prepared(model, torch.device("cpu"), "float32", "margin-free"):
        raise RuntimeError
    assert model.training


@pytest.mark.parametrize(("choices", "tolerance"), [
    ({"batch_size": 7}, 1e-5), ({"batch_size": 100}, 1e-5), ({"precision": "bfloat16"}, 0.1),
    ({"precision": "auto"}, 1e-5),
])
def test_batches_and_precision_change_little(split, tiny, choices, tolerance):
    model = tiny()
    expected, found = predict_split(model, split), predict_split(model, split, **choices)
    np.testing.assert_allclose(probabilities_of(found), probabilities_of(expected), atol=tolerance)
    assert (choices.get("precision") == "bfloat16") == (not np.allclose(
        probabilities_of(found), probabilities_of(expected), atol=1e-5))


def test_each_protocol_gets_its_model_and_precision(tiny):
    model = tiny(head="adaface").train()
    cpu = torch.device("cpu")
    with prepared(model, cpu, "bfloat16", "label-margin") as ready:
        assert ready is model and torch.is_autocast_enabled("cpu") and not model.training
    with prepared(model, cpu, "float32", "label-margin") as ready:
        assert ready is model and not torch.is_autocast_enabled("cpu")
    for precision in ("bfloat16", "float32"):
        with prepared(model, cpu, precision, "margin-free") as ready:
            assert isinstance(ready, FastPoster) and ready.dtype == getattr(torch, precision)
            assert not torch.is_autocast_enabled("cpu")


def test_mirror_averages_the_probabilities_of_both_images(split, tiny):
    model, images = tiny(), inputs(split)
    both = probabilities_of(predict_split(model, split, quiet=True, mirror=True))
    with torch.no_grad():
        one, other = (model(each).softmax(1).numpy() for each in (images, images.flip(-1)))
    np.testing.assert_allclose(both, (one + other) / 2, atol=1e-5)
    assert np.abs(one - other).max() > 1e-3
    with pytest.raises(InputError, match="mirror does not go with the label-margin protocol"):
        predict_split(model, split, mirror=True, protocol="label-margin")


def test_label_margin_goes_by_batches_of_32_whatever_is_asked(split, tiny):
    model = tiny(head="adaface", scale=4.0)
    images, labels = inputs(split), torch.from_numpy(split.labels)
    logits = torch.cat([label_margin_logits(model, *part)
                        for part in zip(images.split(32), labels.split(32), strict=True)])
    table = predict_split(model, split, batch_size=3, protocol="label-margin")
    np.testing.assert_allclose(probabilities_of(table), logits.softmax(1).numpy(), atol=1e-4)
    assert table.attrs["protocol"] == "label-margin"
    assert not np.allclose(probabilities_of(table), probabilities_of(predict_split(model, split)), atol=1e-3)


class WatchedLoader(FaceLoader):
    seen: dict = {}

    def __init__(self, *args, **kwargs):
        WatchedLoader.seen = dict(kwargs, batch_size=args[2])
        super().__init__(*args, **kwargs)


def test_batches_and_workers_are_those_asked_for(split, tiny, monkeypatch):
    monkeypatch.setattr(predict, "FaceLoader", WatchedLoader)
    predict_split(tiny(), split, batch_size=9, workers=3)
    assert (WatchedLoader.seen["batch_size"], WatchedLoader.seen["workers"]) == (9, 3)
    predict_split(tiny(), split)
    assert WatchedLoader.seen["batch_size"] == 32 and WatchedLoader.seen["workers"] == WORKERS
    assert WatchedLoader.seen["device"].type == "cpu"


def test_the_bar_counts_faces_and_can_be_silenced(split, tiny, monkeypatch):
    bars = []

    class Bar:
        def __init__(self, **how):
            bars.append([how, 0])

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

        def update(self, count):
            bars[-1][1] += count

    monkeypatch.setattr(predict, "tqdm", Bar)
    predict_split(tiny(), split)
    predict_split(tiny(), split, quiet=True)
    assert [(how["total"], how["disable"], done) for how, done in bars] == [(40, False, 40), (40, True, 40)]
    assert bars[0][0]["delay"] == 5.0 and bars[0][0]["leave"] is False
    assert (bars[0][0]["desc"], bars[0][0]["unit"]) == ("predicting", "face")


def test_what_does_not_fit_is_refused(split, tiny):
    with pytest.raises(InputError, match="the faces have the classes Surprise.*trained on cat.*: none in common"):
        predict_split(tiny(num_classes=2, class_names=("cat", "dog")), split)
    with pytest.raises(InputError, match="precision 'float8' is unknown"):
        predict_split(tiny(), split, precision="float8")
    with pytest.raises(InputError, match="protocol 'fair' is unknown; choose one of margin-free, label-margin"):
        predict_split(tiny(), split, protocol="fair")


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_an_output_that_is_no_number_names_the_first_face(split, tiny, value):
    broken = tiny()
    broken.head.bias.data[2] = value
    with pytest.raises(InputError, match="output for test_0001.jpg is not finite: its training diverged"):
        predict_split(broken, split)


def test_only_the_face_that_breaks_it_is_named(split, tiny, monkeypatch):
    model = tiny()
    rows = iter(range(2))
    forward = FastPoster.forward_head

    def broken(self, features):
        logits = forward(self, features)
        if next(rows) == 1:
            logits[3] = torch.nan
        return logits

    monkeypatch.setattr(FastPoster, "forward_head", broken)
    with pytest.raises(InputError, match="output for test_0024.jpg is not finite"):
        predict_split(model, split, batch_size=20)


def test_logits_of_scale_64_keep_their_small_probabilities(split, tiny):
    model = tiny(head="arcface", scale=500.0)
    p = probabilities_of(predict_split(model, split))
    assert ((p > 0) & (p < 1e-45)).any()  # below float32's range
