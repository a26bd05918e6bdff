"""Reading the bundled sample's files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lrengine.demo.sample import read_lines
from lrengine.errors import DataError


def test_only_line_feeds_end_a_line(tmp_path: Path) -> None:
    rows = [{"en": "one\u2028two\u0085three\x0bfour"}, {"en": "five"}]
    path = tmp_path / "ui.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    assert read_lines(path) == rows


def test_a_line_that_is_no_object_is_named(tmp_path: Path) -> None:
    (tmp_path / "ui.jsonl").write_text('{"en": "one"}\n{"en": \n')
    with pytest.raises(DataError, match=r"ui\.jsonl:2: not JSON"):
        read_lines(tmp_path / "ui.jsonl")
