"""Manifest, confusion drawing, attention weights, Grad-CAM's regions, and the ablation's statistics."""

import json

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from einops import rearrange

from poster_ada.checkpoints.create import create_model
from poster_ada.explain.attention import attention_maps, attention_weights
from poster_ada.explain.gradcam import STREAMS, grad_cam, heat_shares, random_heat, region_masks
from poster_ada.expressions import RAFDB_CLASSES
from poster_ada.paper.ablation import gaps_by_seed, seed_interval, summarise, table_rows
from poster_ada.paper.figures import apply_style, difference_text, draw_confusion, save_figure, save_table
from poster_ada.paper.reported import published_log, reported_results


@pytest.fixture(scope="module")
def nano():
    torch.manual_seed(0)
    return create_model("nano").eval()


def faces(model, count):
    side = model.config.stream_size
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(0))


def test_same_figure_gives_the_same_files(tmp_path):
    apply_style()
    for folder in ("a", "b"):
        fig, axis = plt.subplots()
        draw_confusion(axis, np.eye(7), RAFDB_CLASSES)
        save_figure(fig, "06_gradcam_confusion_x", data="faces", runs=["r"], folder=tmp_path / folder)
        plt.close(fig)
    for kind in ("pdf", "png"):
        first, second = (tmp_path / folder / f"06_gradcam_confusion_x.{kind}" for folder in "ab")
        assert first.read_bytes() == second.read_bytes()
    manifest = json.loads((tmp_path / "a" / "manifest.json").read_text())
    assert [(entry["file"], entry["notebook"], entry["data"], entry["run"]) for entry in manifest] == [
        (f"06_gradcam_confusion_x.{kind}", "06_gradcam_confusion", "faces", ["r"]) for kind in ("pdf", "png")]


def test_table_keeps_full_precision_and_named_index(tmp_path):
    table = pd.DataFrame({"x": [1 / 3, np.nan]}, index=pd.Index(["a_b", "c"], name="row"))
    save_table(table, "t", data="none", folder=tmp_path)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "t.csv", index_col="row"), table)
    assert r"a\_b & 0.33" in (tmp_path / "t.tex").read_text()


def test_confusion_drawing_prints_every_known_cell():
    matrix = np.full((7, 7), 0.1)
    matrix[1] = np.nan
    fig, axis = plt.subplots()
    draw_confusion(axis, matrix, RAFDB_CLASSES)
    assert [text.get_text() for text in axis.texts] == ["0.10"] * 42
    assert [label.get_text() for label in axis.get_xticklabels()] == ["SU", "FE", "DI", "HA", "SA", "AN", "NE"]
    plt.close(fig)


def test_attention_weights_are_those_of_the_model(nano):
    attention = nano.fusion.blocks[0].large.image.attn
    count, dim = nano.config.grid**2 + 1, nano.config.embed_dim
    tokens, queries = torch.randn(2, 2, count, dim).unbind()
    weights = attention_weights(attention, tokens, queries)
    values = rearrange(attention.kv(tokens), "b n (two h d) -> two b h n d", two=2, h=attention.num_heads)[1]
    again = attention.proj(rearrange(weights @ values, "b h n d -> b n (h d)"))
    torch.testing.assert_close(again, attention(tokens, queries), atol=1e-5, rtol=0)
    maps = attention_maps(nano, faces(nano, 3))
    shape = (3, nano.config.depth, nano.config.num_heads, count, count)
    for stream in ("image", "landmark"):
        assert maps[stream].shape == shape
        torch.testing.assert_close(maps[stream].sum(-1), torch.ones(shape[:-1]))


@pytest.mark.parametrize("stream", STREAMS)
def test_grad_cam_depends_on_the_class_and_leaves_no_gradients(nano, stream):
    images = faces(nano, 2)
    first, second = (grad_cam(nano, images, [number] * 2, stream) for number in (0, 5))
    assert first.shape == images[:, 0].shape and first.min() >= 0 and first.max() <= 1
    assert not np.allclose(first, second)
    assert all(parameter.grad is None for parameter in nano.parameters())


def test_heat_is_shared_out_over_regions():
    points = np.full((1, 68, 2), 0.9)
    points[0, 48:68] = np.stack(np.meshgrid(np.linspace(0.2, 0.4, 5), np.linspace(0.6, 0.7, 4)), -1).reshape(-1, 2)
    masks = region_masks(points, side=100)
    assert masks["mouth"][0, 65, 30] and not masks["mouth"][0, 65, 60]
    heat = np.zeros((1, 100, 100))
    heat[0, 65, 30], heat[0, 5, 5] = 3.0, 1.0
    shares = heat_shares(heat, masks)
    assert shares["mouth"][0] == pytest.approx(0.75) and shares["eyes"][0] == 0
    assert 0.02 < shares["mouth_area"][0] < 0.06
    assert np.isnan(heat_shares(np.zeros((1, 100, 100)), masks)["mouth"][0])


def test_random_heat_is_coarse_and_reproducible():
    heat = random_heat(2, 56, 7, seed=1)
    assert np.array_equal(heat, random_heat(2, 56, 7, seed=1)) and 0 <= heat.min() and heat.max() <= 1
    assert np.abs(np.diff(heat, axis=2)).max() < 0.2


def made_results(names):
    """Two seeds of these rows: MLP 90 and 92, margin heads 3 and 1 points below it, in macro F1 10 and 10.5."""
    rows = [row for row in table_rows() if row.name in names]
    results = []
    for row in rows:
        for seed in (1, 2):
            free = 88.0 + 2 * seed - (row.head != "mlp") * (5 - 2 * seed)
            results.append({"row": row.name, "size": "nano, depth 1", "head": row.head, "seed": seed, "run": "r",
                            "margin_free": free, "label_margin": free if row.head == "mlp" else 40.0,
                            "macro_f1": 70.0 - (row.head != "mlp") * (9.5 + 0.5 * seed)})
    return rows, pd.DataFrame(results)


def test_ablation_summary_is_paired_over_seeds_and_corrected():
    names = ("POSTER-s", "POSTER-Ada-s, m = 0.4", "POSTER-Ada-s, m = 0.75")
    rows, results = made_results(names)
    table = summarise(results.iloc[::-1], rows).set_index("model")  # pairs by seed, not by place
    ada = table.loc["POSTER-Ada-s, m = 0.4"]
    half = 12.706 * 1.0  # t(0.975, 1) times the standard error of -3 and -1
    assert [ada["difference"], ada["difference_low"], ada["difference_high"]] == pytest.approx(
        [-2.0, -2.0 - half, -2.0 + half], abs=1e-3)
    assert ada["label_margin_difference"] == -51.0 and ada["macro_f1_difference"] == pytest.approx(-10.25)
    assert ada["macro_f1_p_holm"] == pytest.approx(2 * ada["macro_f1_p"]) and ada["macro_f1_p"] < 0.05
    assert ada["reported on RAF-DB"] == 88.30 and np.isnan(table.loc["POSTER-s", ["difference", "p_holm"]]).all()
    assert ada["margin_free_interval"] == pytest.approx(12.706 * 2.0, abs=1e-3)  # of 87 and 91
    gaps = gaps_by_seed(results)
    assert gaps.loc[1].tolist() == [-50.0, -3.0, -10.0] and gaps.loc[2].tolist() == [-52.0, -1.0, -10.5]


def test_one_seed_has_no_interval():
    rows, results = made_results(("POSTER-s", "POSTER-Ada-s, m = 0.4"))
    ada = summarise(results[results["seed"] == 1], rows).set_index("model").loc["POSTER-Ada-s, m = 0.4"]
    assert ada["difference"] == -3.0 and np.isnan(ada[["difference_low", "p", "p_holm"]].astype(float)).all()
    assert np.isnan(seed_interval([1.0]))


def test_a_difference_is_told_with_its_interval_as_far_as_it_is_known():
    nan = float("nan")
    assert difference_text(-4.0, -6.31, -1.66) == "-4.0 (-6.3 to -1.7)"
    assert difference_text(0.04, nan, nan) == "+0.0" and difference_text(nan, nan, nan) == ""


def test_reported_numbers():
    assert [row["accuracy"] for row in reported_results()["table_1"]] == [
        91.59, 91.87, 90.94, 87.26, 88.30, 85.30, 87.32, 86.99, 87.06]
    assert len(published_log()) == 216 and published_log()["val_accuracy"].max() == 0.9205
