"""Reports: what one measurement found, or several of a suite in one file.

A report is what measure() returns. A suite's file is {"schema": 1, "parts": {name: report}}: contestants of one part
took turns, those of different parts did not meet, so each part has its own machine, bandwidth and rounds.
"""

from __future__ import annotations

from typing import Any

SCHEMA = 1


def parts_of(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """A report alone is its only part, without a name."""
    if "parts" in document:
        return dict(document["parts"])
    return {"": document}


def put_part(document: dict[str, Any] | None, name: str, report: dict[str, Any]) -> dict[str, Any]:
    """The suite's file with `report` as its part `name`, instead of what it had there."""
    parts = {} if document is None else parts_of(document)
    return {"schema": SCHEMA, "parts": parts | {name: report}}
