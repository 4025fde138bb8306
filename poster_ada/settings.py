"""One declaration per setting: default, range and help text stand at its field; flags and their checks are made of it.

    @dataclass(frozen=True)
    class TrainConfig:
        epochs: int = setting(300, "passes over the training faces", above=0)

tyro and simple-parsing make flags of dataclasses too, but print one default per flag; here a default depends on the
preset, the head and the face set, so a flag that is left out has to stay told apart from one that repeats a default.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import field, fields
from types import NoneType, UnionType
from typing import Any, get_args, get_type_hints

from poster_ada.errors import InputError

BOUNDS = {
    "above": ("above", lambda value, bound: value > bound),
    "at_least": ("at least", lambda value, bound: value >= bound),
    "at_most": ("at most", lambda value, bound: value <= bound),
    "below": ("below", lambda value, bound: value < bound),
}


def setting(default: Any, help: str = "", *, choices: Iterable[str] = (), **bounds: float) -> Any:
    """A dataclass field with what its flag and its check need.

    Args:
        help: what the flag's help says, without the default; a setting without it gets no flag.
        choices: the words that are allowed; a mapping gives a word on each.
        bounds: any of `above`, `at_least`, `at_most`, `below`. None passes every bound.
    """
    return field(default=default, metadata={"help": help, "choices": tuple(choices), "bounds": bounds})


def kind_of(config_class: type, name: str) -> type:
    """The plain type of a setting: `float` for `float | None`."""
    hint = get_type_hints(config_class)[name]
    return next(kind for kind in get_args(hint) if kind is not NoneType) if isinstance(hint, UnionType) else hint


def check_settings(config: Any) -> None:
    """Check every setting of a dataclass against its declaration.

    Raises:
        InputError: the first value that is not one of its choices, not a finite number, or out of its range.
    """
    for declared in fields(config):
        value, allowed = getattr(config, declared.name), declared.metadata
        if value is None or not allowed:
            continue
        if allowed["choices"] and value not in allowed["choices"]:
            raise InputError(f"{declared.name} {value!r} is unknown; choose one of {', '.join(allowed['choices'])}.")
        for bound, limit in allowed["bounds"].items():
            words, holds = BOUNDS[bound]
            number = isinstance(value, int | float) and math.isfinite(value)
            if not number or not holds(value, limit):
                raise InputError(f"{declared.name} is {value}; it must be {words} {limit}.")
