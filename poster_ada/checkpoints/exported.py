"""The prediction path as one file for ONNX Runtime or OpenVINO, and the class that runs it.

    python -m poster_ada.export --checkpoint best.safetensors --to openvino --precision int8 --out poster.xml

    predictor = ExportedPoster("poster.xml")
    logits = predictor(images)   # the loader's images, float32 (B, 3, S, S) -> (B, C)

With `--raw` the file takes faces as pictures have them, uint8 (B, H, W, 3) RGB of any size: resize, channel order and
normalisation are in the graph.

Needs `pip install 'poster-ada[export]'`. int8 is post-training quantisation (NNCF), calibrated on faces. A file is
kept only if its predictions are the model's.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from poster_ada.checkpoints.names import EXPORT_PRECISIONS, EXPORT_SUFFIXES
from poster_ada.data.loader import FaceLoader
from poster_ada.data.splits import FaceSplit
from poster_ada.data.transforms import EvaluationTransform
from poster_ada.errors import InputError
from poster_ada.model.config import PosterConfig
from poster_ada.model.poster import FaceTemplate, Poster

REQUEST = 32  # images per request; more take more memory
CALIBRATION_FACES = 300
LEAST_AGREEMENT = 0.995
KEY = "poster_ada"  # under which both formats carry the configuration and the precision


def require(name: str) -> Any:
    """Import a package of the `export` extra. Raises InputError if it is not installed."""
    try:
        return import_module(name)
    except ImportError:
        raise InputError(f"this needs {name}: pip install 'poster-ada[export]'.") from None


class ExportedPoster:
    """Runs a file written by `export`: normalised images (or, of a raw file, pictures) in, margin-free logits out.

    Args:
        path: the `.xml` (with its `.bin` beside it) or `.onnx` file.

    Raises:
        InputError: the file is not there or not this project's, or the runtime is not installed.
    """

    config: PosterConfig
    precision: str
    raw: bool
    face_template: FaceTemplate | None  # where the model expects a face's five points, as shares of the side

    def __init__(self, path: str | Path) -> None:
        path = Path(path)
        if not path.is_file():
            raise InputError(f"there is no exported model {path}; write one with python -m poster_ada.export.")
        kind = next((kind for kind, suffix in EXPORT_SUFFIXES.items() if path.suffix == suffix), None)
        if kind is None:
            raise InputError(f"{path} is neither .xml (OpenVINO) nor .onnx.")
        self._run = {"openvino": self._open_openvino, "onnx": self._open_onnx}[kind](path)

    def __call__(self, images: Tensor) -> Tensor:
        """Normalised float32 (B, 3, S, S), S the model's stream or image size, to logits (B, C) on the CPU; of a raw
        file uint8 (B, H, W, 3) RGB."""
        if self.raw:
            if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[-1] != 3:
                raise InputError(f"images are {images.dtype} {tuple(images.shape)}; this file takes uint8 (B, H, W, "
                                 "3).")
            return torch.from_numpy(self._run(images.cpu().contiguous().numpy()))
        size = self.config.stream_size
        step = images.shape[-1] // size
        if step == 0 or tuple(images.shape[1:]) != (3, step * size, step * size):
            raise InputError(f"images are {tuple(images.shape)}; this model takes (B, 3, {size}, {size}).")
        return torch.from_numpy(self._run(images[..., ::step, ::step].float().cpu().contiguous().numpy()))

    def _remember(self, metadata: str | None, path: Path) -> None:
        if not metadata:
            raise InputError(f"{path} was not written by python -m poster_ada.export.")
        values = json.loads(metadata)
        self.config, self.precision = PosterConfig.from_dict(values["config"]), values["precision"]
        self.raw, template = values.get("raw", False), values.get("face_template")
        self.face_template = tuple(map(tuple, template)) if template else None

    def _open_openvino(self, path: Path) -> Callable[[np.ndarray], np.ndarray]:
        ov = require("openvino")
        try:
            model = ov.Core().read_model(path)
        except RuntimeError:
            raise InputError(f"{path} is not an OpenVINO model, or its .bin is missing.") from None
        self._remember(model.get_rt_info(KEY).astype(str) if model.has_rt_info(KEY) else None, path)
        return openvino_runner(ov, model, self.precision)

    def _open_onnx(self, path: Path) -> Callable[[np.ndarray], np.ndarray]:
        runtime = require("onnxruntime")
        try:
            session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        except Exception as error:  # its exceptions have no common base
            raise InputError(f"{path} is not an ONNX model ({str(error).splitlines()[0]}).") from None
        self._remember(session.get_modelmeta().custom_metadata_map.get(KEY), path)
        name = session.get_inputs()[0].name
        return lambda images: session.run(None, {name: images})[0]


def openvino_runner(ov: Any, model: Any, precision: str) -> Callable[[np.ndarray], np.ndarray]:
    """A function from images to logits, numpy float32: all cores on a few images at a time."""
    compiled = ov.Core().compile_model(model, "CPU", {
        "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32" if precision == "float32" else "bf16",
    })
    return lambda images: np.concatenate([
        compiled(images[start : start + REQUEST])[0] for start in range(0, len(images), REQUEST)
    ])


class FromPixels(nn.Module):
    """The model behind its preprocessing: resized pixels, float (B, 3, image_size, image_size) RGB in 0..255, to
    logits."""

    def __init__(self, model: Poster) -> None:
        super().__init__()
        self.model = model
        self.transform = EvaluationTransform(
            model.config.image_size, model.config.stream_size, model.config.channel_order)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.model(self.transform.normalised(pixels.round().clamp(0, 255) / 255))


class FromFaces(FromPixels):
    """The same for pictures: uint8 (B, H, W, 3) RGB to logits."""

    def forward(self, faces: Tensor) -> Tensor:
        side, pixels = self.transform.image_size, faces.permute(0, 3, 1, 2).float()
        for size in ((faces.shape[1], side), (side, side)):  # rows, then columns, on 8 bits each, as Pillow does
            pixels = F.interpolate(pixels, size, mode="bilinear", antialias=True)
            pixels = (pixels + 0.5).floor().clamp(0, 255)
        return super().forward(pixels)


def export(
    model: Poster, path: str | Path, precision: str = "float32", calibration: FaceSplit | None = None,
    raw: bool = False,
) -> None:
    """Write the prediction path of `model`, images at the stream size to logits, any batch.

    Args:
        path: `.xml` for OpenVINO (the weights go into the `.bin` beside it), `.onnx` for ONNX.
        precision: `float32`; for OpenVINO also `bfloat16` or `int8`, whose remaining parts run in bfloat16.
        calibration: faces whose activations set int8's ranges; needed for int8 alone.
        raw: take pictures, uint8 (B, H, W, 3) RGB of any size, in place of normalised images; not for int8.

    Raises:
        InputError: suffix, precision and `raw` do not fit together, calibration faces are missing, or a package is.
    """
    path = Path(path)
    kind = next((kind for kind, suffix in EXPORT_SUFFIXES.items() if path.suffix == suffix), None)
    if kind is None:
        raise InputError(f"{path} should end in {' or '.join(EXPORT_SUFFIXES.values())}.")
    if precision not in EXPORT_PRECISIONS[kind]:
        raise InputError(f"{kind} is written in {', '.join(EXPORT_PRECISIONS[kind])}, not {precision}; choose --to "
                         "openvino.")
    if precision == "int8" and calibration is None:
        raise InputError("int8 needs faces to calibrate on; give --calibrate a face set.")
    if precision == "int8" and raw:
        raise InputError("int8 is written for normalised images alone; leave out --raw, or choose another --precision.")
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = json.dumps({"config": model.config.to_dict(), "precision": precision, "raw": raw,
                           "face_template": model.face_template})
    require("onnxscript")
    program: Any = torch.onnx.export(captured(model, raw, kind), dynamo=True, external_data=False, verbose=False)
    if kind == "onnx":
        program.model.metadata_props[KEY] = metadata
        program.save(path)
        return
    ov = require("openvino")
    with tempfile.TemporaryDirectory() as folder:
        # By way of ONNX, which keeps PReLU whole: OpenVINO then merges it into the convolution before it.
        program.save(Path(folder) / "poster.onnx")
        converted = ov.convert_model(Path(folder) / "poster.onnx")
    if raw:
        converted = with_resize(ov, converted)
    if precision == "int8" and calibration is not None:
        converted = quantised(converted, model.config, calibration)
    converted.set_rt_info(metadata, KEY)
    ov.save_model(converted, path, compress_to_fp16=False)


def with_resize(ov: Any, converted: Any) -> Any:
    """An OpenVINO model of resized pixels as one of pictures: its own resize is Pillow's, which ONNX's is not there."""
    preprocess = require("openvino.preprocess")
    steps = preprocess.PrePostProcessor(converted)
    pictures = steps.input().tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
    pictures.set_spatial_dynamic_shape()
    steps.input().model().set_layout(ov.Layout("NCHW"))
    steps.input().preprocess().resize(preprocess.ResizeAlgorithm.RESIZE_BILINEAR_PILLOW).convert_element_type(
        ov.Type.f32)  # resized first, so that each of its two passes is rounded to 8 bits, as in Pillow
    return steps.build()


def captured(model: Poster, raw: bool = False, kind: str = "onnx") -> torch.export.ExportedProgram:
    """The model's forward pass as a graph with a free batch size, and of pictures of any size if `raw`.

    Args:
        kind: OpenVINO's graph begins with resized pixels, as it has a resize of its own.
    """
    c, training, batch = model.config, model.training, torch.export.Dim("batch", min=1)
    graph: nn.Module = model
    images, free = torch.zeros(2, 3, c.stream_size, c.stream_size), {0: batch}
    if raw and kind == "onnx":
        graph, images = FromFaces(model), torch.zeros(2, 100, 100, 3, dtype=torch.uint8)
        free |= {1: torch.export.Dim("height", min=8), 2: torch.export.Dim("width", min=8)}
    elif raw:
        graph, images = FromPixels(model), torch.zeros(2, 3, c.image_size, c.image_size)
    try:
        with torch.no_grad():
            return torch.export.export(graph.cpu().eval(), (images,), dynamic_shapes=(free,))
    finally:
        model.train(training)


def quantised(converted: Any, config: PosterConfig, faces: FaceSplit) -> Any:
    """int8 convolutions and linear layers over tokens, whose ranges hold all values of at most 300 faces.

    What costs little and passes its rounding on to every feature stays: the layers that see one vector per image
    (squeeze-excitation, head) and the mixing of tokens.
    """
    nncf, ranges = require("nncf"), require("nncf.quantization.range_estimator")
    nncf.set_log_level("ERROR")
    batches = [images.numpy() for images in calibration_images(config, faces)]
    kept = [op.get_friendly_name() for op in converted.get_ordered_ops() if keeps_precision(op)]
    return nncf.quantize(
        converted, nncf.Dataset(batches), model_type=nncf.ModelType.TRANSFORMER, preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(batches), ignored_scope=nncf.IgnoredScope(names=kept),
        advanced_parameters=nncf.AdvancedQuantizationParameters(
            activations_range_estimator_params=ranges.RangeEstimatorParametersSet.MINMAX
        ),
    )


def keeps_precision(op: Any) -> bool:
    """Whether an OpenVINO operation is one of those that stay out of int8: products that are not tokens times weights,
    convolutions that are not of images."""
    kind = op.get_type_name()
    ranks = [op.get_input_partial_shape(i).rank.get_length() for i in range(min(2, op.get_input_size()))]
    return (kind == "MatMul" and ranks != [3, 2]) or ("Convolution" in kind and ranks[0] != 4)


def calibration_images(config: PosterConfig, faces: FaceSplit) -> list[Tensor]:
    """Every n-th face, so that all classes and sources are seen; (1, 3, S, S) each."""
    chosen = faces.subset(np.arange(0, len(faces), max(1, len(faces) // CALIBRATION_FACES))[:CALIBRATION_FACES])
    loader = FaceLoader(chosen, EvaluationTransform(config.image_size, config.stream_size, config.channel_order), 1)
    return [batch.images for batch in loader]


class Agreement(NamedTuple):
    """An exported file against the model: share of equal predictions (0..1), largest difference of a logit."""

    faces: int
    top1: float
    largest_difference: float


def agreement_of(model: Poster, exported: ExportedPoster, faces: FaceSplit) -> Agreement:
    """Predict `faces` with both. The model is the reference: eager, float32, after Pillow's resize."""
    c = model.config
    loader = FaceLoader(faces, EvaluationTransform(c.image_size, c.stream_size, c.channel_order), 32)
    same, largest, place = 0, 0.0, 0
    model.eval()
    for images, *_ in loader:
        with torch.inference_mode():
            expected = model(images)
        rows = range(place, place := place + len(images))
        actual = exported(images) if not exported.raw else torch.cat([
            exported(faces[row][0].permute(1, 2, 0)[None]) for row in rows])
        same += int((expected.argmax(1) == actual.argmax(1)).sum())
        largest = max(largest, float((expected - actual).abs().max()))
    return Agreement(len(faces), same / len(faces), largest)


def export_checked(
    model: Poster, out: Path, precision: str, training: FaceSplit, test: FaceSplit, raw: bool = False
) -> Agreement:
    """Write `out` as `export` does, but put it in place only once it predicts the test faces as the model does.

    Raises:
        InputError: as `export`; or more predictions change than `LEAST_AGREEMENT` allows.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as folder:
        written = Path(folder) / out.name
        export(model, written, precision, training, raw)
        agreement = agreement_of(model, ExportedPoster(written), test)
        if agreement.top1 < LEAST_AGREEMENT:
            raise InputError(f"{precision} changes the predictions of {1 - agreement.top1:.1%} of the "
                             f"{agreement.faces} test faces, more than {1 - LEAST_AGREEMENT:.1%}; choose a wider "
                             "--precision, or calibrate on faces like those it was trained on.")
        for file in Path(folder).iterdir():
            file.replace(out.parent / file.name)
    return agreement
