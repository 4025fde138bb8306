"""Several trainings at once leave the runs that one after another would, whatever becomes of a worker."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
from small_runs import child_process, same, small, weights

from poster_ada.data.datasets import open_dataset
from poster_ada.errors import InputError
from poster_ada.training import side_by_side
from poster_ada.training.loop import train
from poster_ada.training.runs import Run, default_folder
from poster_ada.training.side_by_side import train_all


@pytest.fixture
def dataset(faces):
    return open_dataset(faces, check=False)


def three(faces):
    return [small(faces, epochs=1, seed=seed) for seed in (1, 2, 3)]


def changed_at(run):
    return (run.path / "record.json").stat().st_mtime_ns


@pytest.mark.slow
def test_workers_leave_what_train_leaves(faces, dataset, tmp_path, capfd):
    configs = three(faces)
    runs = train_all([*configs, configs[0]], dataset, "cpu", workers=2, quiet=True)
    assert [run.path for run in runs] == [default_folder(config, dataset) for config in [*configs, configs[0]]]
    assert all(run.finished and (run.path / "predictions.csv").is_file() for run in runs)
    assert {run.record["environment"]["threads"] for run in runs} == {"1"}
    assert capfd.readouterr() == ("", "")
    before = changed_at(runs[1])
    found = train(configs[1], device="cpu", quiet=True, dataset=dataset)  # as a notebook asks for it afterwards
    assert found.path == runs[1].path and changed_at(found) == before
    alone = train(configs[1], tmp_path / "alone", device="cpu", quiet=True, dataset=dataset)
    assert alone.log["train_loss"].to_list() == pytest.approx(runs[1].log["train_loss"].to_list(), rel=1e-3)


@pytest.mark.slow
def test_the_bar_counts_epochs(faces, dataset, capsys):
    train_all([small(faces, epochs=2, head="mlp"), small(faces, epochs=1, head="adaface")], dataset, "cpu", workers=2)
    assert "2 trainings: 100%" in capsys.readouterr().err.splitlines()[-1]


def test_finished_runs_start_no_worker(faces, dataset, monkeypatch):
    first = train_all(three(faces), dataset, "cpu", workers=1, quiet=True)
    monkeypatch.setattr(side_by_side, "start_worker", lambda _: pytest.fail("a worker for nothing"))
    again = train_all(three(faces), dataset, "cpu", workers=2, quiet=True)
    assert [run.path for run in again] == [run.path for run in first]
    train_all([*three(faces), small(faces, epochs=1, seed=4)], dataset, "cpu", workers=2, quiet=True)  # one is left


def test_one_worker_and_wide_presets_train_in_this_process(faces, dataset, monkeypatch):
    monkeypatch.setattr(side_by_side, "start_worker", lambda _: pytest.fail("a worker"))
    wide = [replace(config, preset="large") for config in three(faces)[:2]]
    for configs, workers in ((three(faces)[:2], 1), (wide, 2)):
        runs = train_all(configs, dataset, "cpu", workers=workers, quiet=True)
        assert all(run.finished for run in runs) and runs[0].record["environment"]["threads"]


def test_what_a_worker_leaves_undone_is_done_here(faces, dataset, monkeypatch):
    monkeypatch.setattr(side_by_side.sys, "executable", "false" if os.name != "nt" else "where")  # stops at once
    runs = train_all(three(faces), dataset, "cpu", workers=2, quiet=True)
    assert all(run.finished for run in runs)


@pytest.mark.slow
def test_a_worker_does_not_train_on_other_faces(faces, dataset):
    dataset._fingerprint = "0123456789abcdef"
    with side_by_side.start_worker(dataset) as worker:
        assert worker.stdout.read() == "" and worker.wait() != 0


@pytest.mark.slow
def test_an_input_error_of_a_worker_is_raised(faces, dataset):
    bad = [small(faces, epochs=1, seed=seed, num_classes=2, class_names=("a", "b")) for seed in (1, 2)]
    with pytest.raises(InputError) as alone:
        train(bad[0], device="cpu", quiet=True, dataset=dataset)
    with pytest.raises(InputError) as together:
        train_all(bad, dataset, "cpu", workers=2, quiet=True)
    assert str(together.value) == str(alone.value)


@pytest.mark.slow
def test_runs_of_two_workers_are_those_of_one_thread(faces, dataset, tmp_path):
    config = small(faces, epochs=1, seed=9)
    together = train_all([config, replace(config, seed=10)], dataset, "cpu", workers=2, quiet=True)[0]
    script = ("import json, sys; from poster_ada.training.loop import train; from poster_ada.training.recipe import "
              "TrainConfig; train(TrainConfig.from_dict(json.loads(sys.argv[1])), sys.argv[2], device='cpu')")
    words = [json.dumps(config.to_dict()), str(tmp_path / "alone")]
    subprocess.run([sys.executable, "-c", script, *words], check=True, **child_process())
    assert same(weights(together, "best"), weights(Run(tmp_path / "alone"), "best"))
