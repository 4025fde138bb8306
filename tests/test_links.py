"""Links in every Markdown file and notebook: relative ones lead somewhere, headings too; addresses are well formed.

`make lint` runs this file. Addresses are not visited: that needs a network. (pytest-check-links was tried: it does not
know the headings of other files, nor how GitHub names them.)
"""

import re
import subprocess
from collections import Counter
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
from markdown_it import MarkdownIt

CHECKOUT = Path(__file__).resolve().parents[1]
ADDRESS = re.compile(r"https?://[\w.-]+\.\w+(:\d+)?([/?#]\S*)?$|http://localhost:\d+\S*$")
PARSER = MarkdownIt("gfm-like", {"linkify": False})


def documents():
    found = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md", "*.ipynb"],
                           cwd=CHECKOUT, capture_output=True, text=True, check=False).stdout.split("\n")
    return sorted(name for name in found if name and (CHECKOUT / name).is_file())


@cache
def tokens_of(path):
    """Every token of a document's Markdown, those inside lines too; a notebook's cells one after another."""
    text = path.read_text(encoding="utf-8")
    cells = [text] if path.suffix == ".md" else [
        cell.source for cell in nbformat.reads(text, as_version=4).cells if cell.cell_type == "markdown"]
    return [token for cell in cells for token in PARSER.parse(cell)]


def inner(token):
    return [token, *(token.children or [])]


def headings_of(path):
    """The anchors of a document: GitHub's, and in a notebook JupyterLab's too."""
    tokens, seen, anchors = tokens_of(path), Counter(), set()
    for opened, token in zip(tokens, tokens[1:], strict=False):
        if opened.type == "heading_open":
            words = "".join(part.content for part in token.children if part.type in ("text", "code_inline"))
            name = re.sub(r"[^\w\- ]", "", words.strip().lower()).replace(" ", "-")
            anchors.add(name + (f"-{seen[name]}" if seen[name] else ""))
            seen[name] += 1
            if path.suffix == ".ipynb":
                anchors.add(words.strip().replace(" ", "-"))
    return anchors


def targets_of(path):
    for token in tokens_of(path):
        for part in inner(token):
            if part.type in ("link_open", "image"):
                yield str(part.attrs.get("href") or part.attrs.get("src"))
            elif part.type in ("html_inline", "html_block"):
                yield from re.findall(r"(?:href|src)=[\"']([^\"']+)", part.content)


def broken(path):
    """What is wrong with a document's links, one sentence each."""
    wrong = [f"is no link: {part.content[:80]!r}" for token in tokens_of(path) for part in inner(token)
             if part.type == "text" and re.search(r"\]\(|\]\[\w", part.content)]
    for target in targets_of(path):
        if urlsplit(target).scheme:
            if not ADDRESS.match(target) and not target.startswith(("mailto:", "data:", "attachment:")):
                wrong.append(f"is no address: {target}")
            continue
        place, _, anchor = unquote(target).partition("#")
        file = (path.parent / place).resolve() if place else path
        if place.startswith("/") or not file.is_relative_to(CHECKOUT) or not file.exists():
            wrong.append(f"leads nowhere: {target}")
        elif anchor and file.suffix in (".md", ".ipynb") and anchor not in headings_of(file):
            wrong.append(f"has no such heading: {target}")
    return wrong


@pytest.mark.parametrize("name", documents())
def test_links_lead_somewhere(name):
    assert broken(CHECKOUT / name) == []


def test_each_kind_of_broken_link_is_found(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "CHECKOUT", tmp_path)
    (tmp_path / "other.md").write_text("# A `b`, c\n\n## Twice\n\n## Twice\n")
    page = tmp_path / "page.md"
    page.write_text("[good](other.md#a-b-c) [good](other.md#twice-1) [good](https://arxiv.org/abs/2204.00964)\n\n"
                    "[1](none.md) [2](other.md#twice-2) [3](https://no host) [4](https://nohost) ![5](none.png)\n"
                    "<img src=\"gone.png\"> [6](../outside.md)\n")
    assert [text.split(":")[0] for text in broken(page)] == [
        "is no link", "leads nowhere", "has no such heading", "is no address", "leads nowhere", "leads nowhere",
        "leads nowhere"]
