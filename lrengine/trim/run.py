"""`trim(source, destination, options)`: a model directory with the vocabulary that some text needs.

Exact on texts whose pieces are all kept: the same segmentation (unigram.py and bpe.py prove it), and the same bits in
every row that is kept, so the encoder computes what it computed. An output projection loses the rows of other pieces:
logits of kept ones are what they were, probabilities are shared among fewer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from lrengine.atomic_directory import atomic_directory
from lrengine.errors import DataError, ModelFileError
from lrengine.quantize import copy_other_files
from lrengine.safetensors_directory import SafetensorsDirectory
from lrengine.safetensors_io import parse_json
from lrengine.text import clean
from lrengine.trim.configs import renumbered, special_ids
from lrengine.trim.extension import learn_pieces
from lrengine.trim.parts import Part
from lrengine.trim.rows import Rows
from lrengine.trim.scripts import pieces_of_languages
from lrengine.trim.texts import read_texts
from lrengine.trim.tokenizer_file import TokenizerFile, rewrite_companions, tokenizer_of, write_json
from lrengine.trim.weights import write_rows

HELD_OUT = 10  # every tenth text of --extend is measured, not learned from


@dataclass(frozen=True)
class TrimOptions:
    """texts: files whose pieces are kept (those that occur `min_count` times in all), and in them `columns`, all if
    empty. languages: also every piece in their scripts. extend: files of the language to learn up to `extend_pieces`
    new pieces from; what they need is kept too. part: "encoder", or "llm" of a layer_fusion model. Without texts and
    languages everything is kept."""

    texts: Sequence[str] = ()
    columns: Sequence[str] = ()
    languages: Sequence[str] = ()
    min_count: int = 1
    extend: Sequence[str] = ()
    extend_pieces: int = 2000
    part: str = "encoder"


@dataclass(frozen=True)
class Coverage:
    """Of the held-out texts of `extend`. unknown: share of <unk> among tokens."""

    texts: int
    unknown: float
    tokens_per_character: float


@dataclass(frozen=True)
class TrimReport:
    """rows: ids before and after, `new_rows` of them new pieces; bytes: of weights."""

    rows_before: int
    rows_after: int
    new_rows: int
    bytes_before: int
    bytes_after: int
    coverage_before: Coverage | None = None
    coverage_after: Coverage | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def trim(source: Path, destination: Path, options: TrimOptions, force: bool = False) -> TrimReport:
    """Write `destination`, whole or not at all (atomic_directory.py). The tokenizer of the part must be a Unigram or
    BPE tokenizer.json; new pieces need Unigram.

    Raises DataError for texts and options that are of no use, ModelFileError for files that contradict each other,
    UnsupportedModelError for other model types and tokenizers."""
    if not (options.texts or options.languages or options.extend):
        raise DataError("nothing says what to keep: give texts, languages, or texts to extend the vocabulary with")
    config = _read_json(source / "config.json")
    part = Part.of(config, options.part, source / "config.json")
    own = part.config(config, source / "config.json")
    file = TokenizerFile(source / part.folder)
    learned, measured = _split(read_texts(options.extend, options.columns))
    new = learn_pieces(file, learned, options.extend_pieces) if options.extend else []
    rows = file.rows(_kept(source, config, part, file, options), new)
    document = file.rewritten(rows)
    tokenizer = tokenizer_of(document, file.path)
    with SafetensorsDirectory(source) as stored, atomic_directory(destination, force) as folder:
        names = part.tensors(stored.specs, own["vocab_size"], stored.path_of)
        _check_ids(rows, own["vocab_size"], file.path)
        copy_other_files(source, folder)
        _write_configs(folder, config, part, rows)
        rewrite_companions(folder / part.folder, rows)
        write_json(folder / part.folder / "tokenizer.json", document)
        write_rows(stored, names, rows, folder / "model.safetensors")
        before, after = (sum(path.stat().st_size for path in at.glob("*.safetensors")) for at in (source, folder))
    return TrimReport(
        own["vocab_size"],
        len(rows),
        len(new),
        before,
        after,
        _coverage(file.tokenizer, measured),
        _coverage(tokenizer, measured),
    )


def _kept(source: Path, config: dict[str, Any], part: Part, file: TokenizerFile, options: TrimOptions) -> set[int]:
    own = part.config(config, source / "config.json")
    everything = {index for index, piece in enumerate(file.pieces) if piece is not None}
    wanted = everything if not (options.texts or options.languages) else set()
    counts: Counter[int] = file.count(read_texts([*options.texts, *options.extend], options.columns))
    wanted |= {index for index, times in counts.items() if times >= options.min_count}
    wanted |= set(file.count(_own_texts(config)))
    wanted |= pieces_of_languages(file.pieces, options.languages, file.byte_level) if options.languages else set()
    for fields in (own, *([config, _generation_config(source)] if part.outer else [])):
        wanted |= special_ids(fields)
    return file.closed(wanted | part.fixed_ids(own, file.path))


def _own_texts(config: dict[str, Any]) -> Iterator[str]:
    """What the model's users put around their texts."""
    yield from (config.get("source_prefixes") or {}).values()
    if config.get("prompt_template"):
        yield config["prompt_template"]


def _split(texts: Iterator[str]) -> tuple[list[str], list[str]]:
    """Texts to learn from and texts to measure, none in both."""
    distinct = list(dict.fromkeys(text for text in texts if text.strip()))
    measured = distinct[HELD_OUT - 1 :: HELD_OUT]
    return [text for place, text in enumerate(distinct) if (place + 1) % HELD_OUT], measured or distinct


def _check_ids(rows: Rows, size: int, path: Path) -> None:
    used = [*rows.inside, *rows.outside, *(old for piece in rows.new for old in piece.replaces)]
    if max(used) >= size:
        raise ModelFileError(f"{path}: has id {max(used)}, but the model has {size} rows")


def _write_configs(folder: Path, config: dict[str, Any], part: Part, rows: Rows) -> None:
    def changed(fields: dict[str, Any]) -> dict[str, Any]:
        new = renumbered(fields, rows.new_id, rows.__contains__)
        return {**new, "vocab_size": len(rows)} if "vocab_size" in fields else new

    new = changed(config) if part.outer else dict(config)
    if part.section:
        new[part.section] = changed(config[part.section])
    write_json(folder / "config.json", new)
    if part.outer and (folder / "generation_config.json").is_file():
        write_json(folder / "generation_config.json", changed(_generation_config(folder)))


def _generation_config(directory: Path) -> dict[str, Any]:
    path = directory / "generation_config.json"
    return _read_json(path) if path.is_file() else {}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return parse_json(path, path.read_bytes())
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read: {error.strerror}") from error


def _coverage(tokenizer: Tokenizer, texts: list[str]) -> Coverage | None:
    if not texts:
        return None
    name = getattr(tokenizer.model, "unk_token", None) or "<unk>"
    encodings = tokenizer.encode_batch([clean(text) for text in texts], add_special_tokens=False)
    tokens = sum(len(encoding.ids) for encoding in encodings)
    unknown = tokenizer.token_to_id(name)
    missing = 0 if unknown is None else sum(encoding.ids.count(unknown) for encoding in encodings)
    return Coverage(len(texts), missing / max(tokens, 1), tokens / max(sum(map(len, texts)), 1))
