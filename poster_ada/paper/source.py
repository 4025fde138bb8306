"""The code behind an equation, as a notebook shows it."""

from __future__ import annotations

import inspect
from typing import Any

from IPython.display import Markdown, display


def show_source(*objects: Any) -> None:
    """Show the source of functions or classes, highlighted."""
    for each in objects:
        display(Markdown(f"```python\n{inspect.getsource(each)}```"))  # Code would bring its own style sheet each time
