"""Command lines: flags from declared settings, both spellings of a name, one sentence for what is wrong."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, NoReturn

from poster_ada.settings import kind_of


class CommandParser(argparse.ArgumentParser):
    """`argparse` whose flags are shown in one spelling and understood in the published ones too: with underscores
    instead of hyphens, and under other names.

    What is wrong with a command line is said in one line, with exit status 2.

    Args:
        name: of the command, or empty for one inside another, whose `prog` is given.
        other_names: flag as published -> flag as shown.
    """

    def __init__(self, name: str = "", other_names: Mapping[str, str] | None = None, **choices: Any) -> None:
        super().__init__(**({"prog": f"python -m poster_ada.{name}"} | choices))
        self.other_names = dict(other_names or {})

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        given = list(sys.argv[1:] if args is None else args)
        return super().parse_known_args([self._as_shown(word) for word in given], namespace)

    def _as_shown(self, word: str) -> str:
        flag, equals, value = word.partition("=")
        shown = flag.replace("_", "-")
        shown = self.other_names.get(shown, shown)
        return shown + equals + value if word.startswith("--") and shown in self._option_string_actions else word

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}; `{self.prog} --help` lists the flags.\n")


def add_settings(
    group: argparse._ActionsContainer, config_class: type, names: Sequence[str],
    other_defaults: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """Add a flag for each named setting, with its help, type, choices and defaults; one left out parses to None.

    Args:
        other_defaults: by a word (a preset), what it sets otherwise.
    """
    declared = {field.name: field for field in fields(config_class)}
    for name in names:
        field, kind = declared[name], kind_of(config_class, name)
        others = [f"{word} {values[name]}" for word, values in (other_defaults or {}).items() if name in values]
        defaults = "; ".join([*([] if field.default in (None, "") else [str(field.default)]), *others])
        text = field.metadata["help"] + (f" (default {defaults})" if defaults else "")
        how: dict[str, Any] = {"action": argparse.BooleanOptionalAction} if kind is bool else {"type": kind}
        if field.metadata["choices"]:
            how["choices"] = field.metadata["choices"]
        elif kind is not bool:
            how["metavar"] = {int: "N", float: "X"}.get(kind, "TEXT")
        group.add_argument(f"--{name.replace('_', '-')}", dest=name, default=None, help=text.replace("%", "%%"), **how)


def given_settings(args: argparse.Namespace, *config_classes: type) -> dict[str, Any]:
    """The settings of these dataclasses that the command line named, by name."""
    known = {field.name for config_class in config_classes for field in fields(config_class)}
    return {name: value for name, value in vars(args).items() if name in known and value is not None}
