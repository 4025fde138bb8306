"""The FER+ study: a grid whose comparisons are paired, rows that are whole, done once, resumed and repeatable."""

import json
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch
from face_sets import picture
from filelock import FileLock

from poster_ada import study
from poster_ada.data.datasets import open_dataset
from poster_ada.errors import InputError
from poster_ada.evaluation.predict import predict_with_embeddings
from poster_ada.evaluation.predictions import probability_columns
from poster_ada.paper import ferplus_runs
from poster_ada.paper.engine import Engine, can_submit
from poster_ada.paper.ferplus_classes import COSINES, class_cosines
from poster_ada.paper.ferplus_grid import (
    FRESH,
    LENGTHS,
    PARTS,
    PREDICTIONS,
    SEARCHED,
    SEEDS,
    FerplusRow,
    baseline_of,
    gamma_of,
    grid,
)
from poster_ada.paper.ferplus_results import write_arrays
from poster_ada.paper.ferplus_runs import (
    TABLE,
    FerplusStudy,
    RowJob,
    logit_gaps,
    norm_statistics,
    plan,
    repeat,
    run_rows,
    without_temperature,
)
from poster_ada.training.runs import Run

NAMED = ("set", "preset", "head", "margin", "scale", "epochs", "seed", "commit", "accuracy", "macro_f1",
         "accuracy_without_twins", "label_margin_accuracy", "ece")  # what the record must have


def faces(root, twins: int = 2):
    """FER+ with 42 training, 21 validation and 21 test faces of 7 classes; so many test faces are validation faces
    too, and one is a training face."""
    numbers = {"FER2013Train": list(range(42)), "FER2013Valid": list(range(100, 121)),
               "FER2013Test": [0, *range(100, 100 + twins), *range(201 + twins, 222)]}
    for folder, chosen in numbers.items():
        (root / folder).mkdir(parents=True)
        lines = []
        for place, number in enumerate(chosen):
            votes = [0] * 10
            votes[place % 7], votes[8] = 10 - number % 4, number % 4
            picture(number, (48, 48)).convert("L").save(root / folder / f"{folder[-4:]}{number}.png")
            lines.append(f'{folder[-4:]}{number}.png,"(0, 0, 48, 48)",{",".join(map(str, votes))}\n')
        (root / folder / "label.csv").write_text("".join(lines), encoding="utf-8")
    return root


ADAFACE = FerplusRow("published", "adaface-m0.4", 1, 1, choices={"head": "adaface", "margin": 0.4, "batch_size": 16})
MLP = FerplusRow("published", "mlp", 1, 2, choices={"head": "mlp", "batch_size": 16})


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A study of two rows, and what it left."""
    place = tmp_path_factory.mktemp("study")
    data = open_dataset(faces(place / "faces"), num_classes=7)
    made = FerplusStudy(data, place / "runs", place / "results", "cpu")
    run_rows(made, [ADAFACE, MLP])
    return made


@pytest.fixture
def another(done, tmp_path):
    """A study of the same faces without any rows."""
    return FerplusStudy(done.dataset, tmp_path / "runs", tmp_path / "results", "cpu")


def test_the_grid_is_paired_and_names_every_run_once():
    rows = grid()
    assert len({row.id for row in rows}) == len(rows) and {row.part for row in rows} == set(PARTS) - {"confirm"}
    per = Counter((row.part, row.setting, row.epochs) for row in rows)
    for name, runs in {"mlp": [5, 3, 2], "adaface-m0.4": [5, 3, 2], "adaface-m0.75": [5, 0, 2]}.items():
        assert [per["published", name, epochs] for epochs in (6, 12, 24)] == runs
    assert per["published", "cosface", 6] == per["published", "arcface", 6] == 3
    for row in rows:  # whatever is compared with it has its seed, length and size
        assert any((other.part, other.setting, other.seed, other.epochs, other.preset) ==
                   (*baseline_of(row), row.seed, row.epochs, row.preset) for other in rows), row.id
    assert {row.seed for row in rows if row.part in SEARCHED} == set(FRESH)
    assert not set(FRESH) & set(SEEDS)


def test_every_row_trains_the_recipes_loss_on_nanos_schedule(done):
    for row in grid():
        config = done.config(row)
        assert config.preset == row.preset and config.epochs == row.epochs and config.model.num_classes == 7
        assert (config.optimizer, config.batch_size, config.lr, config.rho, config.decay, config.targets) == (
            "adam", 64, 2e-3, 0.0, "exponential", "labels"), row.id
        assert config.average == config.clip_norm == 0
        assert config.augmentation == ("camera" if "camera" in row.setting else "warp")
        assert config.label_smoothing == (0.0 if row.setting.endswith("smoothing-0") else 0.2)
        assert config.model.channel_order == "grey" and config.select_on == "validation"
        assert (config.model.embed_dim == 96) == (row.preset == "mini")
    for epochs in (*LENGTHS, 20):
        assert gamma_of(epochs) ** epochs == pytest.approx(0.05, rel=2e-3)
    assert gamma_of(12) == pytest.approx(0.78, abs=1e-3) and gamma_of(20) == pytest.approx(0.86, abs=1e-3)


def test_a_row_says_what_the_record_must_have(done):
    table = done.table().set_index("id")
    assert set(NAMED) <= set(table.columns) and list(table.index) == [ADAFACE.id, MLP.id]
    row = table.loc[ADAFACE.id]
    free = ferplus_runs.read_predictions(done.folder / ADAFACE.id / "predictions.csv")
    right = (free["label"] == free["prediction"]).to_numpy()
    assert row["accuracy"] == pytest.approx(100 * right.mean())
    assert row["accuracy_without_twins"] == pytest.approx(100 * right[3:].mean()) and row["faces_without_twins"] == 19
    assert row["commit"] == done.commit and row["fingerprint"] == done.dataset.fingerprint()
    assert row["label_margin_accuracy"] <= row["accuracy"] and row["scale"] == row["final_scale"] == 64
    assert table.loc[MLP.id, "label_margin_accuracy"] == table.loc[MLP.id, "accuracy"]
    assert table.loc[MLP.id, ["margin", "scale", "gap_above_0", "median_gap"]].isna().all()
    assert row["gap_above_0"] == pytest.approx(row["accuracy"]) and row["gap_above_0.4"] >= row["gap_above_0.5"]
    recalls = [row[f"recall_{name.lower()}"] for name in done.dataset.class_names]
    assert np.mean(recalls) == pytest.approx(100 * np.mean(
        [right[free["label"] == name].mean() for name in done.dataset.class_names]))
    assert {"r_embedding_blur", "accuracy_jpeg_5", "validation_macro_f1", "ece_calibrated", "temperature",
            "label_margin_macro_f1", "norm_class_share", "r_norm_agreement"} <= set(table.columns)


def test_rows_from_before_class_vectors_were_a_setting_are_done(done):
    path, now = done.results / TABLE, done.table()
    older = now.drop(columns="class_vectors")
    older.to_csv(path, index=False)
    assert done.is_done(ADAFACE) and done.is_done(MLP)
    filled = done.table().set_index("id")["class_vectors"]
    assert filled[ADAFACE.id] == "learned" and pd.isna(filled[MLP.id])
    now.to_csv(path, index=False)
    assert done.is_done(ADAFACE) and done.is_done(MLP)


def test_cosines_between_classes_are_kept_and_added_to_rows_that_lack_them(done):
    for row in (ADAFACE, MLP):
        small = done.results / PREDICTIONS / f"{row.id}.npz"
        arrays = dict(np.load(small))
        kept = arrays.pop(COSINES)
        np.testing.assert_allclose(kept, class_cosines(Run(done.folder / row.id).model("best").head), atol=1e-6)
        write_arrays(small, arrays)
        done.keep_class_cosines()
        again = dict(np.load(small))
        np.testing.assert_allclose(again.pop(COSINES), kept, atol=1e-6)
        assert again.keys() == arrays.keys()
        assert all(np.array_equal(again[name], arrays[name]) for name in arrays)


def test_predictions_are_kept_small_and_give_the_rows_numbers(done):
    small = done.results / PREDICTIONS / f"{ADAFACE.id}.npz"
    found, row = np.load(small), done.table().set_index("id").loc[ADAFACE.id]
    labels = done.dataset.test.labels
    assert 100 * (found["prediction"] == labels).mean() == pytest.approx(row["accuracy"])
    counted = np.unpackbits(found["label_margin_right"], count=len(labels))
    assert 100 * counted.mean() == pytest.approx(row["label_margin_accuracy"])
    assert 100 * (found["validation_prediction"] == done.validation.labels).mean() == pytest.approx(
        row["validation_accuracy"])
    assert 100 * (found["gap"] > 0.4).mean() == pytest.approx(row["gap_above_0.4"]) and small.stat().st_size < 100_000
    model = Run(done.folder / ADAFACE.id).model("best")
    _, embeddings = predict_with_embeddings(model, done.dataset.test, "cpu", quiet=True)
    cos = model.head.cosine(torch.from_numpy(embeddings)).detach().double().numpy()
    rows = np.arange(len(labels))
    true = cos[rows, labels].copy()
    cos[rows, labels] = -2
    np.testing.assert_allclose(found["gap"], true - cos.max(1), atol=2e-3)


@pytest.mark.slow
@pytest.mark.skipif(not can_submit(), reason="submitit is not installed, or this is Windows")
def test_rows_run_side_by_side_in_processes_and_give_the_same(done, another, capsys, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)  # which would be kept, as the user's word
    another.results.mkdir()
    run_rows(another, [ADAFACE, MLP], discard=True, engine=Engine(workers=2))
    old, new = (made.table().set_index("id").loc[[ADAFACE.id, MLP.id]] for made in (done, another))
    assert new["accuracy"].tolist() == pytest.approx(old["accuracy"].tolist(), abs=5)  # sums in another order
    assert new["accuracy_without_twins"].notna().all() and set(new["threads"]) == {1}
    assert len([line for line in capsys.readouterr().out.splitlines() if "validation" in line]) == 2
    job = RowJob(MLP, another.dataset.root, "others", another.folder, another.results)
    assert job.checkpoint().function.row == MLP
    with pytest.raises(InputError, match="other faces"):
        job()


def test_finished_rows_are_left_alone_and_others_are_not(done, another, monkeypatch):
    monkeypatch.setattr(ferplus_runs, "train", lambda *a, **k: pytest.fail("trained again"))
    run_rows(done, [ADAFACE, MLP])
    assert not done.is_done(FerplusRow("published", "adaface-m0.4", 1, 1, choices=ADAFACE.choices | {"margin": 0.75}))
    assert not done.is_done(FerplusRow("published", "mlp", 2, 2, choices=MLP.choices))
    assert not another.is_done(MLP)
    with FileLock(another.folder / f"{MLP.id}.lock", is_singleton=False):  # as another process holds it
        another.folder.mkdir(parents=True, exist_ok=True)
        assert another.run_row(MLP) is None
    other = FerplusStudy(done.dataset, done.folder, done.results, "cpu")
    monkeypatch.setattr(type(other.dataset), "fingerprint", lambda self: "others")
    assert not other.is_done(MLP)


@pytest.mark.slow
def test_a_stopped_row_goes_on_and_a_finished_ones_folder_can_go(another, monkeypatch):
    validate, calls = ferplus_runs.train.__globals__["validate"], []

    def once(*args):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return validate(*args)

    monkeypatch.setitem(ferplus_runs.train.__globals__, "validate", once)
    with pytest.raises(KeyboardInterrupt):
        another.run_row(MLP)
    assert not len(another.table()) and len(Run(another.folder / MLP.id).log) == 1
    result = another.run_row(MLP, discard=True)
    assert len(calls) == 3 and result["epochs"] == 2
    assert another.is_done(MLP) and not (another.folder / MLP.id).exists()
    assert (another.results / PREDICTIONS / f"{MLP.id}.npz").is_file()


@pytest.mark.slow
def test_repeating_a_row_gives_its_numbers_again(done, capsys):
    table = done.table()
    assert repeat(done, MLP) and "numbers are the same" in capsys.readouterr().out
    try:
        table.assign(accuracy=table["accuracy"] + 1).to_csv(done.results / TABLE, index=False)
        assert not repeat(done, MLP) and "not the same" in capsys.readouterr().out
        table.assign(fingerprint="x").to_csv(done.results / TABLE, index=False)
        with pytest.raises(InputError, match="other faces"):
            repeat(done, MLP)
    finally:
        table.to_csv(done.results / TABLE, index=False)
    with pytest.raises(InputError, match="no row"):
        repeat(done, FerplusRow("published", "mlp", 9))


def test_temperature_comes_off_and_gaps_are_those_of_logits():
    logits = 30 * torch.randn(40, 7, generator=torch.Generator().manual_seed(1)).double()
    names = ("Neutral", "Happiness", "Sadness", "Surprise", "Fear", "Disgust", "Anger")
    labels = np.arange(40) % 7
    table = pd.DataFrame({"file": range(40), "label": np.array(names)[labels],
                          "prediction": np.array(names)[logits.argmax(1)], "norm": 1.0})
    tempered = table.copy()
    table[probability_columns(names)] = logits.softmax(1).numpy()
    tempered[probability_columns(names)] = (logits / 7.5).softmax(1).numpy()
    plain = without_temperature(tempered, 7.5)
    np.testing.assert_allclose(plain[probability_columns(names)], table[probability_columns(names)], atol=1e-9)
    true = logits[range(40), labels].clone()
    logits[range(40), labels] = -1e9
    np.testing.assert_allclose(logit_gaps(plain), true - logits.max(1).values, atol=1e-6)


def test_norm_statistics_tell_class_from_agreement(done):
    split = done.dataset.test
    agreement = split.votes.max(1) / 10
    by_class = norm_statistics(pd.DataFrame({"norm": split.labels.astype(float)}), split)
    assert by_class["norm_class_share"] == pytest.approx(100)
    by_agreement = norm_statistics(pd.DataFrame({"norm": 3 + 2 * agreement}), split)
    assert by_agreement["r_norm_agreement"] == pytest.approx(1) == by_agreement["r_norm_agreement_within"]
    assert by_agreement["norm_mean"] == pytest.approx(3 + 2 * agreement.mean())


def test_the_plan_counts_what_is_left(done, monkeypatch):
    speeds = iter((100.0, 50.0))
    monkeypatch.setattr(ferplus_runs, "measured_speed", lambda *_: next(speeds))
    mini = FerplusRow("mini", "mlp", 1, 3, "mini", {"head": "mlp"})
    lines = plan(done, [ADAFACE, MLP, FerplusRow("published", "mlp", 7, 4), mini], workers=2).set_index("part")
    assert lines.loc["published", ["runs", "done"]].tolist() == [3, 2]
    assert lines.loc["published", "hours"] == pytest.approx(4 * 42 / 100 / 2 / 3600)
    assert lines.loc["mini", "hours"] == pytest.approx(3 * 42 / 50 / 2 / 3600)
    assert lines.loc["all", "runs"] == 4 and lines.loc["all", "million_faces_left"] == pytest.approx(7 * 42 / 1e6)


def test_speed_is_measured_where_nothing_is_finished(done, another):
    assert ferplus_runs.measured_speed(another, "nano") > 0
    assert ferplus_runs.measured_speed(done, "nano") == done.table()["faces_per_second"].median()


@pytest.mark.slow
def test_the_command_lists_refuses_and_runs_one_row(tmp_path, capsys):
    root = faces(tmp_path / "faces")
    here = ["--set", "ferplus", "--data", str(root), "--folder", str(tmp_path / "runs"), "--results", str(tmp_path)]
    study.main.__wrapped__([*here, "--list", "--part", "rivals", "--seeds", "2"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5 and all(line.startswith("-") and "seed2" in line for line in lines)
    for wrong, words in ((["--part", "search"], "no part search"), (["--preset", "mini"], "grid sets them"),
                         (["--only", "nothing"], "no such run"), (["--repeat", "x"], "no such run")):
        with pytest.raises(InputError, match=words):
            study.main.__wrapped__([*here, *wrong])
    with pytest.raises(InputError, match="for --set ferplus"):
        study.main.__wrapped__(["--plan"])
    study.main.__wrapped__([*here, "--only", "published-mlp-e6-seed1", "--discard", "--device", "cpu", "--workers",
                            "1"])
    assert "validation" in capsys.readouterr().out and pd.read_csv(tmp_path / TABLE)["seed"].tolist() == [1]
    assert json.dumps(str(tmp_path))[1:-1] not in (tmp_path / TABLE).read_text()
