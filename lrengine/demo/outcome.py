"""What the trained models do in the engine: translations, zero-shot labels, mixer weights."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

from lrengine.demo.recipe import Recipe
from lrengine.demo.results import HeatMap, TranslationSample, TranslationScore, ZeroShotScore
from lrengine.demo.sample import EMOJI_LANGUAGES, Sample
from lrengine.demo.stages import TAG
from lrengine.engine import Engine

Item = TypeVar("Item")
NEW_TOKENS = 48  # most tokens of a translation
LABEL_TOKENS = 16  # most tokens of a generated label
SHOWN_MEANING = "🐱"  # "cat face": not chosen for its weights, but for being short and in every language
SHOWN_LANGUAGES = ("en", "zh", "ug")


def tagged(target: str, text: str) -> str:
    """The translator's input: the target language's tag before the source text."""
    return TAG.format(language=target) + text


def translate(engine: Engine, inputs: list[str]) -> list[str]:
    """Four beams, no word pair twice: a weak model repeats itself otherwise."""
    outputs = engine.generate(inputs, max_new_tokens=NEW_TOKENS, num_beams=4, no_repeat_ngram_size=2)
    return [str(output.text) for output in outputs]


def translations(engine: Engine, sample: Sample, recipe: Recipe) -> list[TranslationScore]:
    """chrF of every direction over the interface strings of the test split."""
    scores = []
    for source, target in sample.directions():
        pairs = draw(sample.translation_pairs(source, target, "test"), recipe.measured.pairs, recipe.seed)
        outputs = translate(engine, [tagged(target, text) for text, _ in pairs])
        references = [reference for _, reference in pairs]
        training = [reference for _, reference in sample.translation_pairs(source, target, "train")]
        generator = random.Random(recipe.seed)
        scores.append(
            TranslationScore(
                source, target, len(pairs),
                chrf(outputs, references),
                chrf([text for text, _ in pairs], references),
                chrf([generator.choice(training) for _ in pairs], references),
            )
        )  # fmt: skip
    return scores


def chrf(outputs: Sequence[str], references: Sequence[str]) -> float:
    """Corpus chrF, 0 to 100 (sacreBLEU's: character 6-grams, beta 2)."""
    from sacrebleu.metrics import CHRF

    return float(CHRF().corpus_score(list(outputs), [list(references)]).score)


def translation_samples(engine: Engine, sample: Sample, recipe: Recipe, count: int = 6) -> list[TranslationSample]:
    """A draw from the test split by the recipe's seed, none left out."""
    drawn = sample.test_draw(count, recipe.seed)
    outputs = translate(engine, [tagged(target, text) for _, target, text, _ in drawn])
    return [TranslationSample(*row, output) for row, output in zip(drawn, outputs, strict=True)]


def zero_shot(classifier: Engine, fusion: Engine, sample: Sample, recipe: Recipe) -> list[ZeroShotScore]:
    """Accuracy per language. The classifier gives a label; the fusion model's generated text has to equal it."""
    majority = sample.majority_label()
    scores = []
    for language in EMOJI_LANGUAGES:
        names = draw(sample.emoji_names(language, "test"), recipe.measured.names, recipe.seed)
        texts, truth = [name.text for name in names], [name.label for name in names]
        labels = [result.label for result in classifier.classify(texts)]
        written = [str(output.text).strip() for output in fusion.generate(texts, max_new_tokens=LABEL_TOKENS)]
        scores.append(
            ZeroShotScore(
                language, len(names), share_equal([majority] * len(names), truth),
                share_equal(labels, truth), share_equal(written, truth),
            )
        )  # fmt: skip
    return scores


def draw(items: list[Item], count: int | None, seed: int) -> list[Item]:
    """All items, or `count` of them by the seed."""
    return items if count is None else random.Random(seed).sample(items, min(count, len(items)))


def share_equal(answers: Sequence[str], truth: Sequence[str]) -> float:
    return sum(answer == right for answer, right in zip(answers, truth, strict=True)) / max(len(truth), 1)


def heat_maps(fusion: Engine, sample: Sample) -> list[HeatMap]:
    """Mixer weights of one emoji's name in a few languages."""
    maps = []
    for language in SHOWN_LANGUAGES:
        rows = {row["id"]: row["text"] for row in sample.emoji[language]}
        text = rows[SHOWN_MEANING]
        (weights,) = fusion.encode([text], output="weights")
        tokens = [token.replace("▁", "") or "␣" for token in fusion.pieces(text)]
        maps.append(HeatMap(language, text, tokens, [[round(float(w), 4) for w in row] for row in weights]))
    return maps
