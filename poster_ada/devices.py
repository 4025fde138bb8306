"""Which device computes: `--gpu` counts the devices that this process may see, as CUDA_VISIBLE_DEVICES leaves them."""

from __future__ import annotations

import os
import sys
import warnings
from typing import TYPE_CHECKING

from poster_ada.errors import InputError

if TYPE_CHECKING:  # a wrong number is refused before torch is loaded
    import torch

DEVICES = ("auto", "cpu", "cuda")


def gpu_numbers(text: str) -> list[int]:
    """`0,1` -> [0, 1]. Raises InputError where that is no list of different numbers."""
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() for word in words) or len(set(map(int, words))) < len(words):
        raise InputError(f"--gpu {text} is not a list of GPU numbers such as 0 or 0,1.")
    return [int(word) for word in words]


def choose_device(device: str | torch.device = "auto", gpu: str | None = None) -> torch.device:
    """The device of one process: the first of `--gpu`, else the first GPU, else the CPU.

    On a GPU, float32 becomes float32 for the whole process: torch lets cuDNN's convolutions round to TF32's 10 bits,
    too few to agree with the published system to 1e-4. `precision` is how this project asks for fewer bits.

    Apple's MPS is never chosen by itself: recipes have not been run there, and torch 2.9 to 2.12 lack operations.

    Args:
        device: one of `DEVICES`, or a device that was chosen before.
        gpu: as on the command line; the n-th device that CUDA shows to this process.

    Raises:
        InputError: there is no such GPU, or no such kind of device.
    """
    numbers = gpu_numbers(gpu) if gpu else []
    import torch

    if device == "cpu" or (device == "auto" and not torch.cuda.is_available()):
        if numbers:
            print(f"--gpu {gpu}: torch sees no GPU here; using the CPU.", file=sys.stderr)
        return torch.device("cpu")
    if device not in DEVICES:
        try:
            return torch.device(device)
        except RuntimeError:
            raise InputError(f"device {device!r} is unknown; choose one of {', '.join(DEVICES)}.") from None
    if not torch.cuda.is_available():
        raise InputError("--device cuda: torch sees no GPU here; leave it out to use the CPU.")
    count, first = torch.cuda.device_count(), numbers[0] if numbers else 0
    for number in numbers:
        if number >= count:
            raise InputError(f"there is no GPU {number}; torch sees {count}, counted from 0.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of versions that would have it called otherwise
        torch.backends.cudnn.allow_tf32 = False
    return torch.device("cuda", first)


def available_cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def visible_to_children(numbers: list[int]) -> str:
    """CUDA_VISIBLE_DEVICES for processes that shall see these of the devices that this one sees."""
    allowed = [word for word in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if word.strip()]
    return ",".join(allowed[number].strip() if allowed else str(number) for number in numbers)
