"""Waiting threads do not spin, unless the user says so; and the package says where it came too late."""

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize(("before", "imports", "expected"), [
    ({}, "import poster_ada", "1000 False"), ({"GOMP_SPINCOUNT": "7"}, "import torch, poster_ada", "7 False"),
    ({}, "import torch, poster_ada", "1000 True"),
])
def test_the_package_sets_it_once_and_knows_whether_it_was_in_time(before, imports, expected):
    environment = {key: value for key, value in os.environ.items() if key != "GOMP_SPINCOUNT"} | before
    code = (f"{imports}; import os; from poster_ada import openmp; "
            "print(os.environ['GOMP_SPINCOUNT'], openmp.TORCH_CAME_FIRST)")
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == expected
