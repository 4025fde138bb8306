"""The published weights on the POSTER authors' Google Drive: fetched file by file, kept only where they are those."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from poster_ada.checkpoints.create import load_checkpoint
from poster_ada.checkpoints.names import AUTHORS, DRIVE_FOLDERS, IR50_FILE, PRETRAINED_FILES, RAFDB_FILE, DriveFolder
from poster_ada.checkpoints.pretrained import load_ir50, load_mobilefacenet
from poster_ada.checkpoints.published import read_published_tensors
from poster_ada.errors import InputError
from poster_ada.model.config import PRESETS, size_name
from poster_ada.model.poster import Poster

README_SECTION = "RAF-DB and the published weights"


def fetch_file(
    destination: Path, check: Callable[[Path], object] = read_published_tensors, elsewhere: str = "",
    *, id: str | None = None, url: str | None = None,
) -> Path:
    """Download one checkpoint to `destination`: resumed where an earlier try stopped, put in place once it is checked.

    Args:
        check: raises InputError where what arrived is not the file.
        elsewhere: a sentence on where else the file is, for messages.
        id, url: on Google Drive, or anywhere.

    Raises:
        InputError: no network, or what came is not the file; what was fetched so far is kept for the next try.
    """
    gdown = _gdown()
    arriving = destination.with_name(f".{destination.name}.arriving")
    destination.parent.mkdir(parents=True, exist_ok=True)
    page = url or f"https://drive.google.com/file/d/{id}"
    try:
        gdown.download(id=id, url=url, output=str(arriving), resume=True, quiet=False)
    except Exception as error:  # gdown passes on whatever requests, urllib or Google Drive raise
        raise InputError(
            f"{destination.name} could not be downloaded ({type(error).__name__}): check the network, or fetch it with "
            f"a browser from {page} and save it as {destination}{elsewhere}."
        ) from None
    wrong = ""
    try:
        check(arriving)
    except InputError as error:
        wrong = str(error).rstrip(".").replace(str(arriving), "it")
    if wrong:  # outside `except`, where the error keeps the file open and Windows could not remove it
        arriving.unlink(missing_ok=True)
        raise InputError(
            f"what {page} sent for {destination.name} is not a checkpoint that fits ({wrong}); try again later, or "
            f"fetch it with a browser and save it as {destination}{elsewhere}."
        )
    return arriving.replace(destination)


def check_published(name: str, path: Path) -> None:
    """Raise InputError unless `path` holds the tensors, by name and shape, of the published file called `name`."""
    if name in PRETRAINED_FILES:
        with torch.device("meta"):
            model = Poster(PRESETS["large"])
        if name == IR50_FILE:
            load_ir50(model.image_stream, path)
        else:
            load_mobilefacenet(model.landmark_stream, path)
    elif name == RAFDB_FILE:
        config = load_checkpoint(path).config
        found = f"{size_name(config)}, {config.head} head, {config.num_classes} classes, {config.channel_order}"
        if found != "large, mlp head, 7 classes, BGR":
            raise InputError(f"{path} is another POSTER ({found}), not POSTER-l for RAF-DB.")


def list_folder(page: str, elsewhere: str = "") -> dict[str, str]:
    """File name -> Google Drive id of everything below a public folder. Raises InputError without a network."""
    gdown = _gdown()
    try:
        files = gdown.download_folder(url=page, quiet=True, skip_download=True)
    except Exception as error:  # as above
        raise InputError(
            f"Google Drive could not be reached ({type(error).__name__}): check the network, or open {page} in a "
            f"browser and save its files yourself (README, section {README_SECTION}){elsewhere}."
        ) from None
    return {Path(file.path).name: file.id for file in files or ()}


def fetch_published(what: str) -> list[Path]:
    """Fetch `pretrained` (IR-50 and MobileFaceNet) or `rafdb` (POSTER-l on RAF-DB); files already there stay."""
    folder = DRIVE_FOLDERS[what]
    absent = [name for name in folder.files if not (folder.target / name).is_file()]
    elsewhere = _elsewhere(folder)
    for name in absent:
        ids = list_folder(folder.page, elsewhere)
        if name not in ids:
            shown = ", ".join(sorted(ids)) or "nothing"
            raise InputError(f"the folder {folder.page} shows no {name} (it shows {shown}){elsewhere}.")
        fetch_file(folder.target / name, partial(check_published, name), elsewhere, id=ids[name])
    for name in folder.files:
        print(f"{folder.target / name}: {'fetched' if name in absent else 'already there'}")
    return [folder.target / name for name in folder.files]


def _elsewhere(folder: DriveFolder) -> str:
    return (f"; the authors' repository {AUTHORS} links the folder ({folder.page}), from which "
            f"{' and '.join(folder.files)} belong into {folder.target}")


def _gdown() -> Any:
    try:
        import gdown
    except ImportError:
        raise InputError("downloading needs gdown: pip install 'poster-ada[download]'.") from None
    return gdown
