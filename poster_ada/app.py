"""A page for your own pictures, on this machine alone: `python -m poster_ada.app`."""

from __future__ import annotations

from collections.abc import Sequence

from poster_ada.checkpoints.names import SHIPPED
from poster_ada.devices import DEVICES
from poster_ada.errors import command
from poster_ada.flags import CommandParser
from poster_ada.recognition.manners import MANNERS


def parser() -> CommandParser:
    """Command line."""
    p = CommandParser("app", description="Open a page for your own pictures: drop one or use the camera, see the "
                      f"faces, their expressions, and where the model looked. {MANNERS}")
    p.add_argument("-c", "--checkpoint", default=next(iter(SHIPPED)), metavar="FILE", help=".safetensors or .pth, or "
                   f"{', '.join(SHIPPED)}, which comes with the package (default)")
    p.add_argument("--crop", choices=("auto", "detect", "none"), default="auto", help="as of python -m "
                   "poster_ada.predict (default auto)")
    p.add_argument("--detector", metavar="FILE", help="the face detector's file, instead of downloading it")
    p.add_argument("--device", choices=DEVICES, default="auto", help="cpu to leave GPUs alone (default auto)")
    p.add_argument("--port", type=int, default=7860, metavar="N", help="default 7860; only this machine can reach it")
    p.add_argument("--no-browser", action="store_true", help="only print the address")
    return p


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    args = parser().parse_args(argv)
    from poster_ada.recognition.recognizer import Recognizer
    from poster_ada.recognition.serving import serve_page

    recognizer = Recognizer(args.checkpoint, crop=args.crop, device=args.device, detector=args.detector)
    serve_page(recognizer, args.port, open_browser=not args.no_browser)


if __name__ == "__main__":
    main()
