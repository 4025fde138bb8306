"""Checkpoints: the published format, translated here and nowhere else, and this project's own. Tensors only, always.

Published files are pickles of `{"model_state_dict": ...}`; they are read with torch's tensors-only unpickler, so
nothing in a downloaded file is executed. This project writes safetensors, with its JSON configuration in the header.
"""

from __future__ import annotations

import json
import os
import pickle
import re
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from poster_ada.errors import InputError
from poster_ada.expressions import AFFECTNET_CLASSES, RAFDB_CLASSES
from poster_ada.model.image_stream import ImageStream
from poster_ada.model.landmark_stream import LandmarkStream
from poster_ada.model.poster import Poster, PosterConfig

PRETRAINED_FILES = IR50_FILE, MOBILEFACENET_FILE = "ir50.pth", "mobilefacenet_model_best.pth.tar"
STATE_PREFIX = "training/"  # of tensors in this project's files that are not the model's
NANO_LANDMARKS = Path(__file__).parent / "weights" / "nano_landmarks.safetensors"
# In every published file and used by no published computation.
DEAD_SHAPES = {
    "pyramid_fuse.cls_token": (1, 1, 512),
    **{f"ir_back.output_layer.0.{k}": (512,) for k in ("weight", "bias", "running_mean", "running_var")},
    "ir_back.output_layer.0.num_batches_tracked": (),
    "ir_back.output_layer.3.weight": (512, 25088),
    "ir_back.output_layer.3.bias": (512,),
    **{f"ir_back.output_layer.4.{k}": (512,) for k in ("weight", "bias", "running_mean", "running_var")},
    "ir_back.output_layer.4.num_batches_tracked": (),
}
ADAFACE_DEAD = {"head.t": (1,)}  # a counter the published head carries and never moves

# (pattern in this project's names, published replacement); the first that matches a whole dotted piece applies.
LANDMARK_RULES = [
    (r"^stem\.0\.", "conv1."), (r"^stem\.1\.", "conv2_dw."),
    (r"^blocks\.0\.", "conv_23."), (r"^blocks\.5\.", "conv_34."), (r"^blocks\.12\.", "conv_45."),
    *((rf"^blocks\.{1 + i}\.", f"conv_3.model.{i}.") for i in range(4)),
    *((rf"^blocks\.{6 + i}\.", f"conv_4.model.{i}.") for i in range(6)),
    *((rf"^blocks\.{13 + i}\.", f"conv_5.model.{i}.") for i in range(2)),
    (r"^to_map\.", "conv_6_sep."), (r"^head\.depthwise\.", "output_layer.conv_6_dw."), (r"^head\.", "output_layer."),
    (r"\bexpand\.", "conv."), (r"\bdepthwise\.", "conv_dw."), (r"\bact\.", "prelu."),
]
IMAGE_RULES = [
    (r"^stem\.", "input_layer."), (r"^blocks\.", "body."), (r"\bresidual\.", "res_layer."),
    (r"\bshortcut\.", "shortcut_layer."),
]
FUSION_RULES = [
    (r"^down_medium\.", "downsample_m."), (r"^down_small\.", "downsample_s."),
    (r"\bup_medium\.", "upsample_m."), (r"\bup_small\.", "upsample_s."),
    *((rf"\b{level}\.", f"block_{level[0]}.") for level in ("large", "medium", "small")),
    (r"\bimage\.norm_attn\.", "norm1."), (r"\bimage\.norm_mlp\.", "norm2."),
    (r"\blandmark\.norm_attn\.", "norm3."), (r"\blandmark\.norm_mlp\.", "norm4."),
    (r"\bimage\.attn\.", "attn_img."), (r"\blandmark\.attn\.", "attn_lm."),
    (r"\bimage\.mlp\.0\.", "mlp1.fc1."), (r"\bimage\.mlp\.2\.", "mlp1.fc2."),
    (r"\blandmark\.mlp\.0\.", "mlp2.fc1."), (r"\blandmark\.mlp\.2\.", "mlp2.fc2."),
    (r"\bmix\.", "conv."),
]
COMPONENT_RULES = {
    "landmark_stream.": ("face_landback.", LANDMARK_RULES),
    "image_stream.": ("ir_back.", IMAGE_RULES),
    "to_tokens.": ("ir_layer.", []),
    "fusion.": ("pyramid_fuse.", FUSION_RULES),
    "squeeze_excitation.": ("se_block.", []),
    "head.kernel": ("head.kernel", []),
    "head.batch": ("head.batch", []),
    "head.": ("head.linear.", []),
}


def _translate(name: str, rules: list[tuple[str, str]]) -> str:
    for pattern, published in rules:
        name = re.sub(pattern, published, name)
    return name


@cache
def published_name(name: str) -> str:
    """This project's parameter or buffer name -> the published state dict's key."""
    for prefix, (published, rules) in COMPONENT_RULES.items():
        if name.startswith(prefix):
            return published + _translate(name[len(prefix):], rules)
    raise InputError(f"the published checkpoint format has no place for {name!r}.")


def read_published_tensors(path: str | Path) -> dict[str, Tensor]:
    """The state dict in a `.pth` or `.pth.tar` file (zip or legacy), without any `module.` prefix.

    Raises:
        InputError: the file is absent, not a checkpoint, cut short, or holds code instead of tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"there is no checkpoint file {path}; give the path of a .pth, .pth.tar or .safetensors file.")
    with path.open("rb") as file:
        start = file.read(512).lstrip().lower()
    if start.startswith((b"<!doctype", b"<html")):
        raise InputError(f"{path} is a web page, not a checkpoint; the download was refused: download the file again.")
    # Files of that time carry accuracies as numpy scalars; these names only build numbers.
    numbers = [np.dtype, np._core.multiarray.scalar, *(type(np.dtype(t)) for t in (np.float64, np.float32, np.int64))]
    try:
        with torch.serialization.safe_globals(numbers), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if named := re.search(r"GLOBAL ([\w.]+)", str(error)):
            raise InputError(f"{path} holds code ({named[1]}), not only tensors, and was not opened; use a file whose "
                             "state dict was saved with torch.save.") from None
        raise InputError(f"{path} is not a PyTorch checkpoint; check that the file is the right one.") from None
    except (RuntimeError, EOFError, ValueError, KeyError, IndexError, AttributeError, TypeError,
            zipfile.BadZipFile, UnicodeDecodeError, AssertionError):
        raise InputError(f"{path} is not a PyTorch checkpoint or is cut short; download or copy it again.") from None
    for key in ("model_state_dict", "state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not any(isinstance(v, Tensor) for v in content.values()):
        raise InputError(f"{path} is a PyTorch file, but holds no state dict of tensors; check the path.")
    return {str(k).removeprefix("module."): v for k, v in content.items() if isinstance(v, Tensor)}


def infer_config(tensors: Mapping[str, Tensor], path: str | Path) -> PosterConfig:
    """Size, classes, head and variant of a published state dict, from its keys and shapes alone."""
    blocks = {int(m[1]) for k in tensors if (m := re.match(r"pyramid_fuse\.blocks\.(\d+)\.", k))}
    weight = tensors.get("head.linear.weight", tensors.get("head.kernel"))
    if not blocks or weight is None or weight.ndim != 2:
        missing = "pyramid_fuse.blocks" if not blocks else "head.linear.weight or head.kernel"
        raise InputError(f"{path} is not a POSTER checkpoint: it has no {missing}.")
    head = "mlp" if "head.linear.weight" in tensors else "adaface" if "head.batch_mean" in tensors else "arcface"
    num_classes = weight.shape[0] if head == "mlp" else weight.shape[1]
    mixing = "pyramid_fuse.blocks.0.block_l.conv.weight" in tensors
    names = RAFDB_CLASSES if mixing else AFFECTNET_CLASSES[:num_classes]
    return PosterConfig(
        depth=max(blocks) + 1, token_mixing=mixing, channel_order="BGR" if mixing else "RGB", head=head,
        num_classes=num_classes, class_names=names if len(names) == num_classes else (),
    )


def landmark_fields(config: PosterConfig) -> dict:
    """The part of a configuration that decides whether landmark-stream weights fit, as JSON gives it back."""
    names = ("stream_size", "landmark_stem", "landmark_stages", "embed_dim", "grid")
    return json.loads(json.dumps({name: getattr(config, name) for name in names}))


def _fill(module: torch.nn.Module, tensors: Mapping[str, Tensor], path: str | Path, name_of: Callable[[str], str],
          ignored: Callable[[str], bool] = lambda key: False) -> None:
    """Give `module` (any device, also meta) the tensors under their names in the file; all of them or none."""
    wanted = {name_of(ours): (ours, like) for ours, like in module.state_dict().items()}
    if missing := [k for k in wanted if k not in tensors]:
        raise InputError(f"{path} lacks {missing[0]} ({len(missing)} of {len(wanted)} tensors are missing).")
    if unknown := [k for k in tensors if k not in wanted and not ignored(k)]:
        raise InputError(f"{path} has {unknown[0]}, which this model does not know ({len(unknown)} unknown tensors).")
    for key, (_, like) in wanted.items():
        if tensors[key].shape != like.shape:
            raise InputError(f"{path}: {key} has shape {tuple(tensors[key].shape)}, expected {tuple(like.shape)}.")
    module.load_state_dict({ours: tensors[key].to(like.dtype).contiguous() for key, (ours, like) in wanted.items()},
                           assign=True)


def _empty(config: PosterConfig) -> Poster:
    with torch.device("meta"):
        return Poster(config)


def load_checkpoint(path: str | Path) -> Poster:
    """A ready model, in `eval()` mode on the CPU, from a published or one of this project's checkpoint files.

    Published files tell their size, classes, head and variant by their keys. One thing they cannot tell: a margin head
    without statistics may be ArcFace or CosFace; both predict the same, and it is taken for ArcFace.

    Args:
        path: `.pth` / `.pth.tar` (published) or `.safetensors` (this project's).

    Raises:
        InputError: one sentence that names the file and what is wrong with it.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        description, tensors = read_own(path)
        model = _empty(PosterConfig.from_dict(description["model"]))
        _fill(model, tensors, path, lambda name: name, lambda key: key.startswith(STATE_PREFIX))
    else:
        tensors = read_published_tensors(path)
        model = _empty(infer_config(tensors, path))
        dead = DEAD_SHAPES | ADAFACE_DEAD if model.config.head == "adaface" else DEAD_SHAPES
        _fill(model, tensors, path, published_name, lambda key: key in dead)
    return model.eval()


def export_published(model: Poster, path: str | Path) -> None:
    """Write the published `.pth` format, loadable by the published code with `strict=True`.

    Every tensor this project uses is written bit for bit; the published dead weights are written as zeros.

    Raises:
        InputError: the model has parts that the format does not know (`nano`, w/MLP).
    """
    config = model.config
    published = PosterConfig(**{
        name: getattr(config, name)
        for name in ("depth", "token_mixing", "channel_order", "num_classes", "class_names", "head", "margin", "scale",
                     "concentration", "t_alpha", "norm_source", "drop_path_rate")
    })
    if published != config:
        raise InputError("only the published sizes (small, base, large, without w/MLP) fit the published format.")
    tensors = {published_name(name): value.detach().cpu() for name, value in model.state_dict().items()}
    # One stored zero, viewed at the full shape: 12.9 M dead values cost no space.
    for key, shape in (DEAD_SHAPES | (ADAFACE_DEAD if config.head == "adaface" else {})).items():
        tensors[key] = torch.zeros((), dtype=torch.int64 if key.endswith("tracked") else torch.float32).expand(shape)
    write_atomically(path, lambda temporary: torch.save({"model_state_dict": tensors}, temporary))


def write_atomically(path: str | Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary file beside `path`, force it to the disk, then put it in place in one step."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def save_checkpoint(
    model: Poster, path: str | Path, training: Mapping[str, object] | None = None,
    state: Mapping[str, Tensor] | None = None,
) -> None:
    """Write this project's format: safetensors whose header carries the model's configuration and how it was trained.

    Args:
        path: ends in `.safetensors`; written atomically.
        training: JSON-able record (recipe, data set, epoch, scores).
        state: further tensors that resuming needs; `load_checkpoint` passes over them.
    """
    header = {"poster_ada": json.dumps({"model": model.config.to_dict(), "training": dict(training or {})})}
    tensors = dict(model.state_dict()) | {STATE_PREFIX + key: value for key, value in (state or {}).items()}
    content = save({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, header)
    write_atomically(path, lambda temporary: temporary.write_bytes(content))


def read_own(path: str | Path) -> tuple[dict, dict[str, Tensor]]:
    """Header (`model`, `training`) and tensors of a file in this project's format. Raises InputError."""
    if not Path(path).is_file():
        raise InputError(f"there is no checkpoint file {path}.")
    try:
        with safe_open(path, "pt") as file:
            description = json.loads((file.metadata() or {}).get("poster_ada", "null"))
            tensors = {key: file.get_tensor(key) for key in file.keys()}
    except (SafetensorError, json.JSONDecodeError, UnicodeDecodeError):
        raise InputError(f"{path} is not a safetensors file or is cut short; download or copy it again.") from None
    if not isinstance(description, dict) or not isinstance(description.get("model"), dict):
        raise InputError(f"{path} was not written by this project: its header has no model configuration.")
    return description, tensors


def load_ir50(stream: ImageStream, path: str | Path) -> None:
    """Fill the image stream from `ir50.pth` (MS1M ArcFace); its last stage and output layer are left out."""
    kept = len(stream.blocks)
    beyond = re.compile(r"output_layer\.|body\.(\d+)\.")
    _fill(stream, read_published_tensors(path), path, lambda name: _translate(name, IMAGE_RULES),
          lambda key: bool(m := beyond.match(key)) and (m[1] is None or int(m[1]) >= kept))


def load_mobilefacenet(stream: LandmarkStream, path: str | Path) -> None:
    """Fill the landmark stream from `mobilefacenet_model_best.pth.tar`."""
    _fill(stream, read_published_tensors(path), path, lambda name: _translate(name, LANDMARK_RULES))
    stream.freeze()


@cache
def _warn_once(directory: Path, missing: str) -> None:
    warnings.warn(
        f"{missing} not found in {directory}: that part starts from random weights and the published accuracy is out "
        "of reach; run `python -m poster_ada.download pretrained`.", stacklevel=4,
    )


def load_pretrained_parts(model: Poster, directory: str | Path) -> list[str]:
    """Load the pretrained IR-50 and MobileFaceNet into a published size; what is absent is warned of once.

    Other sizes take the landmark stream of `nano` that comes with the package, where it fits.

    Returns:
        The names of the files that were loaded.
    """
    config = model.config
    files = pretrained_files(config, directory)
    if NANO_LANDMARKS in files:
        description, tensors = read_own(NANO_LANDMARKS)
        if config.channel_order != description["training"]["channel_order"]:
            tensors["stem.0.conv.weight"] = tensors["stem.0.conv.weight"].flip(1)
        _fill(model.landmark_stream, tensors, NANO_LANDMARKS, lambda name: name)
    elif config.embed_dim != 512:
        _warn_once(NANO_LANDMARKS.parent, "landmark weights for this size")
    else:
        for path in files:
            if path.name == IR50_FILE:
                load_ir50(model.image_stream, path)
            else:
                load_mobilefacenet(model.landmark_stream, path)
        if missing := [name for name in PRETRAINED_FILES if Path(directory, name) not in files]:
            _warn_once(Path(directory), " and ".join(missing))
    return [path.name for path in files]


def pretrained_files(config: PosterConfig, directory: str | Path) -> list[Path]:
    """The files that `load_pretrained_parts` would read for a model of this configuration; absent ones are left out."""
    if config.embed_dim == 512:
        return [path for name in PRETRAINED_FILES if (path := Path(directory, name)).is_file()]
    return [NANO_LANDMARKS] if read_own(NANO_LANDMARKS)[0]["model"] == landmark_fields(config) else []
