"""Stopping and going on: bit for bit the same, whatever happened in between, and never with other faces or weights."""

import shutil
from dataclasses import replace

import pandas as pd
import pytest
import torch
from face_sets import rafdb
from small_runs import same, small, weights

import poster_ada.training.loop as loop
import poster_ada.training.runs as runs
from poster_ada.checkpoints.own import read_own
from poster_ada.data.datasets import open_dataset
from poster_ada.errors import InputError
from poster_ada.evaluation.predictions import read_predictions
from poster_ada.paper.ablation import label_margin_predictions
from poster_ada.training.loop import shorter_run, train
from poster_ada.training.runs import LABEL_MARGIN_TABLE, Run, default_folder


class Stop(Exception):
    pass


def stop_after(epochs: int, monkeypatch, owner, name: str):
    """Make a function fail at its call number `epochs + 1`."""
    original, calls = getattr(owner, name), []

    def failing(*args, **kwargs):
        calls.append(1)
        if len(calls) > epochs:
            raise Stop
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, failing)


def without_speed(log: pd.DataFrame) -> pd.DataFrame:
    return log.drop(columns="images_per_second")


def stopped_run(config, folder, monkeypatch, epochs: int) -> Run:
    with monkeypatch.context() as patch:
        stop_after(epochs, patch, loop, "train_epoch")
        with pytest.raises(Stop):
            train(config, folder, device="cpu", quiet=True)
    return Run(folder)


@pytest.mark.slow
@pytest.mark.parametrize("choices", [
    {"head": "adaface", "t_alpha": 0.5, "rho": 0.05}, {"optimizer": "adamw"}, {"optimizer": "sgd"},
    {"optimizer": "sgd", "momentum": 0.0}, {"balanced": True, "augmentation": "adaface"},
    {"optimizer": "adamw", "decay": "cosine", "warmup": 0.5, "average": 0.9, "clip_norm": 1.0, "augmentation": "wild"},
], ids=lambda choices: "-".join(map(str, choices.values())))
def test_resuming_equals_never_having_stopped_bit_for_bit(faces, tmp_path, monkeypatch, choices):
    config = small(faces, epochs=3, depth=2, drop_path_rate=0.3, **choices)
    whole = train(config, tmp_path / "whole", device="cpu", quiet=True)
    stopped = stopped_run(config, tmp_path / "parts", monkeypatch, epochs=1)
    assert len(stopped.log) == 1 and not stopped.finished
    torch.manual_seed(99)  # whatever happened in between
    parts = train(config, tmp_path / "parts", device="cpu", quiet=True)
    assert same(weights(whole, "last"), weights(parts, "last")) and same(weights(whole, "best"), weights(parts, "best"))
    pd.testing.assert_frame_equal(without_speed(whole.log), without_speed(parts.log), check_exact=True)
    (_, one), (_, other) = whole.last_state(), parts.last_state()
    assert same(one, other)  # with the optimizer's moments


def test_state_that_is_none_is_not_saved(faces, tmp_path, monkeypatch):
    # torch 2.9 keeps `momentum_buffer: None` for SGD without momentum, later ones keep nothing.
    config = small(faces, optimizer="sgd", momentum=0.0)
    make = loop.make_optimizer

    def with_none(*arguments):
        optimizer = make(*arguments)
        optimizer.register_step_post_hook(lambda *_: [optimizer.state[p].update(momentum_buffer=None)
                                                      for p in optimizer.param_groups[0]["params"]])
        return optimizer

    monkeypatch.setattr(loop, "make_optimizer", with_none)
    stopped_run(config, tmp_path / "run", monkeypatch, epochs=1)
    assert train(config, tmp_path / "run", device="cpu", quiet=True).finished


def test_drop_path_is_at_work_in_what_is_compared_above(faces, tmp_path):
    logs = [train(small(faces, epochs=1, depth=2, drop_path_rate=rate), tmp_path / str(rate), device="cpu",
                  quiet=True).log["train_loss"].item() for rate in (0.0, 0.3)]
    assert logs[0] != logs[1]


def test_the_best_score_so_far_is_remembered(faces, tmp_path, monkeypatch):
    scores = iter([(0.6, 1.0), (0.5, 0.9), (0.6, 1.1)])

    def scripted(*_):
        accuracy, loss = next(scores)
        return {"validation_loss": loss, "validation_accuracy": accuracy, "validation_macro_f1": 0.0,
                "norm_quality_correlation": None}

    monkeypatch.setattr(loop, "validate", scripted)
    config = small(faces, epochs=3)
    run = train(replace(config, epochs=1), tmp_path / "run", device="cpu", quiet=True)
    first = weights(run, "last")
    run = train(config, tmp_path / "run", device="cpu", quiet=True)
    assert run.record["best_epoch"] == 1 and run.record["selection_accuracy"] == 0.6
    assert same(weights(run, "best"), first)


@pytest.mark.parametrize("best_is_last", [True, False])
def test_a_kill_between_the_last_checkpoint_and_the_log_loses_no_epoch(faces, tmp_path, monkeypatch, best_is_last):
    accuracies = iter([0.2, 0.4] if best_is_last else [0.4, 0.2])
    monkeypatch.setattr(loop, "validate", lambda *_: {
        "validation_loss": 1.0, "validation_accuracy": next(accuracies), "validation_macro_f1": 0.0,
        "norm_quality_correlation": None})
    config = small(faces, epochs=2)
    with monkeypatch.context() as patch:
        stop_after(1, patch, Run, "write_log")
        with pytest.raises(Stop):
            train(config, tmp_path / "run", device="cpu", quiet=True)
    run = Run(tmp_path / "run")
    assert len(run.log) == 1 and len(run.last_state()[0]["log"]) == 2 and not run.finished
    run = train(config, tmp_path / "run", device="cpu", quiet=True)
    assert run.finished and run.log["epoch"].to_list() == [1, 2]
    assert run.record["best_epoch"] == (2 if best_is_last else 1) and run.record["selection_accuracy"] == 0.4


def test_a_run_stopped_in_the_middle_of_a_save_resumes(faces, tmp_path, monkeypatch):
    config = small(faces)
    stopped_run(config, tmp_path / "run", monkeypatch, epochs=1)
    before = weights(Run(tmp_path / "run"), "last")

    def half_written(path, content):
        with path.open("wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.write_bytes", half_written)
        with pytest.raises(OSError, match="No space"):
            train(config, tmp_path / "run", device="cpu", quiet=True)
    assert same(weights(Run(tmp_path / "run"), "last"), before)
    assert not list((tmp_path / "run").glob(".*part"))
    assert train(config, tmp_path / "run", device="cpu", quiet=True).finished


def test_a_finished_run_is_shared(faces, monkeypatch):
    config = small(faces, epochs=1)
    run = train(config, device="cpu", quiet=True)
    assert run.path == default_folder(config, open_dataset(faces)) and run.finished
    monkeypatch.setattr(loop, "train_epoch", lambda *_: pytest.fail("trained again"))
    assert train(config, device="cpu", quiet=True, resume=False).path == run.path


def test_an_unfinished_run_is_left_alone_unless_told_to_go_on(faces, tmp_path, monkeypatch):
    config = small(faces)
    stopped_run(config, tmp_path / "run", monkeypatch, epochs=1)
    with pytest.raises(InputError, match="unfinished run; add --resume"):
        train(config, tmp_path / "run", device="cpu", quiet=True, resume=False)
    assert train(config, tmp_path / "run", device="cpu", quiet=True).finished


@pytest.mark.parametrize(("changed", "named"), [
    ({"margin": 0.7}, "margin"), ({"lr": 0.1}, "lr"), ({"seed": 5}, "seed"), ({"depth": 2}, "depth"),
    ({"label_smoothing": 0.0, "gamma": 0.5}, "gamma, label_smoothing"), ({"head": "mlp"}, "head"),
    ({"augmentation": "none"}, "augmentation"), ({"balanced": True}, "balanced"), ({"select_on": "test"}, "select_on"),
])
def test_other_settings_are_refused_by_name(trained, faces, tmp_path, changed, named):
    shutil.copytree(trained.path, tmp_path / "run")
    config = small(faces, **({"head": "arcface"} | changed))
    with pytest.raises(InputError, match=rf"holds a run with other settings \({named}\); choose another --run-dir\.$"):
        train(config, tmp_path / "run", device="cpu", quiet=True)


@pytest.fixture(scope="module")
def trained(faces, tmp_path_factory):
    """A finished run of two epochs; copy it before training on."""
    return train(small(faces, head="arcface"), tmp_path_factory.mktemp("runs") / "run", device="cpu", quiet=True)


@pytest.mark.parametrize("epochs", [2, 3])
def test_other_faces_in_a_runs_folder_are_refused(trained, faces, tmp_path, epochs):
    shutil.copytree(trained.path, tmp_path / "run")
    others = rafdb(tmp_path / "others", train=57, test=21)
    before = (tmp_path / "run" / "record.json").read_text()
    said = r"holds a run on other faces \(.{16}, here .{16}\); choose another --run-dir\.$"
    with pytest.raises(InputError, match=said):
        train(small(others, head="arcface", epochs=epochs), tmp_path / "run", device="cpu", quiet=True)
    assert (tmp_path / "run" / "record.json").read_text() == before
    moved = shutil.copytree(faces, tmp_path / "the same faces \N{HANGUL SYLLABLE GA} elsewhere")
    assert train(small(moved, head="arcface"), tmp_path / "run", device="cpu", quiet=True).finished


def test_other_pretrained_weights_are_refused(trained, faces, tmp_path, monkeypatch):
    shutil.copytree(trained.path, tmp_path / "run")
    (tmp_path / "ir50.pth").write_bytes(b"other weights")
    monkeypatch.setattr(runs, "pretrained_files", lambda *_: [tmp_path / "ir50.pth"])
    for epochs in (2, 3):
        with pytest.raises(InputError, match="holds a run on other pretrained weights"):
            train(small(faces, head="arcface", epochs=epochs), tmp_path / "run", device="cpu", quiet=True)


def test_fewer_epochs_than_there_are_are_refused(trained, faces, tmp_path):
    shutil.copytree(trained.path, tmp_path / "run")
    with pytest.raises(InputError, match="holds a run of 2 epochs, more than 1"):
        train(small(faces, head="arcface", epochs=1), tmp_path / "run", device="cpu", quiet=True)


@pytest.mark.slow
def test_an_extended_run_is_one_that_was_never_shorter(trained, faces, tmp_path):
    shutil.copytree(trained.path, tmp_path / "run")
    dataset = open_dataset(faces)
    stale = label_margin_predictions(Run(tmp_path / "run"), dataset)
    config = small(faces, head="arcface", epochs=4)
    run = train(config, tmp_path / "run", device="cpu", quiet=True)
    whole = train(config, tmp_path / "whole", device="cpu", quiet=True)
    assert run.config == config and run.finished and run.record["best_epoch"] == whole.record["best_epoch"]
    assert same(weights(run, "last"), weights(whole, "last")) and same(weights(run, "best"), weights(whole, "best"))
    assert not (run.path / LABEL_MARGIN_TABLE).exists()
    pd.testing.assert_frame_equal(read_predictions(run.path / "predictions.csv"),
                                  read_predictions(whole.path / "predictions.csv"))
    renewed = label_margin_predictions(run, dataset)
    pd.testing.assert_frame_equal(renewed, label_margin_predictions(whole, dataset))
    assert run.record["best_epoch"] <= 2 or not renewed.equals(stale)
    header, _ = read_own(run.path / "last.safetensors")
    assert header["training"]["epoch"] == 4 and header["training"]["recipe"]["epochs"] == 4


def test_results_are_gone_as_soon_as_a_run_goes_on(trained, faces, tmp_path, monkeypatch):
    shutil.copytree(trained.path, tmp_path / "run")
    label_margin_predictions(Run(tmp_path / "run"), open_dataset(faces))
    run = stopped_run(small(faces, head="arcface", epochs=3), tmp_path / "run", monkeypatch, epochs=0)
    assert not run.finished and run.config.epochs == 3
    assert not (run.path / "predictions.csv").exists() and not (run.path / LABEL_MARGIN_TABLE).exists()


@pytest.mark.slow
def test_more_epochs_go_on_from_the_longest_shorter_run(faces, tmp_path, capsys, monkeypatch):
    short = train(small(faces, epochs=1), device="cpu", quiet=True)
    longer = train(small(faces, epochs=2), device="cpu", quiet=True)
    train(small(faces, epochs=2, seed=8), device="cpu", quiet=True)  # another run
    train(small(faces, epochs=5), device="cpu", quiet=True)  # too long to go on from
    (tmp_path / "runs" / "no run").mkdir()
    (tmp_path / "runs" / "no run" / "last.safetensors").write_bytes(b"nothing")
    config, dataset = small(faces, epochs=3), open_dataset(faces)
    assert shorter_run(config, dataset, runs.pretrained_fingerprint(config)) == longer
    assert shorter_run(config, dataset, "other weights") is None
    assert shorter_run(small(faces, epochs=3, lr=0.1), dataset, runs.pretrained_fingerprint(config)) is None
    epochs, original = [], loop.train_epoch
    monkeypatch.setattr(loop, "train_epoch", lambda *a: epochs.append(1) or original(*a))
    run = train(config, device="cpu", resume=True)
    assert len(epochs) == 1 and len(run.log) == 3 and run.config == config and run.path != longer.path
    assert f"going on from the 2 epochs in {longer.path}" in capsys.readouterr().out
    assert len(Run(longer.path).log) == 2 and Run(longer.path).finished and Run(short.path).finished
    whole = train(config, tmp_path / "whole", device="cpu", quiet=True, resume=False)
    assert same(weights(run, "last"), weights(whole, "last")) and len(epochs) == 4


def test_no_shorter_run_is_taken_unless_told_to_go_on(faces, monkeypatch):
    train(small(faces, epochs=1), device="cpu", quiet=True)
    epochs, original = [], loop.train_epoch
    monkeypatch.setattr(loop, "train_epoch", lambda *a: epochs.append(1) or original(*a))
    train(small(faces, epochs=2), device="cpu", quiet=True, resume=False)
    assert len(epochs) == 2


def test_what_a_kill_left_half_written_goes_when_training_goes_on(faces, tmp_path):
    run = train(small(faces, epochs=1), tmp_path / "run", device="cpu", quiet=True)
    left = run.path / ".last.safetensors.abc.part"  # as `write_atomically` names it, and a kill leaves it
    left.write_bytes(b"half")
    train(small(faces, epochs=2), run.path, device="cpu", quiet=True)
    assert not left.exists() and len(run.log) == 2
