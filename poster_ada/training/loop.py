"""One visible training loop: `train(config)` fills a run's folder, epoch by epoch, and finds its way back into it.

One process per GPU through Hugging Face Accelerate (torch DDP underneath); no callbacks.
"""

from __future__ import annotations

import math
import os
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from poster_ada import openmp
from poster_ada.checkpoints.fill import fill
from poster_ada.checkpoints.own import STATE_PREFIX, read_own, save_checkpoint
from poster_ada.checkpoints.pretrained import load_pretrained_parts
from poster_ada.checkpoints.start import start_from
from poster_ada.data.datasets import open_dataset
from poster_ada.data.layouts import Dataset
from poster_ada.data.loader import Batch, FaceLoader
from poster_ada.data.pictures import WORKERS
from poster_ada.data.splits import FaceSplit, split_train_validation
from poster_ada.data.transforms import TrainingTransform
from poster_ada.data.twins import twins_in_train
from poster_ada.devices import choose_device
from poster_ada.errors import InputError
from poster_ada.evaluation.metrics import compute_metrics
from poster_ada.evaluation.predict import predict_split
from poster_ada.evaluation.predictions import probabilities_of, write_predictions
from poster_ada.evaluation.temperature import fit_temperature
from poster_ada.locks import claimed
from poster_ada.model.config import PosterConfig
from poster_ada.model.poster import Features, Poster
from poster_ada.model.precision import resolve_precision
from poster_ada.training.losses import class_balanced_weights, quality_loss, recipe_loss
from poster_ada.training.recipe import TrainConfig, train_command
from poster_ada.training.runs import Run, default_folder, environment, pretrained_fingerprint
from poster_ada.training.sam import Sam
from poster_ada.training.sync_batch_norm import synchronise


class Objective(nn.Module):
    """The one place where labels meet the model: images and labels to the recipe's loss. DDP wraps this."""

    def __init__(self, model: Poster, config: TrainConfig, class_counts: Tensor) -> None:
        """class_counts: (C,), of the targets over all training faces; whole numbers where these are labels."""
        super().__init__()
        self.model = model
        self.config = config
        model.head.count_classes(class_counts)
        shares = class_counts / class_counts.sum()
        self.adjustment = config.logit_adjustment * shares.clamp(min=1e-6).log()
        # Smoothed evenly, a target is larger than a rare class's adjusted share could be: every face would be drawn to
        # the rarest class. Spread as the adjustment is, the smoothing asks the same of all the others.
        self.spread = self.adjustment.softmax(0) if config.logit_adjustment and config.label_smoothing else None
        self.class_weights = class_balanced_weights(class_counts, config.class_balance)

    def forward(self, batch: Batch, landmark_map: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the loss and how many margin-free predictions are right (no gradient).

        The quality term correlates over the batch at hand, which is a process's part of the global one.
        """
        config, features = self.config, self.model.forward_features(batch.images, landmark_map)
        logits = self.model.head.margin_logits(features.embedding, batch.labels, self.quality(features, batch))
        with torch.no_grad():
            correct = (self.model.forward_head(features).argmax(1) == batch.labels).sum()
        if config.logit_adjustment:
            logits = logits + self.adjustment.to(logits.device)
        spread = None if self.spread is None else self.spread.to(logits.device)
        targets = batch.votes if config.targets == "votes" else batch.labels
        weights = self.class_weights.to(logits.device)[batch.labels] if config.class_balance else None
        loss = recipe_loss(logits, targets, config.label_smoothing, weights, spread)
        if config.quality_weight:
            loss = loss + config.quality_weight * quality_loss(features.norm, batch.quality)
        return loss, correct

    def quality(self, features: Features, batch: Batch) -> Tensor:
        """What a margin head takes for the faces' quality, (B,) on any scale: AdaFace standardises it."""
        source = self.config.quality_from
        if source == "votes":
            return batch.votes.gather(1, batch.labels[:, None])[:, 0]
        if source == "degradation":
            return batch.quality
        return features.norm.roll(1) if source == "shuffled" else features.norm  # batches are in random order


def make_optimizer(config: TrainConfig, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """The recipe's base optimizer, in its fused form; AdamW's weight decay is for matrices alone."""
    if config.optimizer == "sgd":
        return torch.optim.SGD(parameters, config.lr, config.momentum, fused=True)
    if config.optimizer == "adam":
        return torch.optim.Adam(parameters, config.lr, fused=True)
    matrices, others = ([p for p in parameters if (p.ndim > 1) is wanted] for wanted in (True, False))
    groups: list[dict[str, Any]] = [{"params": matrices}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, config.lr, weight_decay=config.weight_decay, fused=True)


def learning_rate(config: TrainConfig, progress: float) -> float:
    """The learning rate of a step that begins after `progress` epochs."""
    if config.decay == "exponential":
        return config.lr * config.gamma ** int(progress)
    rise = progress / config.warmup if progress < config.warmup else 1.0
    fallen = max(0.0, progress - config.warmup) / max(1e-9, config.epochs - config.warmup)
    return config.lr * min(rise, 0.5 * (1 + math.cos(math.pi * fallen)))


def averaged(model: Poster, weight: float) -> AveragedModel:
    """An exponential average of `model`, buffers included, that forgets its random start at first (Polyak averaging;
    Tarvainen, Valpola 2017, arXiv 1703.01780)."""
    def update(average: Any, current: Any, steps: Tensor | int) -> None:
        kept = min(weight, (1 + int(steps)) / (10 + int(steps)))
        if average[0].is_floating_point():
            torch._foreach_lerp_(average, current, 1 - kept)
        else:
            torch._foreach_copy_(average, current)

    return AveragedModel(model, multi_avg_fn=torch.no_grad()(update), use_buffers=True)


def train_epoch(
    objective: nn.Module, loader: FaceLoader, sam: Sam, accelerator: Accelerator, dtype: torch.dtype, bar: tqdm,
    average: AveragedModel | None = None,
) -> dict[str, float]:
    """One pass over the training faces; the loss and margin-free accuracy before each step, averaged over processes."""
    model = accelerator.unwrap_model(objective).model
    config: TrainConfig = accelerator.unwrap_model(objective).config
    objective.train()
    totals = torch.zeros(3, device=accelerator.device)
    for number, batch in enumerate(loader):
        for group in sam.optimizer.param_groups:
            group["lr"] = learning_rate(config, loader.epoch + number / len(loader))
        device, faces = batch.images.device, len(batch.labels)
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            landmark_map = model.landmark_map(batch.images)  # frozen: one pass serves both of SAM's
            loss, correct = objective(batch, landmark_map)
        accelerator.backward(loss)
        if sam.rho:
            sam.ascend()
            with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                second, _ = objective(batch, landmark_map)
            accelerator.backward(second)
        if config.clip_norm:
            accelerator.clip_grad_norm_(model.parameters(), config.clip_norm)
        sam.descend()
        if average is not None:
            average.update_parameters(model)
        totals += torch.stack((loss.detach() * faces, correct, torch.tensor(faces, device=device)))
        bar.update(loader.batch_size)
    loss_sum, correct, count = accelerator.reduce(totals).tolist()
    return {"train_loss": loss_sum / count, "train_accuracy": correct / count}


def validate(
    model: Poster, split: FaceSplit, config: TrainConfig, device: torch.device
) -> dict[str, float | None]:
    """Margin-free loss, accuracy, macro F1, and Pearson's r of feature norm and image quality where that is known."""
    predictions = predict_split(model, split, device=device, batch_size=config.val_batch_size, quiet=True)
    scores = compute_metrics(predictions, intervals=False)
    true = probabilities_of(predictions)[np.arange(len(split)), split.labels]
    quality = split.quality
    known = quality is not None and np.std(quality) > 0
    return {
        "validation_loss": float(-np.log(np.maximum(true, np.finfo(float).tiny)).mean()),
        "validation_accuracy": scores["accuracy"],
        "validation_macro_f1": scores["macro_f1"],
        "norm_quality_correlation": float(np.corrcoef(predictions["norm"], quality)[0, 1]) if known else None,
    }


def trained_parts(model: Poster) -> dict[str, nn.Module]:
    """The components that have something to learn, by name; the landmark stream, frozen, is none."""
    return {name: part for name, part in model.named_children()
            if any(parameter.requires_grad for parameter in part.parameters())}


def seed_epoch(seed: int, epoch: int, rank: int) -> None:
    """Seed torch for what the model draws in one epoch (drop path): other masks on every process, and a run that
    resumes draws what it would have drawn."""
    state = np.random.SeedSequence((seed, epoch, rank)).generate_state(1, np.uint64)
    torch.manual_seed(int(state[0]))


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's moments and step counts, flat, for safetensors."""
    state = optimizer.state_dict()["state"]
    return {f"optimizer/{i}/{name}": value for i, values in state.items() for name, value in values.items()
            if value is not None}


AVERAGE = "average/"


def average_tensors(average: AveragedModel | None) -> dict[str, Tensor]:
    """The averaged model's tensors and its number of steps, flat, for safetensors."""
    return {} if average is None else {AVERAGE + name: value for name, value in average.state_dict().items()}


def restore(
    run: Run, model: Poster, optimizer: torch.optim.Optimizer, average: AveragedModel | None
) -> tuple[list[dict], list | None]:
    """Load model, its average and optimizer of the last saved epoch; returns the log so far and the best score."""
    saved = run.last_state()
    if saved is None:
        return [], None
    record, tensors = saved
    extra = {k.removeprefix(STATE_PREFIX): tensors.pop(k) for k in list(tensors) if k.startswith(STATE_PREFIX)}
    model.load_state_dict(tensors)
    if average is not None:
        average.load_state_dict({key.removeprefix(AVERAGE): value for key, value in extra.items()
                                 if key.startswith(AVERAGE)})
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in extra.items():
        if key.startswith("optimizer/"):
            _, index, name = key.split("/")
            like = parameters[int(index)]
            if value.shape == like.shape:  # fused steps walk both in memory order, which the file does not keep
                value = torch.empty_like(like, device="cpu").copy_(value)
            moments.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": moments, "param_groups": record["param_groups"]})
    return record["log"], record["best"]


def shorter_run(config: TrainConfig, dataset: Dataset, weights: str) -> Run | None:
    """The run in `runs/` with the most epochs among those that differ from `config` in having fewer."""
    found = []
    for path in sorted(Path("runs").glob("*/last.safetensors")):
        run = Run(path.parent)
        try:
            run.check_same(config, dataset.fingerprint(), weights)
            if (epochs := len(run.log)) <= config.epochs:
                found.append((epochs, run))
        except (InputError, OSError):  # another run, or a folder that is none
            continue
    return max(found, key=lambda pair: pair[0])[1] if found else None


def train(
    config: TrainConfig, run_dir: str | Path | None = None, *, device: str = "auto", gpu: str | None = None,
    resume: bool = True, quiet: bool = False, dataset: Dataset | None = None, workers: int = WORKERS,
    make: Callable[[PosterConfig], Poster] = Poster,
) -> Run:
    """Train as `config` says and return the run; a finished run with the same settings and data returns at once.

    Under `torchrun` or `accelerate launch` every process calls this; from a notebook with several GPUs use
    `accelerate.notebook_launcher(train, (config,), num_processes=2)`.

    Args:
        run_dir: folder of the run; default `runs/<preset>-<head>-<data>-seed<seed>-<key>`.
        device, gpu: see devices.py.
        resume: go on with an unfinished run in that folder, or from a shorter one with the same settings; False raises
            InputError if there is an unfinished one.
        quiet: no bars and no lines.
        dataset: `config.data`, where it is open already.
        workers: processes that decode faces where the memory cache is too small.
        make: a subclass of `Poster`, where designs are compared; give such a run a folder of its own.

    Raises:
        InputError: the data, the settings or the run's folder do not fit together, or another process trains there.
    """
    dataset = dataset or open_dataset(config.data, num_classes=config.model.num_classes, needs=("train",))
    if dataset.class_names != config.model.class_names:
        raise InputError(
            f"{dataset.root} has the classes {', '.join(dataset.class_names)}; the model has "
            f"{', '.join(config.model.class_names)}: give it the data's class_names and num_classes."
        )
    weights = pretrained_fingerprint(config)
    run = Run(Path(run_dir) if run_dir else default_folder(config, dataset))
    if run.exists:
        run.check_same(config, dataset.fingerprint(), weights)
        done = len(run.log) if run.finished else 0
        if done > config.epochs:
            raise InputError(f"{run.path} holds a run of {done} epochs, more than {config.epochs}; choose another "
                             "--run-dir.")
        if run.finished and done == config.epochs:
            return run
        if not resume:
            raise InputError(f"{run.path} holds an unfinished run; add --resume to go on, or choose another --run-dir.")

    chosen = choose_device(device, gpu)
    if chosen.type == "cuda" and "LOCAL_RANK" not in os.environ:  # a launcher deals the devices out itself
        torch.cuda.set_device(chosen)
    accelerator = Accelerator(cpu=chosen.type == "cpu")
    main = accelerator.is_main_process
    with claimed(run.path / ".lock") if main else nullcontext(True) as ours:
        if not ours:
            raise InputError(f"another process is training in {run.path}; wait until it is done, or choose another "
                             "--run-dir.")
        if main and resume and not run.exists and run_dir is None and (former := shorter_run(config, dataset, weights)):
            shutil.copytree(former.path, run.path, dirs_exist_ok=True,
                            ignore=shutil.ignore_patterns(".lock", ".*.part"))
            if not quiet:
                print(f"going on from the {len(former.log)} epochs in {former.path}")
        accelerator.wait_for_everyone()
        torch.manual_seed(config.seed)
        model = make(config.model)
        loaded = (start_from(model, config.checkpoint) if config.checkpoint
                  else load_pretrained_parts(model, config.pretrained))
        fill_run(run, config, dataset, model, {"pretrained_parts": loaded, "starting_weights": weights}, accelerator,
                 quiet, workers)
    return run


def fill_run(
    run: Run, config: TrainConfig, dataset: Dataset, model: Poster, began: dict[str, Any], accelerator: Accelerator,
    quiet: bool, workers: int,
) -> None:
    """Train `model`, new or of the last saved epoch, for the epochs that are left, and finish the run.

    `began`: what the record says of the weights that the run starts from.
    """
    main, world, device_here = accelerator.is_main_process, accelerator.num_processes, accelerator.device
    dtype = resolve_precision(config.precision, device_here, config.model, training=True)
    training, selection, selected_on = selection_splits(config, dataset)
    transform = TrainingTransform(config.model.image_size, config.model.stream_size, config.model.channel_order,
                                  augmentation=config.augmentation)
    loader = FaceLoader(
        training, transform, min(config.batch_size, len(training)) // world * world, device=device_here, shuffle=True,
        balanced=config.balanced, seed=config.seed, drop_last=True, rank=accelerator.process_index, world_size=world,
        workers=workers,
    )
    model.to(device_here).to(memory_format=torch.channels_last)
    if world > 1:
        for name, part in trained_parts(model).items():
            setattr(model, name, synchronise(part, device_here))
    optimizer = make_optimizer(config, [p for p in model.parameters() if p.requires_grad])
    average = averaged(model, config.average) if config.average else None
    log, best = restore(run, model, optimizer, average)
    if config.compile:
        for part in trained_parts(model).values():
            part.compile()
    sam = Sam(optimizer, config.rho)
    counted = loader.votes if config.targets == "votes" else nn.functional.one_hot(
        loader.labels, config.model.num_classes)
    objective = accelerator.prepare_model(Objective(model, config, counted.float().sum(0).to(device_here)))
    kept: Poster = model if average is None else average.module  # type: ignore[assignment]  # what is judged and saved

    precision = str(dtype).removeprefix("torch.")
    before = run.recorded("precision", precision)
    if log and before.split(" then ")[-1] != precision:  # begun on another machine
        precision = f"{before} then {precision}"
    record = {
        "data": dataset.name, "fingerprint": dataset.fingerprint(), "train_faces": len(training),
        "selection_faces": len(selection), "selected_on": selected_on, **began, "precision": precision,
        "processes": world, "environment": environment(),
        "command": train_command(config, dataset) if type(model) is Poster else None, "finished": False,
    }
    if main and not quiet and openmp.TORCH_CAME_FIRST and device_here.type == "cpu":
        print("note: torch was loaded before poster_ada, so its threads spin while they wait; on a busy machine import "
              "poster_ada first, or set GOMP_SPINCOUNT=1000.", file=sys.stderr)
    if main:
        run.write("config.json", config.to_dict())
        run.write("record.json", record)
        run.discard_results()
        if log:
            run.write_log(log)  # a kill may have come between the last checkpoint and this
    epoch_faces = len(loader) * loader.batch_size
    bar = tqdm(total=config.epochs * epoch_faces, initial=len(log) * epoch_faces, unit="face", desc="training",
               disable=quiet or not main, dynamic_ncols=True, smoothing=0.1)
    with bar:
        for epoch in range(len(log), config.epochs):
            loader.set_epoch(epoch)
            seed_epoch(config.seed, epoch, accelerator.process_index)
            started = time.perf_counter()
            row: dict[str, Any] = {
                "epoch": epoch + 1, "lr": learning_rate(config, max(epoch, config.warmup)),
                **train_epoch(objective, loader, sam, accelerator, dtype, bar, average)}
            row["images_per_second"] = round(epoch_faces / (time.perf_counter() - started), 1)
            if main:
                row |= validate(kept, selection, config, device_here)
                log.append(row)
                score = [row["validation_accuracy"]]
                score += [-row["validation_loss"]] if config.select_on == "validation" else []
                if best is None or score > best:
                    best = score
                    save_checkpoint(kept, run.path / "best.safetensors",
                                    {"epoch": epoch + 1, "recipe": config.to_dict(), **record})
                save_checkpoint(model, run.path / "last.safetensors", {
                    "epoch": epoch + 1, "log": log, "best": best, "recipe": config.to_dict(),
                    "param_groups": optimizer.state_dict()["param_groups"],
                }, optimizer_tensors(optimizer) | average_tensors(average))
                run.write_log(log)
                if not quiet:
                    bar.write(epoch_line(row, config.epochs))
            accelerator.wait_for_everyone()
    if main:
        finish(run, record, dataset, selection, type(model)(config.model), device_here)
        if not quiet:
            print(result_lines(run))
    accelerator.wait_for_everyone()


def selection_splits(config: TrainConfig, dataset: Dataset) -> tuple[FaceSplit, FaceSplit, str]:
    """Faces to train on, faces that choose the best epoch, and in words which those are."""
    training = dataset.train if dataset.voted is None or config.targets == "labels" else dataset.voted
    if config.select_on == "test":
        if not len(dataset.test):
            raise InputError(f"{dataset.root} has no test split to choose the best epoch on; leave out --select-on.")
        return training, dataset.test, "the TEST split, the published way: its accuracy is optimistic"
    if dataset.validation is not None:
        return training, dataset.validation, "the set's own validation split"
    return (*split_train_validation(training, config.validation_fraction, config.seed),
            "a validation split of the training faces")


def epoch_line(row: dict, epochs: int) -> str:
    """One line per epoch."""
    correlation = row["norm_quality_correlation"]
    return (
        f"epoch {row['epoch']:3d}/{epochs}  loss {row['train_loss']:.3f}  accuracy {row['train_accuracy']:.3f}"
        f"  | validation  loss {row['validation_loss']:.3f}  accuracy {row['validation_accuracy']:.4f}"
        f"  F1 {row['validation_macro_f1']:.3f}"
        + (f"  norm-quality r {correlation:+.2f}" if correlation is not None else "")
        + f"  | lr {row['lr']:.1e}  {row['images_per_second']:.0f} faces/s"
    )


def finish(
    run: Run, record: dict, dataset: Dataset, selection: FaceSplit, model: Poster, device: torch.device
) -> None:
    """Give the chosen weights (read into `model`) their temperature, evaluate them on the test split, once, where the
    set has one, and close the record."""
    best, config, log = run.path / "best.safetensors", run.config, run.log
    description, tensors = read_own(best)
    fill(model, tensors, best, lambda name: name)
    training = description["training"]
    epoch = training["epoch"]
    if config.select_on == "validation":
        predictions = predict_split(model, selection, device, batch_size=config.val_batch_size, quiet=True)
        record["temperature"] = model.temperature = fit_temperature(predictions)
        save_checkpoint(model, best, training)
    record |= {
        "finished": True, "best_epoch": epoch, "selection_accuracy": log["validation_accuracy"][epoch - 1],
        "median_images_per_second": log["images_per_second"].median(),
    }
    if len(dataset.test):
        predictions = predict_split(model, dataset.test, device, batch_size=config.val_batch_size, quiet=True)
        write_predictions(predictions, run.path / "predictions.csv")
        record["test"] = compute_metrics(predictions)
        if (twins := twins_in_train(dataset)) is not None and twins.any() and not twins.all():
            record["test_without_twins"] = compute_metrics(predictions[~twins])
    run.write("record.json", record)


def result_lines(run: Run) -> str:
    """What a finished run found, and how to look closer."""
    record, lines = run.record, []
    lines.append(f"epoch {record['best_epoch']} was chosen on {record['selected_on']}.")
    if "test" in record:
        lines.append(f"Test accuracy: {record['test']['accuracy']:.4f} ({record['data']}, {record['test']['faces']} "
                     "faces)")
    else:
        lines.append(f"Validation accuracy: {record['selection_accuracy']:.4f} ({record['data']} has no test split)")
    if alone := record.get("test_without_twins"):
        lines.append(f"Without the test faces that have a twin in training: {alone['accuracy']:.4f} "
                     f"({alone['faces']} faces)")
    lines.append(f"Everything is in {run.path}; evaluate with: python -m poster_ada.test --data {run.config.data} "
                 f"--checkpoint {run.path / 'best.safetensors'} -p")
    return "\n".join(lines)
