"""Which files are pictures: what Pillow reads, and HEIC, as phones save photographs (through pillow-heif)."""

from __future__ import annotations

import functools
from pathlib import Path

from PIL import Image, features
from pillow_heif import register_heif_opener

register_heif_opener()  # for `Image.open` everywhere

# Raster pictures that need no other program; EPS, WMF, GRIB, HDF5 and MPEG do, or hold no picture.
_FORMATS = {"AVIF", "BMP", "DIB", "GIF", "HEIF", "JPEG", "JPEG2000", "PCX", "PNG", "PPM", "QOI", "SGI", "TGA", "TIFF",
            "WEBP"}
_NEEDS = {"AVIF": "avif", "JPEG2000": "jpg_2000", "WEBP": "webp"}  # parts that a Pillow may have been built without


@functools.cache
def picture_suffixes() -> frozenset[str]:
    """Suffixes, in small letters and with their dot, of the pictures that are read here."""
    known = Image.registered_extensions()  # this registers Pillow's own formats, too
    readable = {form for form in _FORMATS & Image.OPEN.keys() if form not in _NEEDS or features.check(_NEEDS[form])}
    return frozenset(suffix.lower() for suffix, form in known.items() if form in readable)


def is_picture(name: str) -> bool:
    """Whether a file of this name is read as a picture."""
    return Path(name).suffix.lower() in picture_suffixes()
