"""What a command line names: pictures, folders, patterns and videos, as files in a fixed order."""

from __future__ import annotations

import glob
from collections.abc import Iterable
from pathlib import Path

from poster_ada.data.labels import is_picture
from poster_ada.errors import InputError

VIDEO_SUFFIXES = frozenset((".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv"))


def is_video(path: Path) -> bool:
    """Whether a file of this name is read as a video."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def files_of(sources: Iterable[str], out: Path | None = None) -> list[Path]:
    """Every picture and video that `sources` name, each once.

    Folders are searched to any depth; a file that is named itself is taken whatever it is called. What lies in `out`,
    where annotated copies of an earlier run are, is found in no folder above it.

    Raises:
        InputError: a source is not there, or no file is left.
    """
    found: list[Path] = []
    for source in sources:
        path = Path(source).expanduser()
        if path.is_dir():
            copies = None if out is None or out.resolve() == path.resolve() else out.resolve()
            found += sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith(".") and (
                is_picture(file.name) or is_video(file)) and not (copies and file.resolve().is_relative_to(copies)))
        elif path.is_file():
            found.append(path)
        elif matches := sorted(glob.glob(str(path), recursive=True)):
            found += [file for file in map(Path, matches) if file.is_file()]
        else:
            raise InputError(f"there is no picture, folder or video {source}; check the name.")
    if not found:
        raise InputError(f"{', '.join(sources)} holds no picture and no video; give pictures (.jpg, .png, ...), "
                         "folders with some, or a video (.mp4, ...).")
    return list(dict.fromkeys(found))
