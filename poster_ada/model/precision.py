"""Which floating-point type the heavy arithmetic uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from poster_ada.errors import InputError
from poster_ada.model.config import PosterConfig

if TYPE_CHECKING:  # flags name the precisions, and are read before torch is loaded
    import torch

PRECISIONS = ("auto", "float32", "bfloat16")
CPU_LEAST_WIDTH = 96  # of tokens; a narrower model (nano) predicts a single face slower in bfloat16, and trains faster


def resolve_precision(
    precision: str, device: torch.device, config: PosterConfig, training: bool = False
) -> torch.dtype:
    """`auto` is bfloat16 where the device multiplies it natively and the model gains from it, else float32.

    Args:
        training: whether batches are trained on, where every model gains.

    Raises:
        InputError: the precision is unknown.
    """
    if precision not in PRECISIONS:
        raise InputError(f"precision {precision!r} is unknown; choose one of {', '.join(PRECISIONS)}.")
    if precision == "auto":
        gains = training or device.type != "cpu" or config.embed_dim >= CPU_LEAST_WIDTH
        precision = "bfloat16" if gains and multiplies_bfloat16(device) else "float32"
    import torch

    return getattr(torch, precision)


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the device has bfloat16 instructions, rather than emulating them."""
    import torch

    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities() if device.type == "cpu" else {}
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") or capabilities.get("bf16"))
