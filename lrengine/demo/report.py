"""The demo's page: one self-contained HTML file, nothing fetched, every figure from `DemoResults`."""

from __future__ import annotations

from html import escape
from importlib.resources import files
from pathlib import Path

from lrengine.demo.caveats import caveats, duration
from lrengine.demo.languages import language_attributes, name_of
from lrengine.demo.results import DemoResults, Stage, TranslationSample
from lrengine.demo.svg import Bar, BarGroup, bar_chart, heat_map, line_chart

STRIP_COLOURS = ["--s1", "--s2", "--s3", "--s4", "--s5"]


def write_report(results: DemoResults, path: Path) -> None:
    """Write the page for `results` to `path`."""
    css = files("lrengine.demo").joinpath("page.css").read_text(encoding="utf-8")
    sections = [
        header(results),
        training(results),
        translation(results),
        zero_shot(results),
        mixer(results),
        latency(results),
        agreement(results),
        honesty(results),
    ]
    body = "\n".join(sections)
    path.write_text(
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>lrengine demo</title>\n<style>\n{css}</style>\n</head>\n<body>\n<main>\n{body}\n"
        f"<footer>{escape(results.versions)} · {escape(results.machine)} · {results.threads} "
        f"threads · the figures of this page are in results.json beside it</footer>\n</main>\n</body>\n</html>\n",
        encoding="utf-8",
    )


def speed_up(results: DemoResults) -> float:
    """Geometric mean over the models of PyTorch's median time over the engine's."""
    product = 1.0
    for row in results.latency:
        product *= row.torch_p50 / row.engine_p50
    return product ** (1 / max(len(results.latency), 1))


def header(results: DemoResults) -> str:
    best = max(results.translation, key=lambda score: score.chrf)
    beaten = [score for score in results.zero_shot if score.language != "en"]
    wins = sum(max(score.classifier, score.fusion) > score.majority for score in beaten)
    equal, count = sum(row.equal for row in results.agreement), sum(row.count for row in results.agreement)
    direction = f"{name_of(best.source)} to {name_of(best.target)}"
    cards = [
        (duration(results.training_seconds), "of training for everything on this page, on this machine's CPU"),
        (
            f"{wins} <small>of {len(beaten)}</small>",
            "languages never seen with a label are classified better than by the majority class",
        ),
        (f"{best.chrf:.1f} <small>chrF</small>", f"best translation direction: {direction}"),
        (f"{speed_up(results):.1f}<small>×</small>", "as fast as PyTorch at batch 1, mean over the three models"),
        (f"{equal} <small>of {count}</small>", "engine outputs are identical to PyTorch's"),
    ]
    shown = "".join(f'<div class="card"><b>{value}</b><span>{text}</span></div>' for value, text in cards)
    quick = "<p><b>Quick run:</b> a few steps only; the scores below mean nothing.</p>" if results.quick else ""
    if results.barely_trained and not results.quick:
        titles = escape(", ".join(f"{stage.title} ({stage.steps} steps)" for stage in results.barely_trained))
        quick = f"<p><b>Too few steps to expect anything of:</b> {titles}. <code>--seconds</code> gives more time.</p>"
    return f"""<header>
<p class="eyebrow">lrengine demo</p>
<h1>From real text to tokens and labels, in minutes</h1>
<p class="lead">Three small models for languages that large models hardly speak, trained on the bundled sample and run
in the C++ engine: a translator between Chinese and Uyghur, Kazakh and Mongolian, and two zero-shot classifiers.</p>
{quick}<div class="cards">{shown}</div>
</header>"""


def legend(entries: list[tuple[str, str]], marker: str | None = None) -> str:
    items = [f'<li><i style="background:var({css})"></i>{escape(text)}</li>' for css, text in entries]
    if marker:
        items.append(f'<li><i class="tick" style="background:var(--marker)"></i>{escape(marker)}</li>')
    return f'<ul class="legend">{"".join(items)}</ul>'


def training(results: DemoResults) -> str:
    total = results.training_seconds or 1.0
    coloured = list(zip(results.stages, STRIP_COLOURS, strict=False))
    strip = "".join(
        f'<div style="margin-left:{100 * stage.begun / total:.2f}%;width:{100 * stage.seconds / total:.2f}%;'
        f'background:var({colour})"></div>'
        for stage, colour in coloured
    )
    names = [(colour, f"{stage.title}, {duration(stage.seconds)}") for stage, colour in coloured]
    rows = "".join(_stage_row(stage) for stage in results.stages)
    curves = "".join(_curve(stage) for stage in results.stages if stage.loss)
    return f"""<section>
<h2>What was trained</h2>
<p class="soft">Everything starts from {escape(results.encoder)} and {escape(results.llm)}.</p>
<figure>{legend(names)}
<div class="strip" role="img" aria-label="When each stage ran">{strip}</div>
<figcaption>When each stage ran: two at a time, {duration(total)} from left to right.</figcaption></figure>
<div class="scroll"><table><thead><tr><th>Stage</th><th>Objective</th><th>Text</th><th class="n">Trained weights</th>
<th class="n">Steps</th><th class="n">Time</th></tr></thead><tbody>{rows}</tbody></table></div>
<div class="curves">{curves}</div>
{legend([("--train", "training loss"), ("--held", "dev split (where measured)")])}
</section>"""


def _stage_row(stage: Stage) -> str:
    return (
        f"<tr><th>{escape(stage.title)}</th><td>{escape(stage.objective)}</td><td>{escape(stage.data)}</td>"
        f'<td class="n">{stage.trained_parameters / 1e6:.2f} M</td><td class="n">{stage.steps:,}</td>'
        f'<td class="n">{duration(stage.seconds)}</td></tr>'
    )


def _curve(stage: Stage) -> str:
    chart = line_chart(stage.loss, stage.held_out, f"Loss of {stage.title} over {stage.steps} steps")
    return f"<figure><h3>{escape(stage.title)}</h3>{chart}</figure>"


def translation(results: DemoResults) -> str:
    groups = [
        BarGroup(
            f"{name_of(score.source)} → {name_of(score.target)}",
            [
                Bar(score.chrf, "--engine", f"{score.chrf:.1f}"),
                Bar(score.unrelated, "--floor", f"{score.unrelated:.1f}"),
            ],
        )
        for score in results.translation
    ]
    top = max(max(score.chrf, score.unrelated) for score in results.translation)
    chart = bar_chart(groups, top, "", "chrF of each translation direction", name_width=170)
    copied = max(score.copy for score in results.translation)
    samples = "".join(_sample(sample) for sample in results.samples)
    count = results.translation[0].count
    return f"""<section>
<h2>Translation, as it came out of the engine</h2>
<p class="soft">chrF (0 to 100) on the {count} test sentences of the sample, each direction. The grey bar is the
floor: an unrelated training sentence in the target language. Copying the source would score {copied:.1f} at most.</p>
<figure>{legend([("--engine", "SWCM in the engine, 4 beams"), ("--floor", "an unrelated sentence")])}{chart}</figure>
<p class="note after">The samples below were drawn from the test split with seed {results.sample_seed};
none was left out.</p>
<div class="pairs">{samples}</div>
</section>"""


def _sample(sample: TranslationSample) -> str:
    source, target = language_attributes(sample.source), language_attributes(sample.target)
    output = escape(sample.output.strip()) or "<em>(nothing)</em>"
    return (
        f'<div class="pair"><h3>{name_of(sample.source)} → {name_of(sample.target)}</h3><dl>'
        f"<dt>source</dt><dd {source}>{escape(sample.text)}</dd>"
        f'<dt>engine</dt><dd class="output" {target}>{output}</dd>'
        f"<dt>reference</dt><dd {target}>{escape(sample.reference)}</dd></dl></div>"
    )


def zero_shot(results: DemoResults) -> str:
    groups = [
        BarGroup(
            name_of(score.language) + (" (trained on)" if score.language == "en" else ""),
            [
                Bar(100 * score.classifier, "--classifier", f"{100 * score.classifier:.0f}%"),
                Bar(100 * score.fusion, "--fusion", f"{100 * score.fusion:.0f}%"),
            ],
            100 * score.majority,
        )
        for score in results.zero_shot
    ]
    top = max(100 * max(score.classifier, score.fusion, score.majority) for score in results.zero_shot)
    chart = bar_chart(groups, top, "%", "Accuracy per language", name_width=170)
    marks = legend(
        [("--classifier", "classifier (no LLM)"), ("--fusion", "layer fusion into the LLM")],
        "majority class of the training split",
    )
    return f"""<section>
<h2>Labels in English, answers in every language</h2>
<p class="soft">The task: tell the group of an emoji (“animals-nature”, “food-drink”, …) from its name. Both models saw
labels for English names only; the other languages are read through the shared encoder. Accuracy on the test split.</p>
<figure>{marks}{chart}</figure>
</section>"""


def mixer(results: DemoResults) -> str:
    maps = "".join(
        f"<figure><h3>{name_of(item.language)}</h3>"
        f'<p {language_attributes(item.language)} style="margin-bottom:.7rem">{escape(item.text)}</p>'
        + heat_map(item.tokens, item.weights, item.language, f"Mixer weights per token, {name_of(item.language)}")
        + "</figure>"
        for item in results.heat_maps
    )
    return f"""<section>
<h2>Which layers the mixer listens to</h2>
<p class="soft">The fusion model gives every token its own weights over the encoder's layers; a column sums to 1. One
emoji's name in {len(results.heat_maps)} languages, read out of the engine.</p>
<div class="maps">{maps}</div>
</section>"""


def latency(results: DemoResults) -> str:
    groups = [
        BarGroup(
            row.model,
            [
                Bar(row.engine_p50, "--engine", f"{row.engine_p50:.2f} ms", row.engine_p95),
                Bar(row.torch_p50, "--torch", f"{row.torch_p50:.2f} ms", row.torch_p95),
            ],
        )
        for row in results.latency
    ]
    top = max(max(row.engine_p95, row.torch_p95) for row in results.latency)
    rows = "".join(
        f"<tr><th>{escape(row.model)}</th><td>{escape(row.task)}</td>"
        + cells(
            f"{row.engine_p50:.2f}",
            f"{row.engine_p95:.2f}",
            f"{row.torch_p50:.2f}",
            f"{row.torch_p95:.2f}",
            f"{row.torch_p50 / row.engine_p50:.1f}×",
            f"{row.engine_memory:.0f}",
            f"{row.torch_memory:.0f}",
        )
        + "</tr>"
        for row in results.latency
    )
    marks = legend([("--engine", "lrengine"), ("--torch", "PyTorch")])
    heads = cells("engine p50 ms", "p95", "PyTorch p50 ms", "p95", "faster", "engine MB", "PyTorch MB", tag="th")
    return f"""<section>
<h2>Time and memory of one request</h2>
<p class="soft">Batch 1, {results.dtype}, the same inputs and the same number of tokens, median over
{results.latency[0].calls} calls; the thin line ends at the 95th percentile. Both sides ran with 1 thread and with
{results.threads}; each side's faster number is shown.</p>
<figure>{marks}{bar_chart(groups, top, "", "Milliseconds a request", name_width=150)}
<figcaption>Milliseconds a request, from text to text. Shorter is better.</figcaption></figure>
<div class="scroll"><table><thead><tr><th>Model</th><th>Request</th>{heads}</tr></thead>
<tbody>{rows}</tbody></table></div>
<p class="note after">Memory: what a fresh process's resident size grows by when it opens the model and answers these
requests; the libraries' own size (PyTorch's is large) is counted for neither side.</p>
</section>"""


def cells(*values: str, tag: str = "td") -> str:
    return "".join(f'<{tag} class="n">{value}</{tag}>' for value in values)


def agreement(results: DemoResults) -> str:
    rows = "".join(
        f'<tr><th>{escape(row.model)}</th><td>{escape(row.what)}</td><td class="n">{row.equal} of {row.count}</td>'
        f'<td class="n">{row.difference:.1e}</td></tr>'
        for row in results.agreement
    )
    return f"""<section>
<h2>The engine says what PyTorch says</h2>
<p class="soft">Both read the same model directory. The last column is the largest difference between their
log-probabilities (for the classifier: probabilities).</p>
<div class="scroll"><table><thead><tr><th>Model</th><th>Compared</th><th class="n">identical</th>
<th class="n">largest difference</th></tr></thead><tbody>{rows}</tbody></table></div>
</section>"""


def honesty(results: DemoResults) -> str:
    return f"""<section>
<h2>What these figures are worth</h2>
<div class="honest">
{"".join(f"<p>{escape(text)}</p>" for text in caveats(results))}
</div>
</section>"""
