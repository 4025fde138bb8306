"""A camera, live: in a window where the installed OpenCV can open one, else on the page."""

from __future__ import annotations

import re

import cv2
import numpy as np

from poster_ada.errors import InputError
from poster_ada.recognition.capture import opened
from poster_ada.recognition.recognizer import Recognizer

TITLE = "poster-ada (q ends)"


def has_windows() -> bool:
    """Whether this OpenCV was built with windows; the headless one, which this package asks for, was not."""
    found = re.search(r"^\s*GUI:\s*(\w+)", cv2.getBuildInformation(), re.MULTILINE)
    return found is not None and found[1] != "NONE"


def check_camera(number: int) -> None:
    """Raise InputError where there is no such camera."""
    with opened(number) as capture:
        if not capture.isOpened():
            raise InputError(f"there is no camera {number}, or another program has it; choose another number.")


def show_live(recognizer: Recognizer, number: int) -> None:
    """Show what the camera sees, annotated, in a window, until q or Ctrl-C.

    Raises:
        InputError: there is no such camera, or there is no screen for a window.
    """
    check_camera(number)
    with opened(number) as capture:
        while True:
            more, frame = capture.read()
            if not more:
                raise InputError(f"camera {number} gives no picture any more; check its cable.")
            image = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
            shown = recognizer.draw(image, recognizer(image))
            try:
                cv2.imshow(TITLE, cv2.cvtColor(np.asarray(shown), cv2.COLOR_RGB2BGR))
                if cv2.waitKey(1) & 0xFF == ord("q"):
                    break
            except cv2.error:
                raise InputError("OpenCV finds no screen for a window here; use the page instead: python -m "
                                 "poster_ada.app.") from None
