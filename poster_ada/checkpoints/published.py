"""The published checkpoints' format, translated here and nowhere else: names, shapes, what their pickles may hold.

Published files are pickles of `{"model_state_dict": ...}`; they are read without unpickling (pickles.py), so nothing
in a downloaded file is executed.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from poster_ada.checkpoints.pickles import CodeError
from poster_ada.checkpoints.state_dicts import NoStateDict, bare_names, find_state
from poster_ada.checkpoints.torch_files import BROKEN, read_torch_file
from poster_ada.errors import InputError
from poster_ada.expressions import AFFECTNET_CLASSES, RAFDB_CLASSES
from poster_ada.files import write_atomically
from poster_ada.model.config import PosterConfig
from poster_ada.model.poster import Poster

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

MOST_CLASSES = 1000  # a damaged file may claim any number

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


def translate(name: str, rules: list[tuple[str, str]]) -> str:
    for pattern, published in rules:
        name = re.sub(pattern, published, name)
    return name


@cache
def published_name(name: str) -> str:
    """This project's parameter or buffer name -> the published state dict's key."""
    for prefix, (published, rules) in COMPONENT_RULES.items():
        if name.startswith(prefix):
            return published + translate(name[len(prefix):], rules)
    raise InputError(f"the published checkpoint format has no place for {name!r}.")


def read_published_tensors(path: str | Path) -> dict[str, Tensor]:
    """The state dict in a `.pth` or `.pth.tar` file (zip or legacy), without the prefixes of wrapping modules.

    Whatever else lies in the file (options, logs, an optimiser) is passed over. Where weights averaged over training
    lie beside the plain ones, the plain ones are taken, with a note on stderr.

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
    try:
        state, note = find_state(read_torch_file(path))
        tensors = {name: value.read() for name, value in bare_names(state).items()}
    except CodeError as error:
        raise InputError(f"{path} holds code ({error}), not only tensors and data, and was not opened; use a file "
                         "whose state dict was saved with torch.save.") from None
    except NoStateDict as error:
        raise InputError(f"{path} is a PyTorch file, but holds {error}.") from None
    except BROKEN:
        raise InputError(f"{path} is not a PyTorch checkpoint or is cut short; download or copy it again.") from None
    if note:
        print(f"note: {path} {note}.", file=sys.stderr)
    return tensors


def infer_config(tensors: Mapping[str, Tensor], path: str | Path) -> PosterConfig:
    """Size, classes, head and variant of a published state dict, from its keys and shapes alone."""
    blocks = {int(m[1]) for k in tensors if (m := re.match(r"pyramid_fuse\.blocks\.(\d+)\.", k))}
    weight = tensors.get("head.linear.weight", tensors.get("head.kernel"))
    if blocks != set(range(len(blocks))):
        raise InputError(f"{path} lacks pyramid_fuse.blocks.{next(i for i in range(len(blocks)) if i not in blocks)}, "
                         "though later ones are there; download or copy it again.")
    if not blocks or weight is None or weight.ndim != 2:
        missing = "pyramid_fuse.blocks" if not blocks else "head.linear.weight or head.kernel"
        raise InputError(f"{path} is not a POSTER checkpoint: it has no {missing}.")
    head = "mlp" if "head.linear.weight" in tensors else "adaface" if "head.batch_mean" in tensors else "arcface"
    num_classes = weight.shape[0] if head == "mlp" else weight.shape[1]
    if not 2 <= num_classes <= MOST_CLASSES:
        raise InputError(f"{path} is not a POSTER checkpoint for expressions: it has {num_classes} classes.")
    mixing = "pyramid_fuse.blocks.0.block_l.conv.weight" in tensors
    names = RAFDB_CLASSES if mixing else AFFECTNET_CLASSES[:num_classes]
    return PosterConfig(
        depth=max(blocks) + 1, token_mixing=mixing, channel_order="BGR" if mixing else "RGB", head=head,
        num_classes=num_classes, class_names=names if len(names) == num_classes else (),
    )


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
