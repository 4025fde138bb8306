"""Label files: lines of a picture's name and its label, tables with a header, and the words people use for classes."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from poster_ada.data.formats import is_picture
from poster_ada.errors import InputError

_WORDS = {
    "Surprise": ("surprise", "surprised", "suprise", "suprised"),  # the misspelling is common in folder names
    "Fear": ("fear", "fearful", "afraid"),
    "Disgust": ("disgust", "disgusted"),
    "Happiness": ("happiness", "happy", "joy"),
    "Sadness": ("sadness", "sad"),
    "Anger": ("anger", "angry"),
    "Neutral": ("neutral",),
    "Contempt": ("contempt", "contemptuous"),
}
_EXPRESSION = {word: expression for expression, words in _WORDS.items() for word in words}


def expression_of(word: str) -> str | None:
    """The expression class a word stands for, in any case, numbered or not: `"happy"`, `"3_Happy"`, `"happy-3"` are
    `"Happiness"`; None for any other word."""
    bare = re.sub(r"^\d+[\s_.\-]*|[\s_.\-]*\d+$", "", word.strip().lower())
    return _EXPRESSION.get(bare)


def class_meaning(name: str) -> str:
    """What a class name stands for: the same for `Happiness` and `happy`; the name itself, in small letters, where it
    is no expression."""
    return expression_of(name) or name.strip().casefold()


@dataclass(frozen=True)
class LabelRow:
    """One line of a label file."""

    file: str
    label: int  # as the file numbers it
    where: str  # file and line, for messages


def read_labels(path: Path, allowed: range) -> list[LabelRow]:
    """Rows of a label file, each a picture's name and one whole number.

    A tab separates the two, or the name ends in a picture's suffix, so that it may hold blanks. A line of any other
    form is an InputError that names it: with a third column nobody can tell which number is the label.
    """
    rows: list[LabelRow] = []
    seen: dict[str, int] = {}
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise _missing(path) from None
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from None
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line:
            continue
        where = f"{path} line {number}"
        file, _, word = (part.strip() for part in (line.partition("\t") if "\t" in line else line.rpartition(" ")))
        if not file or not re.fullmatch(r"[+-]?\d{1,9}", word) or ("\t" not in line and not is_picture(file)):
            raise InputError(f"{where}: expected a file name and a whole number, nothing else, found {line[:80]!r}; "
                             "mend the line.")
        if int(word) not in allowed:
            raise InputError(f"{where}: label {int(word)} of {file} is not in {allowed.start}..{allowed.stop - 1}; "
                             "mend the line, or all of them if the labels are numbered from another start.")
        refuse_escape(file, where)
        if file in seen:
            raise InputError(f"{where}: {file} is listed a second time (first in line {seen[file]}); remove one line.")
        seen[file] = number
        rows.append(LabelRow(file, int(word), where))
    return rows


def refuse_escape(file: str, where: str) -> None:
    """Raise InputError for a name that would lead out of the set's folder, or that no file can have."""
    if not file.isprintable():
        raise InputError(f"{where}: {file[:80]!r} holds a character that no file name has; mend the line.")
    parts = re.split(r"[/\\]", file)
    if Path(file).is_absolute() or ".." in parts:
        raise InputError(f"{where}: {file!r} leads out of the set's folder; only plain names are read.")


def read_table(
    path: Path, columns: Sequence[str], without_header: Sequence[str] | None = None,
) -> Iterator[tuple[int, Mapping[str, str]]]:
    """Line number and fields of each row of a table of comma-separated values that has at least these `columns`.

    `without_header` names the columns of a file whose first line may be a row already. Blanks around names and fields
    are dropped. Raises InputError for a missing column and for a row with more or fewer fields than there are names.
    """
    names: Sequence[str] | None = None
    for number, fields in _csv_rows(path):
        if names is None and set(columns) <= set(fields):
            names = fields
            continue
        if names is None and without_header is not None and len(fields) == len(without_header):
            names = without_header
        if names is None:
            missing = next(name for name in columns if name not in fields)
            raise InputError(f"{path} is not a table with the columns {','.join(columns)} ({missing!r} is missing); "
                             "copy it again from the data set's archive.")
        if len(fields) != len(names):
            raise InputError(f"{path} line {number}: {len(fields)} fields where {len(names)} are expected "
                             f"({','.join(names)[:80]}); mend the line.")
        yield number, dict(zip(names, fields, strict=True))


def _csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line number and fields of every line that is not empty, read as they are needed: tables of pixels are large."""
    csv.field_size_limit(1 << 24)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, skipinitialspace=True, strict=True)
            for fields in reader:
                if any(fields):
                    yield reader.line_num, [field.strip() for field in fields]
    except FileNotFoundError:
        raise _missing(path) from None
    except csv.Error as error:
        raise InputError(f"{path} is not a table of comma-separated values ({one_line(error)}); copy it "
                         "again.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from None


def whole_number(word: str, where: str, what: str) -> int:
    """`word` as a whole number that is not negative, or InputError."""
    if not re.fullmatch(r"\d{1,9}", word):
        raise InputError(f"{where}: {what} should be a whole number, found {word[:20]!r}; mend the line.")
    return int(word)


def one_line(error: Exception) -> str:
    """What an error of a library says, in one line, for the end of a sentence."""
    return " ".join(str(error).split()) or type(error).__name__


def _missing(path: Path) -> InputError:
    return InputError(f"the label file {path} is missing; copy it there from the data set's archive.")


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError(f"the label file {path} cannot be read as text ({one_line(error)}); copy it again.")
