"""POSTER with AdaFace's quality-adaptive margin head for facial expression recognition."""

from .poster import PRESETS, Poster, PosterConfig
from .summary import summary

__all__ = ["PRESETS", "Poster", "PosterConfig", "summary"]
