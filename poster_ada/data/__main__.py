"""Check a face set, or fetch one: `python -m poster_ada.data check ROOT`, `python -m poster_ada.data fetch faces`."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Sequence
from pathlib import Path

from poster_ada.data.check import DataWarning
from poster_ada.data.datasets import open_dataset
from poster_ada.data.fetch import URL, fetch_faces
from poster_ada.errors import command


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Command line of the data package."""
    parser = argparse.ArgumentParser(prog="python -m poster_ada.data", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser("check", help="open a face set, decode every picture, print what is in it")
    check.add_argument("root", type=Path, help="folder of the set")
    check.add_argument("--classes", type=int, choices=(7, 8), help="which of AffectNet's label files")
    fetch = commands.add_parser("fetch", help="download a public face set and convert it into RAF-DB's layout")
    fetch.add_argument("set", choices=("faces",), help="faces: muxspace/facial_expressions (Apache-2.0), LFW and IMFDB")
    fetch.add_argument("--out", type=Path, default=Path("data/faces"), help="folder to make (default: %(default)s)")
    fetch.add_argument("--archive", default=URL, help="zip file or address to use instead of %(default)s")
    fetch.add_argument("--source", type=Path, help="folder of the unpacked archive (images/, data/legend.csv)")
    fetch.add_argument("--cap", type=int, default=750, help="most faces of Happiness and of Neutral each; 0 keeps all")
    given = parser.parse_args(argv)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # the table says the same
        if given.command == "fetch":
            faces = open_dataset(fetch_faces(given.out, given.archive, given.source, given.cap))
        else:
            faces = open_dataset(given.root, num_classes=given.classes)
        print(faces.findings.table())


if __name__ == "__main__":
    main()
