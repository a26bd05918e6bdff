"""New pieces for a script that a Unigram tokenizer barely knows.

The script is the one of most letters in the given text. A new piece holds characters of its block alone (and may begin
with the mark of a space), so texts without that script are cut as before: no new piece can occur in them, and the score
of <unk>, which hangs on the smallest score, stays. Texts of the script are cut anew, that is the point.

Candidates come from joining the most frequent neighbours, as BPE does, inside runs of the script; a Tibetan run ends
with each tsheg, so that a piece is at most a syllable. Their scores are then log relative frequencies, counted twice
in the best segmentation under the scores before (hard EM). Pieces of several characters that no best segmentation uses
are dropped; characters that were <unk> always become pieces. Everything is deterministic: ties go to the smaller text.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable

from tokenizers.models import Unigram

from lrengine.data.scripts import block_of, script_of
from lrengine.errors import DataError, UnsupportedModelError
from lrengine.text import clean
from lrengine.trim.rows import NewPiece
from lrengine.trim.tokenizer_file import TokenizerFile

SPACE = "\u2581"
TSHEG = "\u0f0b"
ROUNDS = 2


def learn_pieces(file: TokenizerFile, texts: Iterable[str], count: int) -> list[NewPiece]:
    """At most `count` new pieces (more only if the script has more unknown characters) learned from `texts`.

    Raises UnsupportedModelError for a tokenizer other than Unigram, DataError for texts without letters."""
    if file.kind != "Unigram":
        raise UnsupportedModelError(f"{file.path}: new pieces can be added to Unigram tokenizers, this is {file.kind}")
    words = script_runs(file, texts)
    known = {piece for piece in file.pieces if piece is not None}
    candidates = [text for text in joined(words, count) if text not in known]
    letters = {character for word in words for character in word if character not in known}
    scores = _scores(file, words, sorted({*candidates, *letters}), letters)
    chosen = sorted(scores, key=lambda text: (text not in letters, -scores[text], text))[: max(count, len(letters))]
    model = file.tokenizer.model
    return [
        NewPiece(text, scores[text], tuple(token.id for token in model.tokenize(text)))
        for text in sorted(chosen, key=lambda text: (-scores[text], text))
    ]


def script_runs(file: TokenizerFile, texts: Iterable[str]) -> Counter[str]:
    """Runs of the texts' main script as the tokenizer's model sees them (normalised, spaces marked), with how often."""
    words: Counter[str] = Counter()
    scripts: Counter[str] = Counter()
    normalizer, splitter = file.tokenizer.normalizer, file.tokenizer.pre_tokenizer
    for text in map(clean, texts):
        normal = normalizer.normalize_str(text) if normalizer is not None else text
        parts = [part for part, _ in splitter.pre_tokenize_str(normal)] if splitter is not None else [normal]
        words.update(parts)
        scripts.update(script for script in map(script_of, normal) if script is not None)
    if not scripts:
        raise DataError("--extend: the texts have no letters")
    script = max(sorted(scripts), key=lambda name: scripts[name])
    runs: Counter[str] = Counter()
    for word, times in words.items():
        for run in _runs(word, script):
            runs[run] += times
    return runs


def joined(words: Counter[str], count: int) -> list[str]:
    """The results of the first `count` merges of BPE over `words`, most frequent first."""
    symbols = {word: list(word) for word in words}
    pairs: Counter[tuple[str, str]] = Counter()
    places: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for word in words:
        _add(symbols[word], word, words[word], pairs, places)
    results: list[str] = []
    while len(results) < count and pairs:
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        if pairs[best] < 2:
            break
        results.append("".join(best))
        for word in sorted(places[best]):
            _add(symbols[word], word, -words[word], pairs, places)
            symbols[word] = _merged(symbols[word], best)
            _add(symbols[word], word, words[word], pairs, places)
        del pairs[best]
    return list(dict.fromkeys(results))


def _add(
    symbols: list[str], word: str, times: int, pairs: Counter[tuple[str, str]],
    places: defaultdict[tuple[str, str], set[str]],
) -> None:  # fmt: skip
    """Count the neighbours of a word, or (times < 0) take them back."""
    for pair in zip(symbols, symbols[1:], strict=False):
        pairs[pair] += times
        if times > 0:
            places[pair].add(word)


def _merged(symbols: list[str], pair: tuple[str, str]) -> list[str]:
    merged: list[str] = []
    for symbol in symbols:
        if merged and (merged[-1], symbol) == pair:
            merged[-1] += symbol
        else:
            merged.append(symbol)
    return merged


def _runs(word: str, script: str) -> list[str]:
    """Stretches of the script's block, each with the space mark before it if there is one; a tsheg ends one."""
    runs, run = [], ""
    for character in word + "\0":
        if block_of(character) == script:
            run += character
            if character == TSHEG:
                runs.append(run)
                run = ""
            continue
        runs.append(run)
        run = SPACE if character == SPACE else ""
    return [run for run in runs if run.strip(SPACE)]


def _scores(file: TokenizerFile, words: Counter[str], candidates: list[str], letters: set[str]) -> dict[str, float]:
    """log relative frequency of the candidates that best segmentations use, and of all `letters`."""
    floor = min(score for _, score in file.model["vocab"])
    alphabet = set().union(*words) if words else set()
    rivals = [(piece, score) for piece, score in file.model["vocab"] if piece and set(piece) <= alphabet]
    # Before anything is counted a piece is as likely as its length makes it: longer ones first.
    scores = {text: max(floor, -12.0 + len(text) / 100) for text in candidates}
    for _ in range(ROUNDS):
        model = Unigram([("<unk>", floor), *rivals, *scores.items()], unk_id=0)
        counts: Counter[str] = Counter()
        for word, times in words.items():
            for token in model.tokenize(word):
                counts[token.value] += times
        total = sum(counts.values())
        scores = {
            text: max(floor, math.log(max(counts[text], 0.5) / total))
            for text in scores
            if counts[text] > 0 or text in letters
        }
    return scores
