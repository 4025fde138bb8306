"""Training: `python -m poster_ada.train`, or `train(config)` from Python.

One process per GPU through Hugging Face Accelerate (torch DDP underneath); one visible loop, no callbacks.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from tqdm import tqdm

from poster_ada.checkpoints.published import STATE_PREFIX, load_pretrained_parts, read_own, save_checkpoint
from poster_ada.data import Dataset, FaceLoader, FaceSplit, TrainingTransform, open_dataset, split_train_validation
from poster_ada.data.pictures import WORKERS
from poster_ada.data.transforms import AUGMENTATIONS
from poster_ada.errors import InputError, command
from poster_ada.evaluation.predict import predict
from poster_ada.model.heads import HEADS
from poster_ada.evaluation.metrics import metrics
from poster_ada.model.poster import NORM_SOURCES, PRESETS, Poster
from poster_ada.model.precision import PRECISIONS, resolve_precision
from poster_ada.evaluation.predictions import probabilities_of
from poster_ada.training.recipe import HEAD_RECIPES, TrainConfig, quality_loss, recipe_loss
from poster_ada.training.runs import Run, default_folder, environment, fingerprint
from poster_ada.training.sam import Sam
from poster_ada.training.sync_batch_norm import synchronise


class Objective(nn.Module):
    """The one place where labels meet the model: images and labels to the recipe's loss. DDP wraps this."""

    def __init__(self, model: Poster, label_smoothing: float, quality_weight: float = 0.0) -> None:
        super().__init__()
        self.model = model
        self.label_smoothing = label_smoothing
        self.quality_weight = quality_weight

    def forward(
        self, images: Tensor, labels: Tensor, landmark_map: Tensor, quality: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Returns the loss and how many margin-free predictions are right (no gradient).

        The quality term correlates over the batch at hand, which is a process's part of the global one.
        """
        features = self.model.forward_features(images, landmark_map)
        logits = self.model.head.margin_logits(features.embedding, labels, features.norm)
        with torch.no_grad():
            correct = (self.model.head(features.embedding).argmax(1) == labels).sum()
        loss = recipe_loss(logits, labels, self.label_smoothing)
        if self.quality_weight:
            loss = loss + self.quality_weight * quality_loss(features.norm, quality)
        return loss, correct


def make_optimizer(config: TrainConfig, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """The recipe's base optimizer, in its fused form."""
    if config.optimizer == "sgd":
        return torch.optim.SGD(parameters, config.lr, config.momentum, fused=True)
    kind = torch.optim.Adam if config.optimizer == "adam" else torch.optim.AdamW
    return kind(parameters, config.lr, fused=True)


def train_epoch(
    objective: nn.Module, loader: FaceLoader, sam: Sam, accelerator: Accelerator, dtype: torch.dtype, bar: tqdm
) -> dict[str, float]:
    """One pass over the training faces; the loss and margin-free accuracy before each step, averaged over processes."""
    model = accelerator.unwrap_model(objective).model
    objective.train()
    totals = torch.zeros(3, device=accelerator.device)
    for images, labels, _, quality in loader:
        with torch.autocast(images.device.type, dtype, enabled=dtype != torch.float32):
            landmark_map = model.landmark_map(images)  # frozen: one pass serves both of SAM's
            loss, correct = objective(images, labels, landmark_map, quality)
        accelerator.backward(loss)
        if sam.rho:
            sam.ascend()
            with torch.autocast(images.device.type, dtype, enabled=dtype != torch.float32):
                second, _ = objective(images, labels, landmark_map, quality)
            accelerator.backward(second)
        sam.descend()
        totals += torch.stack((loss.detach() * len(labels), correct, torch.tensor(len(labels), device=loss.device)))
        bar.update(loader.batch_size)
    loss_sum, correct, count = accelerator.reduce(totals).tolist()
    return {"train_loss": loss_sum / count, "train_accuracy": correct / count}


def validate(model: Poster, split: FaceSplit, config: TrainConfig, device: torch.device) -> dict[str, float]:
    """Margin-free loss, accuracy, macro F1, and Pearson's r of feature norm and image quality where that is known."""
    predictions = predict(model, split, device=device, batch_size=config.val_batch_size, quiet=True)
    scores = metrics(predictions, intervals=False)
    true = probabilities_of(predictions)[np.arange(len(split)), split.labels]
    quality = split.quality
    known = quality is not None and np.std(quality) > 0
    return {
        "validation_loss": float(-np.log(np.maximum(true, np.finfo(float).tiny)).mean()),
        "validation_accuracy": scores["accuracy"],
        "validation_macro_f1": scores["macro_f1"],
        "norm_quality_correlation": float(np.corrcoef(predictions["norm"], quality)[0, 1]) if known else None,
    }


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's moments and step counts, flat, for safetensors."""
    state = optimizer.state_dict()["state"]
    return {f"optimizer/{i}/{name}": value for i, values in state.items() for name, value in values.items()}


def restore(
    run: Run, model: Poster, optimizer: torch.optim.Optimizer, device: torch.device
) -> tuple[list[dict], list | None]:
    """Load model, optimizer and random state of the last saved epoch; returns the log so far and the best score."""
    saved = run.last_state()
    if saved is None:
        return [], None
    record, tensors = saved
    extra = {k.removeprefix(STATE_PREFIX): tensors.pop(k) for k in list(tensors) if k.startswith(STATE_PREFIX)}
    model.load_state_dict(tensors)
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in extra.items():
        if key.startswith("optimizer/"):
            _, index, name = key.split("/")
            moments.setdefault(int(index), {})[name] = value
    moments = dict(sorted(moments.items()))
    for parameter, values in zip(optimizer.param_groups[0]["params"], moments.values(), strict=True):
        for name, value in values.items():
            if value.shape == parameter.shape:  # fused steps walk both in memory order, which the file does not keep
                values[name] = torch.empty_like(parameter, device="cpu").copy_(value)
    optimizer.load_state_dict({"state": moments, "param_groups": record["param_groups"]})
    torch.set_rng_state(extra["rng"])
    if device.type == "cuda" and "rng_cuda" in extra:
        torch.cuda.set_rng_state(extra["rng_cuda"], device)
    return record["log"], record["best"]


def check_resumable(run: Run, config: TrainConfig) -> None:
    """Only `epochs` may differ from the run in the folder. Raises InputError naming what does."""
    old, new = run.config.to_dict(), config.to_dict()
    old, new = (values | values.pop("model") | {"epochs": 0} for values in (old, new))
    different = sorted(key for key in new if old.get(key) != new[key] and key != "data")
    if different:
        raise InputError(f"{run.path} holds a run with other settings ({', '.join(different)}); choose another --run.")


def train(
    config: TrainConfig, run_dir: str | Path | None = None, *, device: str | None = None, resume: bool = True,
    quiet: bool = False, dataset: Dataset | None = None, workers: int = WORKERS,
) -> Run:
    """Train as `config` says and return the run; a finished run with the same settings and data returns at once.

    Under `torchrun` or `accelerate launch` every process calls this; from a notebook with several GPUs use
    `accelerate.notebook_launcher(train, (config,), num_processes=2)`.

    Args:
        run_dir: folder of the run; default `runs/<preset>-<head>-<data>-seed<seed>-<key>`.
        device: `cpu` to leave GPUs alone; default whatever Accelerate finds.
        resume: go on with an unfinished run in that folder; False raises InputError if there is one.
        quiet: no bars and no lines.
        dataset: `config.data`, where it is open already.
        workers: processes that decode faces where the memory cache is too small.

    Raises:
        InputError: the data, the settings or the run's folder do not fit together.
    """
    dataset = dataset or open_dataset(config.data)
    if dataset.class_names != config.model.class_names:
        raise InputError(
            f"{dataset.root} has the classes {', '.join(dataset.class_names)}; the model has "
            f"{', '.join(config.model.class_names)}: give it the data's class_names and num_classes."
        )
    run = Run(Path(run_dir) if run_dir else default_folder(config, dataset))
    if run.exists:
        check_resumable(run, config)
        if run.finished and len(run.log) >= config.epochs:
            return run
        if not resume:
            raise InputError(f"{run.path} holds an unfinished run; add --resume to go on, or choose another --run.")

    accelerator = Accelerator(cpu=device == "cpu")
    device, main = accelerator.device, accelerator.is_main_process
    dtype = resolve_precision(config.precision, device, config.model)
    torch.manual_seed(config.seed)
    model = Poster(config.model)
    loaded = load_pretrained_parts(model, config.pretrained)
    if config.select_on == "test":
        training, selection = dataset.train, dataset.test
    else:
        training, selection = split_train_validation(dataset.train, config.validation_fraction, config.seed)
    world = accelerator.num_processes
    transform = TrainingTransform(config.model.image_size, config.model.stream_size, config.model.channel_order,
                                  augmentation=config.augmentation)
    loader = FaceLoader(
        training, transform, min(config.batch_size, len(training)) // world * world, device=device, shuffle=True,
        balanced=config.balanced, seed=config.seed, drop_last=True, rank=accelerator.process_index, world_size=world,
        workers=workers,
    )
    model.to(device, memory_format=torch.channels_last)
    if world > 1:
        model.image_stream = synchronise(model.image_stream, device)
    optimizer = make_optimizer(config, [p for p in model.parameters() if p.requires_grad])
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, config.gamma)
    log, best = restore(run, model, optimizer, device)
    if config.compile:
        model.image_stream.compile()
        model.fusion.compile()
    sam = Sam(optimizer, config.rho)
    objective = accelerator.prepare_model(Objective(model, config.label_smoothing, config.quality_weight))

    selected_on = {"validation": "a validation split of the training faces",
                   "test": "the TEST split, the published way: its accuracy is optimistic"}[config.select_on]
    record = {
        "data": dataset.name, "fingerprint": fingerprint(dataset), "train_faces": len(training),
        "selection_faces": len(selection), "selected_on": selected_on, "pretrained_parts": loaded,
        "precision": str(dtype).removeprefix("torch."), "processes": world, "environment": environment(),
        "finished": False,
    }
    if main:
        run.write("config.json", config.to_dict())
        run.write("record.json", record)
    epoch_faces = len(loader) * loader.batch_size
    bar = tqdm(total=config.epochs * epoch_faces, initial=len(log) * epoch_faces, unit="face", desc="training",
               disable=quiet or not main, dynamic_ncols=True, smoothing=0.1)
    with bar:
        for epoch in range(len(log), config.epochs):
            loader.set_epoch(epoch)
            started, lr = time.perf_counter(), optimizer.param_groups[0]["lr"]
            row = {"epoch": epoch + 1, "lr": lr, **train_epoch(objective, loader, sam, accelerator, dtype, bar)}
            row["images_per_second"] = round(epoch_faces / (time.perf_counter() - started), 1)
            scheduler.step()
            if main:
                row |= validate(model, selection, config, device)
                log.append(row)
                score = [row["validation_accuracy"]]
                score += [-row["validation_loss"]] if config.select_on == "validation" else []
                if best is None or score > best:
                    best = score
                    save_checkpoint(model, run.path / "best.safetensors",
                                    {"epoch": epoch + 1, "recipe": config.to_dict(), **record})
                state = {"rng": torch.get_rng_state(), **optimizer_tensors(optimizer)}
                if device.type == "cuda":
                    state["rng_cuda"] = torch.cuda.get_rng_state(device)
                save_checkpoint(model, run.path / "last.safetensors", {
                    "epoch": epoch + 1, "log": log, "best": best, "recipe": config.to_dict(),
                    "param_groups": optimizer.state_dict()["param_groups"],
                }, state)
                run.write_log(log)
                if not quiet:
                    bar.write(epoch_line(row, config.epochs))
            accelerator.wait_for_everyone()
    if main:
        finish(run, record, dataset, config, device, quiet)
    accelerator.wait_for_everyone()
    return run


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
    run: Run, record: dict, dataset: Dataset, config: TrainConfig, device: torch.device, quiet: bool
) -> None:
    """Evaluate the chosen model on the test split, once, and close the record."""
    log = run.log
    chosen = run.model("best")
    predictions = predict(chosen, dataset.test, device=device, batch_size=config.val_batch_size, quiet=True)
    predictions.to_csv(run.path / "predictions.csv", index=False)
    scores = metrics(predictions)
    epoch = read_own(run.path / "best.safetensors")[0]["training"]["epoch"]
    run.write("record.json", record | {
        "finished": True, "best_epoch": epoch, "selection_accuracy": log["validation_accuracy"][epoch - 1],
        "test": scores, "median_images_per_second": log["images_per_second"].median(),
    })
    if not quiet:
        print(f"epoch {epoch} was chosen on {record['selected_on']}.")
        print(f"Test accuracy: {scores['accuracy']:.4f} ({dataset.name}, {len(dataset.test)} faces)")
        print(f"Everything is in {run.path}; evaluate with: "
              f"python -m poster_ada.test --data {config.data} --checkpoint {run.path / 'best.safetensors'} -p")


def parser() -> argparse.ArgumentParser:
    """The published flags, in both spellings, and this project's."""
    p = argparse.ArgumentParser(
        "python -m poster_ada.train", description="Train POSTER with a choice of heads. Without flags: the published "
        "recipe for POSTER-large on RAF-DB. Everything goes to runs/<name>/; the same command twice trains once.",
        epilog="Try it without any download: python -m poster_ada.train --demo",
    )
    data = p.add_argument_group("data")
    data.add_argument("--demo", action="store_true", help="train the nano preset on the demo faces (about 2 minutes)")
    data.add_argument("--dataset", choices=("rafdb", "affectnet", "affectnet8class"), default="rafdb",
                      help="published data set: sets its variant, learning rate and sampling (default rafdb)")
    data.add_argument("--data", metavar="ROOT", help="folder (default data/raf-basic, or data/AffectNet)")
    data.add_argument("--augmentation", choices=AUGMENTATIONS,
                      help="adaface is the report's w/DA; warp adds small turns, zooms and shifts (nano's default); "
                      "camera adds blur, low resolution, noise, JPEG or darkness")
    data.add_argument("--select-on", choices=("validation", "test"), help="split that picks the best epoch; test is "
                      "the published way and makes the result optimistic (default validation, 10 %% of train)")
    data.add_argument("--workers", type=int, default=WORKERS, help=f"processes that decode faces (default {WORKERS})")
    model = p.add_argument_group("model")
    model.add_argument("--modeltype", "--preset", choices=tuple(PRESETS), help="size (default large; nano with --demo)")
    model.add_argument("--head", choices=(*HEADS, *HEAD_RECIPES), help="default mlp; adaface is the published setting, "
                       "adaface-fer the one that this project's study found (results/)")
    model.add_argument("--margin", type=float, help="m (default: AdaFace 0.4, ArcFace 0.5, CosFace 0.4)")
    model.add_argument("--scale", type=float, help="s of a margin head (default 64)")
    model.add_argument("--t-alpha", type=float, help="AdaFace: the batch's weight in the norm statistics (default 1.0)")
    model.add_argument("--norm-source", choices=NORM_SOURCES, help="feature whose norm stands for quality")
    model.add_argument("--variant", choices=("mlp", "irf", "da"), help="the report's w/MLP, w/IRf or w/DA")
    model.add_argument("--channel-order", choices=("BGR", "RGB"), help="default: the data set's published one")
    model.add_argument("--pretrained", metavar="DIR", help="folder of the pretrained parts (default models/pretrain)")
    recipe = p.add_argument_group("recipe")
    for name, kind, text in (
        ("epochs", int, "default 300; nano 20"), ("batch_size", int, "over all GPUs (default 200; nano 64)"),
        ("val_batch_size", int, "default 32"), ("lr", float, "default 4e-5; AdaFace on AffectNet 2e-6; nano 2e-3"),
        ("momentum", float, "of --optimizer sgd (default 0.9)"), ("label_smoothing", float, "default 0.2"),
        ("quality_weight", float, "teach the norm the known quality of --augmentation camera (default 0)"),
        ("rho", float, "SAM's radius; 0 is plain training (default 0.05; nano 0)"), ("seed", int, "default 123"),
    ):
        spellings = dict.fromkeys((f"--{name}", f"--{name.replace('_', '-')}"))
        recipe.add_argument(*spellings, dest=name, type=kind, help=text)
    recipe.add_argument("--gamma", type=float, help="of ExponentialLR, per epoch (default 0.98; nano 0.86)")
    recipe.add_argument("--optimizer", choices=("adam", "adamw", "sgd"), help="inside SAM (default adam)")
    machine = p.add_argument_group("machine and output")
    machine.add_argument("--gpu", metavar="0,1", help="GPUs to use, one process each (default: the first, or the CPU)")
    machine.add_argument("--precision", choices=PRECISIONS,
                         help="auto: bfloat16 where the machine multiplies it natively")
    machine.add_argument("--compile", action="store_true", default=None, help="torch.compile both heavy parts")
    machine.add_argument("--run", metavar="DIR", help="folder of the run (default runs/<name from the settings>)")
    machine.add_argument("--resume", action="store_true", help="go on with the unfinished run in that folder")
    machine.add_argument("--quiet", action="store_true", help="no progress bar, no epoch lines")
    return p


def config_from(args: argparse.Namespace) -> tuple[TrainConfig, Dataset]:
    """Flags to a configuration that fits the data, and the opened data."""
    affectnet = args.dataset != "rafdb"
    preset = args.modeltype or ("nano" if args.demo else "large")
    root = Path(args.data or ("data/demo" if args.demo else "data/AffectNet" if affectnet else "data/raf-basic"))
    if not root.is_dir() and not args.data:
        raise InputError(f"{root} is not there; data/README.md says how to get it. To try without any download: "
                         "python -m poster_ada.train --demo")
    dataset = open_dataset(root)
    names = ("augmentation", "select_on", "head", "margin", "scale", "t_alpha", "norm_source", "channel_order",
             "pretrained", "epochs", "batch_size", "val_batch_size", "lr", "gamma", "momentum", "label_smoothing",
             "quality_weight", "rho", "seed", "optimizer", "precision", "compile")
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    variant = {"mlp": {"feature_layer": True}, "irf": {"norm_source": "image"}, "da": {"augmentation": "adaface"}}
    published = {"token_mixing": False, "balanced": True} if affectnet else {}
    if affectnet and args.head == "adaface":
        published["lr"] = 2e-6
    fitted = {"data": str(root), "channel_order": dataset.channel_order, "class_names": dataset.class_names,
              "num_classes": len(dataset.class_names)}
    return TrainConfig.for_preset(preset, **(published | fitted | variant.get(args.variant, {}) | given)), dataset


def launch(gpus: list[str], argv: Sequence[str]) -> int:
    """Start this command once per GPU and wait for all."""
    return subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={len(gpus)}",
         "-m", "poster_ada.train", *argv], env=os.environ | {"CUDA_VISIBLE_DEVICES": ",".join(gpus)}, check=False,
    ).returncode


@command
def main(argv: Sequence[str] | None = None) -> int | None:
    """Command line."""
    argv = list(sys.argv[1:] if argv is None else argv)
    args = parser().parse_args(argv)
    gpus = [gpu for gpu in (args.gpu or "").split(",") if gpu.strip()]
    if gpus and "LOCAL_RANK" not in os.environ:
        if not torch.cuda.is_available():
            print(f"--gpu {args.gpu}: torch sees no GPU here; training on the CPU.", file=sys.stderr)
        elif len(gpus) > 1:
            return launch(gpus, argv)
        else:
            os.environ["CUDA_VISIBLE_DEVICES"] = gpus[0]
    config, dataset = config_from(args)
    run = train(config, args.run, resume=args.resume, quiet=args.quiet, dataset=dataset, workers=args.workers)
    if not args.quiet and "LOCAL_RANK" not in os.environ:
        print(f"run: {run.path}")
    return None


if __name__ == "__main__":
    main()
