"""Keep waiting threads from spinning; imported before anything else of the package.

Threads of GNU's OpenMP, which torch brings on Linux, spin while they wait for each other: with one other busy program
training then takes several times as long (benchmarks/README.md). The variable counts only if it is set before torch is
loaded; one that is set already stays.
"""

from __future__ import annotations

import os
import sys

TORCH_CAME_FIRST = "torch" in sys.modules and "GOMP_SPINCOUNT" not in os.environ
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
