"""The loop: what it trains on, what chooses the best epoch, what is tested, and that every setting reaches it."""

import json
import os
import shlex
import subprocess
import sys
from dataclasses import replace
from itertools import count

import numpy as np
import pandas as pd
import pytest
import torch
from face_sets import ferplus
from small_runs import SMALL, child_process, same, small, weights
from torch import nn
from torch.utils.data import get_worker_info
from tqdm import tqdm

import poster_ada.training.loop as loop
from poster_ada.data.datasets import open_dataset
from poster_ada.data.loader import FaceLoader
from poster_ada.data.splits import split_train_validation
from poster_ada.data.transforms import TrainingTransform
from poster_ada.errors import InputError
from poster_ada.evaluation.metrics import compute_metrics
from poster_ada.evaluation.predict import predict_split
from poster_ada.evaluation.predictions import probabilities_of, read_predictions
from poster_ada.files import sha256_of
from poster_ada.model.poster import Poster
from poster_ada.training.loop import (
    averaged,
    learning_rate,
    make_optimizer,
    seed_epoch,
    selection_splits,
    train,
    validate,
)
from poster_ada.training.losses import quality_loss, recipe_loss
from poster_ada.training.recipe import TrainConfig, fit_recipe
from poster_ada.training.runs import Run

# Accuracy rises to epoch 3, which repeats epoch 2's with a lower loss, and falls again.
SCRIPT = ((0.3, 2.0), (0.6, 1.5), (0.6, 1.2), (0.5, 1.0))


class Scripted:
    """A validation that says what the script says, and keeps which model it saw, and which faces."""

    def __init__(self, script=SCRIPT):
        self.script, self.models, self.files = script, [], []

    def __call__(self, model, split, config, device):
        self.models.append({key: value.clone() for key, value in model.state_dict().items()})
        self.files.append(split.files)
        accuracy, loss = self.script[len(self.models) - 1]
        return {"validation_loss": loss, "validation_accuracy": accuracy, "validation_macro_f1": 0.1 * accuracy,
                "norm_quality_correlation": None}


@pytest.fixture(scope="module")
def scripted(faces, tmp_path_factory):
    """A run of four epochs under a scripted validation: the run, the script, and the files of every training batch."""
    script, trained_on = Scripted(), []

    class WatchedLoader(FaceLoader):
        def __iter__(self):
            trained_on.append((self.epoch, [self.split.files[i] for i in self._order()]))
            return super().__iter__()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "validate", script)
        patch.setattr(loop, "FaceLoader", WatchedLoader)
        config = small(faces, epochs=4, depth=2, drop_path_rate=0.2, gamma=0.5, seed=7)
        return train(config, tmp_path_factory.mktemp("runs") / "run", device="cpu", quiet=True), script, trained_on


def test_the_best_epoch_is_kept_by_accuracy_then_loss(scripted):
    run, script, _ = scripted
    assert same(weights(run, "best"), script.models[2]) and same(weights(run, "last"), script.models[3])
    assert not same(script.models[2], script.models[3])
    assert run.record["best_epoch"] == 3 and run.record["selection_accuracy"] == 0.6
    assert run.log["validation_accuracy"].to_list() == [accuracy for accuracy, _ in SCRIPT]


def test_the_best_model_is_tested_on_the_test_faces(scripted, faces):
    run, _, _ = scripted
    test = open_dataset(faces).test
    table = read_predictions(run.path / "predictions.csv")
    assert table["file"].to_list() == test.files
    np.testing.assert_allclose(probabilities_of(table), probabilities_of(predict_split(run.model("best"), test)),
                               rtol=1e-5, atol=1e-9)
    assert not np.allclose(probabilities_of(table), probabilities_of(predict_split(run.model("last"), test)), atol=1e-5)
    assert run.record["test"] == json.loads(json.dumps(compute_metrics(predict_split(run.model("best"), test))))


def test_validation_faces_are_set_aside_and_never_trained_on(scripted, faces):
    run, script, trained_on = scripted
    everything = open_dataset(faces).train
    training, held_out = split_train_validation(everything, 0.1, seed=7)
    assert all(files == held_out.files for files in script.files) and len(script.files) == 4
    assert [epoch for epoch, _ in trained_on] == [0, 1, 2, 3]
    for _, files in trained_on:
        assert sorted(files) == sorted(training.files)
    assert trained_on[0][1] != trained_on[1][1] and not set(held_out.files) & set(training.files)
    assert (run.record["train_faces"], run.record["selection_faces"]) == (len(training), len(held_out)) == (49, 7)
    assert run.record["selected_on"] == "a validation split of the training faces"


def test_the_learning_rate_decays_every_epoch(scripted):
    run, _, _ = scripted
    assert run.log["lr"].to_list() == pytest.approx([2e-3 * 0.5**epoch for epoch in range(4)])
    assert run.log["epoch"].to_list() == [1, 2, 3, 4]


def test_the_record_tells_where_a_result_comes_from(scripted, faces):
    run, _, _ = scripted
    record, dataset = run.record, open_dataset(faces)
    assert record["fingerprint"] == dataset.fingerprint() and record["data"] == dataset.name
    assert (record["finished"], record["processes"], record["precision"]) == (True, 1, "float32")
    assert record["pretrained_parts"] == [] and len(record["starting_weights"]) == 64
    assert record["median_images_per_second"] == run.log["images_per_second"].median() > 0
    assert set(record["environment"]) == {"python", "torch", "device", "threads", "commit"}
    assert run.config == small(faces, epochs=4, depth=2, drop_path_rate=0.2, gamma=0.5, seed=7)


def test_choosing_on_the_test_split_is_named_as_such_and_goes_by_accuracy_alone(faces, tmp_path, monkeypatch):
    script = Scripted()
    monkeypatch.setattr(loop, "validate", script)
    run = train(small(faces, epochs=4, select_on="test"), tmp_path / "run", device="cpu", quiet=True)
    assert "TEST split" in run.record["selected_on"] and run.record["train_faces"] == 56
    assert script.files[0] == open_dataset(faces).test.files
    assert run.record["best_epoch"] == 2 and same(weights(run, "best"), script.models[1])


def test_a_sets_own_validation_split_chooses(faces):
    dataset = open_dataset(faces)
    own = dataset.test.subset(range(7))
    dataset.validation = own
    assert selection_splits(small(faces), dataset) == (dataset.train, own, "the set's own validation split")
    assert selection_splits(small(faces, select_on="test"), dataset)[1] is dataset.test
    dataset.validation = None
    training, validation, words = selection_splits(small(faces, validation_fraction=0.5), dataset)
    assert (len(training), len(validation)) == (28, 28) and "training faces" in words


@pytest.mark.parametrize("choices", [
    {}, {"label_smoothing": 0.9}, {"augmentation": "none"}, {"balanced": True}, {"seed": 5}, {"batch_size": 16},
    {"head": "adaface", "augmentation": "camera", "quality_weight": 2.0, "rho": 0.05}, {"optimizer": "sgd"},
])
def test_every_setting_reaches_the_loss(uneven_faces, tmp_path, choices):
    # Steps too small to move a weight: every batch meets the weights of the start, and can be computed here.
    config = small(uneven_faces, epochs=1, lr=1e-30, **({"augmentation": "warp"} | choices))
    log = train(config, tmp_path / "run", device="cpu", quiet=True).log
    torch.manual_seed(config.seed)
    model = Poster(config.model).train()
    training, _ = split_train_validation(open_dataset(uneven_faces).train, 0.1, config.seed)
    loader = FaceLoader(training, TrainingTransform(24, 24, "BGR", augmentation=config.augmentation), config.batch_size,
                        shuffle=True, balanced=config.balanced, seed=config.seed, drop_last=True)
    assert len(training) % config.batch_size  # the rest of an epoch's faces is left out
    losses, right = [], []
    with torch.no_grad():
        for batch in loader:
            features = model.forward_features(batch.images)
            loss = recipe_loss(model.head.margin_logits(features.embedding, batch.labels, features.norm), batch.labels,
                               config.label_smoothing)
            if config.quality_weight:
                loss += config.quality_weight * quality_loss(features.norm, batch.quality)
            losses.append(loss.item())
            right.append((model.head(features.embedding).argmax(1) == batch.labels).float().mean().item())
    assert log["train_loss"].item() == pytest.approx(np.mean(losses), rel=1e-4)
    assert log["train_accuracy"].item() == pytest.approx(np.mean(right), abs=1e-6)


def test_settings_change_the_loss(uneven_faces, tmp_path):
    losses = {}
    for name, choices in {"published": {}, "none": {"augmentation": "none"}, "balanced": {"balanced": True},
                          "smooth": {"label_smoothing": 0.9}, "seed": {"seed": 5}}.items():
        config = small(uneven_faces, epochs=1, lr=1e-30, **({"augmentation": "published"} | choices))
        losses[name] = train(config, tmp_path / name, device="cpu", quiet=True).log["train_loss"].item()
    assert len({round(loss, 4) for loss in losses.values()}) == len(losses)


def watched_objective(monkeypatch, seen):
    class Watched(loop.Objective):
        def forward(self, batch, landmark_map):
            low = torch.is_autocast_enabled("cpu")
            seen.append((torch.get_autocast_dtype("cpu") if low else torch.float32, landmark_map.dtype, self.training))
            return super().forward(batch, landmark_map)

    monkeypatch.setattr(loop, "Objective", Watched)


@pytest.fixture
def float16_unless_told():
    """Makes float16 what autocast takes on a CPU where it is not told the type, so that being told can be seen."""
    before = torch.get_autocast_dtype("cpu")
    torch.set_autocast_dtype("cpu", torch.float16)
    yield
    torch.set_autocast_dtype("cpu", before)


@pytest.mark.usefixtures("float16_unless_told")
@pytest.mark.parametrize("rho", [0.0, 0.05])
def test_bfloat16_trains_under_autocast(faces, tmp_path, monkeypatch, rho):
    runs = {}
    for precision in ("float32", "bfloat16"):
        seen = []
        with monkeypatch.context() as patch:
            watched_objective(patch, seen)
            runs[precision] = train(small(faces, epochs=1, rho=rho, precision=precision, batch_size=16),
                                    tmp_path / precision, device="cpu", quiet=True)
        assert set(seen) == {(getattr(torch, precision),) * 2 + (True,)} and len(seen) == 3 * (1 + bool(rho))
        assert runs[precision].record["precision"] == precision
    full, low = (run.log["train_loss"].item() for run in runs.values())
    assert low != full and low == pytest.approx(full, rel=0.05)
    assert all(value.dtype == torch.float32 for value in weights(runs["bfloat16"], "last").values()
               if value.is_floating_point())


@pytest.mark.parametrize("rho", [0.0, 0.1])
def test_an_epoch_by_hand(uneven_faces, tmp_path, rho):
    config = small(uneven_faces, epochs=1, rho=rho, optimizer="sgd", lr=0.01, momentum=0.5, augmentation="none",
                   select_on="test")
    run = train(config, tmp_path / "run", device="cpu", quiet=True)
    torch.manual_seed(config.seed)
    model = Poster(config.model).train()
    moved = [p for p in model.parameters() if p.requires_grad]
    velocity = [torch.zeros_like(p) for p in moved]

    def gradients(batch):
        loss = recipe_loss(model(batch.images), batch.labels)
        return torch.autograd.grad(loss, moved, allow_unused=True)

    loader = FaceLoader(open_dataset(uneven_faces).train, TrainingTransform(24, 24, augmentation="none"), 8,
                        shuffle=True, seed=config.seed, drop_last=True)
    for batch in loader:
        found = gradients(batch)
        start = [p.detach().clone() for p in moved]
        if rho:
            length = torch.cat([g.flatten() for g in found if g is not None]).norm()
            with torch.no_grad():
                for p, g in zip(moved, found, strict=True):
                    p += 0 if g is None else rho * g / length
            found = gradients(batch)
        with torch.no_grad():
            for p, begin, v, g in zip(moved, start, velocity, found, strict=True):
                v.mul_(0.5).add_(0 if g is None else g)
                p.copy_(begin - 0.01 * v)
    expected, got = model.state_dict(), weights(run, "last")
    for name, value in expected.items():
        torch.testing.assert_close(got[name], value, rtol=1e-3, atol=2e-4, msg=name)


def test_optimizers_are_those_that_were_named(faces):
    parameters = [nn.Parameter(torch.ones(2, 2))]
    for name, kind in (("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)):
        optimizer = make_optimizer(small(faces, optimizer=name, lr=0.3, momentum=0.7), parameters)
        assert type(optimizer) is kind and optimizer.defaults["lr"] == 0.3 and optimizer.defaults["fused"]
        assert optimizer.param_groups[0]["params"] == parameters
    assert optimizer.defaults["momentum"] == 0.7


def test_each_epoch_and_process_draws_its_own_masks_and_draws_them_again():
    drawn, seeds = {}, []
    for seed, epoch, rank in ((1, 0, 0), (1, 0, 1), (1, 1, 0), (2, 0, 0)):
        seed_epoch(seed, epoch, rank)
        seeds.append(torch.initial_seed())
        drawn[seed, epoch, rank] = torch.rand(4).tolist()
        torch.rand(3)
        seed_epoch(seed, epoch, rank)
        assert torch.rand(4).tolist() == drawn[seed, epoch, rank]
    assert len({tuple(values) for values in drawn.values()}) == 4
    assert max(seeds) > 2**32  # 64 bits, so that two epochs hardly ever share one


def test_validation_scores_the_model_without_margin(faces):
    config = small(faces, head="cosface", val_batch_size=5)
    torch.manual_seed(2)
    model = Poster(config.model).train()
    dataset = open_dataset(faces)
    quality = np.linspace(0.2, 1, len(dataset.test))
    split = replace(dataset.test, quality=quality)
    found = validate(model, split, config, torch.device("cpu"))
    table = predict_split(model, split)
    true = probabilities_of(table)[np.arange(len(split)), split.labels]
    scores = compute_metrics(table)
    assert found["validation_loss"] == pytest.approx(-np.log(true).mean(), rel=1e-4)
    assert found["validation_accuracy"] == scores["accuracy"] and found["validation_macro_f1"] == scores["macro_f1"]
    assert found["norm_quality_correlation"] == pytest.approx(np.corrcoef(table["norm"], quality)[0, 1], abs=1e-4)
    assert model.training
    for unknown in (None, np.ones(len(split))):
        split = replace(dataset.test, quality=unknown)
        assert validate(model, split, config, torch.device("cpu"))["norm_quality_correlation"] is None


def test_validation_takes_its_batches_from_the_configuration(faces, monkeypatch):
    seen = {}

    def spy(model, split, **how):
        seen.update(how)
        return predict_split(model, split, **how)

    monkeypatch.setattr(loop, "predict_split", spy)
    config = small(faces, val_batch_size=5)
    validate(Poster(config.model), open_dataset(faces).test, config, torch.device("cpu"))
    assert seen["batch_size"] == 5 and seen["quiet"]


def test_a_probability_of_zero_is_a_large_loss_and_no_infinity(faces, monkeypatch):
    dataset = open_dataset(faces)
    table = predict_split(Poster(small(faces).model), dataset.test)
    columns = [name for name in table if name.startswith("p_")]
    table[columns] = 0.0
    monkeypatch.setattr(loop, "predict_split", lambda *a, **k: table)
    found = validate(None, dataset.test, small(faces), torch.device("cpu"))
    assert found["validation_loss"] == pytest.approx(-np.log(np.finfo(float).tiny))


def test_what_a_run_says(faces, tmp_path, capsys):
    config = small(faces, epochs=2)
    run = train(config, tmp_path / "run", device="cpu")
    lines = capsys.readouterr()
    rows = run.log.to_dict("records")
    epochs = [line for line in lines.out.splitlines() if line.startswith("epoch   ")]
    assert len(epochs) == 2 and epochs[1] == loop.epoch_line(rows[1] | {"norm_quality_correlation": None}, 2)
    assert "Test accuracy: " in lines.out and "training" in lines.err
    assert train(config, tmp_path / "again", device="cpu", quiet=True).finished
    quiet = capsys.readouterr()
    assert quiet.out == "" and quiet.err == ""


def test_the_lines_of_an_epoch_and_of_a_result(scripted):
    row = {"epoch": 7, "train_loss": 1.23456, "train_accuracy": 0.5, "validation_loss": 2.0,
           "validation_accuracy": 0.25, "validation_macro_f1": 0.125, "norm_quality_correlation": 0.333, "lr": 4e-5,
           "images_per_second": 99.6}
    assert loop.epoch_line(row, 300) == (
        "epoch   7/300  loss 1.235  accuracy 0.500  | validation  loss 2.000  accuracy 0.2500  F1 0.125"
        "  norm-quality r +0.33  | lr 4.0e-05  100 faces/s")
    assert "norm-quality" not in loop.epoch_line(row | {"norm_quality_correlation": None}, 300)
    run, _, _ = scripted
    first, second, third = loop.result_lines(run).splitlines()
    assert first == "epoch 3 was chosen on a validation split of the training faces."
    assert second == f"Test accuracy: {run.record['test']['accuracy']:.4f} ({run.record['data']}, 21 faces)"
    assert third.endswith(f"python -m poster_ada.test --data {run.config.data} --checkpoint "
                          f"{run.path / 'best.safetensors'} -p")


def test_the_bar_counts_faces(faces, tmp_path, monkeypatch):
    bars = []

    class Bar(tqdm):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.counted = kwargs["initial"]
            bars.append((self, kwargs))

        def update(self, n=1):
            self.counted += n
            return super().update(n)

    monkeypatch.setattr(loop, "tqdm", Bar)
    train(small(faces, epochs=1), tmp_path / "run", device="cpu", quiet=True)
    train(small(faces, epochs=3), tmp_path / "run", device="cpu", quiet=True)
    (first, _), (second, how) = bars
    assert (first.counted, second.counted) == (48, 144)  # six batches of 8 of the 49 faces an epoch
    assert how["total"] == 144 and how["initial"] == 48 and how["disable"]


def test_speed_is_faces_a_second_with_one_decimal(faces, tmp_path, monkeypatch):
    monkeypatch.setattr(loop.time, "perf_counter", count(step=0.7).__next__)
    run = train(small(faces, epochs=2), tmp_path / "run", device="cpu", quiet=True)
    assert run.log["images_per_second"].to_list() == [68.6, 68.6]  # 48 faces in 0.7 s


def test_devices_are_those_asked_for(faces, tmp_path, monkeypatch, capsys):
    asked, accelerator = [], loop.Accelerator
    monkeypatch.setattr(loop, "Accelerator", lambda **how: asked.append(how) or accelerator(**how))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    train(small(faces, epochs=1), tmp_path / "run", gpu="0", quiet=True)
    assert asked == [{"cpu": True}] and "--gpu 0: torch sees no GPU here" in capsys.readouterr().err
    with pytest.raises(InputError, match="--device cuda: torch sees no GPU here"):
        train(small(faces, epochs=1), tmp_path / "other", device="cuda", quiet=True)


def test_classes_that_are_not_the_datas_are_refused(faces, tmp_path):
    for choices, sentence in (({"num_classes": 8}, "has 7 classes, not 8"), (
            {"class_names": tuple("abcdefg")}, "has the classes Surprise.*the model has a, b.*class_names")):
        with pytest.raises(InputError, match=sentence):
            train(small(faces, **choices), tmp_path / "run", device="cpu", quiet=True)
        assert not (tmp_path / "run").exists()


def test_a_configuration_finds_its_faces_again(tmp_path):
    dataset = open_dataset(ferplus(tmp_path / "ferplus"), num_classes=7)
    run = train(fit_recipe(dataset, "nano", epochs=1, batch_size=2), tmp_path / "run", device="cpu", quiet=True)
    assert run.config.model.num_classes == 7 and run.record["data"] == dataset.name
    words = shlex.split(run.record["command"])
    assert words[words.index("--data") + 1] == str(dataset.opened_as) and words[words.index("--classes") + 1] == "7"


def test_a_run_that_goes_on_in_another_precision_says_both(faces, tmp_path, monkeypatch):
    config = small(faces, epochs=2)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "epoch_line", lambda *_: 1 / 0)  # after the first epoch is saved
        patch.setattr(loop, "resolve_precision", lambda *_, **__: torch.bfloat16)
        with pytest.raises(ZeroDivisionError):
            train(config, tmp_path / "run", device="cpu")
    run = train(config, tmp_path / "run", device="cpu", quiet=True)
    assert len(run.log) == 2 and run.record["precision"] == "bfloat16 then float32"


def test_a_run_whose_record_was_lost_goes_on(faces, tmp_path):
    run = train(small(faces, epochs=1), tmp_path / "run", device="cpu", quiet=True)
    (run.path / "record.json").unlink()
    assert train(small(faces, epochs=2), run.path, device="cpu", quiet=True).record["precision"] == "float32"


def test_few_faces_make_one_batch(faces, tmp_path):
    run = train(small(faces, epochs=1, batch_size=500), tmp_path / "run", device="cpu", quiet=True)
    assert np.isfinite(run.log["train_loss"]).all()


def test_faces_beyond_memory_are_decoded_by_the_workers_asked_for(faces, tmp_path, monkeypatch):
    seen = {}

    class Loader(FaceLoader):
        def __init__(self, *args, **kwargs):
            seen.update(kwargs)
            super().__init__(*args, **kwargs)

    monkeypatch.setattr(loop, "FaceLoader", Loader)
    train(small(faces, epochs=1), tmp_path / "run", device="cpu", quiet=True, workers=3)
    assert seen["workers"] == 3 and get_worker_info() is None


def test_the_steps_are_seeded_and_weights_differ_by_seed(faces, tmp_path):
    runs = [train(small(faces, epochs=1, seed=seed, depth=2, drop_path_rate=0.3), tmp_path / f"{number}", device="cpu",
                  quiet=True) for number, seed in enumerate((1, 1, 2))]
    one, again, other = (weights(run, "last") for run in runs)
    assert same(one, again) and not same(one, other)
    pd.testing.assert_frame_equal(runs[0].log.drop(columns="images_per_second"),
                                  runs[1].log.drop(columns="images_per_second"), check_exact=True)


def test_the_landmark_stream_stays_as_it_was(faces, tmp_path):
    config = small(faces, epochs=1, lr=0.1)
    run = train(config, tmp_path / "run", device="cpu", quiet=True)
    torch.manual_seed(config.seed)
    start, end = Poster(config.model).state_dict(), weights(run, "last")
    frozen = [name for name in start if name.startswith("landmark_stream.")]
    assert frozen and all(torch.equal(start[name], end[name]) for name in frozen)
    assert not torch.equal(start["head.weight"], end["head.weight"])


def test_compiling_is_asked_of_the_trained_parts_alone(faces, tmp_path, monkeypatch):
    compiled = []
    monkeypatch.setattr(nn.Module, "compile", lambda self, *a, **k: compiled.append(self))
    train(small(faces, epochs=1), tmp_path / "plain", device="cpu", quiet=True)
    assert not compiled
    train(small(faces, epochs=1, compile=True), tmp_path / "compiled", device="cpu", quiet=True)
    model = Poster(small(faces).model)
    trained = [type(part) for part in model.children() if any(p.requires_grad for p in part.parameters())]
    assert [type(part) for part in compiled] == trained and type(model.landmark_stream) not in trained


def test_a_run_takes_one_process_and_resumes_once_that_is_killed(faces, tmp_path):
    command = [sys.executable, "-m", "poster_ada.train", "--data", str(faces), "--preset", "nano", "--epochs", "300",
               "--batch-size", "16", "--run", str(tmp_path / "run"), "--quiet"]
    process = subprocess.Popen(command, **child_process())
    last = tmp_path / "run" / "last.safetensors"
    while not last.exists():
        assert process.poll() is None
        os.sched_yield()
    run = Run(tmp_path / "run")
    with pytest.raises(InputError, match="^another process is training in .*run; wait until it is done, or choose "):
        train(run.config, run.path, device="cpu", quiet=True)
    assert process.poll() is None
    process.kill()
    process.wait()
    done = len(run.last_state()[0]["log"])
    assert 0 < done < 300 and not run.finished
    more = replace(run.config, epochs=done + 1)
    assert len(train(more, run.path, device="cpu", quiet=True).log) == done + 1


@pytest.mark.parametrize(("twins", "counted"), [(5, 16), (0, None), (21, None)])
def test_test_faces_with_a_twin_in_training_are_counted_apart(faces, tmp_path, monkeypatch, twins, counted):
    dataset = open_dataset(faces)
    monkeypatch.setattr(loop, "twins_in_train", lambda of: np.arange(len(of.test)) < twins)
    run = train(small(faces, epochs=1), tmp_path / "run", device="cpu", quiet=True, dataset=dataset)
    assert ("test_without_twins" in run.record) == ("Without the test faces" in loop.result_lines(run)) == bool(counted)
    if counted:
        alone = compute_metrics(read_predictions(run.path / "predictions.csv")[twins:])
        assert run.record["test_without_twins"]["faces"] == counted
        assert run.record["test_without_twins"]["accuracy"] == pytest.approx(alone["accuracy"])
        assert f"twin in training: {alone['accuracy']:.4f} (16 faces)" in loop.result_lines(run)


def test_a_set_without_a_test_split_is_trained_on_and_says_its_validation_accuracy(faces, tmp_path):
    dataset = open_dataset(faces)
    dataset.test = dataset.test.subset([])
    run = train(small(faces, epochs=1), tmp_path / "run", device="cpu", quiet=True, dataset=dataset)
    assert run.finished and "test" not in run.record and not (run.path / "predictions.csv").exists()
    words = f"Validation accuracy: {run.record['selection_accuracy']:.4f} ({dataset.name} has no test split)"
    assert words in loop.result_lines(run).splitlines()
    with pytest.raises(InputError, match="has no test split to choose the best epoch on; leave out --select-on"):
        selection_splits(small(faces, select_on="test"), dataset)


def test_training_starts_from_a_checkpoint(scripted, faces, tmp_path):
    source = scripted[0].path / "best.safetensors"
    config = small(faces, epochs=1, depth=2, lr=1e-30, checkpoint=str(source))
    run = train(config, tmp_path / "run", device="cpu", quiet=True)
    start, end = weights(scripted[0], "best"), weights(run, "last")
    trained = [name for name, _ in run.model().named_parameters()]
    assert all(torch.equal(start[name], end[name]) for name in trained)
    assert run.record["pretrained_parts"][0] == "best.safetensors"
    assert run.record["starting_weights"] == sha256_of(source)


def test_learning_rates_rise_and_fall_along_a_cosine():
    config = TrainConfig(lr=0.4, decay="cosine", warmup=2.0, epochs=10)
    assert [learning_rate(config, progress) for progress in (0.0, 0.5, 2.0, 6.0, 10.0)] == pytest.approx(
        [0.0, 0.1, 0.4, 0.2, 0.0])
    steps = TrainConfig(lr=0.4, gamma=0.5)
    assert [learning_rate(steps, progress) for progress in (0.0, 0.9, 1.0, 2.5)] == pytest.approx([0.4, 0.4, 0.2, 0.1])


def test_the_average_follows_the_model_and_is_what_is_kept(faces, tmp_path):
    torch.manual_seed(1)
    model = torch.nn.BatchNorm1d(2)
    average = averaged(model, 0.9)
    for _ in range(200):
        model.weight.data.fill_(3.0)
        model.running_mean.fill_(5.0)
        model.num_batches_tracked += 1
        average.update_parameters(model)
    assert average.module.num_batches_tracked == 200
    torch.testing.assert_close(average.module.weight.data, torch.full((2,), 3.0), atol=1e-3, rtol=0)
    torch.testing.assert_close(average.module.running_mean, torch.full((2,), 5.0), atol=1e-3, rtol=0)

    run = train(small(faces, average=0.99), tmp_path / "run", device="cpu", quiet=True)
    _, last = run.last_state()
    best = run.model("best").state_dict()
    assert all(torch.equal(best[name], last[f"training/average/module.{name}"]) for name in best) or (
        run.record["best_epoch"] == 1)
    assert not torch.equal(best["fusion.pos_embed"], last["fusion.pos_embed"])


def test_weight_decay_is_for_matrices_and_gradients_are_clipped(faces, tmp_path, monkeypatch):
    config = small(faces, optimizer="adamw", weight_decay=0.3, clip_norm=1e-3, epochs=1)
    matrices, others = make_optimizer(config, list(Poster(config.model).parameters())).param_groups
    assert matrices["weight_decay"] == 0.3 and others["weight_decay"] == 0 and {p.ndim for p in others["params"]} == {1}
    norms = []
    step = torch.optim.AdamW.step

    def watched(self, *arguments):
        norms.append(torch.stack([p.grad.norm() for group in self.param_groups for p in group["params"]]).norm())
        return step(self, *arguments)

    monkeypatch.setattr(torch.optim.AdamW, "step", watched)
    train(config, tmp_path / "run", device="cpu", quiet=True)
    assert norms and max(norms) <= 1.01e-3


def test_the_chosen_model_gets_a_temperature_from_the_validation_faces(faces, tmp_path):
    run = train(small(faces, head="adaface"), tmp_path / "run", device="cpu", quiet=True)
    assert run.model("best").temperature == run.record["temperature"] != 1
    assert run.model("last").temperature == 1
    on_test = train(small(faces, select_on="test"), tmp_path / "on test", device="cpu", quiet=True)
    assert on_test.model("best").temperature == 1  # test labels reach no prediction


def test_faces_without_a_majority_are_trained_on_where_votes_are_learnt(tmp_path):
    root = ferplus(tmp_path / "votes")
    config = fit_recipe(open_dataset(root), "nano", **(SMALL | {"epochs": 1, "batch_size": 2, "targets": "votes"}))
    assert train(config, tmp_path / "votes run", device="cpu", quiet=True).record["train_faces"] == 6
    config = fit_recipe(open_dataset(root), "nano", **(SMALL | {"epochs": 1, "batch_size": 2}))
    assert train(config, tmp_path / "labels run", device="cpu", quiet=True).record["train_faces"] == 5
