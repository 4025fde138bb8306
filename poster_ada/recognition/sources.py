"""What a command line names: pictures, folders, patterns and videos, as files in a fixed order."""

from __future__ import annotations

import glob
import os.path
from collections.abc import Iterable
from pathlib import Path

from poster_ada.data.formats import is_picture
from poster_ada.errors import InputError

VIDEO_SUFFIXES = frozenset((".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".3gp", ".flv",
                            ".mts", ".m2ts", ".ogv"))


def is_video(path: Path) -> bool:
    """Whether a file of this name is read as a video."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def files_of(sources: Iterable[str], out: Path | None = None) -> list[Path]:
    """Every picture and video that `sources` name, each once, under the name by which it was met first.

    Folders, also those that a pattern finds, are searched to any depth; a file that is named itself is taken whatever
    it is called. What lies in `out`, where annotated copies of an earlier run are, is found in no folder above it.

    Raises:
        InputError: a source is not there or no file, or no file is left.
    """
    found: list[Path] = []
    for source in sources:
        name = os.path.expanduser(source)  # Path's own stops at `~1.jpg`
        if not name:
            raise InputError("a SOURCE is empty; give the current folder as a point.")
        if os.path.isfile(name) or os.path.isdir(name):
            found += _files_under(Path(name), out)
        elif "://" in name:
            raise InputError(f"{source} is an address, and nothing is fetched; save the picture and give its name.")
        elif os.path.islink(name):
            raise InputError(f"{source} is a link that leads nowhere; mend it or leave it out.")
        elif os.path.exists(name):
            raise InputError(f"{source} is neither a file nor a folder; give one of these.")
        elif matches := sorted(glob.glob(name, recursive=True)):
            found += [file for match in matches for file in _files_under(Path(match), out)]
        else:
            raise InputError(f"there is no picture, folder or video {source}; check the name.")
    if not found:
        raise InputError(f"{', '.join(sources)} holds no picture and no video; give pictures (.jpg, .png, ...), "
                         "folders with some, or a video (.mp4, ...).")
    first: dict[Path, Path] = {}
    for file in found:
        first.setdefault(file.parent.resolve() / file.name, file)
    return list(first.values())


def _files_under(path: Path, out: Path | None) -> list[Path]:
    """The file itself, or the pictures and videos of a folder."""
    if not path.is_dir():
        return [path] if path.is_file() else []
    copies = None if out is None or out.resolve() == path.resolve() else out.resolve()
    return sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith(".") and (
        is_picture(file.name) or is_video(file)) and not (copies and file.resolve().is_relative_to(copies)))
