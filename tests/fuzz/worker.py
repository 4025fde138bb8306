"""One process that opens broken files, bounded in memory, watched for what must not happen."""

from __future__ import annotations

import os
import resource
import sys
import warnings
from multiprocessing.connection import Connection
from pathlib import Path

GROWTH = 1 << 30  # bytes
# What opening a checkpoint never does (https://docs.python.org/3/library/audit_events.html).
FORBIDDEN = {"pickle.find_class", "os.system", "os.exec", "os.fork", "os.mkdir", "os.posix_spawn", "subprocess.Popen",
             "socket.connect", "os.remove", "os.rename", "shutil.rmtree"}


def work(channel: Connection) -> None:
    """Answer each `(kind, path)` with `opened`, `refused` or what went wrong."""
    import torch

    from poster_ada.checkpoints.create import load_checkpoint
    from poster_ada.checkpoints.published import read_published_tensors
    from poster_ada.data.datasets import open_dataset
    from poster_ada.data.pictures import decode
    from poster_ada.errors import InputError

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    seen: list[str] = []
    sys.addaudithook(lambda event, _: seen.append(event) if event in FORBIDDEN else None)
    openers = {
        "picture": decode,
        "checkpoint": lambda path: (load_checkpoint if path.suffix == ".safetensors" else read_published_tensors)(path),
        "labels": lambda root: open_dataset(root, check=False, needs=()).fingerprint(),
    }
    base = _size()
    resource.setrlimit(resource.RLIMIT_DATA, (_data() + GROWTH, resource.RLIM_INFINITY))
    channel.send("ready")
    while (job := channel.recv()) is not None:
        kind, path = job
        seen.clear()
        try:
            openers[kind](Path(path))
            answer = "opened"
        except InputError as error:
            answer = "refused" if Path(path).name in str(error) or kind == "labels" else f"names no file: {error}"
        except BaseException as error:
            answer = f"{type(error).__name__}: {error}"
        if kind == "checkpoint" and (seen or os.path.exists("executed")):
            answer = f"code ran: {seen}"
        if _size() - base > GROWTH:
            answer = "grew beyond 1 GiB"
        channel.send(answer)


def _size() -> int:
    """Most memory that was ever resident, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def _data() -> int:
    """Private memory that is counted against RLIMIT_DATA, in bytes (Linux)."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 8 << 30
    line = next(line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmData"))
    return 1024 * int(line.split()[1])
