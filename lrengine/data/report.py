"""What was read, kept and dropped, and why: printed before training and saved beside the model."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

WRONG_SCRIPT_WARNING = 0.5  # below this mean share of the expected script the column is probably another language


def quantiles(lengths: Sequence[int]) -> dict[str, int]:
    """Median, 95th percentile and maximum."""
    middle, high = np.percentile(lengths, [50, 95]) if lengths else (0, 0)
    return {"p50": int(middle), "p95": int(high), "max": int(max(lengths, default=0))}


@dataclass
class SourceReport:
    """Counts of one source in one split."""

    split: str
    title: str
    kind: str
    rows: int = 0
    filtered: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    kept: Counter[str] = field(default_factory=Counter)
    source_characters: dict[str, list[int]] = field(default_factory=dict)
    target_characters: dict[str, list[int]] = field(default_factory=dict)
    script_shares: dict[str, list[float]] = field(default_factory=dict)

    def drop(self, reason: str) -> None:
        self.dropped[reason] += 1

    def keep(self, task: str, source: str, target: str | None) -> None:
        self.kept[task] += 1
        self.source_characters.setdefault(task, []).append(len(source))
        if target is not None:
            self.target_characters.setdefault(task, []).append(len(target))

    def saw_script(self, language: str, share: float) -> None:
        self.script_shares.setdefault(language, []).append(share)

    def warnings(self) -> list[str]:
        found = []
        for language, shares in self.script_shares.items():
            mean = float(np.mean(shares))
            if mean < WRONG_SCRIPT_WARNING:
                found.append(f"{self.title}: only {mean:.0%} of the letters of '{language}' are in its script")
        return found

    def as_dict(self) -> dict[str, Any]:
        return {
            "split": self.split,
            "source": self.title,
            "kind": self.kind,
            "rows": self.rows,
            "filtered": self.filtered,
            "dropped": dict(self.dropped),
            "kept": dict(self.kept),
            "source_characters": {task: quantiles(lengths) for task, lengths in self.source_characters.items()},
            "target_characters": {task: quantiles(lengths) for task, lengths in self.target_characters.items()},
            "script_share": {language: round(float(np.mean(s)), 4) for language, s in self.script_shares.items()},
        }


@dataclass
class TokenReport:
    """Lengths in tokens of a sample of one split's examples, and how many were cut to the limit."""

    split: str
    source: dict[str, int]
    target: dict[str, int]
    source_truncated: float
    target_truncated: float
    unknown_share: float  # <unk> among the source tokens: a tokenizer that does not cover the script


@dataclass
class DataReport:
    sources: list[SourceReport] = field(default_factory=list)
    tokens: list[TokenReport] = field(default_factory=list)
    sampling: dict[str, float] = field(default_factory=dict)  # task -> probability
    overlap: int = 0  # dev examples that are also in train

    def start_source(self, split: str, title: str, kind: str) -> SourceReport:
        self.sources.append(SourceReport(split, title, kind))
        return self.sources[-1]

    def warnings(self) -> list[str]:
        found = [warning for source in self.sources for warning in source.warnings()]
        if self.overlap:
            found.append(f"{self.overlap} dev examples are also in train: dev scores will flatter the model")
        for tokens in self.tokens:
            if tokens.unknown_share > 0.05:
                found.append(f"{tokens.split}: {tokens.unknown_share:.0%} of the source tokens are <unk>: the "
                             "tokenizer does not cover this script")  # fmt: skip
            if max(tokens.source_truncated, tokens.target_truncated) > 0.05:
                found.append(f"{tokens.split}: {tokens.source_truncated:.0%} of the sources and "
                             f"{tokens.target_truncated:.0%} of the targets are cut to the length limit")  # fmt: skip
        return found

    def as_dict(self) -> dict[str, Any]:
        return {
            "sources": [source.as_dict() for source in self.sources],
            "tokens": [vars(tokens) for tokens in self.tokens],
            "sampling": {task: round(probability, 6) for task, probability in self.sampling.items()},
            "overlap": self.overlap,
            "warnings": self.warnings(),
        }

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(self.as_dict(), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")

    def __str__(self) -> str:
        lines = []
        for source in self.sources:
            kept = sum(source.kept.values())
            dropped = ", ".join(f"{count} {reason}" for reason, count in source.dropped.most_common()) or "none"
            lines.append(f"{source.split}: {source.title} ({source.kind}): {source.rows} rows, "
                         f"{source.filtered} filtered out, {kept} examples kept; dropped: {dropped}")  # fmt: skip
            for task, count in source.kept.items():
                characters = quantiles(source.source_characters[task])
                sampled = (
                    f", sampled {self.sampling[task]:.1%}" if source.split == "train" and task in self.sampling else ""
                )
                lines.append(f"  {task}: {count} examples{sampled}, source characters p50 {characters['p50']}, "
                             f"p95 {characters['p95']}, max {characters['max']}")  # fmt: skip
        for tokens in self.tokens:
            lines.append(f"{tokens.split}: source tokens p50 {tokens.source['p50']}, p95 {tokens.source['p95']}; "
                         f"target tokens p50 {tokens.target['p50']}, p95 {tokens.target['p95']}")  # fmt: skip
        lines += [f"warning: {warning}" for warning in self.warnings()]
        return "\n".join(lines)
