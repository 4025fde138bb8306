"""The page, served on this machine alone; what was uploaded goes with it."""

from __future__ import annotations

import os
import tempfile

from poster_ada.recognition.manners import MANNERS
from poster_ada.recognition.recognizer import Recognizer

PORT = 7860  # Gradio's own


def serve_page(recognizer: Recognizer, port: int = PORT, open_browser: bool = True) -> None:
    """Serve until Ctrl-C. Raises InputError where the port is taken, ModuleNotFoundError without Gradio."""
    with tempfile.TemporaryDirectory(prefix="poster-ada-") as folder:
        os.environ |= {"GRADIO_TEMP_DIR": folder, "GRADIO_ANALYTICS_ENABLED": "False"}  # before gradio is loaded
        from poster_ada.recognition.page import serve

        serve(recognizer, port, MANNERS, open_browser=open_browser)
