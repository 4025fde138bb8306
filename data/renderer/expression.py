"""Expressions as facial action units (FACS): EMFACS combinations, made natural, as anny's face units.

EMFACS: Friesen and Ekman, "EMFACS-7", 1983. Every random number comes from the generator handed in.
"""

from __future__ import annotations

import numpy as np

CLASSES = ("Surprise", "Fear", "Disgust", "Happiness", "Sadness", "Anger", "Neutral")  # RAF-DB's labels 1..7
ACTION_UNITS = (1, 2, 4, 5, 6, 7, 9, 10, 12, 15, 16, 17, 20, 23, 25, 26, 43)

# action unit -> {face unit: gain}; a name ending in * stands for its Left and Right units
FACE_UNITS: dict[int, dict[str, float]] = {
    1: {"browInnerUp": 1.5},
    2: {"browOuterUp*": 1.35},
    4: {"browDown*": 2.1},
    5: {"eyeWide*": 1.5},
    6: {"cheekSquint*": 0.9, "eyeSquint*": 0.35},
    7: {"eyeSquint*": 1.1},
    9: {"noseSneer*": 1.6},
    10: {"mouthUpperUp*": 1.2},
    12: {"mouthSmile*": 1.12},
    15: {"mouthFrown*": 1.5},
    16: {"mouthLowerDown*": 1.1},
    17: {"mouthShrugLower": 1.0},
    20: {"mouthStretch*": 1.5},
    23: {"mouthPress*": 1.1, "mouthRollUpper": 0.45, "mouthRollLower": 0.55, "mouthFrown*": 0.4},
    25: {"mouthUpperUp*": 0.3, "mouthLowerDown*": 0.5},
    26: {"jawOpen": 0.75},
    43: {"eyeBlink*": 0.9},
}
EMFACS: dict[str, dict[int, float]] = {
    "Happiness": {6: 0.9, 12: 1.0},
    "Sadness": {1: 1.0, 4: 0.25, 15: 1.05},
    "Surprise": {1: 0.9, 2: 0.95, 5: 0.9, 26: 0.95},
    "Fear": {1: 1.0, 2: 0.55, 4: 0.35, 5: 1.0, 20: 1.05, 26: 0.4},
    "Anger": {4: 1.0, 5: 0.25, 7: 0.7, 23: 1.0},
    "Disgust": {9: 1.0, 15: 0.6, 16: 0.7, 10: 0.6},
    "Neutral": {},
}
# what often comes along with the prototype: unit -> (chance, highest intensity)
COMPANIONS: dict[str, dict[int, tuple[float, float]]] = {
    "Happiness": {25: (0.65, 1.2), 26: (0.35, 0.45), 1: (0.08, 0.3), 2: (0.08, 0.3)},
    "Sadness": {17: (0.5, 0.8), 43: (0.35, 0.4), 25: (0.1, 0.4)},
    "Surprise": {25: (0.2, 0.5), 12: (0.06, 0.3)},
    "Fear": {25: (0.6, 0.7), 16: (0.3, 0.5)},
    "Anger": {17: (0.4, 0.6), 9: (0.25, 0.35), 25: (0.12, 0.8), 15: (0.2, 0.35)},
    "Disgust": {4: (0.4, 0.6), 7: (0.4, 0.5), 17: (0.2, 0.5), 25: (0.3, 0.5), 6: (0.2, 0.4)},
    "Neutral": {43: (0.1, 0.3)},
}
WEAK_SHARE = 0.05
DROPPED_SHARE = 0.04


def sample(label: str, rng: np.random.Generator) -> tuple[dict[int, float], float]:
    """Intensities of the action units of one face of class `label`, 0 to about 1.2, and its asymmetry, -1..1."""
    units = dict.fromkeys(ACTION_UNITS, 0.0)
    if label == "Neutral":
        for unit in rng.choice(ACTION_UNITS[:-1], size=3, replace=False):
            units[int(unit)] = rng.uniform(0.0, 0.22)
    strength = rng.uniform(0.3, 0.5) if rng.random() < WEAK_SHARE else rng.uniform(0.88, 1.2)
    for unit, level in EMFACS[label].items():
        if len(EMFACS[label]) > 2 and rng.random() < DROPPED_SHARE:
            continue
        units[unit] = level * strength * np.clip(rng.normal(1.0, 0.12), 0.6, 1.35)
    for unit, (chance, highest) in COMPANIONS[label].items():
        if rng.random() < chance:
            units[unit] = max(units[unit], rng.uniform(0.3, 1.0) * highest * strength)
    for unit in rng.choice(ACTION_UNITS[:-1], size=2, replace=False):
        units[int(unit)] = max(units[int(unit)], rng.uniform(0.0, 0.12))
    return units, float(np.clip(rng.normal(0, 0.35), -1, 1))


def face_units(action_units: dict[int, float], asymmetry: float) -> dict[str, float]:
    """Face units (name -> intensity) of action units; positive asymmetry strengthens the subject's left side."""
    out: dict[str, float] = {}
    for unit, intensity in action_units.items():
        for name, gain in FACE_UNITS[unit].items():
            for side, sign in (("Left", 1), ("Right", -1)) if name.endswith("*") else (("", 0),):
                key = name.rstrip("*") + side
                out[key] = out.get(key, 0.0) + gain * intensity * (1 + 0.18 * sign * asymmetry)
    return out
