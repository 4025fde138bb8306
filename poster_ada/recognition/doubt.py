"""When a face's expression should not be taken at its word: nothing like a face is there, or the model is not sure.

Both thresholds were fixed on FER+ validation faces; with `mini-ferplus` 95.8 % of them pass the first and 97.1 % the
second. What they catch of pictures without faces is measured by `python -m benchmarks.photographs --only doubt`. The
feature norm does not help: it is as large for bricks as for faces.
"""

from __future__ import annotations

LEAST_FACE_SCORE = 0.5  # of the detector, on a picture that is taken whole
LEAST_CONFIDENCE = 0.5
NO_FACE_SEEN, NOT_SURE = "no face seen", "not sure"


def doubt_about(confidence: float, score: float | None) -> str:
    """In two words why a prediction is doubtful; empty where it is not.

    Args:
        confidence: the largest probability, 0..1.
        score: of the detector, 0..1, where it was asked.
    """
    if score is not None and score < LEAST_FACE_SCORE:
        return NO_FACE_SEEN
    return NOT_SURE if confidence < LEAST_CONFIDENCE else ""
