"""The honest paragraphs of the page, from what was really done."""

from __future__ import annotations

from lrengine.demo.languages import name_of
from lrengine.demo.results import DemoResults


def duration(seconds: float) -> str:
    """`3 min 07 s`, `42 s`."""
    whole = round(seconds)
    return f"{whole // 60} min {whole % 60:02d} s" if whole >= 60 else f"{whole} s"


def caveats(results: DemoResults) -> list[str]:
    """What a reader has to know before believing the figures."""
    return [
        f"All training together took {duration(results.training_seconds)} on {results.threads} CPU threads, reading "
        "and saving included: "
        + "; ".join(f"{stage.title.lower()}: {stage.data}, {stage.steps:,} steps" for stage in results.stages)
        + ". Published models of this kind train for days on gigabytes.",
        about_translation(results),
        about_zero_shot(results),
        "Timings are this machine's, with whatever else it was doing. Small models favour the side with the smaller "
        "overhead: expect other ratios at real sizes.",
    ]


def about_translation(results: DemoResults) -> str:
    best = max(results.translation, key=lambda score: score.chrf)
    below = [f"{name_of(s.source)} to {name_of(s.target)}" for s in results.translation if s.chrf <= s.unrelated]
    floor = f" No better than an unrelated sentence: {', '.join(below)}." if below else ""
    return (
        f"The translations are weak: the best direction reaches {best.chrf:.1f} chrF, most sentences are wrong, and "
        f"the words that fit come from interface strings like those of training.{floor} The models show the path from "
        "text to tokens; do not use them for anything."
    )


def about_zero_shot(results: DemoResults) -> str:
    lost = [
        name_of(score.language)
        for score in results.zero_shot
        if score.language != "en" and max(score.classifier, score.fusion) <= score.majority
    ]
    misses = f" Neither model beats the majority class in {', '.join(lost)}." if lost else ""
    if any(stage.key == "encoder" for stage in results.stages):
        meaning = (
            "The encoder saw the parallel emoji names of the training split in all languages, without their groups. "
            "So “zero-shot” means: no label in that language and no test name in any; it does not mean a language "
            "never seen."
        )
    else:
        meaning = "“Zero-shot” means: labels in English only. What text the given encoder saw before is not known here."
    return meaning + misses
