"""A zip archive from the network or the disk: downloaded so that it can resume, read without unpacking it.

The download is not gdown's, which fetches the published weights (checkpoints/drive.py): that one is for Google Drive's
pages in between, belongs to an extra, and goes on with a file that has changed meanwhile.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

from tqdm import tqdm

from poster_ada.errors import InputError

TIMEOUT = 30  # seconds without a byte
LARGEST_MEMBER = 32 << 20  # bytes; a face is 350 x 350 pixels


def download(url: str, target: Path, flag: str = "--archive") -> Path:
    """Fetch `url` into `target`, which appears only when complete; a broken download continues where it stopped.

    Raises InputError if the server cannot be reached, refuses, or stops early; `flag` is what takes the file instead.
    """
    if target.is_file():
        return target
    part, tag = target.with_name(target.name + ".part"), target.with_name(target.name + ".etag")
    target.parent.mkdir(parents=True, exist_ok=True)
    have = part.stat().st_size if part.is_file() and tag.is_file() else 0
    # If-Range: continue only if the file is still the same one, else the server sends all of it.
    resume = {"Range": f"bytes={have}-", "If-Range": tag.read_text(encoding="utf-8")} if have else {}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=resume), timeout=TIMEOUT) as answer:
            if answer.status != 206:
                have = 0
            if etag := answer.headers.get("ETag", ""):
                tag.write_text(etag, encoding="utf-8")
            length = answer.headers.get("Content-Length")
            total = have + int(length) if length else None
            with (part.open("ab" if have else "wb") as file,
                  tqdm(total=total, initial=have, unit="B", unit_scale=True, desc=target.name) as bar):
                while block := answer.read(1 << 18):
                    file.write(block)
                    bar.update(len(block))
        if total is not None and part.stat().st_size != total:
            raise InputError(f"the download of {url} stopped after {part.stat().st_size} of {total} bytes; run the "
                             "same command again to continue.")
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing follows what is there, so that is not the beginning of this file
            part.unlink()
            return download(url, target, flag)
        raise InputError(f"{url} answered {error.code} {error.reason}; download it in a browser and give the file with "
                         f"{flag}.") from None
    except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
        raise InputError(f"{url} could not be downloaded ({getattr(error, 'reason', error)}); check the network and "
                         f"run the same command again, or download it elsewhere and give the file with {flag}."
                         ) from None
    os.replace(part, target)
    tag.unlink(missing_ok=True)
    return target


class Archive:
    """Files of a zip archive by the end of their path, read into memory: nothing is unpacked, so no path can escape."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._zip = zipfile.ZipFile(path)
        except FileNotFoundError:
            raise InputError(f"the archive {path} does not exist; check the name.") from None
        except (zipfile.BadZipFile, OSError) as error:
            raise InputError(f"{path} is not a complete zip archive ({error}); delete it and fetch it again.") from None
        comment = self._zip.comment.decode("ascii", errors="replace")
        self.commit = comment if re.fullmatch(r"[0-9a-f]{40}", comment) else None  # GitHub writes it there
        self._members = {"/".join(info.filename.split("/")[-2:]): info for info in self._zip.infolist()
                         if not info.is_dir()}

    def close(self) -> None:
        """Let go of the file, so that it can be deleted on every system."""
        self._zip.close()

    def sha256(self) -> str:
        """Checksum of the archive, hexadecimal."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def read(self, name: str) -> bytes | None:
        """Contents of the file whose path ends in `name` (`folder/file`), or None if there is none."""
        info = self._members.get(name)
        if info is None or info.file_size > LARGEST_MEMBER:
            return None
        try:
            return self._zip.read(info)
        except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError) as error:
            raise InputError(f"{name} in {self.path} cannot be read ({error}); delete the archive and fetch it again."
                             ) from None


class Folder:
    """The same, for an archive that is already unpacked."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_dir():
            raise InputError(f"the folder {path} does not exist; give the unpacked archive.")

    def read(self, name: str) -> bytes | None:
        """Contents of `folder/file` below this folder, or None if there is none or the name leads elsewhere."""
        file = self.path / name
        inside = file.resolve().is_relative_to(self.path.resolve()) and file.is_file()
        return file.read_bytes() if inside and file.stat().st_size <= LARGEST_MEMBER else None
