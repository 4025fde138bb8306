"""Faces degraded on purpose: which are chosen, what is counted, and what each norm knows of quality."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

import poster_ada.evaluation.degraded as degraded
from poster_ada.data.degrade import SEVERITIES, degrade
from poster_ada.data.transforms import EvaluationTransform
from poster_ada.evaluation.degraded import (
    DegradedFaces,
    correlations_with_quality,
    degraded_faces,
    evenly_chosen,
    measure_degraded,
    norms_by_source,
    predictions_and_norms,
)
from poster_ada.evaluation.predict import predict_split
from poster_ada.expressions import RAFDB_CLASSES
from poster_ada.model.config import NORM_SOURCES

VERSIONS = [("none", 0), *product(SEVERITIES, range(1, 6))]


def test_faces_are_chosen_evenly():
    assert evenly_chosen(4).tolist() == [0, 1, 2, 3] and evenly_chosen(1).tolist() == [0]
    many = evenly_chosen(3000)
    assert len(many) == 150 and (many[0], many[-1]) == (0, 2999) and set(np.diff(many)) <= {20, 21}
    assert many.dtype.kind == "i" and len(evenly_chosen(151)) == 150


def test_every_kind_and_severity_of_the_chosen_faces(split, monkeypatch):
    monkeypatch.setattr(degraded, "FACES", 5)
    faces = degraded_faces(split, 24)
    chosen = [0, 10, 20, 29, 39]
    assert list(faces.versions) == VERSIONS and faces.labels.tolist() == split.labels[chosen].tolist()
    clean = torch.stack([split[i][0] for i in chosen])
    assert torch.equal(faces.versions["none", 0], clean)
    for (kind, severity) in (("blur", 1), ("blur", 5), ("noise", 3)):
        assert torch.equal(faces.versions[kind, severity], degrade(clean, kind, severity, 123))
    part = degraded_faces(split.subset(range(7, 12)), 24)  # a subset's own faces, not the whole set's first
    assert torch.equal(part.versions["none", 0], torch.stack([split[i][0] for i in range(7, 12)]))


@pytest.mark.parametrize("feature_layer", [True, False])
def test_norms_of_every_source_in_one_pass(tiny, feature_layer):
    images = torch.randn(5, 3, 24, 24)
    for source in NORM_SOURCES:
        model = tiny(head="adaface", norm_source=source, feature_layer=feature_layer)
        with torch.no_grad():
            logits, norms = norms_by_source(model, images)
            torch.testing.assert_close(norms[source], model.forward_features(images).norm)
            torch.testing.assert_close(logits, model(images))
        assert list(norms) == list(NORM_SOURCES) and norms[source].shape == (5,)
    assert len({round(values[0].item(), 5) for values in norms.values()}) == len(NORM_SOURCES)


def test_predictions_are_those_of_the_table(split, tiny, monkeypatch):
    monkeypatch.setattr(degraded, "BATCH", 9)
    model = tiny(head="adaface", channel_order="RGB").train()
    pictures = torch.stack([split[i][0] for i in range(len(split))])
    predicted, norms = predictions_and_norms(model, pictures, "cpu")
    table = predict_split(model, split)
    assert [RAFDB_CLASSES[i] for i in predicted] == table["prediction"].to_list()
    np.testing.assert_allclose(norms["embedding"], table["norm"], rtol=1e-4)
    assert model.training and all(len(values) == 40 for values in norms.values())


class ByBrightness:
    """Stands for `norms_by_source`: every norm is the mean pixel, the class whether that is above a bound."""

    def __call__(self, model, images: Tensor):
        mean = images.mean((1, 2, 3))
        logits = torch.zeros(len(images), 7)
        logits[:, 3] = torch.where(mean > BOUND, 1.0, -1.0)
        return logits, {source: (mean if source != "image" else -mean) for source in NORM_SOURCES}


PIXELS = (60, 50, 40, 30, 20, 10)  # at severity 0 to 5
BOUND = EvaluationTransform(24, 24)(torch.full((1, 3, 24, 24), 25, dtype=torch.uint8)).mean().item()


def by_severity(pixels=PIXELS, labels=(3, 3, 0, 1)) -> DegradedFaces:
    return DegradedFaces({(kind, severity): torch.full((4, 3, 24, 24), pixels[severity], dtype=torch.uint8)
                          for kind, severity in VERSIONS}, np.array(labels))


def test_accuracy_and_correlation_by_hand(tiny, monkeypatch):
    monkeypatch.setattr(degraded, "norms_by_source", ByBrightness())
    found = measure_degraded(tiny(), by_severity(), "cpu")
    for kind in SEVERITIES:
        # Bright faces are taken for class 3, which two of the four are; dark ones for class 0, which one of them is.
        assert [found[f"accuracy_{kind}_{severity}"] for severity in range(1, 6)] == [50, 50, 50, 25, 25]
        assert found[f"r_pre_norm_{kind}"] == pytest.approx(1, abs=1e-5)
        assert found[f"r_image_{kind}"] == pytest.approx(-1, abs=1e-5)
    assert found["r_fused_all"] == pytest.approx(1, abs=1e-5)
    assert set(found) == {f"accuracy_{kind}_{level}" for kind, level in VERSIONS[1:]} | {
        f"r_{source}_{kind}" for source in NORM_SOURCES for kind in (*SEVERITIES, "all")}


def test_clean_faces_are_counted_once_among_all_kinds(tiny, monkeypatch):
    monkeypatch.setattr(degraded, "norms_by_source", ByBrightness())
    pixels = (200, 50, 10, 35, 20, 15)  # not in a line, so that weights matter
    found = measure_degraded(tiny(), by_severity(pixels), "cpu")
    quality = (1 - np.arange(6) / 5).tolist()
    once = np.corrcoef([pixels[0], *pixels[1:] * len(SEVERITIES)], [1, *quality[1:] * len(SEVERITIES)])
    each = np.corrcoef(pixels, quality)
    assert found["r_fused_all"] == pytest.approx(once[0, 1], abs=1e-4)
    assert found["r_fused_blur"] == pytest.approx(each[0, 1], abs=1e-4) != pytest.approx(once[0, 1], abs=1e-3)


def test_quality_that_comes_with_the_faces_is_correlated_by_source(split, tiny):
    model = tiny(head="adaface")
    quality = np.linspace(1, 0, len(split)) ** 2
    part = replace(split, quality=quality).subset(range(5, 30))
    found = correlations_with_quality(model, part, "cpu")
    norms = predict_split(model, part)["norm"]
    assert list(found) == list(NORM_SOURCES)
    assert found["embedding"] == pytest.approx(np.corrcoef(norms, part.quality)[0, 1], abs=1e-4)
