"""Work that several processes or machines share through a folder: each piece is done by exactly one of them.

    with claimed(folder / "row-7.claim") as mine:
        if mine: ...
"""

from __future__ import annotations

import hashlib
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

STALE_HOURS = 2.0  # a machine whose work has left no trace for this long is taken to be gone


@contextmanager
def claimed(path: Path, signs_of_life: Path | None = None) -> Iterator[bool]:
    """Whether this process may do the work behind `path`; the claim is given up at the end, whatever happens.

    The claim is a file made with O_EXCL, which one process only can make, also on a network drive. A claim is stale,
    and is taken over by exactly one process, if its process on this machine is dead; or, for another machine, if
    neither the claim nor any file in the folder `signs_of_life` is younger than `STALE_HOURS`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    owner = f"{socket.gethostname()} {os.getpid()} {time.time_ns()}\n"
    mine = _create(path, owner) or _take_over(path, owner, signs_of_life)
    try:
        yield mine
    finally:
        if mine:
            path.unlink(missing_ok=True)


def _create(path: Path, content: str) -> bool:
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        return False
    with os.fdopen(handle, "w") as file:
        file.write(content)
    return True


def _take_over(path: Path, owner: str, signs_of_life: Path | None) -> bool:
    try:
        former = path.read_text()
        if not _is_stale(former, path, signs_of_life):
            return False
    except FileNotFoundError:  # just given up: whoever comes next gets it
        return False
    # Of all that see the same stale claim one only can make this file, so nobody replaces a fresh claim.
    token = path.with_name(f"{path.name}.{hashlib.sha256(former.encode()).hexdigest()[:12]}")
    if not _create(token, owner):
        return False
    taken = path.with_name(f"{path.name}.{os.getpid()}.part")
    taken.write_text(owner)
    taken.replace(path)
    return True


def _is_stale(claim: str, path: Path, signs_of_life: Path | None) -> bool:
    host, _, rest = claim.partition(" ")
    if host == socket.gethostname() and rest:
        try:
            os.kill(int(rest.split()[0]), 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass
        return False
    ages = []
    for file in [path, *(signs_of_life.glob("*") if signs_of_life else [])]:
        with suppress(FileNotFoundError):
            ages.append(time.time() - file.stat().st_mtime)
    return min(ages) > STALE_HOURS * 3600
