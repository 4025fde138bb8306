"""The pictures of one split, decoded once and kept in memory as far as they fit."""

from __future__ import annotations

import functools
import hashlib
import io
import os
import threading
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import ExifTags, Image, UnidentifiedImageError
from torch import Tensor
from tqdm import tqdm

from poster_ada.data import formats  # noqa: F401, so that Pillow opens HEIC
from poster_ada.data.resize import resize_exactly
from poster_ada.errors import InputError

CACHE_BYTES = 4 << 30  # RAF-DB basic needs 0.46 GB, AffectNet at 224 x 224 would need 43 GB
LARGEST_PICTURE = 80_000_000  # pixels, 240 MB decoded; from 89 on Pillow takes a file for an attack
# What Pillow thinks of metadata helps nobody, and comes once for every picture of a set.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
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
            width, height = picture.size
            if width * height > LARGEST_PICTURE:
                raise InputError(f"{name} has {width} x {height} pixels, more than {LARGEST_PICTURE // 10**6} million; "
                                 "make it smaller or remove it.")
            return _pixels(picture, name)
    except UnidentifiedImageError:
        raise InputError(f"{name} is not a picture ({len(data)} bytes), or damaged at its start; replace or remove "
                         "it.") from None
    except InputError:
        raise
    except Image.DecompressionBombError:
        raise InputError(f"{name} has far more than {LARGEST_PICTURE // 10**6} million pixels; make it smaller or "
                         "remove it.") from None
    except MemoryError:
        raise InputError(f"{name} takes more memory than there is; make it smaller or remove it.") from None
    except Exception as error:  # Pillow's readers of formats pass on whatever a damaged file makes them raise
        raise InputError(f"{name} does not decode fully ({error or type(error).__name__}); the file is damaged, copy "
                         "it again.") from None


def pixels_of(picture: Image.Image, name: str) -> np.ndarray:
    """As `decode`, of a picture that Pillow has opened or made. Raises InputError where it does not decode."""
    try:
        return _pixels(picture, name)
    except InputError:
        raise
    except Exception as error:  # as in `decode_bytes`
        raise InputError(f"{name} does not decode fully ({error or type(error).__name__}); open its file again."
                         ) from None


def _pixels(picture: Image.Image, name: str) -> np.ndarray:
    picture.load()  # of several frames the first
    turn = TURNS.get(orientation_of(picture))
    shown = in_8_bits(picture, name)
    return np.array(shown if turn is None else shown.transpose(turn))


def in_8_bits(picture: Image.Image, name: str) -> Image.Image:
    """The picture in mode RGB as a viewer shows it; what is transparent lies on mid-grey.

    Raises:
        InputError: nobody can tell what a viewer would show.
    """
    if picture.mode.startswith(("I", "F")):
        return Image.fromarray(_grey_levels(np.asarray(picture), picture, name)).convert("RGB")
    if picture.mode in ("LAB", "HSV"):
        raise InputError(f"{name} holds its colours as {picture.mode}, which is not read here; save it as RGB.")
    if "A" in picture.mode or "a" in picture.mode or "transparency" in picture.info:
        shown = picture.convert("RGBA")
        ground = Image.new("RGBA", shown.size, (128, 128, 128, 255))
        return Image.alpha_composite(ground, shown).convert("RGB")
    return picture.convert("RGB")


def _grey_levels(values: np.ndarray, picture: Image.Image, name: str) -> np.ndarray:
    """Grey of more than 8 bits, uint8 (H, W): 16-bit integers, or numbers in 0..1."""
    whole = values.dtype.kind in "iu"
    top = 65535 if whole else 1.0
    if not np.isfinite(values).all() or values.min() < 0 or values.max() > top or (
            whole and picture.mode == "I" and picture.format != "PNG" and values.max() < 256):
        raise InputError(f"{name} holds {'whole' if whole else 'floating-point'} numbers from {values.min():g} to "
                         f"{values.max():g}, and nothing says which is white; save it with 8 bits per channel.")
    return np.round(values.astype(np.float64) * (255 / top)).astype(np.uint8)


TURNS = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
         5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
         8: Image.Transpose.ROTATE_90}  # by EXIF's orientation


def orientation_of(picture: Image.Image) -> int:
    """EXIF's orientation, 1..8; 1 where there is none. Whatever else the metadata holds is left alone."""
    try:
        orientation = picture.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # malformed metadata raises anything, and says nothing about the picture
        return 1
    return orientation if orientation in TURNS else 1


@dataclass(frozen=True)
class Survey:
    """What decoding every picture of a split showed, one row per picture."""

    sizes: np.ndarray  # int (N, 2), height and width in pixels
    grey: np.ndarray  # bool (N,), three equal channels
    digests: list[bytes]  # hash of the decoded pixels: equal for equal pictures, whatever their file


class Pictures:
    """Pictures by position, uint8 (3, H, W) RGB, from memory where they are kept, else decoded from their file."""

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
            return self._kept[position].clone()  # whoever changes it changes no other's
        return _as_tensor(self._decode(position))

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
        block = torch.empty((count, 3, *first.shape[:2]), dtype=torch.uint8) if (
            first.nbytes * count <= cache_bytes) else None
        others: dict[int, Tensor] = {}  # of another size
        left = cache_bytes - first.nbytes * count  # for them; may fall below 0 by a picture a thread, then all go
        lock = threading.Lock()

        def keep(position: int, pixels: np.ndarray) -> None:
            nonlocal block, left
            place = block  # another thread may give it up
            if place is None:
                return
            if pixels.shape == first.shape:
                place[position] = _as_tensor(pixels)
                return
            with lock:
                left -= pixels.nbytes
                if left < 0:
                    block = None
                    others.clear()
                else:
                    others[position] = _as_tensor(pixels)

        def read(position: int) -> tuple[tuple[int, int], bool, bytes]:
            pixels = self._decode(position) if position else first
            keep(position, pixels)
            digest = hashlib.blake2b(pixels.tobytes(), digest_size=16, person=b"%dx%d" % pixels.shape[:2]).digest()
            grey = bool((pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 1] == pixels[..., 2]).all())
            return pixels.shape[:2], grey, digest

        sizes, grey, digests = zip(*_in_threads(read, count, workers, title), strict=True)
        self.survey = Survey(np.array(sizes), np.array(grey), list(digests))
        self.__dict__.pop("sizes", None)
        if block is not None:
            whole = block
            self._kept = whole if not others else [others.get(position, whole[position]) for position in range(count)]
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
            return self._kept if isinstance(self._kept, Tensor) else None
        if self._resized is None or self._resized.shape[-1] != image_size:
            kept = 3 * int(self.sizes.prod(1).sum()) if self._kept is not None else 0
            if kept + 3 * len(self) * image_size**2 > cache_bytes:
                self._kept = None  # the bound holds for both together, so they are decoded again
            resized = torch.empty((len(self), 3, image_size, image_size), dtype=torch.uint8)

            def resize(position: int) -> None:
                resized[position] = resize_exactly(self[position][None], image_size)[0]

            _in_threads(resize, len(self), workers, "resizing")
            self._resized, self._kept = resized, None
        return self._resized

    def one(self, position: int, image_size: int) -> Tensor:
        """One picture as `at_one_size` would hold it, decoded now."""
        picture = self[position]
        return picture if self.one_size else resize_exactly(picture[None], image_size)[0]


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
            return (width, height) if orientation_of(picture) >= 5 else (height, width)
    except Exception:  # as in `decode_bytes`
        return decode(path).shape[:2]  # says what is wrong


def _as_tensor(pixels: np.ndarray) -> Tensor:
    """uint8 (H, W, 3) array -> uint8 (3, H, W) tensor with memory of its own."""
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy())
