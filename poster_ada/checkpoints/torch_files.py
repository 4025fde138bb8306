"""The two files that `torch.save` writes (a zip archive since 1.6, a row of pickles before), read without unpickling.

Only the tensors that are asked for are read from the file; those of an optimiser stay where they are.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from struct import error as StructError
from struct import unpack_from
from typing import Any

import torch
from torch import Tensor

from poster_ada.checkpoints.pickles import BrokenPickle, CodeError, Record, read_pickle

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
DTYPES = {
    "FloatStorage": torch.float32, "DoubleStorage": torch.float64, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64, "ComplexDoubleStorage": torch.complex128, "UntypedStorage": torch.uint8,
}
# What reading a damaged file raises.
BROKEN = (BrokenPickle, zipfile.BadZipFile, zlib.error, StructError, OSError, EOFError, ValueError, TypeError, KeyError,
          IndexError, AttributeError, OverflowError, RuntimeError, NotImplementedError)


@dataclass(frozen=True)
class Storage:
    """A stretch of numbers in the file: `length` of them."""

    key: str
    dtype: torch.dtype
    length: int


@dataclass(frozen=True, eq=False)
class StoredTensor:
    """A tensor that is still in the file; `read()` gives it."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    bytes_of: Callable[[Storage], bytearray]

    def read(self) -> Tensor:
        """The tensor, on the CPU. Raises one of BROKEN where the file does not hold all of it."""
        raw = self.bytes_of(self.storage)
        numbers = torch.frombuffer(raw, dtype=self.dtype) if raw else torch.empty(0, dtype=self.dtype)
        last = self.offset + sum((size - 1) * step for size, step in zip(self.shape, self.stride, strict=True))
        if min(self.offset, *self.shape, *self.stride, 0) < 0 or (0 not in self.shape and last >= len(numbers)):
            raise BrokenPickle("a tensor reaches beyond its numbers")
        return numbers.as_strided(self.shape, self.stride, self.offset)


def read_torch_file(path: Path) -> Any:
    """What was given to `torch.save`, with a `StoredTensor` for each tensor; see `read_pickle` for the rest.

    Raises:
        CodeError: something in the file could act.
        One of BROKEN: it is no such file, or damaged.
    """
    if zipfile.is_zipfile(path):
        return _read_zip(path)
    return _read_legacy(path)


def _read_zip(path: Path) -> Any:
    archive = zipfile.ZipFile(path)  # stays open for as long as a tensor may still be read, and closes itself
    members = {info.filename.partition("/")[2]: info for info in archive.infolist()}
    if "constants.pkl" in members:
        raise CodeError("a TorchScript program")
    if sum(info.file_size for info in members.values()) > path.stat().st_size:
        raise BrokenPickle("packed by another program")  # and may unpack to any size

    def content(name: str) -> bytearray:
        with archive.open(members[name]) as file:
            return bytearray(file.read())

    if "byteorder" in members and content("byteorder") != b"little":
        raise BrokenPickle("saved on a big-endian machine")
    return _unpickled(_File(content("data.pkl")), lambda storage: content(f"data/{storage.key}"))


def _read_legacy(path: Path) -> Any:
    data = _File(path.read_bytes())
    if read_pickle(data) != LEGACY_MAGIC:
        raise BrokenPickle("not written by torch.save")
    read_pickle(data)  # the format's version
    if read_pickle(data).get("little_endian") is False:
        raise BrokenPickle("saved on a big-endian machine")
    places: dict[str, tuple[int, int]] = {}  # in the file: where, and how many bytes
    seen: dict[str, Storage] = {}

    def bytes_of(storage: Storage) -> bytearray:
        start, size = places[storage.key]
        return bytearray(data.content[start:start + size])

    content = _unpickled(data, bytes_of, seen)
    for key in map(str, read_pickle(data)):
        length, = unpack_from("<q", data.content, data.tell())
        start, size = data.tell() + 8, length * seen[key].dtype.itemsize
        if length < 0 or start + size > len(data.content):
            raise BrokenPickle("cut short")
        places[key] = start, size
        data.seek(start + size)
    return content


class _File:
    """Bytes as the file that `read_pickle` reads: a length that lies is not believed, as files in memory do not."""

    def __init__(self, content: bytes | bytearray) -> None:
        self.content = content
        self._at = 0

    def read(self, size: int) -> bytes:
        start, self._at = self._at, min(self._at + size, len(self.content))
        return bytes(self.content[start:self._at])

    def readline(self) -> bytes:
        return self.read(self.content.find(b"\n", self._at) + 1 - self._at)

    def tell(self) -> int:
        return self._at

    def seek(self, place: int) -> None:
        self._at = place


def _unpickled(file: _File, bytes_of: Callable[[Storage], bytearray], seen: dict[str, Storage] | None = None) -> Any:
    """The pickle's value with tensors for the records of them."""
    kept: dict[str, bytearray] = {}

    def once(storage: Storage) -> bytearray:
        """Tensors that share their numbers share them here too."""
        if storage.key not in kept:
            kept[storage.key] = bytes_of(storage)
        return kept[storage.key]

    def persistent(pid: Any) -> Any:
        if pid[0] == "module":  # a whole model, with its source text
            return pid[1]
        kind = pid[1].path.rpartition(".")[2]
        if pid[0] != "storage" or kind not in DTYPES:
            return Record("storage")
        storage = Storage(str(pid[2]), DTYPES[kind], int(pid[4]))
        if seen is not None:
            seen[storage.key] = storage
        return storage

    return _with_tensors(read_pickle(file, persistent), once)


def _with_tensors(content: Any, bytes_of: Callable[[Storage], bytearray]) -> Any:
    """Replace, in mappings at any depth, the records of tensors by `StoredTensor`."""
    waiting, met = [content], set()
    while waiting:
        mapping = waiting.pop()
        if not isinstance(mapping, dict) or id(mapping) in met:
            continue
        met.add(id(mapping))
        for key, value in mapping.items():
            if isinstance(value, Record) and (tensor := _stored(value, bytes_of)) is not None:
                mapping[key] = tensor
        waiting += [value for value in mapping.values() if isinstance(value, dict)]
    return content


def _stored(record: Record, bytes_of: Callable[[Storage], bytearray]) -> StoredTensor | None:
    """The tensor that a record of torch's rebuilding functions stands for, or None."""
    name, args = record.path.rpartition(".")[2], record.args
    if name in ("_rebuild_parameter", "_rebuild_parameter_with_state", "Parameter"):
        return _stored(args[0], bytes_of) if args and isinstance(args[0], Record) else None
    if name == "_rebuild_from_type_v2":
        return _stored(Record(args[0].path, tuple(args[2])), bytes_of)
    if not name.startswith("_rebuild_tensor") or not isinstance(args[0], Storage):
        return None
    storage, offset, shape, stride, *others = args
    dtype = storage.dtype
    if name == "_rebuild_tensor_v3":
        dtype = getattr(torch, others[2].path.rpartition(".")[2])
    shape, stride = (tuple(each.args[0]) if isinstance(each, Record) else tuple(each) for each in (shape, stride))
    return StoredTensor(storage, int(offset), shape, stride, dtype, bytes_of)
