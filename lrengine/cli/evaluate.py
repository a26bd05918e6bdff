"""`lrengine evaluate DIR --data FILE`: scores on a split, per language or direction, as a table and as JSON.

lrengine evaluate runs/swcm --data data/sample/ui.jsonl --languages zh,ug,kk,mn --pivot zh
lrengine evaluate --recipe recipes/emoji_classifier.yaml runs/emoji-0 runs/emoji-1 runs/emoji-2
lrengine evaluate runs/emoji --task classification --data data/sample/emoji/*.jsonl
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from lrengine.data.scripts import EXPECTED
from lrengine.data.sources import SourceConfig
from lrengine.errors import DataError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "directory", nargs="*", help="model directory; with --recipe one for each seed, by default its output_dir"
    )
    parser.add_argument("--recipe", metavar="FILE",
                        help="a training config with 'evaluation': intervals and baselines")  # fmt: skip
    parser.add_argument("--data", nargs="+", metavar="[LANGUAGE=]FILE",
                        help="files; a file named like a language (ug.jsonl) needs no LANGUAGE=")  # fmt: skip
    parser.add_argument("--task", choices=["translation", "generation", "classification"], default="translation")
    parser.add_argument("--split", default="test", help="rows whose column 'split' says so; 'all' takes every row")
    parser.add_argument("--languages", default="", help="translation: columns of a wide file, as in zh,ug,kk")
    parser.add_argument("--pivot", help="translation: score this language to and from every other one")
    parser.add_argument("--directions", default="", help="translation: as in zh-ug,ug-zh")
    parser.add_argument("--source", help="generation: column or template of the source")
    parser.add_argument("--target", help="generation: column of the reference")
    parser.add_argument("--target-language", help="generation: language of the reference")
    parser.add_argument("--text", default="text", help="classification: column or template of the text")
    parser.add_argument("--label", default="label", help="classification: column of the label")
    parser.add_argument("--prompt", help="template of the prompt, for a fusion model")
    parser.add_argument("--limit", type=int, help="at most so many rows of each file")
    parser.add_argument("--backend", choices=["engine", "torch"], default="engine")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, help="engine: threads (default: all cores)")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--num-beams", type=int, default=1)
    parser.add_argument("--max-new-tokens", type=int, default=128)
    parser.add_argument("--json", metavar="OUT", help="write the scores here")
    parser.add_argument("--predictions", metavar="OUT", help="write every prediction here, one JSON object a line")


def run(args: argparse.Namespace) -> int:
    from lrengine.evaluation import DecodingOptions, evaluate

    if args.recipe:
        return _run_recipe(args)
    if len(args.directory) != 1 or not args.data:
        raise DataError("give one model directory and --data, or --recipe")
    sources = [_source(args, choice) for choice in args.data]
    options = DecodingOptions(args.max_new_tokens, args.num_beams, args.batch_size, args.threads, args.device)
    result = evaluate(args.directory[0], sources, args.task, args.backend, options)
    print(result.table())
    if args.json:
        document = {**result.as_dict(), "options": asdict(options), "data": args.data, "split": args.split}
        Path(args.json).write_text(json.dumps(document, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    if args.predictions:
        _write_predictions(args.predictions, result.predictions)
    return 0


def _run_recipe(args: argparse.Namespace) -> int:
    from lrengine.evaluation.recipe import evaluate_recipe
    from lrengine.training.config import TrainConfig

    config = TrainConfig.from_yaml(args.recipe)
    directories = [Path(name) for name in args.directory or [config.run.output_dir]]
    result = evaluate_recipe(config, directories, args.backend, args.threads)
    print(result.table())
    if args.json:
        text = json.dumps({"recipe": args.recipe, **result.as_dict()}, ensure_ascii=False, indent=1)
        Path(args.json).write_text(text + "\n", encoding="utf-8")
    if args.predictions:
        _write_predictions(args.predictions, result.predictions)
    return 0


def _write_predictions(path: str, predictions: list[dict[str, str]]) -> None:
    lines = [json.dumps(prediction, ensure_ascii=False) + "\n" for prediction in predictions]
    Path(path).write_text("".join(lines), encoding="utf-8")


def _source(args: argparse.Namespace, choice: str) -> SourceConfig:
    language, equals, path = choice.rpartition("=")
    if not equals:
        stem = Path(path).name.split(".")[0]
        language = stem if stem in EXPECTED else ""
    source = SourceConfig("parallel", path=path, limit=args.limit)
    if args.split != "all":
        source.where = {"split": args.split}
    if args.task == "classification" and args.source is None:
        source.kind, source.text, source.label = "labels", args.text, args.label
        source.language = language or None
    elif args.source is not None:
        if args.target is None:
            raise DataError("--source needs --target")
        source.kind, source.source, source.target, source.prompt = "pairs", args.source, args.target, args.prompt
        source.language, source.target_language = language or None, args.target_language
        source.name = language or Path(path).name.split(".")[0]
    else:
        source.languages = [name for name in args.languages.split(",") if name]
        source.directions = [name for name in args.directions.split(",") if name]
        source.pivot = args.pivot
    return source
