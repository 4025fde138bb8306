"""What the benchmark compares computes the same thing, and a report keeps what it did not measure again."""

import json
from pathlib import Path

import pandas as pd
import pytest
import torch
from face_sets import ferplus, rafdb
from safetensors.torch import save_file

import benchmarks.design as design
from benchmarks.__main__ import QUICK, Bench, main, parser
from benchmarks.design import DESIGNS, costs
from benchmarks.plain import PlainPoster, PlainSam, plain_step
from benchmarks.precision import precision_rows
from benchmarks.report import PARTS, write_report
from benchmarks.ways import model_of, prediction_ways, predictor, training_step
from poster_ada.checkpoints.create import create_model
from poster_ada.data.datasets import open_dataset
from poster_ada.model.config import PRESETS
from poster_ada.model.poster import Poster
from poster_ada.training.loop import train
from poster_ada.training.recipe import TrainConfig, fit_recipe
from poster_ada.training.runs import Run

CPU = torch.device("cpu")


def test_the_plain_network_is_the_same_network():
    model = model_of("nano", CPU).eval()
    images = torch.randn(3, 3, 48, 48)
    with torch.no_grad():
        torch.testing.assert_close(PlainPoster(model).eval()(images), model(images), atol=1e-5, rtol=1e-5)


def test_the_plain_step_is_the_same_step(monkeypatch):
    """One SAM step of both loops from the same weights on the same images; Adam's first step is lr * sign(gradient)."""
    made = []
    monkeypatch.setattr("benchmarks.ways.model_of", lambda *choice: made.append(model_of(*choice)) or made[-1])
    monkeypatch.setattr("benchmarks.ways.noise", lambda batch, side, device: images)
    images, labels = torch.randn(8, 3, 48, 48), torch.arange(8) % 7
    before = {name: value.clone() for name, value in model_of("nano", CPU).state_dict().items()}
    assert training_step("float32", "nano", 8, CPU)() == 8
    plain = PlainPoster(model_of("nano", CPU)).train()
    lr = TrainConfig.for_preset("nano").lr
    plain_step(plain, PlainSam([p for p in plain.parameters() if p.requires_grad], lr), images, labels)
    ours = made[0].state_dict()
    moved = [(ours[name] - before[name], value - before[name]) for name, value in plain.state_dict().items()
             if value.is_floating_point() and not torch.equal(value, before[name])]
    same = torch.cat([torch.isclose(a, b, atol=0.1 * lr).flatten() for a, b in moved])
    assert len(moved) > 100 and same.float().mean() > 0.99  # a vanishing gradient may round to either sign


def test_a_report_replaces_the_parts_it_measured_and_keeps_the_others(tmp_path):
    row = {"part": "inference", "model": "nano", "batch": 32, "way": "plain", "rate": 10.0, "low": 9.0, "high": 11.0,
           "unit": "images/s", "gain": 1.0}
    write_report(pd.DataFrame([row, row | {"part": "data", "way": "default", "rate": 9.5}]), tmp_path, "machine")
    write_report(pd.DataFrame([row | {"rate": 20.0, "high": 21.0}]), tmp_path, "machine")
    table = pd.read_csv(tmp_path / "machine.csv")
    assert list(zip(table["part"], table["rate"], strict=True)) == [("inference", 20.0), ("data", 9.5)]
    assert "| nano | 32 | plain | 20 |" in (tmp_path / "machine.md").read_text()
    assert (tmp_path / "machine.pdf").read_bytes().startswith(b"%PDF")


def test_no_rounds_are_refused():
    with pytest.raises(SystemExit) as stopped:
        main(["--repeats", "0"])
    assert stopped.value.code == 2


def test_a_plain_model_is_made_of_published_layers():
    kinds = {type(module).__module__ for module in PlainPoster(create_model("nano")).modules()}
    assert "poster_ada.prelu" not in kinds


@pytest.mark.parametrize("name", DESIGNS)
def test_every_design_trains_as_poster_does(name, tmp_path, monkeypatch):
    config = fit_recipe(open_dataset(ferplus(tmp_path / "votes")), "mini", epochs=1, batch_size=4)
    if name == "landmark stream trained on points":
        monkeypatch.setattr(design, "LANDMARK_WEIGHTS", tmp_path / "landmarks.safetensors")
        save_file(Poster(config.model).landmark_stream.state_dict(), design.LANDMARK_WEIGHTS,
                  {"poster_ada": json.dumps({"model": {}, "training": {}})})
    run = train(config, tmp_path / "run", device="cpu", quiet=True, make=DESIGNS[name])
    assert run.finished and "test" in run.record
    parameters, multiply_adds = costs(DESIGNS[name], config.model)
    model = DESIGNS[name](config.model)
    assert parameters == sum(p.numel() for p in model.parameters() if p.requires_grad) and multiply_adds > 1e6


def test_speeds_need_no_file_of_weights(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert set(design.speeds(PRESETS["mini"], batch=1, repeats=1).index) == set(DESIGNS)


@pytest.mark.parametrize("wanted", ["landmark stream trained on points", "poster"])
def test_the_weights_that_a_design_needs_are_made_first(wanted, tmp_path, monkeypatch):
    from benchmarks.ferplus import Ferplus, parser

    monkeypatch.setattr(design, "LANDMARK_WEIGHTS", tmp_path / "landmarks.safetensors")
    study = Ferplus(parser().parse_args(["--data", str(ferplus(tmp_path / "votes")), "--design", wanted]))
    steps = []
    monkeypatch.setattr(design, "FaceDetector", lambda *_, **__: None)
    monkeypatch.setattr(design, "real_points", lambda faces, *_: len(faces.train))
    monkeypatch.setattr(design, "train_landmarks", lambda *given, **how: steps.append((given[1], how["real"])))
    monkeypatch.setattr(study, "trained", lambda *_, **__: pytest.fail("stop here"))
    with pytest.raises(pytest.fail.Exception, match="stop here"):
        next(study.design())
    assert steps == ([(design.LANDMARK_WEIGHTS, len(study.data.train))] if wanted != "poster" else [])


def test_parts_taken_out_cost_less():
    whole, config = costs(Poster, PRESETS["mini"]), PRESETS["mini"]
    for name in ("without pyramid", "image stream alone"):
        assert all(less < more for less, more in zip(costs(DESIGNS[name], config), whole, strict=True))
    parameters, multiply_adds = costs(DESIGNS["without landmark stream"], config)
    assert parameters == whole[0] and multiply_adds < whole[1]


def test_quick_measures_less_into_a_table_of_its_own(tmp_path, monkeypatch):
    parts = []

    def part(name):
        def rows(bench):
            parts.append((name, tuple(bench.given.sizes), bench.given.repeats))
            yield [{"part": name, "model": "", "batch": 1, "way": "plain", "rate": 1.0, "low": 1.0, "high": 1.0}]
        return rows

    for name in PARTS[1:]:
        monkeypatch.setattr(Bench, name, part(name))
    monkeypatch.setattr("benchmarks.report.draw", lambda *_: None)
    monkeypatch.setattr("benchmarks.__main__.multiply_rate", lambda *_: 1e9)
    for words in (["--quick"], ["--quick", "--only", "data", "--repeats", "1"]):
        with pytest.raises(SystemExit) as stopped:
            main([*words, "--out", str(tmp_path)])
        assert not stopped.value.code
    assert parts == [*((name, ("nano", "large"), 2) for name in QUICK["only"]), ("data", ("nano", "large"), 1)]
    assert [path.stem.endswith("-quick") for path in tmp_path.glob("*.csv")] == [True]


@pytest.mark.parametrize("native", [True, False])
def test_only_what_the_machine_multiplies_natively_is_measured(tmp_path, monkeypatch, native):
    """A matrix product in emulated bfloat16 takes minutes where float32 takes a fifth of a second."""
    monkeypatch.setattr("benchmarks.__main__.multiplies_bfloat16", lambda _: native)
    monkeypatch.setattr("benchmarks.__main__.multiply_rate", lambda *_: 1e9)
    bench = Bench(parser().parse_args(["--faces", str(rafdb(tmp_path))]), tmp_path)
    assert set(bench.rates) == ({torch.float32, torch.bfloat16} if native else {torch.float32})
    assert bench.machine.endswith("-bf16") == native


def test_an_onnx_file_is_one_of_the_ways(tmp_path):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    assert "onnxruntime-float32" in prediction_ways(CPU)
    model, images = model_of("nano", CPU).eval(), torch.randn(2, 3, 48, 48)
    with torch.no_grad():
        actual, expected = predictor("onnxruntime-float32", model, folder=tmp_path)(images), model(images)
    torch.testing.assert_close(actual, expected, atol=1e-4, rtol=1e-4)


def test_rows_of_unlike_columns_share_a_table(tmp_path):
    """The untouched model has no seed; the rows after it have, and each takes the place of its older self."""
    from benchmarks.ferplus import add_row

    path = tmp_path / "table.csv"
    for row in ({"way": "untouched", "accuracy": 1.0}, {"way": "tuned", "seed": 1, "accuracy": 2.0},
                {"way": "tuned", "seed": 1, "accuracy": 3.0}, {"way": "untouched", "accuracy": 4.0}):
        add_row(row, path)
    assert pd.read_csv(path)["accuracy"].tolist() == [3.0, 4.0]
@pytest.mark.slow
def test_precisions_are_paired_by_seed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("benchmarks.precision.SEEDS", (1, 2))
    faces = open_dataset(rafdb(tmp_path / "faces", train=140))
    single, half, difference = precision_rows(faces, epochs=1)
    assert [single["way"], half["way"]] == ["float32", "bfloat16"] and single["faces"] == len(faces.test)
    assert difference["accuracy"] == pytest.approx(half["accuracy"] - single["accuracy"])
    assert difference["accuracy_low"] <= difference["accuracy"] <= difference["accuracy_high"]
    assert {Run(path).record["precision"] for path in Path("runs").iterdir()} == {"float32", "bfloat16"}


def test_designs_are_compared_with_poster_over_seeds():
    """A design that is always two points better is found so; what all designs lose on one seed costs nothing."""
    from benchmarks.design import compared, markdown

    chance = {("poster", 1): 0.1, ("poster", 2): -0.1, ("flat", 1): -0.1, ("flat", 2): 0.1, ("other", 1): 0.0,
              ("other", 2): 0.0}
    better = {"poster": 0.0, "flat": 2.0, "other": 0.05}
    rows = pd.DataFrame([{
        "design": design, "seed": seed, "validation_accuracy": 80 + better[design] - 5 * (seed == 2) + noise,
        "validation_macro_f1": 60.0 + noise, "parameters": 1_900_000, "multiply_adds": 119_000_000,
    } for (design, seed), noise in chance.items()])
    table = compared(rows)
    assert list(table.index) == ["flat", "other", "poster"]
    flat, other = table.loc["flat"], table.loc["other"]
    assert flat["validation_accuracy_difference"] == pytest.approx(2.0)
    assert flat["validation_accuracy_low"] > 1 and flat["validation_accuracy_p"] < 0.05
    assert other["validation_accuracy_low"] < 0 < other["validation_accuracy_high"]
    line = markdown(table.assign(faces_per_second=50.4)).splitlines()[2]
    assert line.startswith("| flat | 79.5 | +2.0 (+") and line.endswith("| 1.9 | 119 | 50 |")
    one = markdown(compared(rows[rows["seed"] == 1]).assign(faces_per_second=50.4)).splitlines()[2]
    assert one.startswith("| flat | 81.9 | +1.8 | ")  # one seed: no interval
