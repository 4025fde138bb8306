"""Test faces that are in the training split too: as equal pixels, or as a copy that was mirrored, re-encoded, shifted,
zoomed or resized.

A perceptual hash (pHash; Zauner, 2010) proposes pairs, the pixels decide: aligned faces are so
alike that the hash alone would call thousands of different faces copies.

Measured. FER+ (25,045 training, 3,137 test faces, 13 s): 378 test faces with a near copy beside the 232 with an equal
picture; 140 pairs were looked at, the 84 least alike among them, and all show one picture. Public photographs (`fetch
faces`, 1,835 and 523 faces; no person in both splits) and the rendered heads of data/demo: no pair between the splits.
Between halves of the photographs' training split, which share their persons: 2 pairs, neighbouring frames of one film.
Copies made of 200 test photographs are all found when mirrored, JPEG at quality 30, of half or double size, brighter,
shifted by 4 %, cropped by 3 or 5 %, or mirrored, shifted and encoded; 96 % when shifted by 6 %, 26 % by 8 %, 9 % when
turned by 5 degrees. At FER+'s 48 x 48 pixels the same, but 98 % of half size and 85 % when cropped by 3 %.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from weakref import WeakKeyDictionary

import numpy as np
from PIL import Image
from scipy.fft import dct
from scipy.ndimage import gaussian_filter

from poster_ada.data.layouts import Dataset
from poster_ada.data.pictures import WORKERS, Survey
from poster_ada.data.splits import FaceSplit

SIDE = 48  # pixels at which pictures are compared
STEP = 2  # pixels: copies shifted or zoomed by so much are hashed too, as pHash bears only half of that
REACH = 2  # pixels by which the comparison of pixels may shift further
FARTHEST = 10  # differing bits of 64: re-encoding changes 0 to 4, 1 pair of different faces in 5,000 has as few as 10
LIKE = 0.9  # least correlation of pixels of two copies: different faces under one light come near it
DETAIL_LIKE = 0.8  # and of their detail, which tells faces apart: see above
DETAIL = (0.7, 2.0)  # pixels: what is finer is noise of encoding, what is coarser is the common form of faces

_FOUND: WeakKeyDictionary[Dataset, np.ndarray] = WeakKeyDictionary()  # many runs ask about one open set
MOST_COMPARED = 50_000  # training faces; RAF-DB takes seconds, AffectNet would take minutes
PRODUCTS = 1 << 24  # of pairs of hashes at a time: 64 MB


def twins_in_train(dataset: Dataset) -> np.ndarray | None:
    """bool (N_test,): whether what may be trained on holds an equal picture or a near copy of each test face; None
    where there is nothing to train on, or so much that looking through it takes longer than a test.

    Faces without a majority count as well, as learning from votes takes them.
    """
    train = dataset.train if dataset.voted is None else dataset.voted
    if not 0 < len(train) <= MOST_COMPARED:
        return None
    if dataset not in _FOUND:
        _FOUND[dataset] = twins_in(train, dataset.test)
    return _FOUND[dataset]


def twins_in(known: FaceSplit, faces: FaceSplit) -> np.ndarray:
    """bool (N,): whether `known` holds an equal picture or a near copy of each of `faces`."""
    twins = _equal_in(known, faces)
    twins[list(_near_copies(known, faces, np.flatnonzero(~twins)))] = True
    return twins


def near_copies_in_train(dataset: Dataset) -> dict[int, int]:
    """Index in `train` of the most similar near copy of each face of `test` (by index) that has one.

    Test faces with an equal picture in `train` are not looked at.
    """
    return _near_copies(dataset.train, dataset.test, np.flatnonzero(~_equal_in(dataset.train, dataset.test)))


def _near_copies(train_faces: FaceSplit, test_faces: FaceSplit, wanted: np.ndarray) -> dict[int, int]:
    """As `near_copies_in_train`, of the test faces at `wanted`."""
    if not len(wanted) or not len(train_faces):
        return {}
    train, test = _grey(train_faces), _grey(test_faces.subset(wanted))
    train_hashes = _hashes(train)
    best: dict[int, tuple[float, int]] = {}
    for variant in _variants(test):
        rows, columns = _candidates(_hashes(variant), train_hashes)
        alike = _likeness(variant[rows], train[columns]) >= LIKE
        rows, columns = rows[alike], columns[alike]
        details = _likeness(_detail(variant[rows]), _detail(train[columns]))
        for row, column, likeness in zip(rows, columns, details, strict=True):
            if likeness >= DETAIL_LIKE:
                best[row] = max(best.get(row, (0.0, 0)), (float(likeness), int(column)))
    return {int(wanted[row]): column for row, (_, column) in sorted(best.items())}


def _equal_in(train: FaceSplit, test: FaceSplit) -> np.ndarray:
    if not len(train) or not len(test):
        return np.zeros(len(test), bool)
    known = set(_survey(train).digests)
    return np.array([digest in known for digest in _survey(test).digests], bool)


def _survey(split: FaceSplit) -> Survey:
    return split.pictures.survey or split.pictures.read_all()


def _grey(split: FaceSplit) -> np.ndarray:
    """uint8 (N, SIDE, SIDE): every picture, grey and small."""
    small = np.empty((len(split), SIDE, SIDE), np.uint8)

    def shrink(row: int) -> None:
        picture = Image.fromarray(split[row][0].permute(1, 2, 0).numpy()).convert("L")
        small[row] = np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR))

    with ThreadPoolExecutor(WORKERS) as pool:  # large sets are decoded again here, which threads share
        list(pool.map(shrink, range(len(split))))
    return small


def _hashes(pictures: np.ndarray) -> np.ndarray:
    """float32 (N, 64): pHash with bits -1 and 1, so that a product of two is 64 - 2 x the number of differing bits.

    As the library imagehash does it, but of all pictures at once: Pillow's resize to 32 x 32 as two products, each
    rounded to 8 bits, then the lowest 8 x 8 waves against their median.
    """
    impulses = Image.fromarray(np.eye(SIDE, dtype=np.float32))
    weights = np.asarray(impulses.resize((32, SIDE), Image.Resampling.LANCZOS))  # (SIDE, 32)
    narrow = np.floor(pictures.astype(np.float32) @ weights + 0.5).clip(0, 255)
    small = np.floor(weights.T @ narrow + 0.5).clip(0, 255).astype(np.float64)
    waves = dct(dct(small, axis=1), axis=2)[:, :8, :8].reshape(len(pictures), 64)
    return np.where(waves > np.median(waves, axis=1, keepdims=True), 1, -1).astype(np.float32)


def _variants(pictures: np.ndarray) -> Iterator[np.ndarray]:
    """The pictures (N, SIDE, SIDE) themselves, shifted and zoomed, and mirrored each."""
    for sides in (pictures, pictures[:, :, ::-1]):
        padded = np.pad(sides, ((0, 0), (STEP, STEP), (STEP, STEP)), mode="edge")
        for top in (STEP, 0, 2 * STEP):
            for left in (STEP, 0, 2 * STEP):
                yield padded[:, top:top + SIDE, left:left + SIDE]
        yield _resized(padded)
        yield _resized(sides[:, STEP:-STEP, STEP:-STEP])


def _resized(pictures: np.ndarray) -> np.ndarray:
    images = (Image.fromarray(picture) for picture in pictures)
    return np.stack([np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR)) for image in images])


def _candidates(test: np.ndarray, train: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices into both of the pairs of hashes that differ in at most FARTHEST bits."""
    rows = max(1, PRODUCTS // len(train))
    found = []
    for start in range(0, len(test), rows):
        row, column = np.nonzero(test[start:start + rows] @ train.T >= test.shape[1] - 2 * FARTHEST)
        found.append((row + start, column))
    return np.concatenate([row for row, _ in found]), np.concatenate([column for _, column in found])


def _likeness(one: np.ndarray, other: np.ndarray, pairs: int = 4096) -> np.ndarray:
    """float (N,): correlation of the pixels of two pictures each, (N, SIDE, SIDE), at the best of small shifts."""
    best = np.full(len(one), -1.0)
    inner = slice(REACH, SIDE - REACH)
    for start in range(0, len(one), pairs):
        part = slice(start, start + pairs)
        centre = _standard(one[part, inner, inner])
        for top in range(2 * REACH + 1):
            for left in range(2 * REACH + 1):
                size = SIDE - 2 * REACH
                moved = _standard(other[part, top:top + size, left:left + size])
                best[part] = np.maximum(best[part], np.einsum("nk,nk->n", centre, moved))
    return best


def _detail(pictures: np.ndarray) -> np.ndarray:
    """float32 (N, SIDE, SIDE): the pictures without what is finer or coarser than DETAIL."""
    fine, coarse = (gaussian_filter(pictures.astype(np.float32), (0, sigma, sigma)) for sigma in DETAIL)
    return fine - coarse


def _standard(pictures: np.ndarray) -> np.ndarray:
    """float32 (N, K) rows of mean 0 and length 1; a picture of one grey level becomes 0."""
    rows = pictures.reshape(len(pictures), -1).astype(np.float32)
    rows -= rows.mean(1, keepdims=True)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)
