"""`lrengine demo`: train, run in the engine, compare, report."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from lrengine.demo.caveats import duration
from lrengine.demo.given import check_given, check_out
from lrengine.demo.languages import name_of
from lrengine.demo.measure import Job, compare
from lrengine.demo.outcome import heat_maps, tagged, translation_samples, translations, zero_shot
from lrengine.demo.progress import Progress, table
from lrengine.demo.recipe import Recipe
from lrengine.demo.report import write_report
from lrengine.demo.results import DemoResults
from lrengine.demo.sample import Sample
from lrengine.demo.stages import Places
from lrengine.demo.tracks import train_all
from lrengine.engine import Engine

TRANSLATED_TOKENS = 24  # of a timed translation: a long interface string


def run_demo(sample: Sample, recipe: Recipe, out: Path) -> DemoResults:
    """Everything, with its progress on standard output; leaves models/, results.json and report.html in `out`."""
    check_given(recipe)
    check_out(recipe, out)
    out.mkdir(parents=True, exist_ok=True)
    progress = Progress()
    threads = recipe.threads
    places = Places(sample.directory, out)
    places.clear()
    results = DemoResults(
        encoder=recipe.encoder or "a random encoder (XLM-R architecture)",
        llm=recipe.llm or "a random LLM (Llama architecture)",
        machine=machine_name(),
        versions=", ".join(f"{name} {installed(name)}" for name in ("lrengine", "torch", "transformers")),
        threads=threads,
        dtype="float32",
        sample_seed=recipe.seed,
        quick=recipe.quick,
    )
    progress.say(f"lrengine demo on {results.machine}, {threads} threads; everything goes to {out}/")
    progress.say("\nTraining, two stages at a time (details: train.log)")
    results.stages = train_all(places, recipe, progress)
    progress.say(f"  training took {duration(results.training_seconds)}")
    if results.barely_trained and not recipe.quick:
        titles = ", ".join(stage.title for stage in results.barely_trained)
        progress.say(f"  too few steps to expect anything of: {titles}; --seconds gives more time")
    use_all(places, sample, recipe, results, progress)
    compare_all(places, sample, recipe, results, progress)
    results.total_seconds = progress.seconds
    results.save(out / "results.json")
    write_report(results, out / "report.html")
    progress.say(f"\n{duration(results.total_seconds)} in all. Look at {out / 'report.html'}")
    return results


def use_all(places: Places, sample: Sample, recipe: Recipe, results: DemoResults, progress: Progress) -> None:
    """Translations, labels and mixer weights, from the engine."""
    progress.say("\nIn the C++ engine")
    engine = Engine.load(places.models / "swcm", device="cpu", threads=results.threads)
    with progress.stage("translate the test split"):
        results.translation = translations(engine, sample, recipe)
        results.samples = translation_samples(engine, sample, recipe)
    fusion = Engine.load(places.models / "fusion", device="cpu", threads=results.threads)
    classifier = Engine.load(places.models / "classifier", device="cpu", threads=results.threads)
    with progress.stage("label the test split in every language"):
        results.zero_shot = zero_shot(classifier, fusion, sample, recipe)
        results.heat_maps = heat_maps(fusion, sample)
    show_translations(results, progress)
    show_labels(results, progress)


def show_translations(results: DemoResults, progress: Progress) -> None:
    progress.say(f"\nTranslations (test split, drawn with seed {results.sample_seed}, none left out)")
    for sample in results.samples:
        progress.say(f"  {name_of(sample.source)} → {name_of(sample.target)}")
        progress.say(f"    source     {sample.text}\n    engine     {sample.output}\n    reference  {sample.reference}")
    progress.say("\nchrF (0 to 100); 'unrelated': a random training sentence; 'copy': the source itself")
    rows = [
        [f"{name_of(s.source)} → {name_of(s.target)}", f"{s.chrf:.1f}", f"{s.unrelated:.1f}", f"{s.copy:.1f}"]
        for s in results.translation
    ]
    progress.say(table(["direction", "engine", "unrelated", "copy"], rows))


def show_labels(results: DemoResults, progress: Progress) -> None:
    progress.say("\nEmoji group from its name, labels seen in English only: accuracy on the test split")
    rows = [
        [name_of(s.language), f"{s.count}", f"{s.majority:.0%}", f"{s.classifier:.0%}", f"{s.fusion:.0%}"]
        for s in results.zero_shot
    ]
    progress.say(table(["language", "names", "majority", "classifier", "fusion"], rows))


def compare_all(places: Places, sample: Sample, recipe: Recipe, results: DemoResults, progress: Progress) -> None:
    """Latency, memory and agreement of the three models, each side in a process of its own."""
    progress.say("\nEngine against PyTorch (batch 1)")
    calls, compared = recipe.measured.calls, recipe.measured.compared
    drawn = sample.test_draw(60, recipe.seed)
    sources = [tagged(target, text) for _, target, text, _ in drawn]
    names = [name.text for code in ("en", "zh", "ug", "kk", "mn") for name in sample.emoji_names(code, "test")[:6]]
    jobs = [
        ("SWCM", f"translate, {TRANSLATED_TOKENS} tokens", "swcm", sources, TRANSLATED_TOKENS),
        ("Layer fusion", "write the label", "fusion", names, 0),
        ("Classifier", "label", "classifier", names, 0),
    ]
    for title, task, kind, texts, new_tokens in jobs:
        with progress.stage(f"{title}: {calls} calls each, {compared} outputs compared"):
            model = str(places.models / kind)
            job = Job(kind, model, "engine", results.threads, texts[:compared], texts, calls, new_tokens, limit=32)
            latency, agreement = compare(job, title, task)
            results.latency.append(latency)
            results.agreement.append(agreement)
    rows = [
        [
            f"{row.model} ({row.task})", f"{row.engine_p50:.2f} / {row.engine_p95:.2f}",
            f"{row.torch_p50:.2f} / {row.torch_p95:.2f}", f"{row.torch_p50 / row.engine_p50:.1f}x",
            f"{row.engine_memory:.0f} / {row.torch_memory:.0f}",
        ]
        for row in results.latency
    ]  # fmt: skip
    progress.say(table(["ms p50 / p95", "engine", "PyTorch", "faster", "MB engine / PyTorch"], rows))
    for row in results.agreement:
        progress.say(
            f"  {row.model}: {row.equal} of {row.count} outputs identical to PyTorch's; "
            f"largest difference {row.difference:.1e} ({row.what})"
        )


def machine_name() -> str:
    """The processor's name, as far as the system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(not installed)"
