"""The study: a balanced search, runs done once and repeatable, and tables that answer from the CSV alone."""

import json
import re
import shutil
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from face_sets import rafdb
from filelock import FileLock

from poster_ada import study
from poster_ada.checkpoints.create import create_model
from poster_ada.data.datasets import open_dataset
from poster_ada.data.degrade import SEVERITIES
from poster_ada.data.splits import split_train_validation
from poster_ada.errors import InputError
from poster_ada.evaluation.degraded import DegradedFaces, measure_degraded
from poster_ada.model.config import NORM_SOURCES
from poster_ada.paper import study_runs, study_summary
from poster_ada.paper.ablation import paired_test, seed_interval
from poster_ada.paper.figures import save_table
from poster_ada.paper.study_grid import CHOSEN, L18, SEARCH, SEEDS, Row, grid
from poster_ada.paper.study_runs import Study, read_results, run_rows, write_results
from poster_ada.training.recipe import HEAD_RECIPES, TrainConfig
from poster_ada.training.runs import Run


@pytest.fixture(scope="module")
def small_study(tmp_path_factory):
    """Two runs, one of each kind, on a made face set."""
    place = tmp_path_factory.mktemp("study")
    dataset = open_dataset(rafdb(place / "faces", train=56, test=21))
    rows = [Row("protocol", "adaface-m0.4", 1, {"head": "adaface", "margin": 0.4, "batch_size": 16}),
            Row("search", "01", 11, {"head": "adaface", "scale": 8.0, "validation_fraction": 0.25})]
    made = Study(dataset, "nano", place / "runs", epochs=1)
    run_rows(made, rows, place / "results")
    return made, rows, place / "results"


@pytest.fixture
def untrained(small_study, monkeypatch):
    """The small study and its rows; whoever trains again fails."""
    made, rows, _ = small_study
    monkeypatch.setattr(study_runs, "train", lambda *a, **k: pytest.fail("trained again"))
    return made, rows


def test_a_row_is_done_only_for_its_faces_settings_and_epochs(untrained, tmp_path):
    made, rows = untrained
    assert all(made.is_done(row) for row in rows)
    assert not any(Study(made.dataset, "nano", made.folder, epochs=2).is_done(row) for row in rows)
    assert not any(Study(made.dataset, "nano", made.folder).is_done(row) for row in rows)  # ten epochs
    others = open_dataset(rafdb(tmp_path / "faces", train=57, test=21))
    assert not any(Study(others, "nano", made.folder, epochs=1).is_done(row) for row in rows)
    for changed in ({"margin": 0.75}, {"scale": 9.0}, {"label_smoothing": 0.1}, {"augmentation": "none"}):
        row = Row("protocol", "adaface-m0.4", 1, rows[0].choices | changed)
        assert row.id == rows[0].id and not made.is_done(row)
    assert not made.is_done(Row("protocol", "adaface-m0.4", 2, rows[0].choices))
    copied = Study(made.dataset, "nano", tmp_path / "elsewhere", epochs=1)
    assert not copied.is_done(rows[0])


@pytest.mark.slow
def test_another_set_in_a_studys_folder_is_refused_not_counted(small_study, tmp_path):
    made, rows, _ = small_study
    folder = shutil.copytree(made.folder, tmp_path / "runs")
    others = open_dataset(rafdb(tmp_path / "faces", train=57, test=21))
    with pytest.raises(InputError, match="holds a run on other faces"):
        Study(others, "nano", folder, epochs=1).run_row(rows[0])
    again = Study(made.dataset, "nano", folder, epochs=2)
    longer = again.run_row(rows[0])
    assert longer["epochs"] == 2 and again.is_done(rows[0]) and len(Run(folder / rows[0].id).log) == 2


def test_the_search_is_measured_on_validation_faces_and_never_on_test_faces(small_study, monkeypatch, tmp_path):
    made, rows, _ = small_study
    measured, read = [], []
    monkeypatch.setattr(made, "degraded", lambda split, size: measured.append(split.files))
    monkeypatch.setattr(study_runs, "measure_degraded", lambda *_: {})
    monkeypatch.setattr(study_runs, "scores_on_test", lambda run, dataset: read.append(run.path) or {"accuracy": 1.0})
    for row in rows:
        made.train_and_measure(made.config(row), made.folder / row.id, on_validation=row.stage == "search")
    assert measured[0] == made.dataset.test.files and read == [made.folder / rows[0].id]
    _, held_out = split_train_validation(made.dataset.train, 0.25, 11)
    assert measured[1] == held_out.files and not set(measured[1]) & set(made.dataset.test.files)
    seen = {}
    monkeypatch.setattr(made, "train_and_measure", lambda config, path, on_validation: seen.update(
        {path.name: on_validation}) or {"seconds": 1.0})
    monkeypatch.setattr(made, "folder", tmp_path)
    for row in rows:
        made.run_row(row)
    assert seen == {rows[0].id: False, rows[1].id: True}


def test_rows_and_manifest_name_the_commit_that_trained(small_study, tmp_path):
    made, rows, results = small_study
    table = read_results(results).set_index("id")
    for row in rows:
        trained = Run(made.folder / row.id).record["environment"]["commit"]
        assert table.loc[row.id, "commit"] == trained != ""
    commits = {"a": "one", "b": "two"}
    save_table(pd.DataFrame({"x": [1]}), "study_x", data="faces", runs=commits, folder=tmp_path)
    for entry in json.loads((tmp_path / "manifest.json").read_text(encoding="utf-8")):
        assert entry["run_commits"] == ["one", "two"] and entry["run"] == ["a", "b"] and "drawn_by_commit" in entry


def test_a_manifest_reads_the_commits_of_the_runs_it_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "trained").mkdir(parents=True)
    Run(tmp_path / "runs" / "trained").write("record.json", {"environment": {"commit": "abc"}})
    save_table(pd.DataFrame({"x": [1]}), "x", data="faces", runs=["trained", "gone"], folder=tmp_path)
    (entry, *_) = json.loads((tmp_path / "manifest.json").read_text(encoding="utf-8"))
    assert entry["run_commits"] == ["abc", "unknown"]


def made_table(gap: float = 2.0) -> pd.DataFrame:
    """A table as of the whole grid, in which AdaFace is `gap` points better and scale 16 is best."""
    random, lines = np.random.default_rng(1), []
    chosen = [Row("confirm", name, seed, {"head": name[:3]}) for seed in (1, 2, 3) for name in
              (CHOSEN, "mlp-same-recipe")]
    rows = [row for row in grid((1, 2, 3)) if row.stage != "confirm"] + chosen
    for row in rows:
        line = {"id": row.id, "stage": row.stage, "setting": row.setting, "seed": row.seed, "data": "faces",
                "preset": "nano", "fingerprint": "f", "pretrained": "none", "epochs": 1, "train_faces": 90,
                "validation_faces": 10, "norm_source": "embedding", "head": "mlp"} | row.choices
        line["validation_accuracy"] = 50 + row.seed + 5 * (line.get("scale") == 16.0)
        line |= {f"r_{source}_{kind}": random.uniform(-0.1, 0.1) + (source == "pre_norm")
                 for source, kind in product(NORM_SOURCES, study_summary.KINDS)}
        line |= {f"accuracy_{kind}_{level}": 50.0 - level + random.normal()
                 for kind, level in product(SEVERITIES, range(1, 6))}
        if row.stage != "search":
            right = np.arange(100) < 50 + row.seed + gap * (row.setting == CHOSEN)
            line |= {"test_faces": 100, "accuracy": float(right.sum()), "macro_f1": 40.0,
                     "label_margin_accuracy": 30.0, "right": np.packbits(right).tobytes().hex()}
        lines.append(line)
    return pd.DataFrame(lines)


def test_search_is_balanced():
    levels = np.array([[int(level) for level in line] for line in L18])
    for a, b in combinations(range(levels.shape[1]), 2):
        counts = pd.crosstab(levels[:, a], levels[:, b]).to_numpy()
        assert (counts == counts[0, 0]).all() and counts.shape == (levels[:, a].max() + 1, levels[:, b].max() + 1)
    assert [len(values) for values in SEARCH.values()] == list(levels.max(0) + 1)
    rows = grid()
    assert len({row.id for row in rows}) == len(rows) and sum(row.stage == "search" for row in rows) == 18
    assert not {row.seed for row in rows if row.stage == "search"} & set(SEEDS)


def test_the_named_preset_is_what_the_committed_search_chose():
    table = read_results(Path(__file__).parents[2] / "results")
    assert {"head": "adaface"} | study_summary.choose(table) == {
        name: value for name, value in HEAD_RECIPES[CHOSEN].items() if name != "augmentation"}
    config = TrainConfig.for_preset("nano", head=CHOSEN)
    assert (config.augmentation, config.quality_weight, config.model.head) == ("camera", 3.0, "adaface")
    confirmed = [row for row in grid() if row.stage == "confirm"]
    assert {row.choices["augmentation"] for row in confirmed} == {"camera"}
    assert {row.choices.get("quality_weight") for row in confirmed if row.choices["head"] == "mlp"} == {None}


def test_each_run_is_done_once_and_tells_what_it_measured(small_study, monkeypatch, tmp_path):
    made, rows, results = small_study
    table = read_results(results).set_index("stage")
    assert table.loc["protocol", "measured_on"] == "test" and 0 <= table.loc["protocol", "accuracy"] <= 100
    assert table.loc["search", "measured_on"] == "validation" and np.isnan(table.loc["search", "accuracy"])
    assert table.loc["search", "scale"] == 8 and table.loc["protocol", "scale"] == 64
    assert str(made.folder) not in (results / "study.csv").read_text()
    assert study_summary.faces_right(read_results(results), "adaface-m0.4").mean() * 100 == pytest.approx(
        table.loc["protocol", "accuracy"])
    monkeypatch.setattr(study_runs, "train", lambda *a, **k: pytest.fail("trained again"))
    run_rows(made, rows, results)
    elsewhere = Row("protocol", "mlp", 9, {"head": "mlp"})
    with FileLock(made.folder / f"{elsewhere.id}.lock", is_singleton=False):  # as another process holds it
        assert made.run_row(elsewhere) is None


@pytest.mark.slow
def test_repeating_a_row_gives_its_numbers_again(small_study, capsys):
    made, rows, results = small_study
    table = read_results(results)
    assert study_runs.repeat(made, table, rows[0].id)
    assert "numbers are the same" in capsys.readouterr().out
    table.loc[table["id"] == rows[0].id, "accuracy"] += 1
    assert not study_runs.repeat(made, table, rows[0].id)
    with pytest.raises(InputError, match="no row 'x'"):
        study_runs.repeat(made, table, "x")
    table["fingerprint"] = "other"
    with pytest.raises(InputError, match="other faces"):
        study_runs.repeat(made, table, rows[0].id)


def test_results_of_two_machines_join_but_two_studies_do_not(tmp_path):
    table = made_table()
    write_results(table[table["seed"] != 2], tmp_path)
    write_results(table[table["seed"] == 2], tmp_path)
    joined = read_results(tmp_path)
    assert set(joined["id"]) == set(table["id"]) and joined["id"].is_unique
    with pytest.raises(InputError, match="another preset"):
        write_results(table.assign(preset="small"), tmp_path)


def test_norm_that_follows_quality_correlates(monkeypatch):
    model = create_model("nano")
    versions = {(kind, level): torch.full((4, 3, 48, 48), 50 - 10 * level, dtype=torch.uint8)
                for kind, level in [("none", 0), *product(SEVERITIES, range(1, 6))]}
    brightness = lambda model, images: (torch.zeros(len(images), 7), dict.fromkeys(  # noqa: E731
        NORM_SOURCES, 9 + images.mean((1, 2, 3))))
    monkeypatch.setattr("poster_ada.evaluation.degraded.norms_by_source", brightness)
    found = measure_degraded(model, DegradedFaces(versions, np.zeros(4, int)), "cpu")
    assert all(value == pytest.approx(1, abs=1e-5) for name, value in found.items() if name.startswith("r_"))
    assert {found[f"accuracy_blur_{level}"] for level in range(1, 6)} <= {0.0, 100.0}


def test_summary_finds_the_difference_and_the_best_level():
    table = made_table(gap=2.0)
    pairs = study_summary.comparisons(table).set_index(["setting", "baseline"])
    pair = pairs.loc[CHOSEN, "mlp-same-recipe"]
    assert pair["difference"] == 2 and pair["seeds"] == 3
    assert pair["faces_low"] < 2 < pair["faces_high"]
    assert study_summary.choose(table)["scale"] == 16
    norms = study_summary.norms_table(table).set_index(["setting", "norm_source", "kind"])
    assert norms.loc[(CHOSEN, "pre_norm", "all"), "r"] > 0.8


@pytest.mark.parametrize(("gap", "verdict"), [(4.0, "better"), (-4.0, "worse")])
def test_better_is_better_and_worse_is_worse(gap, verdict):
    table = made_table(gap)
    table.loc[table["seed"] == 2, "accuracy"] += 0.01 * (table["setting"] == CHOSEN)  # differences are not all one
    (sentence,) = [line for line in study_summary.findings(table) if f"{CHOSEN} less MLP, same recipe" in line]
    assert re.search(rf"accuracy {re.escape(f'{gap:+.1f}')} points \([^)]*over seeds, Holm\): {verdict};", sentence)
    low, high = study_summary.comparisons(table).set_index(["setting", "baseline"]).loc[
        (CHOSEN, "mlp-same-recipe"), ["difference_low", "difference_high"]]
    assert (low > 0) == (verdict == "better") and (high < 0) == (verdict == "worse")


def test_no_difference_is_not_called_one():
    for low, high, p, words in ((0.1, 2, 0.01, "better"), (-2, -0.1, 0.049, "worse"),
                                (-1, 1, 0.2, "no difference shown"),
                                (0, 1, 0.04, "no difference shown"), (-1, 0, 0.04, "no difference shown"),
                                (0.1, 2, 0.05, "no difference shown")):
        pair = {"macro_f1_difference_low": low, "macro_f1_difference_high": high, "macro_f1_p_holm": p}
        assert study_summary._verdict(pair, "macro_f1_") == words


def test_each_measure_is_tested_over_seeds_and_corrected_for_the_pairs():
    table = made_table()
    table["macro_f1"] += table["seed"] * (table["setting"] == "adaface-m0.75")
    pairs = study_summary.comparisons(table).set_index("setting")
    pair = pairs.loc["adaface-m0.75"]
    assert pair["macro_f1_difference"] == 2.0 and pair["macro_f1_p"] == pytest.approx(0.0741799)  # of 1, 2 and 3
    assert pair["macro_f1_p_holm"] == pair["macro_f1_p"]  # the other pairs do not differ at all and have no p
    own, other = (table[table["setting"] == name] for name in ("adaface-m0.4", "mlp"))
    mean = [rows[study_summary.DEGRADED].to_numpy().mean(1) for rows in (own, other)]
    assert pairs.loc["adaface-m0.4", "degraded_difference"] == pytest.approx((mean[0] - mean[1]).mean())
    corrected = pairs["degraded_p_holm"].sort_values()
    assert corrected.iloc[0] == pytest.approx(min(1, 3 * pairs["degraded_p"].min()))


def test_intervals_over_seeds_and_pairs_are_students_95_percent():
    # Student's t at 97.5 %: 4.302653 with 2 degrees of freedom, 12.706205 with one.
    assert seed_interval([1.0, 2.0, 3.0]) == pytest.approx(4.302653 / np.sqrt(3), rel=1e-6)
    assert seed_interval([1.0, 3.0]) == pytest.approx(12.706205, rel=1e-6)
    assert np.isnan(seed_interval([5.0]))
    test = paired_test([1.0, 2.0, 3.0])
    assert test["difference"] == 2.0 and test["p"] == pytest.approx(0.0741799)
    assert [test["difference_low"], test["difference_high"]] == pytest.approx(
        [2 - 4.302653 / np.sqrt(3), 2 + 4.302653 / np.sqrt(3)], rel=1e-6)
    settings = study_summary.settings_table(made_table(gap=2.0))
    assert settings.loc["mlp", "accuracy_interval"] == pytest.approx(seed_interval([51.0, 52.0, 53.0]))


def test_severity_zero_is_counted_on_the_faces_that_are_degraded(monkeypatch):
    # 10 of the 100 faces, of which the first 50 + seed + gap are right.
    monkeypatch.setattr("poster_ada.evaluation.degraded.FACES", 10)
    severities = study_summary.severity_table(made_table(gap=2.0)).set_index(["setting", "kind", "severity"])
    assert severities.loc[("mlp", "blur", 0), "accuracy"] == 50  # places 0, 11, ..., 99, whatever the seed
    assert severities.loc[("mlp", "blur", 5), "accuracy"] == pytest.approx(45, abs=3)


def test_summary_is_written_from_the_table(tmp_path):
    table = made_table()
    write_results(table, tmp_path)
    study.main.__wrapped__(["--summary", "--results", str(tmp_path)])
    names = {path.name for path in tmp_path.iterdir()}
    assert {f"{name}.{kind}" for name in study_summary.FIGURES for kind in ("pdf", "png")} <= names
    assert {entry["file"] for entry in json.loads((tmp_path / "manifest.json").read_text())} <= names


def test_command_asks_for_faces_and_lists_runs(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        study.main([])
    assert stopped.value.code == 2 and "give --data" in capsys.readouterr().err
    faces = rafdb(tmp_path / "faces")
    study.main.__wrapped__(["--data", str(faces), "--folder", str(tmp_path / "runs"), "--list", "--stage", "protocol"])
    assert "protocol-adaface-m0.75-seed5" in capsys.readouterr().out
