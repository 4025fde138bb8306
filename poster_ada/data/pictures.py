"""The pictures of one split, decoded once and kept in memory as far as they fit."""

from __future__ import annotations

import functools
import hashlib
import io
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from tqdm import tqdm

from poster_ada.data.resize import resize_on_grid
from poster_ada.errors import InputError

CACHE_BYTES = 4 << 30  # RAF-DB basic needs 0.46 GB, AffectNet at 224 x 224 would need 43 GB
PROGRESS_AFTER = 5.0  # seconds
WORKERS = min(8, os.cpu_count() or 1)


def decode(path: str | os.PathLike[str]) -> np.ndarray:
    """Decode one picture fully: uint8 (H, W, 3), RGB, whatever its mode on disk (grey, palette, CMYK, alpha).

    Raises InputError, naming the file, if it is missing, truncated or not a picture.
    """
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path} is listed but missing; restore the file or take it out of the label file.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); check its permissions and the disk.") from None
    return decode_bytes(data, str(path))


def decode_bytes(data: bytes, name: str) -> np.ndarray:
    """As `decode`, from the contents of a file; `name` is how messages call it."""
    try:
        with Image.open(io.BytesIO(data)) as picture:
            if "exif" in picture.info:
                picture = ImageOps.exif_transpose(picture)
            return np.asarray(picture.convert("RGB"))
    except UnidentifiedImageError:
        raise InputError(f"{name} is not a picture ({len(data)} bytes); replace or remove it.") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{name} does not decode fully ({error}); the file is damaged, copy it again.") from None


@dataclass(frozen=True)
class Survey:
    """What decoding every picture of a split showed, one row per picture."""

    sizes: np.ndarray  # int (N, 2), height and width in pixels
    grey: np.ndarray  # bool (N,), three equal channels
    digests: list[bytes]  # hash of the decoded pixels: equal for equal pictures, whatever their file


class Pictures:
    """Pictures by position, from memory where they are kept, else decoded from their file.

    Tensors are uint8 (3, H, W) RGB, but stored column by column: that is how the resize wants to read them.
    """

    def __init__(self, paths: Sequence[Path], pixels: np.ndarray | None = None) -> None:
        """`pixels`: uint8 (N, H, W), grey, where the pictures are in memory already and `paths` is where from."""
        self.paths = list(paths)
        self.pixels = pixels
        self.survey: Survey | None = None
        self._kept: Tensor | list[Tensor] | None = None  # at their own size: (N, 3, H, W), or a list when sizes differ
        self._resized: Tensor | None = None  # of different sizes, brought to one

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, position: int) -> Tensor:
        """One picture at its own size, uint8 (3, H, W)."""
        if self._kept is not None:
            return self._kept[position]
        return _column_major(self._decode(position))

    def _decode(self, position: int) -> np.ndarray:
        if self.pixels is None:
            return decode(self.paths[position])
        return np.repeat(self.pixels[position][..., None], 3, axis=2)

    @functools.cached_property
    def sizes(self) -> np.ndarray:
        """int (N, 2), height and width of every picture; from the file headers unless all were decoded already."""
        if self.pixels is not None:
            return np.tile(self.pixels.shape[1:], (len(self), 1))
        return self.survey.sizes if self.survey is not None else np.array([_header_size(path) for path in self.paths])

    @property
    def one_size(self) -> bool:
        return bool((self.sizes == self.sizes[:1]).all())

    def read_all(self, cache_bytes: int = CACHE_BYTES, workers: int = WORKERS, title: str = "decoding") -> Survey:
        """Decode every picture once, in `workers` threads, and keep the pixels if they fit into `cache_bytes`.

        Raises InputError for the first picture, in the order of the label file, that does not decode.
        """
        count = len(self.paths)
        first = self._decode(0)
        block = None
        if first.nbytes * count <= cache_bytes:
            block = _column_major_block(count, *first.shape[:2])
        others: dict[int, Tensor] = {}

        def read(position: int) -> tuple[tuple[int, int], bool, bytes]:
            pixels = self._decode(position) if position else first
            if block is not None and pixels.shape == first.shape:
                block[position] = _column_major(pixels)
            elif block is not None:
                others[position] = _column_major(pixels)
            digest = hashlib.blake2b(pixels.tobytes(), digest_size=16, person=b"%dx%d" % pixels.shape[:2]).digest()
            grey = bool((pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 1] == pixels[..., 2]).all())
            return pixels.shape[:2], grey, digest

        sizes, grey, digests = zip(*_in_threads(read, count, workers, title), strict=True)
        self.survey = Survey(np.array(sizes), np.array(grey), list(digests))
        self.__dict__.pop("sizes", None)
        if block is not None and not others:
            self._kept = block
        elif block is not None and 3 * int(self.survey.sizes.prod(1).sum()) <= cache_bytes:
            self._kept = [others[position] if position in others else block[position] for position in range(count)]
        return self.survey

    def at_one_size(self, image_size: int, cache_bytes: int = CACHE_BYTES, workers: int = WORKERS) -> Tensor | None:
        """All pictures as uint8 (N, 3, H, W), or None if that takes more than `cache_bytes`.

        Pictures of one size keep it. Otherwise each is resized, as Pillow does, to `image_size` x `image_size`, where
        the network's own resize has nothing left to do: evaluation is unchanged, training noise follows the resize.
        """
        height, width = self.sizes[0] if self.one_size else (image_size, image_size)
        if 3 * len(self) * height * width > cache_bytes:
            return None
        if self.one_size:
            if self._kept is None:
                self.read_all(cache_bytes, workers)
            return self._kept
        if self._resized is None or self._resized.shape[-1] != image_size:
            self._resized = _column_major_block(len(self), image_size, image_size)

            def resize(position: int) -> None:
                self._resized[position] = resize_on_grid(self[position][None], image_size)[0]

            _in_threads(resize, len(self), workers, "resizing")
            self._kept = None  # the bound holds for both together
        return self._resized

    def one(self, position: int, image_size: int) -> Tensor:
        """One picture as `at_one_size` would hold it, decoded now."""
        picture = self[position]
        return picture if self.one_size else resize_on_grid(picture[None], image_size)[0]


def _in_threads(function: Callable[[int], Any], count: int, workers: int, title: str) -> list[Any]:
    """Call `function` for 0..count-1 in threads (decoding releases Python's lock); a bar appears if it takes long."""
    pool = ThreadPoolExecutor(max(1, workers))
    try:
        results = pool.map(function, range(count))
        return list(tqdm(results, title, count, leave=False, delay=PROGRESS_AFTER, unit="face"))
    finally:
        pool.shutdown(cancel_futures=True)


def _header_size(path: Path) -> tuple[int, int]:
    try:
        with Image.open(path) as picture:
            width, height = picture.size
            turned = "exif" in picture.info and picture.getexif().get(ExifTags.Base.Orientation, 1) >= 5
            return (width, height) if turned else (height, width)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return decode(path).shape[:2]  # says what is wrong


def _column_major_block(count: int, height: int, width: int) -> Tensor:
    return torch.empty((count, 3, width, height), dtype=torch.uint8).transpose(2, 3)


def _column_major(pixels: np.ndarray) -> Tensor:
    """uint8 (H, W, 3) array -> uint8 (3, H, W) tensor whose memory runs down the columns."""
    return torch.from_numpy(pixels.transpose(2, 1, 0).copy()).transpose(1, 2)
