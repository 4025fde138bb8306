"""The page, served on this machine alone; what was uploaded goes with it."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from typing import Any

from poster_ada.recognition.manners import MANNERS
from poster_ada.recognition.recognizer import Recognizer

PORT = 7860  # Gradio's own


def serve_page(recognizer: Recognizer, port: int = PORT, open_browser: bool = True) -> None:
    """Serve until Ctrl-C, or until the process is told to end or its terminal is closed.

    Raises:
        InputError: the port is taken.
        ModuleNotFoundError: Gradio is not there.
    """
    for name in ("SIGTERM", "SIGHUP"):  # which would end it with the pictures left behind
        if number := getattr(signal, name, None):
            signal.signal(number, _leave)
    with tempfile.TemporaryDirectory(prefix="poster-ada-") as folder:
        os.environ |= {"GRADIO_TEMP_DIR": folder, "GRADIO_ANALYTICS_ENABLED": "False"}  # before gradio is loaded
        from poster_ada.recognition.page import serve

        serve(recognizer, port, MANNERS, open_browser=open_browser)


def _leave(number: int, _: Any) -> None:
    sys.exit(128 + number)
