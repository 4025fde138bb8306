"""Fetch the published weights, or the face detector: `python -m poster_ada.download`."""

from __future__ import annotations

from collections.abc import Sequence

from poster_ada.checkpoints.names import AUTHORS, DRIVE_FOLDERS
from poster_ada.errors import command
from poster_ada.flags import CommandParser


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = CommandParser("download", description="Fetch the published weights from the POSTER authors' Google Drive, "
                           f"to which their repository {AUTHORS} links; what arrives is checked tensor by tensor.")
    parser.add_argument(
        "what", nargs="?", choices=(*DRIVE_FOLDERS, "detector"),
        help="pretrained: IR-50 and MobileFaceNet into models/pretrain; rafdb: POSTER-l into checkpoint (both); "
        "detector: YuNet, which finds faces in photographs (232 kB, from its author), into the user's cache folder",
    )
    what = parser.parse_args(argv).what
    if what == "detector":
        from poster_ada.recognition.detector import find_detector

        print(find_detector())
        return
    from poster_ada.checkpoints.drive import fetch_published

    for name in [what] if what else DRIVE_FOLDERS:
        fetch_published(name)


if __name__ == "__main__":
    main()
