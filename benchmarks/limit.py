"""What the arithmetic alone would cost: the machine's matrix-multiply rate and the network's operations."""

from __future__ import annotations

import torch

from benchmarks.timing import alternate
from poster_ada.model.poster import Poster
from poster_ada.model.summary import component_table

SIDE = {"cpu": 4096, "cuda": 8192}


def multiply_rate(dtype: torch.dtype, device: torch.device) -> float:
    """Operations per second (a multiply-add is two) of a square matrix product, the best of five."""
    side = SIDE[device.type]
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    rates = alternate({"product": lambda: len(a @ b) // side}, repeats=5)["product"]
    return 2 * side**3 * max(rates)


def prediction_operations(model: Poster) -> int:
    """Per image."""
    return 2 * component_table(model)[-1].multiply_adds


def step_operations(model: Poster) -> int:
    """Per image of a SAM step: the frozen stream once; everything else forwards and, twice that, backwards, twice."""
    rows = {row.component: 2 * row.multiply_adds for row in component_table(model)}
    frozen = rows["landmark stream (frozen)"]
    return frozen + 6 * (rows["total"] - frozen)
