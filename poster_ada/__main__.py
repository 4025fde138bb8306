"""All commands under one name: `poster-ada train ...` is `python -m poster_ada.train ...`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

COMMANDS = {
    "train": "train a model on a face set",
    "predict": "find the faces in your own pictures and videos and name their expressions",
    "app": "a page for your own pictures, on this machine",
    "test": "test a checkpoint on a face set",
    "data": "check a face set, or fetch one",
    "download": "fetch the published weights",
    "rafdb": "check RAF-DB and test the published checkpoints on it",
    "report": "run the notebooks and typeset the paper",
    "study": "compare AdaFace's head with MLP on real faces",
    "export": "write a checkpoint for ONNX Runtime or OpenVINO",
    "landmarks": "train the landmark stream of a small preset",
}


def main(argv: Sequence[str] | None = None) -> None:
    """Command line of the `poster-ada` script."""
    name, *rest = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    if name in COMMANDS:
        import_module(f"poster_ada.{'data.__main__' if name == 'data' else name}").main(rest)
    elif name in ("-h", "--help"):
        width = max(map(len, COMMANDS))
        print("usage: poster-ada COMMAND ...\n")
        print("\n".join(f"  {command:{width}}  {what}" for command, what in COMMANDS.items()))
        print("\n`poster-ada COMMAND --help` lists a command's flags. Try: poster-ada train --demo")
    else:
        sys.exit(f"error: there is no command {name!r}; choose one of {', '.join(COMMANDS)}.")


if __name__ == "__main__":
    main()
