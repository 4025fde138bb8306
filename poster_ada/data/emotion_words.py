"""Words found in label files and folder names for the expression classes."""

from __future__ import annotations

_WORDS = {
    "Surprise": ("surprise", "surprised"),
    "Fear": ("fear", "fearful", "afraid"),
    "Disgust": ("disgust", "disgusted"),
    "Happiness": ("happiness", "happy", "joy"),
    "Sadness": ("sadness", "sad"),
    "Anger": ("anger", "angry"),
    "Neutral": ("neutral",),
    "Contempt": ("contempt", "contemptuous"),
}
_EXPRESSION = {word: expression for expression, words in _WORDS.items() for word in words}


def expression_of(word: str) -> str | None:
    """The expression class a word stands for, in any case (`"happy"` -> `"Happiness"`); None for any other word."""
    return _EXPRESSION.get(word.strip().lower())
