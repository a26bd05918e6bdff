"""How much each encoder layer counts, by language and by token, as trained mixers have it:

python benchmarks/plot_layer_weights.py docs/results/layers --models transformer=runs/t-0 ... \\
    --texts text/emoji/{en,ug,zh}.jsonl --splits dev test --strings "pine decoration" ...

NAME.svg            a line a language (a file of --texts): the mean over the tokens of its texts, special tokens left
                    out, and the standard deviation over them; a line a special token, over all languages
NAME-strings.svg    a line a token of --strings
layer_weights.json  the figures: means, deviations, and distances between languages, tokens and models

A distance is the total variation between two tokens' or means' weights, sum_l |v_l - w_l| / 2: the part of the weight
that lies on other layers, from 0 to 1. All models have the same tokenizer and number of layers."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from charts import shares
from numpy.typing import NDArray

from lrengine import Engine
from lrengine.data.files import read_rows

SPECIAL = ("<s>", "</s>", "[CLS]", "[SEP]")
Weights = NDArray[np.floating[Any]]  # [N, L], a row a token


@dataclass(frozen=True)
class Tokens:
    """The weights of some texts' tokens: `inner` without the special ones, and for each its text's place."""

    inner: Weights
    text: NDArray[np.int64]
    special: dict[str, Weights]


@dataclass(frozen=True)
class Model:
    languages: dict[str, Tokens]
    strings: list[tuple[list[str], Weights]]  # pieces and their weights

    def special(self, piece: str) -> Weights:
        """Of all languages, with no row where the tokenizer does not put `piece` around texts."""
        return np.concatenate([tokens.special[piece] for tokens in self.languages.values()])


def distance(one: Weights, other: Weights) -> Weights:
    """Total variation along the last axis."""
    return np.abs(one - other).sum(-1) / 2  # type: ignore[no-any-return]


def correlation(one: Weights, other: Weights) -> float | None:
    """Pearson's; None where there is nothing to compare: a global mixer's tokens differ by rounding alone."""
    return float(np.corrcoef(one, other)[0, 1]) if min(one.std(), other.std()) > 1e-6 else None


def weights_of(engine: Engine, texts: list[str]) -> Tokens:
    pieces = np.array([piece for text in texts for piece in engine.pieces(text)])
    found = engine.encode(texts, "weights")
    weights = np.concatenate(found).astype(np.float64)
    places = np.repeat(np.arange(len(texts)), [len(rows) for rows in found])
    inner = ~np.isin(pieces, SPECIAL)
    return Tokens(weights[inner], places[inner], {piece: weights[pieces == piece] for piece in SPECIAL})


def read_texts(path: Path, splits: Sequence[str]) -> list[str]:
    rows = [row.values for row in read_rows(str(path))]
    return [row["text"] for row in rows if not splits or row["split"] in splits]


def described(weights: Weights) -> dict[str, Any]:
    """`spread`: the mean distance of a token to the mean."""
    mean = weights.mean(0)
    return {"tokens": len(weights), "mean": mean.tolist(), "deviation": weights.std(0).tolist(),
            "spread": float(distance(weights, mean).mean())}  # fmt: skip


def halves_apart(tokens: Tokens) -> float:
    """The distance between the means of every second text and of the others: what languages differ by for no reason
    but the choice of texts."""
    even = tokens.text % 2 == 0
    return float(distance(tokens.inner[even].mean(0), tokens.inner[~even].mean(0)))


def languages_apart(languages: dict[str, Tokens]) -> dict[str, Any]:
    means = {name: tokens.inner.mean(0) for name, tokens in languages.items()}
    pairs = {pair: float(distance(means[pair[0]], means[pair[1]])) for pair in combinations(means, 2)}
    furthest = max(pairs, key=pairs.__getitem__)
    halves = [halves_apart(tokens) for tokens in languages.values()]
    return {"largest": pairs[furthest], "between": furthest, "mean": float(np.mean(list(pairs.values()))),
            "halves_mean": float(np.mean(halves)), "halves_largest": max(halves)}  # fmt: skip


def models_apart(one: Model, other: Model) -> dict[str, float | None]:
    """Distances of the mean over languages and of single tokens, and Pearson's correlations: whether the layers that
    count more on the mean, and more for a token than on its language's mean, are the same ones in both models."""
    pairs = [(one.languages[name].inner, other.languages[name].inner) for name in one.languages]
    means = [np.mean([pair[side].mean(0) for pair in pairs], 0) for side in (0, 1)]
    moved = [np.concatenate([pair[side] - pair[side].mean(0) for pair in pairs]).ravel() for side in (0, 1)]
    return {
        "means": float(distance(means[0], means[1])),
        "tokens": float(np.mean(np.concatenate([distance(*pair) for pair in pairs]))),
        "correlation_of_means": correlation(means[0], means[1]),
        "correlation_of_tokens": correlation(moved[0], moved[1]),
    }


def document(models: dict[str, Model]) -> dict[str, Any]:
    return {
        "models": {
            name: {
                "languages": {language: described(tokens.inner) for language, tokens in model.languages.items()},
                "special": {piece: described(found) for piece in SPECIAL if len(found := model.special(piece))},
                "languages_apart": languages_apart(model.languages),
                "strings": [{"tokens": pieces, "weights": rows.tolist()} for pieces, rows in model.strings],
            }
            for name, model in models.items()
        },
        "models_apart": [{"models": pair, **models_apart(*(models[name] for name in pair))}
                         for pair in combinations(models, 2)],
    }  # fmt: skip


def charts_of(name: str, found: dict[str, Any]) -> tuple[str, str]:
    """Of one model in the document: languages, and tokens of the strings."""
    groups = {**found["languages"], **found["special"]}
    columns = [f"{layer + 1}" for layer in range(len(next(iter(groups.values()))["mean"]))]
    languages = shares(
        {group: of["mean"] for group, of in groups.items()},
        columns,
        f"{name}: share of each layer (%), mean and standard deviation over tokens",
        {group: of["deviation"] for group, of in groups.items()},
    )
    tokens = {
        f"{number}.{place} {piece}": row
        for number, string in enumerate(found["strings"], 1)
        for place, (piece, row) in enumerate(zip(string["tokens"], string["weights"], strict=True), 1)
    }
    return languages, shares(tokens, columns, f"{name}: share of each layer (%), token by token")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--models", nargs="+", required=True, metavar="NAME=DIR")
    parser.add_argument("--texts", nargs="+", type=Path, required=True, metavar="FILE", help="rows with a text")
    parser.add_argument("--splits", nargs="*", default=[], help="rows of these alone")
    parser.add_argument("--strings", nargs="*", default=[], metavar="TEXT")
    args = parser.parse_args()
    texts = {path.stem: read_texts(path, args.splits) for path in args.texts}
    models = {}
    for name, _, directory in (model.partition("=") for model in args.models):
        engine = Engine.load(directory)
        strings = zip(map(engine.pieces, args.strings), engine.encode(args.strings, "weights"), strict=True)
        models[name] = Model({language: weights_of(engine, rows) for language, rows in texts.items()}, list(strings))
    written = json.dumps(document(models), ensure_ascii=False)
    found = json.loads(written, parse_float=lambda digits: round(float(digits), 4))
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "layer_weights.json").write_text(json.dumps(found, ensure_ascii=False), encoding="utf-8")
    for name, model in found["models"].items():
        languages, tokens = charts_of(name, model)
        (args.out / f"{name}.svg").write_text(languages, encoding="utf-8")
        if args.strings:
            (args.out / f"{name}-strings.svg").write_text(tokens, encoding="utf-8")


if __name__ == "__main__":
    main()
