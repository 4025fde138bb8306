"""The published weights on the POSTER authors' Google Drive: fetched file by file, kept only where they open."""

from __future__ import annotations

from pathlib import Path

from poster_ada.checkpoints.names import DRIVE_FOLDERS
from poster_ada.checkpoints.published import read_published_tensors
from poster_ada.errors import InputError


def fetch_file(destination: Path, **source: str) -> Path:
    """Download one checkpoint to `destination`: resumed where an earlier try stopped, put in place only when it opens.

    Args:
        source: `id=` (Google Drive) or `url=`.

    Raises:
        InputError: no network, or what came is not a checkpoint; what was fetched so far is kept for the next try.
    """
    try:
        import gdown
    except ImportError:
        raise InputError("downloading needs gdown: pip install 'poster-ada[download]'.") from None
    arriving = destination.with_name(f".{destination.name}.arriving")
    destination.parent.mkdir(parents=True, exist_ok=True)
    try:
        gdown.download(**source, output=str(arriving), resume=True, quiet=False)
    except Exception as error:  # gdown passes on whatever requests, urllib or Google Drive raise
        raise InputError(
            f"{destination.name} could not be downloaded ({type(error).__name__}): check the network, or fetch it with "
            f"a browser from {source_page(**source)} and save it as {destination}."
        ) from None
    try:
        read_published_tensors(arriving)
    except InputError:
        arriving.unlink(missing_ok=True)
        raise InputError(
            f"what {source_page(**source)} sent for {destination.name} is not a checkpoint; try again later, or fetch "
            f"it with a browser and save it as {destination}."
        ) from None
    return arriving.replace(destination)


def source_page(id: str | None = None, url: str | None = None) -> str:
    """The page a person would open for the same file."""
    return url or f"https://drive.google.com/file/d/{id}"


def list_folder(page: str) -> dict[str, str]:
    """File name -> Google Drive id of everything below a public folder. Raises InputError without a network."""
    try:
        import gdown

        files = gdown.download_folder(url=page, quiet=True, skip_download=True)
    except ImportError:
        raise InputError("downloading needs gdown: pip install 'poster-ada[download]'.") from None
    except Exception as error:
        raise InputError(
            f"Google Drive could not be reached ({type(error).__name__}): check the network, or open {page} in a "
            "browser and save its files yourself (README, section RAF-DB and the published weights)."
        ) from None
    return {Path(file.path).name: file.id for file in files or ()}


def fetch_published(what: str) -> list[Path]:
    """Fetch `pretrained` (IR-50 and MobileFaceNet) or `rafdb` (POSTER-l on RAF-DB); files already there stay."""
    folder = DRIVE_FOLDERS[what]
    absent = [name for name in folder.files if not (folder.target / name).is_file()]
    for name in absent:
        ids = list_folder(folder.page)
        if name not in ids:
            raise InputError(f"the folder {folder.page} has no {name}; it holds {', '.join(sorted(ids)) or 'nothing'}.")
        fetch_file(folder.target / name, id=ids[name])
    for name in folder.files:
        print(f"{folder.target / name}: {'fetched' if name in absent else 'already there'}")
    return [folder.target / name for name in folder.files]
