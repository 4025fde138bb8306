"""Renders the demo set, one face of it, its contact sheet, or measures how hard it is for a linear model.

python -m data.renderer --out data/demo --jobs 2
python -m data.renderer --face 17 --out one_face
python -m data.renderer --sheet figures/demo_contact_sheet.png
python -m data.renderer --difficulty
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
from pathlib import Path

from tqdm import tqdm

from . import difficulty, sheet
from .plan import Face, faces

DEMO = Path(__file__).parents[1] / "demo"


def _write_tables(out: Path, records: list[dict]) -> None:
    out.joinpath("EmoLabel").mkdir(parents=True, exist_ok=True)
    lines = [f"{r['file']} {r['label']}" for r in records]
    out.joinpath("EmoLabel/list_patition_label.txt").write_text("\n".join(lines) + "\n")
    for table in ("landmarks", "quality", "identity", "action_units"):
        rows = [{"file": r["file"]} | r[table] for r in records]
        with out.joinpath(f"{table}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


def _save(out: Path, face: Face, jpeg: bytes) -> None:
    folder = out / "Image" / "aligned"
    folder.mkdir(parents=True, exist_ok=True)
    folder.joinpath(face.aligned_file).write_bytes(jpeg)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m data.renderer", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="folder to write the set (or the one face) to")
    parser.add_argument("--face", type=int, help="remake only the face of this number, 1..1918")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--sheet", type=Path, help="draw the contact sheet of data/demo to this PNG")
    parser.add_argument("--difficulty", action="store_true", help="test accuracy of a linear model on data/demo")
    args = parser.parse_args()
    if not (args.out or args.sheet or args.difficulty):
        parser.error("nothing to do: give --out, --sheet or --difficulty")
    if args.face is not None and not 1 <= args.face <= len(faces()):
        parser.error(f"--face must be 1..{len(faces())}, got {args.face}")
    if args.out and args.face:
        from .make import make

        face = faces()[args.face - 1]
        jpeg, record = make(face)
        _save(args.out, face, jpeg)
        print(args.out / "Image" / "aligned" / face.aligned_file, record["quality"])
    elif args.out:
        from .make import make, prepare

        prepare()  # the cache is made once, before the processes need it
        records = []
        with multiprocessing.get_context("spawn").Pool(args.jobs) as pool:
            work = pool.imap(make, faces(), chunksize=16)
            for face, (jpeg, record) in zip(
                faces(), tqdm(work, total=len(faces()), unit="face", mininterval=5), strict=True
            ):
                _save(args.out, face, jpeg)
                records.append(record)
        _write_tables(args.out, records)
    if args.sheet:
        sheet.draw(DEMO, args.sheet)
    if args.difficulty:
        difficulty.report(DEMO)


if __name__ == "__main__":
    main()
