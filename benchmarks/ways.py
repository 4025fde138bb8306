"""The ways to predict and to train that are compared: `plain`, `default` and what a machine adds to them."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn
from tqdm import tqdm

from benchmarks.plain import PlainPoster, PlainSam, plain_step
from benchmarks.timing import Work
from poster_ada.checkpoints.exported import ExportedPoster, export
from poster_ada.data.loader import Batch
from poster_ada.data.splits import FaceSplit
from poster_ada.model.config import PRESETS, size_name
from poster_ada.model.fast import prediction_copy
from poster_ada.model.poster import Poster
from poster_ada.model.precision import resolve_precision
from poster_ada.training.loop import Objective, make_optimizer, train_epoch, trained_parts
from poster_ada.training.recipe import TrainConfig
from poster_ada.training.sam import Sam

SINGLE_FACES = 8


def model_of(size: str, device: torch.device) -> Poster:
    """The preset with random weights, always the same ones, and as unlike each other as trained ones.

    A new network's slopes are all 0.25 and its BatchNorms do nothing: exporters merge or drop what a trained one needs.
    """
    torch.manual_seed(0)
    model = Poster(PRESETS[size])
    for layer in model.modules():
        if isinstance(layer, nn.PReLU):
            nn.init.uniform_(layer.weight, 0.1, 0.4)
        elif isinstance(layer, nn.BatchNorm2d):
            for values, middle in (
                (layer.weight, 1), (layer.bias, 0), (layer.running_mean, 0), (layer.running_var, 1)
            ):
                nn.init.uniform_(values, middle - 0.2, middle + 0.2)
    return model.to(device)


def noise(batch: int, side: int, device: torch.device) -> Tensor:
    """Normalised images of nothing, (batch, 3, side, side)."""
    return torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(0)).to(device)


def prediction_ways(device: torch.device) -> list[str]:
    """Names for `predictor`, in the order of the table."""
    if device.type == "cuda":
        return ["plain", "float32", "default", "compiled", "cuda-graph"]
    onnx = ["onnxruntime-float32"] if find_spec("onnxruntime") else []
    openvino = ["openvino-bfloat16", "openvino-int8"] if find_spec("openvino") else []
    return ["plain", "float32", "default", *onnx, *openvino]


def predictor(
    way: str, model: Poster, calibration: FaceSplit | None = None, folder: Path | None = None
) -> Callable[[Tensor], Tensor]:
    """A callable from images to logits. Exports go to `folder`, calibrated on `calibration`, and are used again."""
    if way == "plain":
        return PlainPoster(model).to(next(model.parameters()).device).eval()
    runtime, _, precision = way.partition("-")
    if runtime in ("onnxruntime", "openvino"):
        suffix = ".onnx" if runtime == "onnxruntime" else ".xml"
        path = folder / f"{size_name(model.config)}-depth{model.config.depth}-{way}{suffix}"
        if not path.is_file():
            export(model, path, precision, calibration)
        return ExportedPoster(path)
    ready = prediction_copy(model, "float32" if way == "float32" else "auto")
    if way in ("compiled", "cuda-graph"):
        ready.compile(mode="reduce-overhead" if way == "cuda-graph" else "default")
    return ready


def prediction(way: str, size: str, batch: int, device: torch.device, **exported) -> Work:
    """Predict one batch, or some single faces one by one; `plain` is given 224 x 224 images, the others what this
    project's loader gives."""
    model = model_of(size, device).eval()
    predict = predictor(way, model, **exported)
    images = noise(batch, model.config.image_size if way == "plain" else model.config.stream_size, device)

    calls = max(1, SINGLE_FACES // batch)  # one call alone is too short to be timed

    def work() -> int:
        with torch.inference_mode():
            for _ in range(calls):
                predict(images)
        return calls * batch

    return work


class OneBatch(list):
    """A loader of a single batch, for `train_epoch`."""

    batch_size = epoch = 0


def training_ways(device: torch.device) -> list[str]:
    """Names for `training_step`, in the order of the table."""
    return ["plain", "float32", "default", *(["compiled", "cuda-graph"] if device.type == "cuda" else [])]


def training_step(way: str, size: str, batch: int, device: torch.device) -> Work:
    """One SAM step by the training loop itself, or by the plain one."""
    model = model_of(size, device).train()
    labels = (torch.arange(batch) % model.config.num_classes).to(device)
    images = noise(batch, model.config.image_size if way == "plain" else model.config.stream_size, device)
    config = TrainConfig.for_preset(size, rho=TrainConfig.rho, precision="float32" if way == "float32" else "auto")
    if way == "plain":
        plain = PlainPoster(model).to(device).train()
        sam = PlainSam([p for p in plain.parameters() if p.requires_grad], config.lr)

        def work() -> int:
            plain_step(plain, sam, images, labels)
            return batch

        return work
    model.to(memory_format=torch.channels_last)
    if way in ("compiled", "cuda-graph"):
        for part in trained_parts(model).values():
            part.compile(mode="reduce-overhead" if way == "cuda-graph" else "default")
    sam = Sam(make_optimizer(config, [p for p in model.parameters() if p.requires_grad]), config.rho)
    accelerator = Accelerator(cpu=device.type == "cpu")
    objective = accelerator.prepare_model(Objective(model, config, torch.ones(config.model.num_classes)))
    dtype = resolve_precision(config.precision, device, model.config, training=True)
    loader = OneBatch([Batch(images, labels, torch.ones(batch, device=device),
                              F.one_hot(labels, config.model.num_classes).float())])

    def default() -> int:
        train_epoch(objective, loader, sam, accelerator, dtype, tqdm(disable=True))
        return batch

    return default
