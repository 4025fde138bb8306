"""The recipe is the published one, runs are exact, resumable and shared, and many processes equal one."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import pandas as pd
import pytest
import torch
from face_sets import rafdb
from golden_recipe import golden

import poster_ada.training.loop as loop
from poster_ada.checkpoints.create import load_checkpoint
from poster_ada.errors import InputError
from poster_ada.model.poster import Poster
from poster_ada.train import main
from poster_ada.training.loop import train
from poster_ada.training.losses import quality_loss, recipe_loss
from poster_ada.training.recipe import TrainConfig
from poster_ada.training.runs import Run
from poster_ada.training.sam import Sam


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    return rafdb(tmp_path_factory.mktemp("faces"), train=56, test=21)


def tiny(faces, **choices) -> TrainConfig:
    return TrainConfig.for_preset("nano", **({"data": str(faces), "epochs": 2, "batch_size": 16, "depth": 1} | choices))


def tensors(run: Run, which: str) -> dict[str, torch.Tensor]:
    return load_checkpoint(run.path / f"{which}.safetensors").state_dict()


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_quality_loss_is_one_minus_the_correlation():
    norms, quality = torch.rand(50, generator=torch.Generator().manual_seed(1)), torch.linspace(0, 1, 50)
    expected = 1 - torch.corrcoef(torch.stack((norms, quality)))[0, 1]
    torch.testing.assert_close(quality_loss(norms, quality), expected)
    torch.testing.assert_close(quality_loss(3 * quality + 7, quality), torch.tensor(0.0))
    assert quality_loss(norms.requires_grad_(), torch.ones(50)) == 1  # nothing known, nothing taught


def test_quality_term_needs_known_quality_and_reaches_the_norm(faces):
    with pytest.raises(InputError, match="quality_weight"):
        tiny(faces, quality_weight=0.5)
    config = tiny(faces, head="adaface", augmentation="camera", quality_weight=0.5)
    torch.manual_seed(1)
    objective = loop.Objective(Poster(config.model), 0.2, 0.5)
    images, labels, quality = torch.randn(8, 3, 48, 48), torch.arange(8) % 7, torch.rand(8)
    landmark_map = objective.model.landmark_map(images)
    with_term, _ = objective(images, labels, landmark_map, quality)
    objective.quality_weight = 0.0
    without, _ = objective(images, labels, landmark_map, quality)
    norms = objective.model.forward_features(images, landmark_map).norm
    torch.testing.assert_close(with_term - without, 0.5 * quality_loss(norms, quality))


def test_sam_around_adam_reproduces_the_published_steps():
    expected = golden("sam_adam")
    linear = torch.nn.Linear(5, 7)
    linear.weight.data, linear.bias.data = expected["weight0"].clone(), expected["bias0"].clone()
    optimizer = torch.optim.Adam(linear.parameters(), 1e-2)
    scheduler, sam = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.98), Sam(optimizer)
    for step in range(5):
        assert optimizer.param_groups[0]["lr"] == pytest.approx(expected["lrs"][step].item(), rel=1e-12)
        losses = []
        for move in (sam.ascend, sam.descend):
            loss = recipe_loss(linear(expected["x"]), expected["y"])
            loss.backward()
            move()
            losses.append(loss.detach().double())
        scheduler.step()
        torch.testing.assert_close(torch.stack(losses), expected["losses"][step], atol=1e-6, rtol=0)
        torch.testing.assert_close(linear.weight.detach(), expected["weights"][step], atol=1e-6, rtol=0)
        torch.testing.assert_close(linear.bias.detach(), expected["biases"][step], atol=1e-6, rtol=0)


def test_the_defaults_are_the_published_recipe():
    config = TrainConfig()
    assert (config.lr, config.gamma, config.epochs, config.batch_size, config.seed) == (4e-5, 0.98, 300, 200, 123)
    assert (config.rho, config.label_smoothing, config.optimizer, config.model.depth) == (0.05, 0.2, "adam", 8)
    assert TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


class Stop(Exception):
    pass


def stop_after(epoch: int, monkeypatch, target: str):
    """Make the named function of the training module fail once the given epoch's checkpoint is to be written."""
    original, calls = getattr(loop, target), []

    def failing(*args, **kwargs):
        calls.append(1)
        if len(calls) > epoch:
            raise Stop
        return original(*args, **kwargs)

    monkeypatch.setattr(loop, target, failing)


@pytest.mark.parametrize("head", ["mlp", "adaface"])
def test_resuming_equals_never_having_stopped_bit_for_bit(faces, tmp_path, monkeypatch, head):
    config = tiny(faces, epochs=4, head=head, drop_path_rate=0.2)
    whole = train(config, tmp_path / "whole", device="cpu", quiet=True)
    with monkeypatch.context() as patch:
        stop_after(2, patch, "train_epoch")
        with pytest.raises(Stop):
            train(config, tmp_path / "parts", device="cpu", quiet=True)
    assert len(Run(tmp_path / "parts").log) == 2
    torch.manual_seed(99)  # whatever happened in between
    parts = train(config, tmp_path / "parts", device="cpu", quiet=True)
    assert same(tensors(whole, "last"), tensors(parts, "last")) and same(tensors(whole, "best"), tensors(parts, "best"))
    pd.testing.assert_frame_equal(
        whole.log.drop(columns="images_per_second"), parts.log.drop(columns="images_per_second"), check_exact=True
    )


def test_a_run_stopped_in_the_middle_of_a_save_resumes(faces, tmp_path, monkeypatch):
    config = tiny(faces)
    with monkeypatch.context() as patch:

        def half_written(path, content):
            with path.open("wb") as file:
                file.write(content[: len(content) // 2])
            raise OSError(28, "No space left on device")

        stop_after(1, patch, "train_epoch")
        with pytest.raises(Stop):
            train(config, tmp_path / "run", device="cpu", quiet=True)
        before = tensors(Run(tmp_path / "run"), "last")
        patch.undo()
        patch.setattr("pathlib.Path.write_bytes", half_written)
        with pytest.raises(OSError, match="No space"):
            train(config, tmp_path / "run", device="cpu", quiet=True)
    assert same(tensors(Run(tmp_path / "run"), "last"), before)
    assert not list((tmp_path / "run").glob(".*part"))
    assert train(config, tmp_path / "run", device="cpu", quiet=True).finished


def test_a_killed_run_resumes(faces, tmp_path):
    command = [sys.executable, "-m", "poster_ada.train", "--data", str(faces), "--preset", "nano", "--epochs", "30",
               "--batch-size", "16", "--run", str(tmp_path / "run"), "--quiet"]
    process = subprocess.Popen(command)
    last = tmp_path / "run" / "last.safetensors"
    while not last.exists():
        assert process.poll() is None
        os.sched_yield()
    process.kill()
    process.wait()
    run = Run(tmp_path / "run")
    done = len(run.last_state()[0]["log"])
    assert 0 < done < 30 and not run.finished
    more = replace(run.config, epochs=done + 1)
    assert len(train(more, run.path, device="cpu", quiet=True).log) == done + 1


def test_a_finished_run_is_shared_and_other_settings_are_refused(faces, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = tiny(faces, epochs=1)
    run = train(config, device="cpu", quiet=True)
    written = (run.path / "best.safetensors").stat().st_mtime_ns
    assert train(config, device="cpu", quiet=True).path == run.path
    assert (run.path / "best.safetensors").stat().st_mtime_ns == written
    assert run.record["finished"] and run.record["test"]["accuracy"] >= 0 and "validation" in run.record["selected_on"]
    with pytest.raises(InputError, match="margin"):
        train(tiny(faces, epochs=1, margin=0.7), run.path, device="cpu", quiet=True)


def test_choosing_on_the_test_split_is_named_as_such(faces, tmp_path):
    run = train(tiny(faces, epochs=1, select_on="test"), tmp_path / "run", device="cpu", quiet=True)
    assert "TEST split" in run.record["selected_on"] and run.record["train_faces"] == 56


PROCESSES = """
import json, sys
from accelerate import Accelerator
Accelerator(cpu=True)
from poster_ada.training.recipe import TrainConfig
from poster_ada.training.loop import train
train(TrainConfig.from_dict(json.loads(sys.argv[1])), sys.argv[2], device="cpu", quiet=True)
"""


def test_two_processes_compute_what_one_does(faces, tmp_path):
    # A small step keeps rounding from growing: Adam turns even a gradient that is only noise into a full step.
    config = tiny(faces, head="adaface", t_alpha=0.5, scale=8.0, lr=1e-4)
    one = train(config, tmp_path / "one", device="cpu", quiet=True)
    (tmp_path / "processes.py").write_text(PROCESSES)
    subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone",
         str(tmp_path / "processes.py"), json.dumps(config.to_dict()), str(tmp_path / "two")],
        check=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    two = Run(tmp_path / "two")
    assert two.record["processes"] == 2
    for column in ("train_loss", "validation_loss"):
        assert two.log[column].tolist() == pytest.approx(one.log[column].tolist(), rel=1e-3)


def test_published_flags_in_both_spellings_reach_the_configuration(faces, monkeypatch):
    seen = {}
    monkeypatch.setattr(loop, "train", lambda config, *_, **__: seen.update(config=config) or Run(faces))
    for size in ("--batch_size", "--batch-size"):
        with pytest.raises(SystemExit) as status:
            main(["--data", str(faces), size, "100", "--val_batch_size=16", "--modeltype=small", "--optimizer=sgd",
                  "--lr=0.1", "--momentum", "0.8", "--epochs", "7", "--head", "adaface", "--margin", "0.75",
                  "--norm-source", "pre_norm", "--variant", "da", "--gpu", "0", "--workers", "1", "--quiet"])
        assert status.value.code == 0
        config = seen.pop("config")
        assert (config.batch_size, config.val_batch_size, config.model.depth, config.optimizer) == (100, 16, 4, "sgd")
        assert (config.lr, config.momentum, config.epochs, config.augmentation) == (0.1, 0.8, 7, "adaface")
        assert (config.model.head, config.model.margin, config.model.norm_source) == ("adaface", 0.75, "pre_norm")


def test_without_data_one_line_offers_the_demo(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as status:
        main([])
    assert status.value.code == 2
    error = capsys.readouterr().err
    assert "data/raf-basic" in error and "--demo" in error and error.count("\n") == 1


def test_a_full_disk_is_one_sentence(faces, tmp_path, monkeypatch, capsys):
    def full(path, content):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(SystemExit) as status:
        main(["--data", str(faces), "--preset", "nano", "--epochs", "1", f"--run={tmp_path / 'run'}", "--quiet"])
    assert status.value.code == 74
    assert "disk is full" in capsys.readouterr().err
