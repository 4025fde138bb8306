"""Files that are whole or not there at all, and the digest that names their content."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any


def write_atomically(path: str | Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, force it to the disk, then put it in place in one step."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Of a name as long as a file system allows, a part, so that there is room for more.
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:32]}.", suffix=".part")
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


def write_text_atomically(path: str | Path, text: str) -> None:
    """Write UTF-8 text, as `write_atomically`."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json_atomically(path: str | Path, content: Any) -> None:
    """Write plain values as JSON, as `write_atomically`."""
    write_text_atomically(path, json.dumps(content, indent=1) + "\n")


def sha256_of(path: str | Path) -> str:
    """SHA-256 of the file's content, in hexadecimal; read once, as long as the file stays what it is."""
    at = os.stat(path)
    return _sha256(str(Path(path).absolute()), at.st_size, at.st_mtime_ns, at.st_ino)


@functools.lru_cache(maxsize=64)
def _sha256(path: str, *_: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
