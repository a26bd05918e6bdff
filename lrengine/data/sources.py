"""`SourceConfig`: what the YAML says about one file or data set, and what a task needs from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from lrengine.data.template import nearest
from lrengine.errors import DataError

Kind = Literal["parallel", "pairs", "text", "labels"]


@dataclass
class SourceConfig:
    """One source of examples.

    kind:
      `parallel`  a wide file, one column a language; becomes translation examples of the chosen `directions`
      `pairs`     `source` and `target` (and `prompt`, for a fusion model): any text-to-text task
      `text`      monolingual text for denoising
      `labels`    `text` and `label`: classification
    A choice of column is a column's name, or a template with `{column}` in it.
    """

    kind: Kind
    path: str | None = None  # file or glob: .jsonl, .csv, .tsv (each also .gz), .parquet
    dataset: str | None = None  # or a name for datasets.load_dataset ...
    subset: str | None = None  # ... with its configuration
    dataset_split: str | None = None  # ... and split
    where: dict[str, str | int | float | bool | list[str]] = field(default_factory=dict)  # column -> value(s) to keep
    min_words: dict[str, int] = field(default_factory=dict)  # column -> rows with fewer words are left out
    languages: list[str] = field(default_factory=list)  # parallel, text: columns named like their language
    columns: dict[str, str] = field(default_factory=dict)  # parallel, text: language -> column, where names differ
    directions: list[str] = field(default_factory=list)  # parallel: "zh-ug", "ug-zh", ...
    pivot: str | None = None  # parallel: shorthand for pivot <-> every other language
    source: str | None = None
    target: str | None = None
    prompt: str | None = None  # pairs: template of the text that the LLM sees after the source
    text: str | None = None
    label: str | None = None
    language: str | None = None  # of `text` and `labels`, and of `source` if source_language is not given
    source_language: str | None = None
    target_language: str | None = None
    values: dict[str, str] = field(default_factory=dict)  # written for the target or label: {"0": "Entailment", ...}
    prefix: str = ""  # pairs, labels: put before the source text
    name: str | None = None  # of the task in logs and sampling; default from languages or the file
    group: str | None = None  # column of what examples share, such as one sentence's id: bootstrap draws them together
    licence: str | None = None  # of the data, for the model card
    limit: int | None = None  # at most so many rows after `where` and `min_words`

    @property
    def title(self) -> str:
        return self.path or self.dataset or "?"

    def language_columns(self) -> dict[str, str]:
        """Language -> column, from `languages` and `columns`."""
        return {**{language: language for language in self.languages}, **self.columns}

    def resolved_directions(self) -> list[tuple[str, str]]:
        """(source language, target language) of every direction of a `parallel` source."""
        known = self.language_columns()
        if self.pivot is not None:
            self._check_language(self.pivot, "pivot")
            others = [language for language in known if language != self.pivot]
            return [pair for other in others for pair in ((self.pivot, other), (other, self.pivot))]
        pairs = []
        for direction in self.directions:
            source, arrow, target = direction.partition(">" if ">" in direction else "-")
            if not (arrow and source and target):
                raise DataError(f"{self.title}: direction '{direction}' is not of the form 'zh-ug'")
            self._check_language(source, f"direction '{direction}'")
            self._check_language(target, f"direction '{direction}'")
            pairs.append((source, target))
        return pairs

    def _check_language(self, language: str, where: str) -> None:
        known = self.language_columns()
        if language not in known:
            raise DataError(f"{self.title}: {where}: language '{language}' has no column{nearest(language, known)}")

    def validate(self) -> None:
        """DataError if the choices contradict the kind."""
        if (self.path is None) == (self.dataset is None):
            raise DataError(
                f"a {self.kind} source needs either 'path' or 'dataset', found {self.path!r}, {self.dataset!r}"
            )
        needed: dict[str, tuple[str, ...]] = {"pairs": ("source", "target"), "labels": ("text", "label")}
        for option in needed.get(self.kind, ()):
            if getattr(self, option) is None:
                raise DataError(f"{self.title}: a '{self.kind}' source needs '{option}' (a column or a template)")
        if self.kind == "parallel":
            if len(self.language_columns()) < 2:
                raise DataError(f"{self.title}: a 'parallel' source needs 'languages' or 'columns' with two or more")
            if not self.resolved_directions():
                raise DataError(f"{self.title}: a 'parallel' source needs 'directions' or 'pivot'")
        if self.kind == "text" and not self.language_columns() and (self.text is None or self.language is None):
            raise DataError(f"{self.title}: a 'text' source needs 'languages', 'columns', or 'text' with 'language'")
        if self.limit is not None and self.limit < 1:
            raise DataError(f"{self.title}: limit {self.limit} is not positive")
