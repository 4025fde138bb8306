"""Recognise your own pictures and videos: `python -m poster_ada.predict photo.jpg`."""

from __future__ import annotations

import json
import os
import sys
from argparse import Namespace
from collections.abc import Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from poster_ada.checkpoints.names import SHIPPED
from poster_ada.devices import DEVICES
from poster_ada.errors import UNWRITABLE, InputError, command
from poster_ada.files import write_atomically
from poster_ada.flags import CommandParser
from poster_ada.model.precision import PRECISIONS
from poster_ada.recognition.cache import cached_detector
from poster_ada.recognition.manners import MANNERS

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from poster_ada.recognition.recognizer import Recognizer

TABLE = "predictions.csv"
SHOWN_ROWS = 20
COPIES = (".jpg", ".png", ".mp4", "-explained.png")  # what a file's annotated copies end in
LONGEST_STEM = 220  # bytes; a file name may have 255, and numbers and endings come behind it
JPEG_SIDE = 65_500  # pixels, the most that a JPEG file has


def parser() -> CommandParser:
    """Command line."""
    p = CommandParser(
        "predict", description="Find the faces in pictures and videos, align them as the checkpoint expects, and name "
        f"their expressions. Writes {TABLE} and annotated copies. {MANNERS}",
        epilog="Faces are found by the YuNet detector (232 kB, MIT), downloaded at first use "
        f"to {cached_detector()}; where there is no network: python -m poster_ada.download detector elsewhere, which "
        "prints the file's place, and --detector FILE here. Example: python -m poster_ada.predict photo.jpg holiday/ "
        "--out out")
    p.add_argument("sources", nargs="*", metavar="SOURCE", help="pictures, folders (searched to any depth), patterns "
                   "('*.jpg') or videos")
    p.add_argument("-c", "--checkpoint", default=next(iter(SHIPPED)), metavar="FILE", help=".safetensors or .pth, or "
                   f"{', '.join(SHIPPED)}, which comes with the package (default)")
    p.add_argument("--out", default="runs/predict", metavar="DIR", help="where to write (default runs/predict)")
    p.add_argument("--crop", choices=("auto", "detect", "none"), default="auto", help="detect finds faces; none takes "
                   "pictures that are faces already whole; auto finds them, and takes a picture whole that has none "
                   "and is hardly larger than a face crop (default auto)")
    p.add_argument("--min-score", type=float, metavar="S", help="least score of a detection, 0..1 (default 0.5)")
    p.add_argument("--detector", metavar="FILE", help="the detector's file, instead of downloading it")
    p.add_argument("--explain", action="store_true", help="also write where Grad-CAM says each stream looked")
    p.add_argument("--no-pictures", action="store_true", help="write the table alone")
    p.add_argument("--json", action="store_true", help="print one JSON object per face instead of a table")
    p.add_argument("--webcam", type=int, nargs="?", const=0, metavar="N", help="live, from camera N (default 0), in a "
                   "window, or where OpenCV has none on the page (extra app); q or Ctrl-C ends it")
    p.add_argument("--device", choices=DEVICES, default="auto", help="cpu to leave GPUs alone (default auto)")
    p.add_argument("--gpu", metavar="0", help="GPU to use (default: the first, or the CPU)")
    p.add_argument("--precision", choices=PRECISIONS, default="float32", help="default float32")
    p.add_argument("--quiet", action="store_true", help="no progress bar, no table")
    return p


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Command line. The exit status is 1 where a file could not be read; the others are done all the same."""
    args = parser().parse_args(argv)
    if not args.sources and args.webcam is None:
        raise InputError("no picture was named; give pictures, folders or a video, or --webcam.")
    if args.sources and args.webcam is not None:
        raise InputError("--webcam takes no pictures beside it; leave out one of them.")
    if args.webcam is not None and args.webcam < 0:
        raise InputError(f"--webcam is {args.webcam}; cameras are counted from 0.")
    if args.min_score is not None and not 0 <= args.min_score <= 1:
        raise InputError(f"--min-score is {args.min_score}; it must lie in 0..1.")
    from poster_ada.recognition.sources import files_of

    out = Path(args.out)
    # A name that is not there is told before anything is loaded.
    files = files_of(args.sources, out) if args.sources else []
    if args.webcam is None:
        spare_the_users_files(files, out, not args.no_pictures)
    if args.explain and find_spec("pytorch_grad_cam") is None:
        raise InputError("--explain needs grad-cam: pip install 'poster-ada[notebooks]', or leave out --explain.")
    from poster_ada.devices import choose_device
    from poster_ada.recognition.closer import LEAST_SCORE
    from poster_ada.recognition.recognizer import Recognizer

    recognizer = Recognizer(
        args.checkpoint, crop=args.crop, device=str(choose_device(args.device, args.gpu)), precision=args.precision,
        detector=args.detector, least_score=LEAST_SCORE if args.min_score is None else args.min_score)
    if recognizer.note:
        print(f"note: {recognizer.note}", file=sys.stderr)
    if args.webcam is not None:
        from poster_ada.recognition.camera import check_camera, has_windows, show_live
        from poster_ada.recognition.serving import serve_page

        if has_windows():
            show_live(recognizer, args.webcam)
        else:
            check_camera(args.webcam)
            print("note: this OpenCV has no windows, so the camera is shown by the page.", file=sys.stderr)
            serve_page(recognizer)
        return 0
    try:
        out.mkdir(parents=True, exist_ok=True)
        with (out / TABLE).open("w", encoding="utf-8", newline="") as table:
            return recognise(recognizer, files, out, table, args)
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        raise InputError(f"{error.filename or out} cannot be written ({error.strerror}); choose another --out."
                         ) from None


def spare_the_users_files(files: Sequence[Path], out: Path, pictures: bool) -> None:
    """Whether what is written into `out` goes over nothing but what this command wrote there before.

    Raises:
        InputError: a source lies there, or stands behind a link there; or a file of a name that would be written does,
            and the folder is not one of an earlier run.
    """
    if not out.is_dir():
        return
    if pictures and (own := [file for file in files if file.resolve().parent == out.resolve()]):
        raise InputError(f"{own[0]} lies in {out}, where its annotated copy would go over it; choose another --out, or "
                         "write the table alone with --no-pictures.")
    stems = [Path(name).stem for name in annotated_names(files).values()] if pictures else []
    names = [TABLE, *(stem + ending for stem in stems for ending in COPIES)]
    there = [out / name for name in names if (out / name).is_file() or (out / name).is_symlink()]
    links = [path for path in there if path.is_symlink() or path.stat().st_nlink > 1]
    if links or there and not is_earlier_run(out):
        raise InputError(f"{(links or there)[0]} is there already and this command did not write it; choose another "
                         "--out.")


def is_earlier_run(folder: Path) -> bool:
    """Whether the folder's table is one of this command's: with its columns, or empty, where no file could be read."""
    try:
        with (folder / TABLE).open(encoding="utf-8") as table:
            return not (line := table.readline()) or line.startswith(("file,face,x,y,", "file,time,track,face,x,y,"))
    except (OSError, UnicodeDecodeError):
        return False


def recognise(recognizer: Recognizer, files: list[Path], out: Path, table: TextIO, args: Namespace) -> int:
    """Every file in turn, its rows written as soon as they are known; returns the exit status."""
    import pandas as pd
    from tqdm import tqdm

    from poster_ada.recognition.recognizer import POINTS, as_array, taken_whole
    from poster_ada.recognition.sources import is_video
    from poster_ada.recognition.video import PROGRESS_AFTER, recognise_video

    quiet, shown, broken = args.quiet, [], 0
    names, timed = annotated_names(files), any(map(is_video, files))
    with tqdm(files, unit="file", desc="recognising", disable=quiet or len(files) == 1, delay=PROGRESS_AFTER,
              leave=False) as bar:
        for path in bar:
            name = str(path).encode(errors="backslashreplace").decode()  # bytes that are no text have names, too
            try:
                if is_video(path):
                    copy = None if args.no_pictures else (out / names[path]).with_suffix(".mp4")
                    frames = []
                    for rows in recognise_video(recognizer, path, copy, quiet):
                        rows["file"] = name
                        write_rows(rows.drop(columns=[*POINTS]), table, args.json)
                        frames.append(rows)
                    whole = pd.concat(frames, ignore_index=True)
                    if copy is not None:
                        plot_beside(whole, copy.with_suffix(".png"))
                    shown.append(whole.groupby("track").head(1))
                else:
                    image = as_array(path)
                    rows = recognizer(image).assign(file=name)
                    if timed:  # one table has one header
                        rows.insert(1, "time", None)
                        rows.insert(2, "track", None)
                    write_rows(rows.drop(columns=[*POINTS]), table, args.json)
                    save_pictures(recognizer, image, rows, out / names[path], args)
                    shown.append(rows)
            except InputError as error:
                broken += 1
                tqdm.write(f"error: {error}", file=sys.stderr)
    if shown and not quiet and not args.json:
        rows = pd.concat(shown, ignore_index=True)
        print(short_table(rows, len(files)))
        if args.crop == "auto" and (whole := rows.loc[taken_whole(rows), "file"].nunique()):
            print(f"{whole} taken whole: no face was found, and hardly larger than a face crop.")
        print(f"Everything is in {out}.")
    return 1 if broken else 0


def plot_beside(table: pd.DataFrame, path: Path) -> None:
    """The plot over a video's time; without matplotlib, which is in an extra, a word on how to get it."""
    from poster_ada.recognition.video import plot_over_time

    try:
        plot_over_time(table, path)
    except ModuleNotFoundError as error:
        print(f"note: no plot {path}, which needs {error.name}: pip install 'poster-ada[notebooks]'.", file=sys.stderr)


def write_rows(rows: pd.DataFrame, table: TextIO, as_json: bool) -> None:
    """Add rows to the table, which is up to date after every file or frame; and print them, if asked."""
    rows.to_csv(table, index=False, header=table.tell() == 0, float_format="%.6g", lineterminator="\n")
    table.flush()
    if as_json:
        for row in json.loads(rows.to_json(orient="records")):
            print(json.dumps(row, ensure_ascii=False), flush=True)


def annotated_names(files: Sequence[Path]) -> dict[Path, str]:
    """For every file a name of its own for its annotated copy, also where large and small letters are the same."""
    names: dict[Path, str] = {}
    taken: set[str] = set()
    for path in files:
        number, stem = 1, shortened(path.stem)
        name = stem
        while name.lower() in taken:
            number += 1
            name = f"{stem}-{number}"
        taken.add(name.lower())
        names[path] = f"{name}.jpg"
    return names


def shortened(stem: str) -> str:
    """The beginning of a name that is too long for an ending behind it."""
    whole = os.fsencode(stem)
    return stem if len(whole) <= LONGEST_STEM else whole[:LONGEST_STEM].decode("utf-8", "ignore")


def save_pictures(recognizer: Recognizer, image: np.ndarray, rows: pd.DataFrame, copy: Path, args: Namespace) -> None:
    """The annotated copy of a picture, and its explanation where it is asked for; each whole or not there."""
    if args.no_pictures:
        return
    kind = "JPEG" if max(image.shape) <= JPEG_SIDE else "PNG"
    write_atomically(copy if kind == "JPEG" else copy.with_suffix(".png"),
                     partial(recognizer.draw(image, rows).save, format=kind, quality=92))
    if args.explain and (rows["face"] > 0).any():
        write_atomically(copy.with_name(f"{copy.stem}-explained.png"),
                         partial(recognizer.explain(image, rows).save, format="PNG"))


def short_table(rows: pd.DataFrame, files: int) -> str:
    """The first rows for the eye, and how many faces there were."""
    short = rows.head(SHOWN_ROWS)
    confidence = short["confidence"].map(lambda value: "" if value != value else f"{value:.0%}")
    doubt = [each if isinstance(each, str) else "" for each in short["doubt"]]
    shown = short[["file", "face", "prediction"]].assign(confidence=confidence, doubt=doubt)
    faces, left = int((rows["face"] > 0).sum()), len(rows) - len(short)
    return shown.to_string(index=False) + (f"\n... and {left} more rows" if left else "") + (
        f"\n{faces} face{'' if faces == 1 else 's'} in {files} file{'' if files == 1 else 's'}")


if __name__ == "__main__":
    main()
