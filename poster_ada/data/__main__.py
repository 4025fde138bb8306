"""Check a face set, fetch one, or measure where its faces lie or how well anyone can do on it:
`python -m poster_ada.data check ROOT`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from poster_ada.errors import command
from poster_ada.flags import CommandParser

# Modules that load torch are imported once the flags are read, so that --help answers at once.

OTHER_SETS = """how to get the other sets (data/README.md tells more, and every layout that opens):
  FER+    clone github.com/microsoft/FERPlus, put fer2013.csv from the Kaggle challenge "Challenges in Representation
          Learning" beside its fer2013new.csv, and check that folder; or run its script first, and check its data/
  RAF-DB  ask its authors: http://www.whdeng.cn/RAF/model1.html
  AffectNet  ask its authors: http://mohammadmahoor.com/pages/databases/affectnet/
"""


def parser() -> CommandParser:
    """Flags of all commands."""
    flags = CommandParser("data", description=__doc__, epilog=OTHER_SETS,
                          formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = flags.add_subparsers(dest="command", required=True)
    check = commands.add_parser("check", help="open a face set, decode every picture, print what is in it")
    check.add_argument("root", type=Path, help="folder of the set, or one of its label files where it has several")
    check.add_argument("--classes", type=int, choices=(7, 8), help="read AffectNet or FER+ with so many classes")
    fetch = commands.add_parser("fetch", help="download a public face set and convert it into RAF-DB's layout")
    fetch.add_argument("set", choices=("faces",), help="faces: muxspace/facial_expressions (Apache-2.0), LFW and IMFDB")
    fetch.add_argument("--out", type=Path, default=Path("data/faces"), help="folder to make (default: %(default)s)")
    fetch.add_argument("--archive", help="zip file or address to use instead of GitHub's")
    fetch.add_argument("--source", type=Path, help="folder of the unpacked archive (images/, data/legend.csv)")
    fetch.add_argument("--cap", type=int, default=750, help="most faces of Happiness and of Neutral each; 0 keeps all "
                       "(default: %(default)s)")
    template = commands.add_parser("template", help="measure where a set has its faces' eyes, nose and mouth, so that "
                                   "photographs can be aligned as a model trained on it expects")
    template.add_argument("root", type=Path, help="folder of the set")
    template.add_argument("--detector", metavar="FILE", help="the face detector's file, instead of downloading it")
    template.add_argument("--checkpoint", metavar="FILE", help="a .safetensors of this project, trained on this set, "
                          "to write the template into; its weights stay as they are")
    ceiling = commands.add_parser("ceiling", help="FER+: how often two rounds of votes on one picture agree, and so "
                                  "how well anyone can do on its test split; about half a minute")
    ceiling.add_argument("root", type=Path, help="folder of the set, with label.csv in its folders")
    ceiling.add_argument("--classes", type=int, choices=(7, 8), help="with so many classes (default: both)")
    ceiling.add_argument("--out", type=Path, metavar="FILE", help="write the table to this csv file too")
    return flags


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Command line of the data package."""
    given = parser().parse_args(argv)
    if given.command == "template":
        from poster_ada.recognition.template import report_template

        report_template(given.root, given.detector, given.checkpoint)
        return
    if given.command == "ceiling":
        from poster_ada.data.ceiling import noise_ceiling
        from poster_ada.files import write_atomically

        numbers = (given.classes,) if given.classes else (8, 7)
        table = noise_ceiling(given.root, numbers)
        print(table.drop(columns="assumes").to_string(index=False, float_format="%.1f"))
        if given.out is not None:
            write_atomically(given.out, lambda temporary: table.to_csv(temporary, index=False, float_format="%.4f"))
        return
    from poster_ada.data.check import check_dataset
    from poster_ada.data.datasets import open_dataset
    from poster_ada.data.fetch import URL, fetch_faces

    if given.command == "fetch":
        root, classes = fetch_faces(given.out, given.archive or URL, given.source, given.cap), None
    else:
        root, classes = given.root, given.classes
    faces = open_dataset(root, check=False, num_classes=classes, needs=())
    print(check_dataset(faces, near_copies=True).table())


if __name__ == "__main__":
    main()
