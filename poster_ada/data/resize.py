"""Pillow's 8-bit bilinear resize, bit for bit, computed only on the grid of pixels that the network looks at.

Both POSTER streams drop every second row and column of their 224 x 224 input before the first convolution, so three
quarters of a resized picture is never seen. Pillow (`Image.resize(..., BILINEAR)`) filters rows, rounds to 8 bits, then
filters columns and rounds again, with weights in 22-bit fixed point; each output row or column needs only its own taps,
so computing a subset gives the very same numbers.

Rows come first, as in every Pillow before 13. Pillow 13 starts with the columns where that is cheaper, such as for a
picture taller than the target but narrower, and then differs by one level in some pixels.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import Tensor

PRECISION_BITS = 32 - 8 - 2  # Pillow's choice: 8-bit pixels, 2 bits of headroom for filters with negative lobes


@functools.lru_cache(maxsize=64)
def bilinear_taps(source: int, target: int, step: int = 1) -> tuple[Tensor, Tensor]:
    """Source positions and fixed-point weights of every `step`-th output pixel, from `source` to `target` pixels.

    Returns `(positions, weights)`: int64 and int32 (K, ceil(target / step)), K taps per output pixel (2 when enlarging,
    more when shrinking, because Pillow's filter then widens with the ratio). Unused taps weigh 0.
    """
    ratio = source / target
    support = max(ratio, 1.0)
    centres = (np.arange(0, target, step) + 0.5) * ratio
    first = np.maximum((centres - support + 0.5).astype(np.int64), 0)
    last = np.minimum((centres + support + 0.5).astype(np.int64), source)
    reach = np.arange(int((last - first).max()))[:, None]
    positions = first + reach
    # Products with reciprocals, where a division would read better, because Pillow's last bits come from them.
    weights = np.maximum(1.0 - np.abs((positions - centres + 0.5) * (1.0 / support)), 0.0)
    weights = np.where(positions < last, weights, 0.0)
    weights = (weights * (1.0 / np.add.reduce(weights, 0)) * (1 << PRECISION_BITS) + 0.5).astype(np.int32)
    used = weights.any(1)
    positions = np.minimum(positions, source - 1)
    return torch.from_numpy(positions[used]), torch.from_numpy(weights[used])


def _filter_rows(images: Tensor, target: int, step: int) -> Tensor:
    """One pass over the middle axis: uint8 (N, L, M) -> uint8 (N, ceil(target / step), M)."""
    if images.shape[1] == target:
        return images[:, ::step]
    positions, weights = (taps.to(images.device) for taps in bilinear_taps(images.shape[1], target, step))
    total = torch.zeros((), dtype=torch.int32, device=images.device)
    for position, weight in zip(positions, weights[..., None], strict=True):
        # Widened before the product: mixed-type arithmetic leaves torch's vectorised kernels.
        rows = images.index_select(1, position).to(torch.int32)
        total = rows.mul_(weight) if total.ndim == 0 else total.addcmul_(rows, weight)
    return total.add_(1 << (PRECISION_BITS - 1)).bitwise_right_shift_(PRECISION_BITS).to(torch.uint8)


def resize_on_grid(images: Tensor, size: int, step: int = 1) -> Tensor:
    """Every `step`-th row and column of the pictures resized to `size` x `size`, equal to Pillow's bilinear resize.

    `images` is uint8 (B, C, H, W) on any device; the result is uint8 (B, C, ceil(size / step), ceil(size / step)) as a
    permuted view. Fastest on a CPU when the pictures are stored column by column (see `FaceCache`).
    """
    B, C, H, W = images.shape
    columns = _filter_rows(images.transpose(2, 3).reshape(B * C, W, H), size, step)
    K = columns.shape[1]
    # A plain 2-D transpose has a blocked kernel; a batched one has not.
    rows = columns.reshape(B * C * K, H).t().contiguous()
    return _filter_rows(rows[None], size, step).view(-1, B, C, K).permute(1, 2, 0, 3)
