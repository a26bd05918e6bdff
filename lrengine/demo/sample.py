"""The bundled sample as the demo uses it: parallel groups for the encoder, names and pairs by split."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lrengine.data.files import read_rows
from lrengine.errors import DataError

TRANSLATED = ("ug", "kk", "mn")
PIVOT = "zh"
EMOJI_LANGUAGES = ("en", "zh", "hi", "kk", "mn", "si", "ta", "ug")
INTERFACE_LANGUAGES = ("en", "zh", "ug", "kk", "mn", "si", "ta", "dz")


@dataclass(frozen=True)
class Group:
    """One meaning in several languages: texts[language]; `kind` is interface, emoji or declaration."""

    kind: str
    texts: dict[str, str]


@dataclass(frozen=True)
class EmojiName:
    """One emoji's name and its group, the label of the zero-shot task."""

    identity: str
    text: str
    label: str


def find_sample(chosen: str | None) -> Path:
    """The sample's directory: `chosen`, else data/sample of the working directory or beside the package.
    Raises DataError if none is there."""
    places = [Path(chosen)] if chosen else [Path("data/sample"), Path(__file__).parents[2] / "data" / "sample"]
    for place in places:
        if (place / "ui.jsonl").is_file() and (place / "udhr.jsonl").is_file() and (place / "emoji").is_dir():
            return place.resolve()
    looked = " or ".join(str(place) for place in places)
    raise DataError(f"no sample (ui.jsonl, udhr.jsonl, emoji/) in {looked}; give its directory with --data")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSONL file. Raises DataError with the line's number."""
    return [row.values for row in read_rows(str(path))]


class Sample:
    """Everything the demo reads, by split. The declaration has no split of its own and belongs to training."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.interface = read_lines(directory / "ui.jsonl")
        self.declaration = read_lines(directory / "udhr.jsonl")
        self.emoji = {code: read_lines(directory / "emoji" / f"{code}.jsonl") for code in EMOJI_LANGUAGES}

    def groups(self, split: str) -> list[Group]:
        """Every parallel group of a split, all languages."""
        found = [
            Group("interface", {code: row[code] for code in INTERFACE_LANGUAGES if row.get(code)})
            for row in self.interface
            if row["split"] == split
        ]
        names: dict[str, dict[str, str]] = {}
        for code, rows in self.emoji.items():
            for row in rows:
                if row["split"] == split:
                    names.setdefault(row["id"], {})[code] = row["text"]
        found += [Group("emoji", texts) for texts in names.values()]
        return found + (list(self._paragraphs()) if split == "train" else [])

    def _paragraphs(self) -> list[Group]:
        """Declaration paragraphs; a language whose section is cut into another number of paragraphs sits that section
        out, since nothing says which of its paragraphs belong together."""
        found = []
        for row in self.declaration:
            sections = {code: texts for code, texts in row.items() if code != "section"}
            count = Counter(len(texts) for texts in sections.values()).most_common(1)[0][0]
            kept = {code: texts for code, texts in sections.items() if len(texts) == count}
            found += [Group("declaration", {code: texts[i] for code, texts in kept.items()}) for i in range(count)]
        return found

    def emoji_names(self, language: str, split: str) -> list[EmojiName]:
        return [
            EmojiName(row["id"], row["text"], row["label"]) for row in self.emoji[language] if row["split"] == split
        ]

    def labels(self) -> list[str]:
        """The label set, from English training names."""
        return sorted({name.label for name in self.emoji_names("en", "train")})

    def majority_label(self) -> str:
        return Counter(name.label for name in self.emoji_names("en", "train")).most_common(1)[0][0]

    def translation_pairs(self, source: str, target: str, split: str) -> list[tuple[str, str]]:
        """(source, target) interface strings of one direction."""
        return [
            (row[source], row[target])
            for row in self.interface
            if row["split"] == split and row.get(source) and row.get(target)
        ]

    def directions(self) -> list[tuple[str, str]]:
        return [pair for other in TRANSLATED for pair in ((PIVOT, other), (other, PIVOT))]

    def test_draw(self, count: int, seed: int) -> list[tuple[str, str, str, str]]:
        """`count` (source language, target language, text, reference), directions in turn, sentences by the seed."""
        generator = random.Random(seed)
        directions = self.directions()
        drawn = []
        for index in range(count):
            source, target = directions[index % len(directions)]
            drawn.append((source, target, *generator.choice(self.translation_pairs(source, target, "test"))))
        return drawn
