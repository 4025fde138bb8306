"""Who is in the picture: everything that stays the same over the faces of one identity, drawn from its number."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# shape changes that make people differ, with the spread of their normal distribution
LOCAL_SPREAD = {
    "chin-height-incr": 0.25, "chin-width-incr": 0.35, "chin-prominent-incr": 0.3, "chin-cleft-incr": 0.25,
    "chin-jaw-drop-incr": 0.25, "nose-scale-horiz-incr": 0.35, "nose-scale-vert-incr": 0.25, "nose-hump-incr": 0.3,
    "nose-volume-incr": 0.25, "nose-point-up": 0.3, "nose-width3-incr": 0.25, "nose-base-up": 0.2,
    "mouth-scale-horiz-incr": 0.25, "mouth-upperlip-height-incr": 0.35, "mouth-lowerlip-height-incr": 0.35,
    "mouth-upperlip-volume-incr": 0.3, "mouth-lowerlip-volume-incr": 0.3, "mouth-trans-up": 0.2,
    "forehead-scale-vert-incr": 0.2, "forehead-temple-incr": 0.25, "forehead-trans-forward": 0.2,
    "head-fat-incr": 0.35, "head-scale-horiz-incr": 0.2, "head-scale-vert-incr": 0.15, "eyebrows-trans-up": 0.2,
    "eyebrows-angle-up": 0.25, "neck-scale-horiz-incr": 0.3,
}  # fmt: skip
PAIRED_SPREAD = {
    "cheek-bones-incr": 0.4, "cheek-volume-incr": 0.4, "cheek-inner-incr": 0.25, "eye-scale-incr": 0.25,
    "eye-corner1-up": 0.2, "eye-trans-out": 0.2, "eye-bag-incr": 0.3, "eye-eyefold-angle-up": 0.25,
    "ear-scale-incr": 0.3, "eye-height2-incr": 0.15,
}  # fmt: skip
HAIR_COLOURS = {  # linear RGB
    "black": (0.012, 0.010, 0.009), "dark brown": (0.035, 0.020, 0.012), "brown": (0.085, 0.045, 0.022),
    "light brown": (0.17, 0.10, 0.05), "blond": (0.40, 0.27, 0.13), "red": (0.24, 0.075, 0.025),
    "grey": (0.30, 0.29, 0.28), "white": (0.62, 0.61, 0.59),
}  # fmt: skip
IRIS_COLOURS = {
    "brown": (0.085, 0.04, 0.018), "dark": (0.03, 0.016, 0.009), "hazel": (0.16, 0.10, 0.04),
    "green": (0.14, 0.17, 0.09), "blue": (0.16, 0.25, 0.36), "grey": (0.22, 0.25, 0.27),
}  # fmt: skip


@dataclass(frozen=True)
class Identity:
    """One invented person: age in years, lengths in millimetres, colours in linear RGB, the rest 0..1."""

    number: int
    sex: str
    age: int
    ancestry: tuple[float, float, float]  # African, Asian, European
    phenotype: dict[str, float]
    local_changes: dict[str, float]
    tone: float  # melanin, 0 palest
    redness: float
    hair_style: str
    hair_colour: tuple[float, float, float]
    brow_colour: tuple[float, float, float]
    brow_weight: float
    brow_height: float  # millimetres
    beard: float  # 0 none, 0.4 stubble, 1 full
    beard_shape: str
    freckles: float
    lipstick: float
    eye_makeup: float
    iris_colour: tuple[float, float, float]
    glasses: str
    hairline: float  # millimetres up (receding) or down
    seed: int


def make(number: int) -> Identity:
    """The identity with this number."""
    rng = np.random.default_rng((68, number))
    female = rng.random() < 0.5
    age = int(np.clip(18 + rng.gamma(2.0, 11.0), 18, 80))
    main = rng.choice(3, p=(0.24, 0.28, 0.48))
    mix = rng.dirichlet((0.35, 0.35, 0.35))
    ancestry = 0.82 * np.eye(3)[main] + 0.18 * mix
    african, asian, european = (float(a) for a in ancestry)
    phenotype = {
        "gender": float(np.clip(rng.normal(0.88 if female else 0.12, 0.08), 0, 1)),
        "age": 0.64 + 0.36 * (max(age, 22) - 22) / 58,
        "muscle": float(rng.uniform(0.35, 0.75)),
        "weight": float(np.clip(rng.normal(0.5, 0.2), 0.05, 1)),
        "height": 0.5,
        "proportions": float(rng.uniform(0.4, 0.9)),
        "african": african,
        "asian": asian,
        "caucasian": european,
    }
    local = {name: float(np.clip(rng.normal(0, s), -0.8, 0.8)) for name, s in LOCAL_SPREAD.items()}
    for name, spread in PAIRED_SPREAD.items():
        common = rng.normal(0, spread)
        for side in "lr":
            local[f"{side}-{name}"] = float(np.clip(common + rng.normal(0, 0.07), -0.8, 0.8))
    for side in "lr":
        local[f"{side}-eye-epicanthus-out"] = -0.6 * asian
        local[f"{side}-eye-eyefold-up"] = -0.5 * asian
    tone = float(np.clip(0.80 * african + 0.30 * asian + 0.14 * european + rng.normal(0, 0.085), 0.02, 1))

    grey = rng.random() < np.clip((age - 38) / 32, 0, 0.9)
    if grey:
        colour = rng.choice(["grey", "white"], p=[0.65, 0.35] if age < 65 else [0.4, 0.6])
    elif main == 2:
        names, chances = zip(("black", 0.08), ("dark brown", 0.27), ("brown", 0.27), ("light brown", 0.18),
                             ("blond", 0.14), ("red", 0.06), strict=True)  # fmt: skip
        colour = rng.choice(names, p=chances)
    else:
        colour = rng.choice(["black", "dark brown", "brown"], p=[0.75, 0.2, 0.05])
    hair = np.array(HAIR_COLOURS[colour]) * rng.uniform(0.8, 1.25)
    brow = np.array(HAIR_COLOURS["dark brown" if colour in ("grey", "white", "blond") else colour]) * rng.uniform(
        0.7, 1.3
    )
    if colour == "white":
        brow = np.array(HAIR_COLOURS["grey"]) * 0.6
    if colour == "blond":
        brow = np.array(HAIR_COLOURS["brown"])
    if main == 0:
        styles = {"afro": 0.3, "buzz": 0.2, "tied": 0.25, "long": 0.25} if female else {
            "buzz": 0.5, "afro": 0.25, "short": 0.05, "bald": 0.2}  # fmt: skip
    elif female:
        styles = {"long": 0.38, "parted": 0.14, "fringe": 0.22, "tied": 0.18, "short": 0.08}
    else:
        styles = {"short": 0.45, "parted": 0.2, "swept": 0.15, "buzz": 0.1, "bald": 0.04 + (0.14 if age > 45 else 0)}
    chances = np.array(list(styles.values()))
    style = str(rng.choice(list(styles), p=chances / chances.sum()))
    beard, shape = 0.0, "none"
    if not female:
        shape = str(rng.choice(["none", "stubble", "full", "goatee", "moustache"], p=[0.42, 0.28, 0.16, 0.08, 0.06]))
        beard = {"none": rng.uniform(0, 0.12), "stubble": rng.uniform(0.2, 0.5)}.get(shape, rng.uniform(0.75, 1.0))
    irises = ["brown", "dark", "hazel", "green", "blue", "grey"]
    iris = str(rng.choice(irises, p=[0.22, 0.06, 0.17, 0.15, 0.28, 0.12] if main == 2 else [0.5, 0.45, 0.05, 0, 0, 0]))
    glasses = str(rng.choice(["none", "thin", "thick", "rimless"], p=[0.84, 0.08, 0.06, 0.02]))
    return Identity(
        number=number,
        sex="female" if female else "male",
        age=age,
        ancestry=(african, asian, european),
        phenotype=phenotype,
        local_changes=local,
        tone=tone,
        redness=float(rng.beta(2, 3)),
        hair_style=style,
        hair_colour=tuple(hair),
        brow_colour=tuple(brow),
        brow_weight=float(rng.uniform(0.45, 0.8) if female else rng.uniform(0.65, 1.0)),
        brow_height=float(rng.normal(1.0 if female else -0.5, 1.0)),
        beard=float(beard),
        beard_shape=shape,
        freckles=float(rng.random() ** 2 * (1 if main == 2 else 0.15) * (rng.random() < 0.4)),
        lipstick=float(rng.uniform(0.3, 1.0) if female and rng.random() < 0.45 else 0.0),
        eye_makeup=float(rng.uniform(0.2, 1.0) if female and rng.random() < 0.5 else 0.0),
        iris_colour=tuple(np.array(IRIS_COLOURS[iris]) * rng.uniform(0.8, 1.2)),
        glasses=glasses,
        hairline=float(rng.uniform(5, 22) if not female and age > 35 and rng.random() < 0.5 else rng.normal(0, 4)),
        seed=int(rng.integers(1 << 30)),
    )
