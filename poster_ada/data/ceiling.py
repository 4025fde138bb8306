"""How well anyone can do on FER+: pictures that are in it more than once were voted on more than once.

    table = noise_ceiling("data/ferplus")

`label.csv` keeps the ten votes of every copy of a picture, so pixel-equal pictures (twins) are two rounds of votes on
one face. How often the majorities of two rounds agree bounds what a guess from the picture can reach against one round:

- A picture whose rounds give class c with probability q(c) agrees with itself in the mean of sum q^2; the best guess is
  right in the mean of max q, and max q >= sum q^2. The two are equal where each picture is either certain or a fair
  coin toss between some classes: the band's lower end.
- The mean of max q is largest where every picture is equally uncertain. With one rival class r^2 + (1 - r)^2 is the
  agreement, with all C - 1 of them r^2 + (1 - r)^2 / (C - 1): the band's upper ends; r is the best guess.

Both need twins to be like the other faces of their class, and are about pictures of which both rounds have a majority;
`second round's leading class` asks every twin with a majority, and is a guess that can be had. Whether two rounds on a
picture are as alike as two halves of one is told by dealing their votes anew: on FER+ they are (79.3 % of the votes are
shared, 78.8 % when dealt anew; 292 of 2,350 pairs have equal votes, 12.4 %, as many as when dealt anew). So pairs with
equal votes are two rounds that came out alike, not one round copied, and count.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import combinations, permutations
from pathlib import Path

import numpy as np
import pandas as pd

from poster_ada.data.datasets import open_dataset
from poster_ada.data.fer import columns_of, majority, raw_votes
from poster_ada.data.splits import FaceSplit
from poster_ada.errors import InputError

RESAMPLES = 4_000  # of the groups of twins
DEALS = 200
SEED = 123
ONCE = "second round, every picture once"
SECOND_ROUND = "second round, test split's classes"
LEADING = "second round's leading class, test split's classes"
BEST_LOW = "best guess, pictures certain or coin tosses"
BEST_HIGH = "best guess, uncertainty even, one rival"
BEST_HIGHEST = "best guess, uncertainty even, any rivals"
ALIKE = "twins are like the other faces of their class"
ASSUMES = {
    "second round, as twins are": "twins are like the test split",
    ONCE: "twins are like the test split; large groups count no more than pairs",
    SECOND_ROUND: ALIKE,
    LEADING: f"{ALIKE}; a guess that can be had: the other round's, with or without a majority",
    "macro F1 of a second round, test split's classes": ALIKE,
    BEST_LOW: f"{ALIKE}; both rounds have a majority; a picture is certain or a fair coin toss",
    BEST_HIGH: f"{ALIKE}; all are equally uncertain, between two classes each",
    BEST_HIGHEST: f"{ALIKE}; all are equally uncertain, among all classes: no guess can be better",
}


def noise_ceiling(root: str | Path, numbers: Sequence[int] = (8, 7), resamples: int = RESAMPLES) -> pd.DataFrame:
    """Agreement of two rounds of votes, and the band of the best possible guess, on FER+'s test split.

    Args:
        root: FER+ as its script writes it, with `label.csv` in each folder.
        numbers: of classes, 8 or 7 (without contempt).

    Returns:
        Columns `classes` (their number), `label` (a class, or "all"), `quantity`, `percent`, `low`, `high` (95 %
        interval, bootstrap over groups of twins; of votes dealt anew, the middle 95 % of the deals), `pairs` (of twins
        behind it; of a class, those with it in either round) and `assumes`.

    Raises InputError where the set is no FER+ with `label.csv`, or has no twins.
    """
    dataset = open_dataset(root, check=False, num_classes=8, family="ferplus", needs=("test",))
    if dataset.label_file != "label.csv":
        raise InputError(f"{dataset.root} was read by {dataset.label_file}, which gives all copies of a picture one "
                         "round of votes; the ceiling needs label.csv in each folder.")
    paths, votes = raw_votes(dataset.root)
    everything = FaceSplit([path.name for path in paths], paths, np.zeros(len(paths), np.int64), ("face",))
    groups = groups_of(everything.pictures.read_all(title="reading pictures").digests)
    if not groups:
        raise InputError(f"{dataset.root} holds no picture twice, so nothing is known of a second round of votes.")
    counts = dataset.test.class_counts
    return pd.concat([ceiling_of(votes, groups, counts[:number], dataset.class_names[:number], resamples)
                      for number in numbers], ignore_index=True)


def groups_of(digests: list[str] | list[bytes]) -> list[list[int]]:
    """Places of equal digests, two or more each."""
    places = defaultdict(list)
    for place, digest in enumerate(digests):
        places[digest].append(place)
    return [same for same in places.values() if len(same) > 1]


@np.errstate(invalid="ignore")  # a class, or a small draw, without any pair has no agreement: NaN
def ceiling_of(
    votes: np.ndarray, groups: list[list[int]], test_counts: np.ndarray, class_names: tuple[str, ...], resamples: int
) -> pd.DataFrame:
    """As `noise_ceiling`, from votes int (N, 10) in the files' order, twins' places, and the test faces per class."""
    columns = columns_of(len(class_names))
    share = np.asarray(test_counts) / np.sum(test_counts)
    seconds, leaders = counts_of(votes, groups, columns)
    random = np.random.default_rng(SEED)
    draws = random.multinomial(len(groups), np.full(len(groups), 1 / len(groups)), size=resamples)
    found = figures(seconds.sum(0)[None], leaders.sum(0)[None], share)
    spread = figures(_drawn(draws, seconds), _drawn(draws, leaders), share)
    totals = seconds.sum((1, 2))
    once = seconds[totals > 0] / totals[totals > 0, None, None]
    agree, weights = once.trace(axis1=1, axis2=2), draws[:, totals > 0]
    found[ONCE], spread[ONCE] = agree.mean(keepdims=True), weights @ agree / weights.sum(1)
    lines = []
    pairs = seconds.sum(0)
    for quantity, assumes in ASSUMES.items():
        lines.append(_line(len(class_names), "all", quantity, found[quantity], spread[quantity], pairs.sum() / 2,
                           assumes))
    lines += [_line(len(class_names), "all", *line, "") for line in shared_votes(votes, groups, draws, random)]
    for number, name in enumerate(class_names):
        either = pairs[number].sum() - pairs[number, number] / 2  # ordered pairs hold each pair of equals twice
        lines.append(_line(len(class_names), name, "second round", found["classes"][:, number],
                           spread["classes"][:, number], either, "twins are like the test faces of this class"))
    return pd.DataFrame(lines)


def counts_of(votes: np.ndarray, groups: list[list[int]], columns: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Ordered pairs of twins by their labels, float (groups, C, C) twice: (majority, majority) of the pairs in which
    both have one, and (majority, class with the most votes) of those in which the first has one."""
    label_of = np.full(votes.shape[1] + 1, -1)  # the last place is -1: no majority
    label_of[columns] = range(len(columns))
    labels = label_of[majority(votes)]
    leading = votes[:, columns].argmax(1)
    seconds, leaders = np.zeros((2, len(groups), len(columns), len(columns)))
    for number, places in enumerate(groups):
        for one, other in permutations(places, 2):
            if labels[one] >= 0:
                leaders[number, labels[one], leading[other]] += 1
                if labels[other] >= 0:
                    seconds[number, labels[one], labels[other]] += 1
    return seconds, leaders


def figures(seconds: np.ndarray, leaders: np.ndarray, share: np.ndarray) -> dict[str, np.ndarray]:
    """Every quantity as a share (R,), `classes` (R, C), of counts (R, C, C); a class without twins is left out."""
    agree, leader_agrees = _by_class(seconds), _by_class(leaders)
    mixed = _weighted(agree, share)
    told = share[:, None] * seconds / seconds.sum(2, keepdims=True)  # of the test split, by both rounds
    f1 = 2 * told.diagonal(axis1=1, axis2=2) / (np.nansum(told, 2) + np.nansum(told, 1))
    return {
        "second round, as twins are": seconds.trace(axis1=1, axis2=2) / seconds.sum((1, 2)),
        SECOND_ROUND: mixed,
        LEADING: _weighted(leader_agrees, share),
        "macro F1 of a second round, test split's classes": np.nansum(f1, 1) / (~np.isnan(f1)).sum(1),
        BEST_LOW: mixed,
        BEST_HIGH: best_guess(mixed, 1),
        BEST_HIGHEST: best_guess(mixed, len(share) - 1),
        "classes": agree,
    }


def best_guess(agreement: np.ndarray, rivals: int) -> np.ndarray:
    """r, the larger root of r^2 + (1 - r)^2 / rivals = agreement, where all pictures are equally uncertain."""
    inside = 1 - (rivals + 1) * (1 - rivals * np.asarray(agreement))
    return (1 + np.sqrt(np.maximum(inside, 0))) / (rivals + 1)


def shared_votes(
    votes: np.ndarray, groups: list[list[int]], draws: np.ndarray, random: np.random.Generator
) -> Iterator[tuple[str, np.ndarray, np.ndarray, float]]:
    """How alike the votes of twins are, and how alike they would be, were all votes on a picture dealt anew between its
    copies: name, share, its spread and the pairs behind it."""
    one, other = np.array([pair for places in groups for pair in combinations(places, 2)]).T
    group = np.repeat(np.arange(len(groups)), [len(places) * (len(places) - 1) // 2 for places in groups])
    sizes, pooled = votes[one].sum(1), votes[one] + votes[other]
    dealt = [_dealt(pooled, sizes, random) for _ in range(DEALS)]
    for name, measure in (("votes shared by two rounds", _shared), ("pairs with equal votes", _equal)):
        told = measure(votes[one], votes[other])
        of_groups = np.bincount(group, told, len(groups)), np.bincount(group, minlength=len(groups))
        yield name, told.mean(), (draws @ of_groups[0]) / (draws @ of_groups[1]), len(one)
        anew = np.array([measure(first, pooled - first).mean() for first in dealt])
        yield f"{name}, dealt anew", anew.mean(), anew, len(one)


def _shared(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.minimum(one, other).sum(1) / np.maximum(one.sum(1), 1)


def _equal(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return (one == other).all(1).astype(float)


def _dealt(pooled: np.ndarray, sizes: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """So many votes (N,) of each row of `pooled` (N, K), drawn without putting any back: int (N, K)."""
    left, wanted, dealt = pooled.sum(1), sizes.copy(), np.zeros_like(pooled)
    for kind in range(pooled.shape[1]):
        dealt[:, kind] = random.hypergeometric(pooled[:, kind], left - pooled[:, kind], wanted)
        left, wanted = left - pooled[:, kind], wanted - dealt[:, kind]
    return dealt


def _drawn(draws: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(R, C, C): the counts (groups, C, C) of the groups that each draw holds, so many times each."""
    return np.tensordot(draws, counts, 1)


def _by_class(counts: np.ndarray) -> np.ndarray:
    """Share of each row on the diagonal, (R, C) of (R, C, C); NaN where a row is empty."""
    return counts.diagonal(axis1=1, axis2=2) / counts.sum(2)


def _weighted(values: np.ndarray, share: np.ndarray) -> np.ndarray:
    known = ~np.isnan(values)
    return np.where(known, values * share, 0).sum(1) / (known * share).sum(1)


def _line(
    classes: int, label: str, quantity: str, found: np.ndarray, spread: np.ndarray, pairs: float, assumes: str
) -> dict[str, object]:
    known = spread[~np.isnan(spread)]
    low, high = np.percentile(known, (2.5, 97.5)) if len(known) else (np.nan, np.nan)
    return {"classes": classes, "label": label, "quantity": quantity, "percent": 100 * float(np.squeeze(found)),
            "low": 100 * low, "high": 100 * high, "pairs": int(pairs), "assumes": assumes}
