"""Predictions of a model on a split of faces, margin-free: labels never reach the model."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from poster_ada.data.loader import FaceLoader
from poster_ada.data.pictures import WORKERS
from poster_ada.data.splits import FaceSplit
from poster_ada.data.transforms import EvaluationTransform
from poster_ada.devices import choose_device
from poster_ada.errors import InputError
from poster_ada.evaluation.matching import match_classes
from poster_ada.evaluation.predictions import probability_columns
from poster_ada.evaluation.protocol import LABEL_MARGIN_BATCH, PROTOCOLS, head_of_its_batch
from poster_ada.model.fast import FastPoster, prediction_copy
from poster_ada.model.poster import Poster
from poster_ada.model.precision import resolve_precision

PROGRESS_AFTER = 5.0  # seconds


def predict_split(model: Poster, split: FaceSplit, device: str | torch.device = "auto", **how: Any) -> pd.DataFrame:
    """Predict every face of `split`, in its order: the table of `predict_with_embeddings`, with its choices."""
    return predict_with_embeddings(model, split, device, **how)[0]


def predict_with_embeddings(
    model: Poster,
    split: FaceSplit,
    device: str | torch.device = "auto",
    batch_size: int = 32,
    precision: str = "float32",
    protocol: str = "margin-free",
    mirror: bool = False,
    quiet: bool = False,
    workers: int | None = None,
) -> tuple[pd.DataFrame, np.ndarray]:
    """Predict every face of `split`, in its order, and keep what the head saw of it.

    Args:
        model: moved to `device`; otherwise left as it was.
        device: see devices.py.
        precision: of both streams and the fusion: "float32", "bfloat16", or "auto" (see model/precision.py).
        protocol: "label-margin" is the report's: the margin is taken off the TRUE class, in batches of 32. What it
            calls a prediction is none, and the share of right ones is not an accuracy.
        mirror: average each picture's probabilities with those of its mirror image, at twice the cost.
        quiet: no progress bar (which else appears after 5 s).
        workers: processes that decode faces where they do not fit into memory; default `FaceLoader`'s.

    Returns:
        The table described in predictions.py, and the embeddings, float32 (N, dim). Where the split's classes are not
        the model's, the table has those that both know, as the split calls them (see matching.py). In its `attrs` are
        the `protocol` and, as `matching`, a sentence on what was done about the classes, or None.

    Raises:
        InputError: split and model share fewer than two classes, a face is unreadable, or the output is not finite.
    """
    config = model.config
    if protocol not in PROTOCOLS:
        raise InputError(f"protocol {protocol!r} is unknown; choose one of {', '.join(PROTOCOLS)}.")
    if mirror and protocol != "margin-free":
        raise InputError(f"mirror does not go with the {protocol} protocol, which is not about predictions.")
    match = match_classes(config.class_names, split.class_names)
    matching = match.sentence(split)
    split = match.faces(split)
    if not len(split):
        raise InputError(f"no face has one of the classes {', '.join(match.class_names)}, which the model knows.")
    device = choose_device(device)
    loader = FaceLoader(
        split, EvaluationTransform(config.image_size, config.stream_size, config.channel_order),
        LABEL_MARGIN_BATCH if protocol == "label-margin" else batch_size, device=device,
        workers=WORKERS if workers is None else workers,
    )
    bar = tqdm(total=len(split), desc="predicting", unit="face", disable=quiet, delay=PROGRESS_AFTER, leave=False)
    embeddings, norms, logits = [], [], []
    with prepared(model, device, precision, protocol) as ready, bar:
        for images, labels, *_ in loader:
            with torch.inference_mode():  # not around the loader, whose threads would not share it
                seen = ready.forward_features(images)
                if protocol == "label-margin":
                    head = head_of_its_batch(ready)
                    logits.append(head.margin_logits(seen.embedding, labels, seen.norm).float())
                else:
                    plain = ready.forward_head(seen).float()
                    logits.append(mean_of_softmax(plain, ready(images.flip(-1)).float()) if mirror else plain)
            norms.append(seen.norm.float())
            embeddings.append(seen.embedding.float().cpu())
            bar.update(len(images))
    scores = match.logits(torch.cat(logits).cpu())
    if not (finite := scores.isfinite().all(1)).all():
        raise InputError(f"the model's output for {split.files[int(finite.int().argmin())]} is not finite: its "
                         "training diverged or its checkpoint is damaged.")
    names, shown = np.array(match.class_names, dtype=object), np.full(config.num_classes, -1)
    shown[list(match.outputs)] = np.arange(len(names))
    table = pd.DataFrame({
        "file": split.files, "label": names[shown[split.labels]], "prediction": names[scores.argmax(1).numpy()],
        "norm": torch.cat(norms).cpu().numpy(),
    })
    # Logits of scale 64 reach probabilities below float32's range.
    table[probability_columns(match.class_names)] = scores.double().softmax(1).numpy()
    table.attrs |= {"protocol": protocol, "matching": matching}
    return table, torch.cat(embeddings).numpy()


def mean_of_softmax(a: Tensor, b: Tensor) -> Tensor:
    """Logits (B, C) whose softmax is the mean of that of `a` and of `b`."""
    return torch.logaddexp(a.log_softmax(1), b.log_softmax(1)) - math.log(2)


@contextmanager
def prepared(model: Poster, device: torch.device, precision: str, protocol: str) -> Iterator[Poster]:
    """The one place where a model is made ready to predict: on `device`, in eval mode, in `precision`, fast.

    Its training mode is put back afterwards. The label-margin protocol, which needs the head's training logits, gets
    the model itself instead of the fast copy. Raises InputError for an unknown precision.
    """
    dtype = resolve_precision(precision, device, model.config)
    training = model.training
    model.to(device).eval()
    try:
        if protocol == "label-margin":
            with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                yield model
        else:
            # A subclass, as in comparisons of designs, has a forward pass that the copy does not know.
            yield prediction_copy(model, precision) if type(model) in (Poster, FastPoster) else model
    finally:
        model.train(training)
