"""Reading rows: every format gives the same rows, every fault names its place."""

import gzip
import json

import datasets
import pyarrow
import pytest
from pyarrow import parquet
from training_support import write_lines

from lrengine.data.files import read_dataset, read_rows
from lrengine.errors import DataError

ROWS = [{"text": "سالام، دۇنيا", "label": "1"}, {"text": "བོད་ཡིག\tx", "label": "2"}, {"text": 'say "hi"', "label": "3"}]


def values(path):
    return [row.values for row in read_rows(str(path))]


def test_every_format_gives_the_same_rows(tmp_path):
    write_lines(tmp_path / "a.jsonl", ROWS)
    with gzip.open(tmp_path / "b.jsonl.gz", "wt", encoding="utf-8") as stream:
        stream.write((tmp_path / "a.jsonl").read_text(encoding="utf-8"))
    (tmp_path / "c.csv").write_text(
        '\ufefftext,label\r\n"سالام، دۇنيا",1\r\nབོད་ཡིག\tx,2\r\n"say ""hi""",3\r\n', encoding="utf-8"
    )
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "d.parquet")
    for name in ("a.jsonl", "b.jsonl.gz", "c.csv", "d.parquet"):
        assert values(tmp_path / name) == ROWS, name


def test_quote_marks_in_tsv_are_text(tmp_path):
    (tmp_path / "a.tsv").write_text('text\tlabel\nhe said "no\t1\n"yes\t2\n', encoding="utf-8")
    assert values(tmp_path / "a.tsv") == [{"text": 'he said "no', "label": "1"}, {"text": '"yes', "label": "2"}]


def test_a_glob_reads_all_files_in_order_and_says_which_line(tmp_path):
    write_lines(tmp_path / "2.jsonl", ROWS[1:])
    write_lines(tmp_path / "1.jsonl", ROWS[:1])
    rows = list(read_rows(str(tmp_path / "*.jsonl")))
    assert [row.values for row in rows] == ROWS
    assert rows[2].place == f"{tmp_path / '2.jsonl'}:2"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"text": "x"}\n{"text": \n', r"a\.jsonl:2: not JSON"),
        ("a.jsonl", b"[1, 2]\n", r"a\.jsonl:1: expected a JSON object, found list"),
        ("a.jsonl", b'{"text": "\xff\xfe"}\n', r"a\.jsonl: unreadable"),
        ("a.jsonl", b"[" * 100_000, r"a\.jsonl:1: not JSON"),
        ("a.jsonl.gz", b"not gzip", r"a\.jsonl\.gz: unreadable"),
        ("a.csv", b"a,b\n1,2\n1,2,3\n", r"a\.csv:3: 3 cells, but the header has 2"),
        ("a.csv", b"", r"a\.csv: empty"),
        ("a.csv", b"a,a\n1,2\n", r"a\.csv:1: a column name appears twice"),
        ("a.parquet", b"PAR1 no", r"a\.parquet: not a readable Parquet file"),
        ("a.xlsx", b"x", r"a\.xlsx: unknown kind of file '\.xlsx', expected one of \.jsonl"),
    ],
)
def test_faults_name_the_file_and_the_line(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        values(tmp_path / name)


def test_a_truncated_gzip_file_is_an_error(tmp_path):
    text = "".join(json.dumps({"text": str(number)}) + "\n" for number in range(5000))
    whole = gzip.compress(text.encode())
    (tmp_path / "a.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="unreadable after line"):
        values(tmp_path / "a.jsonl.gz")


def test_a_data_set_of_the_datasets_library(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "set"
    folder.mkdir()
    write_lines(folder / "train.jsonl", ROWS)
    rows = list(read_dataset(str(folder), None, "train"))
    assert [row.values for row in rows] == ROWS
    assert rows[1].place == f"{folder}:2"
    with pytest.raises(DataError, match="split tset"):
        list(read_dataset(str(folder), None, "tset"))


def test_missing_files_and_directories(tmp_path):
    for pattern in ("nothing.jsonl", "*.jsonl"):
        with pytest.raises(DataError, match="no such file"):
            values(tmp_path / pattern)
    with pytest.raises(DataError, match="is a directory"):
        values(tmp_path)
