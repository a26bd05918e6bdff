"""Draws and tabulates what `benchmarks/latency.py --out DIR` measured.

    python benchmarks/plot_suites.py benchmarks/results docs/measured

README.md       every figure, and what it was measured on
latency.svg     milliseconds a token against the tokens of the source; of a request for the encoder
throughput.svg  tokens a second against the batch
roofline.svg    milliseconds a token against the bytes that a step reads; the line is the memory's bandwidth
Needs matplotlib (the `dev` extra). A picture whose measurements are not there is left out with a word.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "lrengine"  # the same figures give the same file
matplotlib.rcParams["svg.fonttype"] = "none"  # letters as text: a tenth of the size
import matplotlib.pyplot as plt  # noqa: E402

from lrengine.bench.figures import Figures, figures_of, table  # noqa: E402
from lrengine.bench.report import parts_of  # noqa: E402

SERIES_STYLES = {"lrengine": "-", "ctranslate2": "--", "onnxruntime": ":", "llama.cpp": "-.", "transformers": "--"}
COLOURS = {"lrengine": "tab:blue", "ctranslate2": "tab:orange", "onnxruntime": "tab:green", "llama.cpp": "tab:red"}
MARKERS = {"float32": "o", "bfloat16": "s", "int8": "^", "int4": "v", "int4+embeddings": "1"}
Point = tuple[float, float]


def greedy(figures: Sequence[Figures]) -> list[Figures]:
    return [f for f in figures if f.workload.task == "generate" and f.workload.beams == 1 and not f.workload.text]


def by_name(figures: Sequence[Figures], point: Callable[[Figures], Point]) -> dict[str, list[Point]]:
    """A contestant's points in order; the last measured where several have the same place."""
    found: dict[str, dict[float, float]] = {}
    for figure in figures:
        x, y = point(figure)
        found.setdefault(figure.name, {})[x] = y
    return {name: sorted(points.items()) for name, points in found.items()}


def draw(axes: Any, series: dict[str, list[Point]], title: str, x: str, y: str) -> None:
    for name, points in series.items():
        engine, _, dtype = name.partition(" ")
        axes.plot(
            *zip(*points, strict=True),
            SERIES_STYLES.get(engine, "-"),
            color=COLOURS.get(engine, "tab:gray"),
            marker=MARKERS.get(dtype, "x"),
            label=name,
        )
    axes.set(title=title, xlabel=x, ylabel=y)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.grid(True, which="both", alpha=0.3)
    if series:
        axes.legend(fontsize="x-small")


def latency(suites: dict[str, list[Figures]]) -> Any:
    tokens = [f for f in greedy(suites.get("seq2seq", [])) if f.workload.batch == 1]
    requests = [f for f in suites.get("encoder", []) if f.workload.batch == 1]
    if not tokens and not requests:
        return None
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    points = by_name(tokens, lambda f: (f.workload.source, (f.token_us or 0) / 1e3))
    draw(left, points, "SWCM's shape, batch 1, greedy", "tokens of the source", "ms a token")
    points = by_name(requests, lambda f: (f.workload.source, f.request_ms))
    draw(right, points, "XLM-R base, batch 1", "tokens of the source", "ms a request")
    return figure


def throughput(suites: dict[str, list[Figures]]) -> Any:
    found = [f for f in greedy(suites.get("seq2seq", [])) if f.workload.source == 64]
    if not found:
        return None
    figure, axes = plt.subplots(figsize=(6, 4.2), layout="constrained")
    points = by_name(found, lambda f: (f.workload.batch, f.workload.batch * 1e6 / (f.token_us or 1)))
    draw(axes, points, "SWCM's shape, source 64, greedy", "batch", "tokens a second")
    return figure


def roofline(suites: dict[str, list[Figures]]) -> Any:
    """Batch 1, source 64, of the suites whose steps' bytes are known."""
    figures = [f for name in ("seq2seq", "llm") for f in greedy(suites.get(name, []))]
    found = [f for f in figures if f.workload.batch == 1 and f.workload.source == 64 and f.step_bytes and f.floor_us]
    if not found:
        return None
    figure, axes = plt.subplots(figsize=(6, 4.2), layout="constrained")
    points: dict[str, list[Point]] = {}
    for one in found:
        points.setdefault(one.name, []).append(((one.step_bytes or 0) / 1e6, (one.token_us or 0) / 1e3))
    draw(
        axes,
        {name: sorted(places) for name, places in points.items()},
        "Decoding and memory",
        "MB a step",
        "ms a token",
    )
    floor = sorted({((f.step_bytes or 0) / 1e6, (f.floor_us or 0) / 1e3) for f in found})
    axes.plot(*zip(*floor, strict=True), color="black", linewidth=1, label="bytes / bandwidth")
    axes.legend(fontsize="x-small")
    return figure


def page(documents: dict[str, dict[str, Any]]) -> str:
    """The tables, a chapter a suite, with the machine, commit and versions of each part."""
    lines = ["# Measured", "", "Made by `python benchmarks/plot_suites.py benchmarks/results docs/measured` from", ""]
    lines[-2] += " what `benchmarks/latency.py` measured. Medians of the rounds; J: joules, where the system tells."
    for suite, document in documents.items():
        for part, report in parts_of(document).items():
            lines += [f"## {suite}, {part}", "", conditions(report), "", table(figures_of(report)), ""]
            lines += [f"- left out: {row['name']}: {row['failed']}" for row in failures(report)]
    return "\n".join(lines).rstrip() + "\n"


def failures(report: dict[str, Any]) -> list[dict[str, Any]]:
    return [row for row in report["contestants"] + report["rows"] if "failed" in row]


def conditions(report: dict[str, Any]) -> str:
    machine = report["machine"]
    versions = sorted({
        f"{name} {version}"
        for found in report["contestants"]
        for name, version in found.get("versions", {}).items()
        if name not in ("dtype", "device", "isa")
    })  # fmt: skip
    bandwidth = statistics.median(report["read_bandwidth_bytes_s"]) / 1e9
    return (
        f"{machine['date']}, {machine['cpu']} ({', '.join(machine['instruction_sets'])}), {report['threads']} threads, "
        f"{report['rounds']} rounds, {bandwidth:.1f} GB/s read, commit {machine.get('commit', 'unknown')[:9]}; "
        f"{', '.join(versions)}."
    )


PICTURES: dict[str, Callable[[dict[str, list[Figures]]], Any]]
PICTURES = {"latency": latency, "throughput": throughput, "roofline": roofline}


def read(folder: Path) -> dict[str, dict[str, Any]]:
    """Suite -> its file, of the files that are a suite's (have parts)."""
    documents = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}
    return {name: found for name, found in documents.items() if "parts" in found}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("folder", type=Path, help="of the page and the pictures")
    args = parser.parse_args(arguments)
    documents = read(args.results)
    suites = {name: figures_of(found) for name, found in documents.items()}
    args.folder.mkdir(parents=True, exist_ok=True)
    (args.folder / "README.md").write_text(page(documents), encoding="utf-8")
    for name, picture in PICTURES.items():
        figure = picture(suites)
        if figure is None:
            print(f"left out: {name}: not measured")
            continue
        figure.savefig(args.folder / f"{name}.svg", metadata={"Date": None})
        plt.close(figure)
        print(args.folder / f"{name}.svg")


if __name__ == "__main__":
    main()
