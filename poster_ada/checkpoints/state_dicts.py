"""Which of the things in a checkpoint are the model's weights, and what they are called without their wrappings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from poster_ada.checkpoints.pickles import Record
from poster_ada.checkpoints.torch_files import StoredTensor

CONTAINERS = ("model_state_dict", "state_dict", "model", "net", "network", "module", "weights", "params")
PREFIXES = re.compile(r"^(?:(?:_orig_mod|module|model|net)\.)+")  # of torch.compile, DataParallel and wrapping modules
AVERAGED = re.compile(r"(?:^|_)(?:ema|averaged|swa)(?:_|$)", re.IGNORECASE)  # weights averaged over training
AVERAGED_PREFIX = re.compile(r"^(?:ema|ema_model|model_ema|module_ema|averaged_model)\.")
COUNTERS = {"n_averaged", "num_updates", "decay"}  # tensors that averaging adds to a state dict


class NoStateDict(Exception):
    """There are no tensors by name; the message says what there is instead."""


def find_state(content: Any) -> tuple[dict[str, StoredTensor], str | None]:
    """The model's tensors by name, wherever they lie in the file, and a note where there was a choice.

    The plain model is preferred to its average, the usual containers to other ones, more tensors to fewer.

    Raises:
        NoStateDict: nothing in `content` is a state dict.
    """
    found = [(path, state) for path, state in _states(content) if not any("optim" in word.lower() for word in path)]
    if not found:
        whole = any(isinstance(value, Record) and isinstance(value.state, dict) and "_modules" in value.state
                    for value in (content, *(content.values() if isinstance(content, dict) else ())))
        raise NoStateDict("a whole model instead of its state dict; save model.state_dict() where that model is known"
                          if whole else "no state dict of tensors; check the path")

    def rank(candidate: tuple[tuple[str, ...], dict[str, StoredTensor]]) -> tuple[bool, bool, int]:
        path, state = candidate
        return _averaged(path), not set(path) <= set(CONTAINERS), -len(state)

    path, state = min(found, key=rank)
    twins = [other for other, _ in found if _averaged(other)]
    if _averaged(path):
        return state, f"holds averaged weights alone ({'.'.join(path)}), so these are taken"
    if twins:
        return state, (f"holds averaged weights ({'.'.join(twins[0])}) beside the plain ones "
                       f"({'.'.join(path) or 'top level'}); the plain ones are taken")
    inside = [key for key in state if AVERAGED_PREFIX.match(key)]
    if inside and len(inside) < len(state):
        return ({key: value for key, value in state.items() if key not in set(inside)},
                f"holds averaged weights ({inside[0]} ...) beside the plain ones; the plain ones are taken")
    return {AVERAGED_PREFIX.sub("", key): value for key, value in state.items()}, None


def bare_names(state: dict[str, StoredTensor]) -> dict[str, StoredTensor]:
    """The same without the prefixes of wrapping modules, in any order and number, and without averaging's counters.

    Raises:
        NoStateDict: two tensors would have one name.
    """
    bare: dict[str, StoredTensor] = {}
    for key, value in state.items():
        name = PREFIXES.sub("", key)
        if name in bare:
            raise NoStateDict(f"{name} twice, with and without a prefix; keep one of them")
        if name not in COUNTERS:
            bare[name] = value
    return bare


def _averaged(path: tuple[str, ...]) -> bool:
    return any(AVERAGED.search(word) for word in path)


def _states(content: Any) -> Iterator[tuple[tuple[str, ...], dict[str, StoredTensor]]]:
    """Every mapping that holds tensors under names: its path in the file, and these."""
    waiting: list[tuple[tuple[str, ...], Any]] = [((), content)]
    met = set()
    while waiting:
        path, mapping = waiting.pop()
        if not isinstance(mapping, dict) or id(mapping) in met:
            continue
        met.add(id(mapping))
        state = {key: value for key, value in mapping.items()
                 if isinstance(value, StoredTensor) and isinstance(key, str)}
        if any(value.shape for value in state.values()):  # single numbers are scores or counters
            yield path, state
        waiting += [((*path, str(key)), value) for key, value in mapping.items() if isinstance(value, dict)]
