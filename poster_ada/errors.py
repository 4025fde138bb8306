"""Errors a user can mend: one sentence that says which file or value is wrong and what to do."""

from __future__ import annotations

import errno
import functools
import io
import os
import sys
from collections.abc import Callable, Sequence
from typing import Protocol

# Which extra of the package brings what only some commands need.
EXTRAS = dict.fromkeys(
    ("matplotlib", "seaborn", "nbformat", "papermill", "typst", "pytorch_grad_cam"), "notebooks") | {"gradio": "app"}

CLOSED = (errno.EACCES, errno.EPERM, errno.EROFS)  # to this user, or to writing
# A folder that cannot be made or written into.
UNWRITABLE = (*CLOSED, errno.EEXIST, errno.ENOTDIR, errno.ENOENT, errno.ENAMETOOLONG)


class InputError(ValueError):
    """Input from outside (file, folder, label, checkpoint, flag) is not usable; the message is one clear sentence."""


class Main(Protocol):
    """A command's entry point; None reads the flags of this process."""

    def __call__(self, argv: Sequence[str] | None = None) -> None: ...


def command(main: Callable[[Sequence[str] | None], int | None]) -> Main:
    """Make `main(argv)` a command: mendable errors become one line on stderr and a non-zero exit status.

    Status 2 is bad input or a file that is closed to the user, 74 a full disk, 130 Ctrl-C, 1 output that nobody reads
    any more; anything else is a bug and keeps its traceback.
    """

    @functools.wraps(main)
    def run(argv: Sequence[str] | None = None) -> None:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):  # a name that the console cannot show does not stop a run
                stream.reconfigure(errors="backslashreplace")
        try:
            sys.exit(main(argv) or 0)
        except InputError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)
        except ModuleNotFoundError as error:
            if (extra := EXTRAS.get((error.name or "").split(".")[0])) is None:
                raise
            print(f"error: this needs {error.name}: pip install 'poster-ada[{extra}]'.", file=sys.stderr)
            sys.exit(2)
        except KeyboardInterrupt:
            print("\nstopped by Ctrl-C; everything saved so far is intact.", file=sys.stderr)
            sys.exit(130)
        except BrokenPipeError:  # whoever read the output has seen enough, as `head` does
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left goes there at the exit
            sys.exit(1)
        except OSError as error:
            if error.errno in CLOSED and error.filename:
                print(f"error: {error.filename} cannot be opened or written ({error.strerror}); change its permissions "
                      "or choose another place.", file=sys.stderr)
                sys.exit(2)
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            print(f"error: the disk is full ({error.filename or 'while writing'}); free some space and run the same "
                  "command again.", file=sys.stderr)
            sys.exit(74)

    return run
