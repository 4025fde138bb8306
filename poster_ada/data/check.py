"""One pass over a face set that finds what would spoil training or its numbers, before hours are spent on it."""

from __future__ import annotations

import os
from collections import Counter, defaultdict

from poster_ada.data.findings import Findings
from poster_ada.data.layouts import Dataset
from poster_ada.data.pictures import WORKERS, Survey
from poster_ada.data.splits import FaceSplit
from poster_ada.data.twins import near_copies_in_train
from poster_ada.errors import InputError

SMALLEST_SIDE = 16  # pixels; the smallest faces of the published sets are several times larger


def check_dataset(dataset: Dataset, workers: int = WORKERS, near_copies: bool = False) -> Findings:
    """Find every listed file, decode every picture (kept for the loader if they fit in memory), compare their pixels.

    `near_copies` also looks for test faces that are in train mirrored, re-encoded, shifted or resized, which takes
    longer. Raises InputError naming the first file that is missing, damaged or too small.
    """
    splits = dataset.splits
    for split in splits.values():
        missing = [path for path in dict.fromkeys(split.paths) if not os.path.isfile(path)]  # no name is too odd for it
        if missing:
            more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
            raise InputError(f"{missing[0]}{more} is listed but missing; restore it or take it out of the label file.")
    surveys: dict[str, Survey] = {}
    places = defaultdict(list)  # pixels -> (split, file, label) wherever they occur
    for name, split in splits.items():
        survey = split.pictures.survey or split.pictures.read_all(workers=workers, title=f"checking {name}")
        _refuse_tiny(split, survey)
        surveys[name] = survey
        for file, label, digest in zip(split.files, split.labels.tolist(), survey.digests, strict=True):
            places[digest].append((name, file, label))
    within: dict[str, list[tuple[str, str]]] = {name: [] for name in splits}
    across: list[tuple[str, str]] = []
    contradictory: list[tuple[str, str]] = []
    for same in places.values():
        firsts: dict[str, str] = {}  # split -> the first face there with these pixels, of which later ones are copies
        for name, file, label in same:
            for other, earlier in firsts.items():
                (within[name] if other == name else across).append((earlier, f"{name}/{file}"))
            if label != same[0][2]:
                contradictory.append((f"{same[0][0]}/{same[0][1]}", f"{name}/{file}"))
            firsts.setdefault(name, f"{name}/{file}")
    near = None
    if near_copies:
        near = [(f"train/{dataset.train.files[train]}", f"test/{dataset.test.files[test]}")
                for test, train in near_copies_in_train(dataset).items()]
    return Findings(
        dataset.name, dataset.layout, dataset.label_file, str(dataset.root), dataset.is_published, dataset.class_names,
        {name: split.class_counts.tolist() for name, split in splits.items()},
        {name: Counter(map(tuple, survey.sizes.tolist())) for name, survey in surveys.items()},
        {name: float(survey.grey.mean()) for name, survey in surveys.items()},
        within, across, contradictory, dataset.passed_over, dataset.left_out, dataset.notes + dataset.numbering(), near)


def _refuse_tiny(split: FaceSplit, survey: Survey) -> None:
    for path, file, (height, width) in zip(split.paths, split.files, survey.sizes, strict=True):
        if min(height, width) < SMALLEST_SIDE:
            picture = path if split.pictures.pixels is None else file
            raise InputError(f"{picture} is {width} x {height} pixels, too small to show a face (at least "
                             f"{SMALLEST_SIDE} on a side); replace or remove it.")
