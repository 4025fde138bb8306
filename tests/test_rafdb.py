"""The day RAF-DB arrives, rehearsed on a small set: files of every kind, one page, the right number in each place."""

import json
import re
from dataclasses import replace

import face_sets
import pytest
import torch
from golden_recipe import recipe_state_dict

from poster_ada.checkpoints.create import load_checkpoint
from poster_ada.data.datasets import open_dataset
from poster_ada.evaluation.metrics import compute_metrics
from poster_ada.evaluation.predict import predict_split
from poster_ada.paper.arrival import MARGINS, MULTIPLY_ADDS, Measured, all_agrees, training_lines, verdict
from poster_ada.rafdb import main


def run(*words) -> int:
    with pytest.raises(SystemExit) as stopped:
        main([str(word) for word in words])
    return stopped.value.code


@pytest.mark.slow
def test_every_file_is_tested_in_both_orders_and_by_both_counts(tmp_path, capsys):
    faces = face_sets.rafdb(tmp_path / "raf-basic", train=7, test=14)
    checkpoints = tmp_path / "checkpoint"
    checkpoints.mkdir()
    path = checkpoints / "small_ada.pth"
    torch.save({"model_state_dict": recipe_state_dict("rafdb_small_adaface", "module.")}, path)
    (checkpoints / "page.pth").write_text("<!doctype html>")
    (checkpoints / "notes.txt").write_text("not a checkpoint")
    assert run("--data", faces, "--checkpoints", checkpoints, "--out", tmp_path / "out", "--precision", "float32",
               "--quiet") == 1  # 14 faces are not RAF-DB
    page = (tmp_path / "out" / "verdict.txt").read_text(encoding="utf-8")
    assert page in capsys.readouterr().out
    split, model = open_dataset(faces, check=False).test, load_checkpoint(path)
    row, = re.findall(r"small_ada\.pth +small +adaface +([\d.]+) +([\d.]+)  ([\d.]+) \(m = 0.4\), ([\d.]+)", page)
    expected = []
    for order in ("BGR", "RGB"):
        model.config = replace(model.config, channel_order=order)
        expected.append(100 * compute_metrics(predict_split(model, split), intervals=False)["accuracy"])
    for margin in MARGINS:
        model = load_checkpoint(path, margin=margin)
        table = predict_split(model, split, protocol="label-margin")
        expected.append(100 * compute_metrics(table, intervals=False)["accuracy"])
    assert [float(number) for number in row] == pytest.approx(expected, abs=0.006)
    assert "page.pth is a web page" in page and "notes.txt" not in page
    assert "not RAF-DB basic by its class counts (7 train, 14 test" in page
    assert "fetch the published POSTER-l" in page
    record = json.loads((tmp_path / "out" / "verdict.json").read_text(encoding="utf-8"))
    assert not record["agrees"] and record["tested"][0]["accuracy"]["BGR"] == pytest.approx(expected[0])
    for order in ("BGR", "RGB"):
        assert (tmp_path / "out" / f"small_ada.pth-{order}" / "predictions.csv").is_file()


def result(bgr, rgb, label_margin=None, name="rafdb_best.pth", size="large", head="mlp"):
    return Measured(name, size, head, "BGR", {"BGR": bgr, "RGB": rgb}, label_margin or {}, 60.0)


@pytest.fixture
def dataset(tmp_path, monkeypatch):
    dataset = open_dataset(face_sets.rafdb(tmp_path / "raf-basic"), check=False)
    monkeypatch.setattr(type(dataset), "is_published", property(lambda self: True))
    return dataset


def test_the_verdict_tells_agreement_from_its_lack(dataset):
    page = verdict(dataset, [result(92.07, 60.0)], [], "checkpoint", "float32", 0)
    assert "+ rafdb_best.pth: log's best, within 0.1 points" in page and "- nothing" in page and "1. train" in page
    page = verdict(dataset, [result(91.4, 60.0)], [], "checkpoint", "float32", 0)
    assert "- rafdb_best.pth: none of its published numbers" in page and "compare with --precision float32" in page
    page = verdict(dataset, [result(60.0, 92.05)], [], "checkpoint", "float32", 3)
    assert "asks for BGR but is better in RGB" in page and "3 test faces have an equal picture" in page
    page = verdict(dataset, [result(14.0, 12.0)], [], "checkpoint", "float32", 0)
    assert "far from trained" in page


def test_adaface_files_are_held_against_the_report_by_its_count(dataset):
    ada = result(90.1, 70.0, {0.4: 88.32, 0.75: 85.9}, "ada.pth", "small", "adaface")
    page = verdict(dataset, [ada], [], "checkpoint", "float32", 0)
    assert "+ ada.pth: report, m = 0.4, within 0.1 points" in page
    assert "ada.pth: margin-free 90.10 is no less" in page
    assert "88.32 (m = 0.4), 85.90 (m = 0.75)" in page and "88.30 (report, m = 0.4)" in page


def test_the_page_is_one_and_offers_training_with_its_hours(dataset):
    page = verdict(dataset, [result(92.05, 60.0)] * 4, [], "checkpoint", "bfloat16", 0)
    lines = [line for line in page.splitlines() if str(dataset.root) not in line]
    assert len(page.splitlines()) <= 50 and max(map(len, lines)) <= 160
    assert "7 h  python -m poster_ada.train --data" in page
    assert '--data "my set/raf"' in "\n".join(training_lines("my set/raf"))


def test_training_lines_are_flags_that_train_knows(capsys):
    from poster_ada.train import parser

    for line in training_lines("data/raf-basic"):
        for words in re.findall(r"python -m poster_ada\.train (.+)", line):
            parser().parse_args(words.split())


def test_the_sizes_cost_what_the_hours_say():
    from poster_ada.checkpoints.create import create_model
    from poster_ada.model.summary import component_table

    for size in ("small", "large"):
        total = component_table(create_model(size))[-1].multiply_adds
        assert total / 1e9 == pytest.approx(MULTIPLY_ADDS[size], abs=0.02)


def test_an_absent_set_is_one_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run() == 2
    error = capsys.readouterr().err
    assert "data/raf-basic is not there" in error and error.count("\n") == 1


def test_everything_agrees_only_on_rafdb_with_files_that_meet_their_numbers(dataset, monkeypatch):
    good, bad = result(92.05, 20.0), result(91.0, 20.0)
    good = replace(good, accuracy={"BGR": good.published["log's best"], "RGB": 20.0})
    assert all_agrees(dataset, [good], [], "float32")
    for tested, failed in (([good, bad], []), ([], []), ([good], ["x.pth is no checkpoint"])):
        assert not all_agrees(dataset, tested, failed, "float32")
    monkeypatch.setattr(type(dataset), "is_published", property(lambda self: False))
    assert not all_agrees(dataset, [good], [], "float32")
