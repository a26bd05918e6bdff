"""Column choices: a column's name, or a template such as `Premise: {premise} Hypothesis: {hypothesis} Label: `."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any

from lrengine.data.files import Row
from lrengine.errors import DataError

FIELD = re.compile(r"\{\{|\}\}|\{([^{}]*)\}")


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the closest known name, or the list of names if none is close."""
    names = [str(candidate) for candidate in known]
    close = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean '{close[0]}'?" if close else f"; there are: {', '.join(names) or 'none'}"


def cell(row: Row, column: str) -> str:
    """The text of one cell, '' for null. Numbers and booleans become text, lists and objects are errors."""
    if column not in row.values:
        raise DataError(f"{row.place}: no column '{column}'{nearest(column, row.values)}")
    return as_text(row, column, row.values[column])


def as_text(row: Row, column: str, value: Any) -> str:
    """`value` as text; DataError naming the place for anything that is not one string, number or boolean."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, (int, float)):
        return str(value)
    raise DataError(f"{row.place}: column '{column}': expected text, found {type(value).__name__}")


def is_template(choice: str) -> bool:
    return "{" in choice


def fill(choice: str, row: Row) -> str:
    """The text that `choice` (a column's name or a template) gives for a row."""
    return fill_template(choice, row) if is_template(choice) else cell(row, choice)


def fill_template(template: str, row: Row) -> str:
    """`template` with every `{column}` replaced by the row's text. `{{` and `}}` stand for braces."""

    def substitute(match: re.Match[str]) -> str:
        return match[0][0] if match[1] is None else cell(row, match[1])

    return FIELD.sub(substitute, template)
