"""From rows to examples: one source text, and a target text unless it is monolingual."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lrengine.data.files import Row, read_dataset, read_rows
from lrengine.data.report import DataReport, SourceReport
from lrengine.data.scripts import expected_share
from lrengine.data.sentences import chunk_text
from lrengine.data.sources import SourceConfig
from lrengine.data.template import as_text, cell, fill, fill_template, nearest
from lrengine.errors import DataError


@dataclass(frozen=True, slots=True)
class Example:
    """`target` is None for monolingual text. `task` names the group for sampling and scores ("zh-ug", "ug", ...);
    `objective` is "denoising", "translation", "task" or "labels". `place` is where it came from,
    `group` the value of SourceConfig.group."""

    source: str
    target: str | None
    task: str
    objective: str
    source_language: str | None = None
    target_language: str | None = None
    prompt: str = ""
    place: str = ""
    group: str = ""


@dataclass(frozen=True)
class TextNeeds:
    """What an example must satisfy. Lengths are in characters (tokens are the collator's matter: it truncates)."""

    min_characters: int = 1
    max_characters: int | None = None
    max_length_ratio: float | None = None  # longer side / shorter side, translation only
    dedup: bool = True
    min_script_share: float | None = None  # drop texts with less of their language's script; None: only report


def load_examples(sources: Sequence[SourceConfig], needs: TextNeeds, report: DataReport, split: str) -> list[Example]:
    """Read, filter and check all `sources` of one split. Raises DataError for unreadable files, absent columns and
    sources that yield nothing."""
    examples: list[Example] = []
    seen: set[tuple[str, str, str | None, str]] = set()
    for source in sources:
        source.validate()
        counts = report.start_source(split, source.title, source.kind)
        before = len(examples)
        for example in _read_source(source, counts):
            reason = _reason_to_drop(example, needs, seen, counts)
            if reason is not None:
                counts.drop(reason)
                continue
            counts.keep(example.task, example.source, example.target)
            examples.append(example)
        if len(examples) == before:
            raise DataError(
                f"{source.title}: no usable example for '{split}' (rows read {counts.rows}, filtered out by 'where' "
                f"{counts.filtered}, dropped {dict(counts.dropped)})"
            )
    return examples


def chunk_documents(examples: Sequence[Example], max_tokens: int, count_tokens: Callable[[str], int]) -> list[Example]:
    """Monolingual texts of more than `max_tokens` tokens become runs of whole sentences, so that none is lost to
    truncation. Other examples stay as they are."""
    chunked: list[Example] = []
    for example in examples:
        # a token covers at least a character, so a short text needs no count
        if example.target is not None or len(example.source) < max_tokens:
            chunked.append(example)
        else:
            pieces = chunk_text(example.source, max_tokens, count_tokens)
            chunked += [replace(example, source=piece) for piece in pieces]
    return chunked


def _read_source(source: SourceConfig, counts: SourceReport) -> Iterator[Example]:
    if source.path is not None:
        rows = read_rows(source.path)
    else:
        rows = read_dataset(str(source.dataset), source.subset, source.dataset_split)
    expand = {"parallel": _parallel, "pairs": _pairs, "text": _monolingual, "labels": _labels}[source.kind]
    taken = 0
    for row in rows:
        counts.rows += 1
        if not _matches(row, source):
            counts.filtered += 1
            continue
        group = "" if source.group is None else cell(row, source.group)
        yield from (replace(example, group=group) if group else example for example in expand(row, source, counts))
        taken += 1
        if source.limit is not None and taken >= source.limit:
            return


def _matches(row: Row, source: SourceConfig) -> bool:
    for column, wanted in source.where.items():
        value = cell(row, column)
        accepted = wanted if isinstance(wanted, list) else [wanted]
        if value not in [str(choice) for choice in accepted]:
            return False
    return all(len(cell(row, column).split()) >= least for column, least in source.min_words.items())


def _texts(row: Row, column: str) -> list[str] | None:
    """The texts of a cell that may hold one or a list; None where the row has no such column (a gap in a wide file)."""
    value: Any = row.values.get(column)
    if value is None:
        return None
    if isinstance(value, list):
        return [as_text(row, column, part) for part in value]
    return [as_text(row, column, value)]


def _parallel(row: Row, source: SourceConfig, counts: SourceReport) -> Iterator[Example]:
    columns = source.language_columns()
    if not any(column in row.values for column in columns.values()):
        wanted = next(iter(columns.values()))
        raise DataError(f"{row.place}: none of the columns {sorted(columns.values())}{nearest(wanted, row.values)}")
    for from_language, to_language in source.resolved_directions():
        left, right = _texts(row, columns[from_language]), _texts(row, columns[to_language])
        if left is None or right is None:
            counts.drop("no translation")
            continue
        if len(left) != len(right):
            counts.drop("lists of different lengths")
            continue
        for text, translation in zip(left, right, strict=True):
            yield Example(
                text.strip(), translation.strip(), f"{from_language}-{to_language}", "translation",
                from_language, to_language, place=row.place,
            )  # fmt: skip


def _monolingual(row: Row, source: SourceConfig, counts: SourceReport) -> Iterator[Example]:
    columns = source.language_columns()
    if source.text is not None and source.language is not None:
        columns = {source.language: source.text}
        cell_of = {source.language: [fill(source.text, row)]}
    else:
        cell_of = {language: _texts(row, column) or [] for language, column in columns.items()}
    for language, texts in cell_of.items():
        for text in texts:
            yield Example(text.strip(), None, language, "denoising", language, language, place=row.place)


def _pairs(row: Row, source: SourceConfig, counts: SourceReport) -> Iterator[Example]:
    assert source.source is not None and source.target is not None  # validate() saw to it
    from_language = source.source_language or source.language
    to_language = source.target_language
    pair = f"{from_language}-{to_language}" if from_language and to_language else from_language or "task"
    yield Example(
        source.prefix + fill(source.source, row),
        _value(row, source, source.target),
        source.name or pair,
        "translation" if source.name is None and from_language and to_language else "task",
        from_language,
        to_language,
        prompt=fill_template(source.prompt, row) if source.prompt is not None else "",
        place=row.place,
    )


def _labels(row: Row, source: SourceConfig, counts: SourceReport) -> Iterator[Example]:
    assert source.text is not None and source.label is not None  # validate() saw to it
    text = source.prefix + fill(source.text, row)
    label = _value(row, source, source.label)
    task = source.name or source.language or "labels"
    yield Example(text, label, task, "labels", source.language, place=row.place)


def _value(row: Row, source: SourceConfig, choice: str) -> str:
    """The target's text, through `values` if there are any."""
    text = fill(choice, row)
    if not source.values:
        return text
    if text not in source.values:
        raise DataError(
            f"{row.place}: '{choice}' is '{text}', which 'values' does not map{nearest(text, source.values)}"
        )
    return source.values[text]


def _reason_to_drop(
    example: Example, needs: TextNeeds, seen: set[tuple[str, str, str | None, str]], counts: SourceReport
) -> str | None:
    sides = [(example.source, example.source_language)]
    if example.target is not None:
        sides.append((example.target, example.target_language))
    for text, language in sides:
        if not text.strip():
            return "empty"
        if len(text) < needs.min_characters:
            return "too short"
        if needs.max_characters is not None and len(text) > needs.max_characters:
            return "too long"
        if language is not None:
            share = expected_share(text, language)
            if share is not None:
                counts.saw_script(language, share)
                if needs.min_script_share is not None and share < needs.min_script_share:
                    return "wrong script"
    if needs.max_length_ratio is not None and example.objective == "translation":
        lengths = sorted(len(text) for text, _ in sides)
        if lengths[-1] > needs.max_length_ratio * lengths[0]:
            return "length ratio"
    key = (example.task, example.source, example.target, example.prompt)
    if needs.dedup and key in seen:
        return "duplicate"
    seen.add(key)
    return None
