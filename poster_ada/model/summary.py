"""Shapes, parameters and multiply-adds of each component, without running or allocating anything."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from poster_ada.model.config import PosterConfig


class Summarised(Protocol):
    """What the summary needs of a model: `Poster` and its fast copy have it."""

    config: PosterConfig

    def without_memory(self) -> nn.Module: ...

    def get_submodule(self, target: str) -> nn.Module: ...


COMPONENTS = {
    "image_stream": "image stream (IR)",
    "to_tokens": "image tokens",
    "landmark_stream": "landmark stream (frozen)",
    "fusion": "pyramid cross-fusion",
    "squeeze_excitation": "squeeze-excitation",
    "feature_layer": "feature layer (w/MLP)",
    "head": "head",
}


class ComponentRow(NamedTuple):
    """One component: output shape without the batch, parameters and multiply-adds per image."""

    component: str
    output: tuple[int, ...]
    parameters: int
    trainable: int
    multiply_adds: int


def component_table(model: Summarised) -> list[ComponentRow]:
    """One row per component and a last one, `total`. Multiply-adds are counted by torch on a model without memory."""
    twin, side = model.without_memory(), model.config.image_size
    images = torch.empty(1, 3, side, side, device="meta")
    outputs: dict[str, torch.Tensor] = {}

    def record(name: str, output: Any) -> None:
        outputs[name] = output[0] if isinstance(output, tuple) else output

    for name in COMPONENTS:
        twin.get_submodule(name).register_forward_hook(lambda _m, _i, output, name=name: record(name, output))
    with FlopCounterMode(display=False) as counter:
        twin(images)
    per_module = counter.get_flop_counts()
    rows = []
    for name, label in COMPONENTS.items():
        parameters = list(model.get_submodule(name).parameters())
        if not parameters:
            continue
        rows.append(ComponentRow(
            label, tuple(outputs[name].shape[1:]), sum(p.numel() for p in parameters),
            sum(p.numel() for p in parameters if p.requires_grad),
            sum(per_module.get(f"{type(twin).__name__}.{name}", {}).values()) // 2,
        ))
    rows.append(ComponentRow(
        "total", tuple(outputs["head"].shape[1:]), sum(r.parameters for r in rows), sum(r.trainable for r in rows),
        counter.get_total_flops() // 2,
    ))
    return rows


def summary_table(model: Summarised) -> str:
    """The component table as text, millions of parameters and of multiply-adds per image."""
    c = model.config
    lines = [
        f"POSTER, depth {c.depth}, {c.head} head, {c.num_classes} classes, {c.channel_order} "
        f"{c.image_size} x {c.image_size} input",
        f"{'component':26}{'output':>16}{'parameters':>14}{'trainable':>12}{'multiply-adds':>16}",
    ]
    for row in component_table(model):
        shape = " x ".join(map(str, row.output))
        lines.append(f"{row.component:26}{shape:>16}{row.parameters / 1e6:>12.3f} M{row.trainable / 1e6:>10.3f} M"
                     f"{row.multiply_adds / 1e6:>14.2f} M")
    return "\n".join(lines)
