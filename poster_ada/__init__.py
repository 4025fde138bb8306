"""POSTER with AdaFace's quality-adaptive margin head for facial expression recognition."""

from poster_ada.model.poster import PRESETS, Poster, PosterConfig
from poster_ada.model.summary import summary

__all__ = ["PRESETS", "Poster", "PosterConfig", "summary"]
