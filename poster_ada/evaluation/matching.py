"""A model's classes and a face set's, matched by what their names mean: `happy` and `Happiness` are one class.

    match = match_classes(model.config.class_names, faces.test.class_names)
    split = match.faces(faces.test)      # labels as the model counts, faces that it can name
    logits = match.logits(logits)        # of the set's classes, in the set's order
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from poster_ada.data.labels import class_meaning
from poster_ada.data.splits import FaceSplit
from poster_ada.errors import InputError


@dataclass(frozen=True)
class ClassMatch:
    """The classes that a model and a face set share, in the set's order and words."""

    model_classes: tuple[str, ...]
    set_classes: tuple[str, ...]
    outputs: tuple[int, ...]  # of the model, one for each shared class
    labels: tuple[int, ...]  # of the set, one for each shared class

    @property
    def class_names(self) -> tuple[str, ...]:
        """The shared classes, as the set calls them."""
        return tuple(self.set_classes[label] for label in self.labels)

    @property
    def exact(self) -> bool:
        """Whether the classes are the same, in the same order."""
        same = tuple(range(len(self.model_classes)))
        return self.outputs == same and self.labels == same and len(self.set_classes) == len(same)

    def faces(self, split: FaceSplit) -> FaceSplit:
        """The split's faces of shared classes, with labels as the model counts."""
        if self.exact:
            return split
        output_of = np.full(len(self.set_classes), -1, np.int64)
        output_of[list(self.labels)] = self.outputs
        labels = output_of[split.labels]
        kept = split.subset(labels >= 0)
        return replace(kept, labels=labels[labels >= 0], class_names=self.model_classes)

    def logits(self, logits: Tensor) -> Tensor:
        """The model's logits (N, C) -> (N, K) of the shared classes: their softmax is renormalised over these."""
        return logits if self.exact else logits[:, list(self.outputs)]

    def sentence(self, split: FaceSplit) -> str | None:
        """What was done with this split, or None where there was nothing to do."""
        if self.exact:
            return None
        counts = split.class_counts
        unknown = [label for label in range(len(self.set_classes)) if label not in self.labels]
        unseen = [name for output, name in enumerate(self.model_classes) if output not in self.outputs]
        parts = [f"classes were matched by name ({', '.join(self.class_names)})"]
        if unseen:
            parts.append(f"the set has no {', '.join(unseen)}: left out, the other probabilities renormalised")
        if unknown:
            names = ", ".join(self.set_classes[label] for label in unknown)
            parts.append(f"the model does not know {names}: {int(counts[unknown].sum())} faces left out")
        return "; ".join(parts)


def match_classes(model_classes: Sequence[str], set_classes: Sequence[str]) -> ClassMatch:
    """Match by name.

    Raises:
        InputError: fewer than two classes are common, or a name stands twice on one side.
    """
    ours, theirs = ({class_meaning(name): place for place, name in enumerate(names)}
                    for names in (model_classes, set_classes))
    for names, places in ((model_classes, ours), (set_classes, theirs)):
        if len(places) < len(names):
            raise InputError(f"of the classes {', '.join(names)} two mean the same; merge them first.")
    shared = [meaning for meaning in theirs if meaning in ours]
    if len(shared) < 2:
        raise InputError(f"the faces have the classes {', '.join(set_classes)}, but the model was trained on "
                         f"{', '.join(model_classes)}: {len(shared) or 'none'} in common, and two are needed; choose "
                         "faces with the model's classes.")
    return ClassMatch(tuple(model_classes), tuple(set_classes), tuple(ours[meaning] for meaning in shared),
                      tuple(theirs[meaning] for meaning in shared))

