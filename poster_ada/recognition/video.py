"""Frames of a video or a camera, their faces and tracks, an annotated copy, and probabilities over time."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from tqdm import tqdm

from poster_ada.errors import InputError
from poster_ada.files import write_atomically
from poster_ada.palette import BLACK, BLUE, GREEN, ORANGE, PALE, PURPLE, SKY_BLUE, VERMILION
from poster_ada.recognition.capture import opened
from poster_ada.recognition.detector import SIDES
from poster_ada.recognition.recognizer import Recognizer
from poster_ada.recognition.tracks import Tracks

USUAL_RATE = 25.0  # frames a second, where a file does not say
PROGRESS_AFTER = 5.0  # seconds
COLOURS = (PALE, ORANGE, BLUE, SKY_BLUE, PURPLE, GREEN, VERMILION, BLACK)  # of classes in a plot, neighbours unlike


def frames_of(path: Path) -> Iterator[tuple[float, np.ndarray]]:
    """Time stamp in seconds and uint8 (H, W, 3) RGB of every frame.

    Raises:
        InputError: the file cannot be read as a video, or has no frame.
    """
    with opened(str(path)) as capture:
        rate, time = capture.get(cv2.CAP_PROP_FPS) or USUAL_RATE, -1.0
        while True:
            more, frame = capture.read()
            if not more:
                break
            stamp = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000  # phones record at a rate that varies
            time = stamp if stamp > time else time + 1 / rate  # or the file does not say
            yield time, cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
        if time < 0:
            raise InputError(f"{path} is not a video that can be read here, or has no frame; save it again, as .mp4.")


def length_of(path: Path) -> tuple[int, float]:
    """How many frames a video says it has (0: it does not say), and how many a second."""
    with opened(str(path)) as capture:
        return max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT))), capture.get(cv2.CAP_PROP_FPS) or USUAL_RATE


def recognise_video(
    recognizer: Recognizer, path: Path, copy: Path | None, quiet: bool = False
) -> Iterator[pd.DataFrame]:
    """The table of every frame, with `time` in seconds and `track`, the same number for the same face.

    Args:
        copy: where an annotated copy goes (.mp4); None for none.

    Raises:
        InputError: as `frames_of` and `video_copy`.
    """
    if copy is not None:
        from poster_ada.recognition.video_copy import video_copy  # brings an FFmpeg of its own

    tracks = Tracks()
    detector = recognizer.detector
    sides = detector.sides if detector is not None else ()
    said, rate = length_of(path)
    bar = tqdm(total=said or None, unit="frame", desc=path.name, disable=quiet, delay=PROGRESS_AFTER, leave=False)
    try:
        with bar, nullcontext() if copy is None else video_copy(copy, path, rate) as add:
            if detector is not None:
                detector.sides = SIDES[:1]
            last = step = 0.0
            for number, (time, image) in enumerate(frames_of(path), 1):
                last, step = time, max(step, time - last)
                faces = recognizer.faces_of(image)
                table = recognizer.table([path.name], [image.shape[:2]], [faces])
                table.insert(1, "time", round(time, 3))
                boxes = [tuple(row) for row in table.loc[table["face"] > 0, ["x", "y", "width", "height"]].to_numpy()]
                table.insert(2, "track", tracks.number(number, boxes) or [0])
                if add is not None:
                    add(time, np.asarray(recognizer.draw(image, table)))
                yield table
                bar.update()
        if (length := said / rate) > last + 2 * max(step, 1 / rate):  # where the rate varies, `said` is no count
            tqdm.write(f"note: {path} ends after {last:.1f} of {length:.1f} seconds.", file=sys.stderr)
    finally:
        if detector is not None:
            detector.sides = sides


def plot_over_time(table: pd.DataFrame, path: Path) -> None:
    """Probabilities of the face that is seen most, over the time of a video's table."""
    seen = table[table["track"] > 0]
    if seen.empty:
        return
    from matplotlib.figure import Figure  # not pyplot, which would look for a screen

    longest = seen[seen["track"] == seen["track"].mode().iloc[0]]
    fig = Figure(figsize=(7, 2.8), layout="constrained")
    axis = fig.subplots()
    names = [column for column in table if column.startswith("p_")]
    colours = [COLOURS[place % len(COLOURS)] for place in range(len(names))]
    axis.stackplot(longest["time"], longest[names].to_numpy(float).T, labels=[name[2:] for name in names],
                   colors=colours, edgecolor="white", linewidth=0.5)
    axis.set(xlabel="seconds", ylabel="probability", ylim=(0, 1), title=f"track {longest['track'].iloc[0]}",
             xlim=(longest["time"].min(), longest["time"].max()))
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, reverse=True)
    write_atomically(path, lambda temporary: fig.savefig(temporary, format="png", dpi=150))
