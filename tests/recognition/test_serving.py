"""What was uploaded to the page goes with it, however it is ended."""

import os
import signal
import sys
from pathlib import Path
from types import ModuleType

import pytest

from poster_ada.recognition.serving import serve_page


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_page_that_is_told_to_end_leaves_no_picture_behind(monkeypatch, name):
    if not hasattr(signal, name) or sys.platform == "win32":
        pytest.skip("this system has no such signal")
    for variable in ("GRADIO_TEMP_DIR", "GRADIO_ANALYTICS_ENABLED"):
        monkeypatch.setenv(variable, "")
    page, folders = ModuleType("page"), []

    def serve(*_, **__):
        folders.append(Path(os.environ["GRADIO_TEMP_DIR"]))
        (folders[0] / "photo.jpg").write_text("a picture", encoding="utf-8")
        os.kill(os.getpid(), getattr(signal, name))

    page.serve = serve
    monkeypatch.setitem(sys.modules, "poster_ada.recognition.page", page)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        with pytest.raises(SystemExit) as stopped:
            serve_page(None)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert stopped.value.code == 128 + getattr(signal, name) and not folders[0].exists()
