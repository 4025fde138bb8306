"""Every command answers at once, in one spelling, and says what is wrong in one sentence."""

import errno
import os
import re
import subprocess
import sys

import pytest
from small_runs import child_process

from poster_ada.__main__ import COMMANDS, main
from poster_ada.errors import command

NO_TORCH = """
import runpy, sys
sys.argv = ["poster-ada", *sys.argv[1:]]
try:
    runpy.run_module("poster_ada", run_name="__main__", alter_sys=True)
except SystemExit as stopped:
    status = stopped.code or 0
else:
    status = 0
loaded = [name for name in ("torch", "torchvision", "pandas", "matplotlib") if name in sys.modules]
print("loaded:", *loaded)
sys.exit(status)
"""


def run(*words: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", NO_TORCH, *words], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("words", [["--help"], *([name, "--help"] for name in COMMANDS)], ids=" ".join)
def test_help_loads_no_torch(words):
    done = run(*words)
    assert done.returncode == 0 and done.stdout.rstrip().endswith("loaded:"), done.stdout[-300:] + done.stderr
    assert "usage:" in done.stdout


@pytest.mark.parametrize("words", [
    ["train", "--nonsense"], ["train", "--epochs", "many"], ["train", "--epochs", "-1"], ["train", "--lr", "nan"],
    ["train", "--gpu", "first"], ["test"], ["study", "--only", "nothing-like-this", "--data", "x"], ["data"],
    ["nothing"],
], ids=" ".join)
def test_a_wrong_flag_is_one_sentence_at_once(words):
    done = run(*words)
    assert done.returncode not in (0, None) and done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("error: ") and done.stdout.rstrip().endswith("loaded:"), done.stdout


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_a_file_that_is_closed_is_one_sentence(number, capsys):
    """A folder without permission, or on a disk that is mounted to be read."""
    def closed(argv):
        raise OSError(number, os.strerror(number), "runs/config.json")

    with pytest.raises(SystemExit) as stopped:
        command(closed)([])
    err = capsys.readouterr().err
    assert stopped.value.code == 2 and err.count("\n") == 1 and "runs/config.json cannot be opened or written" in err


@pytest.mark.parametrize("command", COMMANDS)
def test_each_flag_is_shown_in_one_spelling(command, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    shown = re.findall(r"^  (--[\w-]+|-\w(?: [A-Z]+)?, --[\w-]+)", capsys.readouterr().out, re.MULTILINE)
    assert not [flag for flag in shown if "_" in flag] and len(shown) == len(set(shown))


def test_a_package_of_an_extra_that_is_missing_is_named(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "seaborn", None)  # as if it were not installed
    for name in [name for name in sys.modules if name.startswith("poster_ada.paper")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(SystemExit) as stopped:
        main(["report", "--fast"])
    assert stopped.value.code == 2
    assert capsys.readouterr().err == "error: this needs seaborn: pip install 'poster-ada[notebooks]'.\n"


def test_old_names_give_a_hint():
    import poster_ada

    with pytest.raises(AttributeError, match=r"poster_ada.create_model\('large'"):
        poster_ada.Poster.from_preset("large", head="adaface")
    with pytest.raises(AttributeError, match="summary_table"):
        poster_ada.summary  # noqa: B018
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        poster_ada.nothing  # noqa: B018


def test_exports_are_no_modules():
    from pathlib import Path

    import poster_ada

    places = list(Path(poster_ada.__file__).parent.rglob("*"))
    assert not set(poster_ada.__all__) & {place.stem for place in places if place.suffix == ".py" or place.is_dir()}
    assert all(getattr(poster_ada, name) is not None for name in poster_ada.__all__)


def test_testing_loads_neither_torchvision_nor_the_compiler(tmp_path):
    """Each of them takes a second or more, in a command of five."""
    script = f"""
import sys
from poster_ada.test import main
try:
    main(["-c", "mini-ferplus", "--data", "data/demo", "--out", {str(tmp_path)!r}, "--quiet"])
except SystemExit as stopped:
    assert not stopped.code
print("loaded:", *(name for name in ("torchvision", "torch._dynamo", "sklearn", "accelerate") if name in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False,
                          **child_process())
    assert done.returncode == 0 and done.stdout.rstrip().endswith("loaded:"), done.stdout[-300:] + done.stderr


def test_output_that_nobody_reads_any_more_ends_a_command_in_silence():
    talking = ("import sys\nfrom poster_ada.errors import command\n"
               "command(lambda argv: [print('x' * 1000, flush=True) for _ in sys.stdin])([])")
    child = subprocess.Popen([sys.executable, "-c", talking], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, **child_process())
    child.stdout.close()
    child.stdin.write(b"again\n" * 200)
    child.stdin.close()
    assert child.stderr.read() == b"" and child.wait() == 1
