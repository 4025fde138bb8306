"""One number for one person along a video, as far as boxes overlap from frame to frame."""

from __future__ import annotations

from collections.abc import Sequence

from poster_ada.recognition.boxes import Box, overlap

LEAST_OVERLAP = 0.3
PATIENCE = 15  # frames that a face may be missing and keep its number


class Tracks:
    """Numbers from 1, given to boxes frame by frame, best overlap first."""

    def __init__(self) -> None:
        self._last: dict[int, tuple[Box, int]] = {}  # number -> box and frame where it was seen last
        self._given = 0

    def number(self, frame: int, boxes: Sequence[Box]) -> list[int]:
        """The number of every box of this frame."""
        self._last = {track: seen for track, seen in self._last.items() if frame - seen[1] <= PATIENCE}
        pairs = sorted(((overlap(box, last), place, track) for place, box in enumerate(boxes)
                        for track, (last, _) in self._last.items()), reverse=True)
        numbers: dict[int, int] = {}
        for shared, place, track in pairs:
            if shared >= LEAST_OVERLAP and place not in numbers and track not in numbers.values():
                numbers[place] = track
        for place, box in enumerate(boxes):
            if place not in numbers:
                self._given += 1
                numbers[place] = self._given
            self._last[numbers[place]] = (box, frame)
        return [numbers[place] for place in range(len(boxes))]
