"""Numbers published elsewhere, on RAF-DB: the course report's tables and POSTER's own training log. None is ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

PUBLISHED = Path(__file__).parent / "published"


def reported_results() -> dict[str, Any]:
    """The report's `table_1` (accuracies in percent), `confusion_row_normalised` and RAF-DB's `class_counts`."""
    return json.loads((PUBLISHED / "reported_results.json").read_text(encoding="utf-8"))


def published_log() -> pd.DataFrame:
    """POSTER-large on RAF-DB, a row for each of 216 epochs: accuracies in 0..1, "val" is the test split there.

    `train_loss` and `val_loss` are not on one scale.
    """
    return pd.read_csv(PUBLISHED / "poster_rafdb_log.csv")
