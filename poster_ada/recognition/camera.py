"""A camera, live: in a window where the installed OpenCV can open one."""

from __future__ import annotations

import cv2
import numpy as np

from poster_ada.errors import InputError
from poster_ada.recognition.recognizer import Recognizer

TITLE = "poster-ada (q ends)"


def show_live(recognizer: Recognizer, number: int) -> None:
    """Show what the camera sees, annotated, until q or Ctrl-C.

    Raises:
        InputError: there is no such camera, or OpenCV has no window here.
    """
    capture = cv2.VideoCapture(number)
    try:
        if not capture.isOpened():
            raise InputError(f"there is no camera {number}, or another program has it; choose another number.")
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
                raise InputError("this OpenCV has no windows (it is the headless one); use the page instead: python -m "
                                 "poster_ada.app.") from None
    finally:
        capture.release()
