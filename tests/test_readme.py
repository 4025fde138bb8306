"""What the README promises exists: links, files, make targets, commands and their flags, runnable examples."""

import importlib
import re
import shlex
from pathlib import Path

import pytest
import torch

CHECKOUT = Path(__file__).resolve().parents[1]
README = (CHECKOUT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, re.DOTALL)
SHELL_LINES = [line.strip() for kind, block in BLOCKS if kind in ("", "sh", "bash", "console")
               for line in block.replace("\\\n", " ").splitlines()]
INLINE = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", README, flags=re.DOTALL))
COMMANDS = [line.split("#")[0].removeprefix("$ ").strip() for line in [*SHELL_LINES, *INLINE]]


def test_relative_links_lead_to_files():
    links = re.findall(r"\]\(([^)\s]+)\)", README) + re.findall(r"(?:src|href)=\"([^\"]+)\"", README)
    missing = [link for link in links if "://" not in link and not link.startswith("#")
               and not (CHECKOUT / link.split("#")[0]).exists()]
    assert not missing


def test_make_targets_exist():
    makefile = (CHECKOUT / "Makefile").read_text()
    targets = {word for command in COMMANDS if command.startswith("make ") for word in command.split()[1:]
               if "=" not in word}
    assert targets and all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)


def python_commands():
    """(module, words after it) of every `python -m poster_ada...` in the README."""
    found = [re.search(r"python3? -m (poster_ada[\w.]*)(.*)", command) for command in COMMANDS]
    return sorted({(match[1], match[2].strip()) for match in found if match})


@pytest.mark.parametrize(("module", "words"), python_commands())
def test_commands_know_their_flags(module, words, capsys):
    package = importlib.util.find_spec(module).submodule_search_locations
    main = importlib.import_module(f"{module}.__main__" if package else module).main
    given = [word for word in shlex.split(words) if not word.startswith("-")]
    with pytest.raises(SystemExit) as stop:
        main([*given[:1], "--help"] if package else ["--help"])
    assert not stop.value.code
    text = capsys.readouterr().out
    flags = {word.split("=")[0] for word in shlex.split(words) if word.startswith("-")}
    assert all(re.search(rf"(?<![\w-]){re.escape(flag)}(?![\w-])", text) for flag in flags)


@pytest.mark.parametrize("block", [block for kind, block in BLOCKS if kind == "python"])
def test_python_examples_run(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "README.md", "exec"), {"images": torch.zeros(1, 3, 224, 224)})  # noqa: S102
