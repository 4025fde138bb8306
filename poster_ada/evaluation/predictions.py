"""The table of predictions: one row per face, from which alone every score is computed.

Columns `file,label,prediction,norm`, then `p_<class>` in class order (`p_surprise,p_fear,...`). Label and prediction
are class names, `norm` is the feature norm that stands for image quality, the probabilities are those of the softmax.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from poster_ada.errors import InputError
from poster_ada.expressions import AFFECTNET_CLASSES, RAFDB_CLASSES
from poster_ada.files import write_atomically

COLUMNS = ["file", "label", "prediction", "norm"]
PREFIX = "p_"


def probability_columns(class_names: Sequence[str]) -> list[str]:
    """Class names to column names: `Surprise` -> `p_surprise`."""
    return [PREFIX + name.lower() for name in class_names]


def probabilities_of(predictions: pd.DataFrame) -> np.ndarray:
    """float (N, C) in 0..1, in class order."""
    return predictions[[column for column in predictions if column.startswith(PREFIX)]].to_numpy(float)


def class_names_of(predictions: pd.DataFrame) -> tuple[str, ...]:
    """Class names in class order, with the capitals that the labels and predictions (or the published sets) have."""
    written = [*AFFECTNET_CLASSES, *RAFDB_CLASSES, *predictions["label"].unique(), *predictions["prediction"].unique()]
    capitals = {name.lower(): name for name in written}
    suffixes = [column.removeprefix(PREFIX) for column in predictions if column.startswith(PREFIX)]
    return tuple(capitals.get(suffix, suffix) for suffix in suffixes)


def write_predictions(predictions: pd.DataFrame, path: str | Path) -> None:
    """Write the table as CSV, atomically, with nine digits: enough to give back every float32."""
    write_atomically(path, lambda temporary: predictions.to_csv(temporary, index=False, float_format="%.9g"))


def read_predictions(path: str | Path) -> pd.DataFrame:
    """Read a table that `write_predictions` or `python -m poster_ada.test` wrote.

    Raises:
        InputError: the file is absent or is not such a table; the sentence names the first thing that is wrong.
    """
    if not Path(path).is_file():
        raise InputError(f"there is no prediction table {path}; give the predictions.csv that a test wrote.")
    text = dict.fromkeys(("file", "label", "prediction"), str)
    try:  # without NaN words, a class may be called `None`
        table = pd.read_csv(path, dtype=text, keep_default_na=False)
    except (ValueError, UnicodeDecodeError) as error:  # pandas' parser errors are ValueErrors
        raise InputError(f"{path} is not a table of comma-separated values ({error}); run the test again.") from None
    missing = [column for column in COLUMNS if column not in table]
    probabilities = [column for column in table if column.startswith(PREFIX)]
    if missing or len(probabilities) < 2:
        what = f"column {missing[0]}" if missing else "columns p_<class> for two or more classes"
        raise InputError(f"{path} is not a prediction table: it has no {what}.")
    if table.empty:
        raise InputError(f"{path} has no rows; run the test again.")
    if (repeated := table["file"].duplicated()).any():
        raise InputError(f"{path} has {table['file'][repeated].iloc[0]} twice; every face may have one row only.")
    numbers = table[["norm", *probabilities]].apply(pd.to_numeric, errors="coerce")
    if len(bad := table.index[~np.isfinite(numbers).all(axis=1)]):
        raise InputError(f"{path}: the row of {table['file'][bad[0]]} has something else than a number in the columns "
                         "norm and p_<class>; run the test again.")
    table[numbers.columns] = numbers
    p = numbers[probabilities]
    if len(bad := table.index[((p < 0) | (p > 1)).any(axis=1) | ((p.sum(axis=1) - 1).abs() > 1e-3)]):
        raise InputError(f"{path}: the probabilities of {table['file'][bad[0]]} are not in 0..1 with the sum 1; run "
                         "the test again.")
    for column in ("label", "prediction"):
        unknown = ~table[column].isin(class_names_of(table))
        if unknown.any():
            first = table[unknown].iloc[0]
            raise InputError(f"{path}: the {column} {first[column]!r} of {first['file']} is none of its classes.")
    return table
