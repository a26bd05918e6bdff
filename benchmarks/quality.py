"""What narrower weights cost a model on real data: a row a weight type.

    python benchmarks/quality.py labels DIR FILE.jsonl ... [--source text] [--target label] [--split dev test]
    python benchmarks/quality.py translation DIR FILE.jsonl ... --source en --target zh [--beams 4] [--limit 500]
    python benchmarks/quality.py language DIR FILE.jsonl ... --target en

labels       accuracy of a classifier
translation  chrF of the answers of a SWCM or fusion model, and its perplexity on the references
language     perplexity of a fusion model's LLM on a column, in pieces of --length tokens, behind a source of one token

DIR holds float32 weights; the other types are made in a temporary folder. The difference to float32 has a 95% interval:
paired bootstrap over texts (those with the same "id" together). "equal" is the share of float32's very answers. --json
keeps the figures.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lrengine import Engine, Score
from lrengine.data.examples import Example
from lrengine.data.files import read_rows
from lrengine.evaluation.bootstrap import Bootstrap, Interval, interval
from lrengine.evaluation.model_config import read_config
from lrengine.evaluation.statistics import CLASSIFICATION, TEXT, Rows, Statistic
from lrengine.quantize import DEFAULT_GROUP_SIZE, quantize

RESAMPLES = 2000
BATCH = 16


@dataclass(frozen=True)
class Found:
    """What one weight type answered. metrics: name -> statistic of the answers."""

    answers: list[str]
    metrics: dict[str, Statistic]


@dataclass(frozen=True)
class Row:
    """A line of the table. values: of the metrics; against: their differences to float32's; equal: in percent, where
    there are answers."""

    dtype: str
    megabytes: float
    values: dict[str, Interval]
    against: dict[str, Interval]
    equal: float | None


def label_texts(engine: Engine, examples: Sequence[Example], args: argparse.Namespace) -> Found:
    answers = engine.classify([example.source for example in examples])
    return Found([answer.label for answer in answers], CLASSIFICATION)


def translate(engine: Engine, examples: Sequence[Example], args: argparse.Namespace) -> Found:
    texts: list[str] = []
    scores: list[Score] = []
    for start in range(0, len(examples), BATCH):
        piece = examples[start : start + BATCH]
        sources = [example.source for example in piece]
        answers = engine.generate(sources, num_beams=args.beams, max_new_tokens=args.length)
        texts += [answer.text or "" for answer in answers]
        scores += engine.score(sources, [str(example.target) for example in piece])
    return Found(texts, {"chrF": TEXT["chrf"], "perplexity": perplexity(scores)})


def read_on(engine: Engine, examples: Sequence[Example], args: argparse.Namespace) -> Found:
    pieces = [[int(token) for token in str(example.target).split()] for example in examples]
    scores = [engine.score([[0]], [piece])[0] for piece in pieces]
    return Found([""] * len(pieces), {"perplexity": perplexity(scores)})


def perplexity(scores: Sequence[Score]) -> Statistic:
    """Of the tokens of all texts together."""
    rows = np.array([[score.logprob, len(score.token_logprobs)] for score in scores])

    def finish(sums: Rows) -> Rows:
        found: Rows = np.exp(-sums[..., 0] / sums[..., 1])
        return found

    return Statistic(lambda predictions, references, language: rows, finish)


def pairs(args: argparse.Namespace) -> list[Example]:
    """A row, or a row's list of texts, is an example a text. A source gets the tag of the target column's language that
    the model was trained with."""
    prefix = (read_config(args.directory).get("source_prefixes") or {}).get(args.target, "")
    examples = []
    for path in args.data:
        for row in read_rows(str(path)):
            if args.split and row.values.get("split") not in args.split:
                continue
            sources, targets = (as_list(row.values.get(name)) for name in (args.source, args.target))
            for source, target in zip(sources, targets, strict=False):
                group = str(row.values.get("id", ""))
                examples.append(Example(prefix + source, target, "all", "task", place=path.stem, group=group))
    return examples[: args.limit]


def pieces(args: argparse.Namespace) -> list[Example]:
    """The target column of all rows, joined by line ends, as pieces of the LLM's ids."""
    from tokenizers import Tokenizer

    texts = [
        text for path in args.data for row in read_rows(str(path)) for text in as_list(row.values.get(args.target))
    ]
    tokenizer = Tokenizer.from_file(str(args.directory / "llm" / "tokenizer.json"))
    ids = tokenizer.encode("\n".join(texts[: args.limit]), add_special_tokens=False).ids
    cut = [ids[start : start + args.length] for start in range(0, len(ids), args.length)]
    return [Example("", " ".join(map(str, piece)), "all", "task") for piece in cut]


def as_list(value: Any) -> list[str]:
    return value if isinstance(value, list) else [] if value is None else [str(value)]


Read = Callable[[argparse.Namespace], list[Example]]
Ask = Callable[[Engine, Sequence[Example], argparse.Namespace], Found]
TASKS: dict[str, tuple[Read, Ask]] = {
    "labels": (pairs, label_texts),
    "translation": (pairs, translate),
    "language": (pieces, read_on),
}


def measured(examples: Sequence[Example], ask: Ask, args: argparse.Namespace) -> list[Row]:
    bootstrap = Bootstrap(examples, RESAMPLES)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as work:
        for name in ["float32", *(name for name in args.dtypes if name != "float32")]:
            named = name.removesuffix("+embeddings")
            dtype, _, group_size = named.partition(":")
            directory = args.directory if dtype == "float32" else Path(work) / name
            if directory != args.directory:
                group = int(group_size or DEFAULT_GROUP_SIZE)
                quantize(
                    args.directory, directory, dtype, group_size=group, embeddings="int8" if named == name else "int4"
                )
            size = sum(file.stat().st_size for file in directory.glob("*.safetensors")) / 1e6
            found = ask(Engine.load(directory, dtype=dtype, threads=args.threads), examples, args)
            scores = {
                metric: bootstrap.scores(found.answers, statistic)["all"] for metric, statistic in found.metrics.items()
            }
            if not rows:
                first, expected = scores, found.answers
            equal = [a == b for a, b in zip(found.answers, expected, strict=True)]
            same = 100 * float(np.mean(equal)) if any(expected) else None
            against = {metric: interval(score - first[metric]) for metric, score in scores.items()}
            rows.append(Row(name, size, {metric: interval(score) for metric, score in scores.items()}, against, same))
    return rows


def table(rows: Sequence[Row]) -> str:
    names = list(rows[0].values)
    head = ["weights", "MB", *(text for name in names for text in (name, "less float32's")), "equal"]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        cells = [row.dtype, f"{row.megabytes:.0f}"]
        for name in names:
            change = row.against[name]
            cells.append(f"{row.values[name].value:.2f}")
            cells.append("" if row is rows[0] else f"{change.value:+.2f} [{change.low:+.2f}, {change.high:+.2f}]")
        lines.append([*cells, "" if row.equal is None else f"{row.equal:.1f}%"])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("directory", metavar="DIR", type=Path)
    parser.add_argument("data", metavar="FILE", type=Path, nargs="+")
    parser.add_argument(
        "--dtypes", nargs="+", default=["float32", "bfloat16", "int8", "int4"],
        help="int4:32: groups of 32; int4:32+embeddings: word embeddings and output projection in int4 too",
    )  # fmt: skip
    parser.add_argument("--source", default="text", help="column (default: text)")
    parser.add_argument("--target", default="label", help="column of labels, references or texts (default: label)")
    parser.add_argument("--split", nargs="+", help='only rows whose column "split" is one of these')
    parser.add_argument("--limit", type=int, help="only so many texts")
    parser.add_argument("--beams", type=int, default=1)
    parser.add_argument("--length", type=int, default=256, help="most tokens of an answer, tokens of a piece")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(arguments)
    read, ask = TASKS[args.task]
    examples = read(args)
    if not examples:
        parser.error("the files have no such rows")
    rows = measured(examples, ask, args)
    print(f"{args.task}, {len(examples)} {'pieces' if args.task == 'language' else 'texts'}\n\n{table(rows)}")
    if args.json:
        document = {"task": args.task, "examples": len(examples), "rows": [asdict(row) for row in rows]}
        args.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
