"""Names and order of the expression classes, as the published data sets number them."""

from __future__ import annotations

# RAF-DB labels 1..7 in this order (0-based in the model).
RAFDB_CLASSES = ("Surprise", "Fear", "Disgust", "Happiness", "Sadness", "Anger", "Neutral")
# AffectNet labels 0..6, and 7 in the 8-class set.
AFFECTNET_CLASSES = ("Neutral", "Happiness", "Sadness", "Surprise", "Fear", "Disgust", "Anger", "Contempt")


def short_name(expression: str) -> str:
    """Two capital letters for axes of confusion matrices: `Surprise` -> `SU`, `Contempt` -> `CO`."""
    return expression[:2].upper()
