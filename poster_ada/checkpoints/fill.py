"""Tensors from a file into a module: all of them, under their names and in their shapes, or none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor, nn

from poster_ada.errors import InputError


def fill(module: nn.Module, tensors: Mapping[str, Tensor], path: str | Path, name_of: Callable[[str], str],
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
