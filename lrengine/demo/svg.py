"""Three small charts as inline SVG. Colours are CSS variables of the page, so light and dark follow the reader."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from lrengine.demo.languages import language_attributes


@dataclass
class Bar:
    """One horizontal bar: `css` names a colour variable; `whisker` ends a thin line beyond the bar (p95, say)."""

    value: float
    css: str
    label: str
    whisker: float | None = None


@dataclass
class BarGroup:
    """Bars that share a name at the left; `marker` draws a vertical tick (a baseline) across them."""

    name: str
    bars: list[Bar]
    marker: float | None = None


def nice_ticks(top: float, count: int = 4) -> list[float]:
    """Round axis values 0, step, 2 step, ... that cover [0, top] in about `count` steps."""
    if top <= 0:
        return [0.0, 1.0]
    raw = top / count
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = next(m * magnitude for m in (1, 2, 2.5, 5, 10) if m * magnitude >= raw * 0.999)
    return [step * i for i in range(math.ceil(top / step - 1e-9) + 1)]


def number(value: float) -> str:
    return f"{value:.10g}"


def line_chart(points: Sequence[tuple[int, float]], held_out: Sequence[tuple[int, float]], title: str) -> str:
    """A loss curve: steps to the right, loss up, the last values written beside their ends. Returns one <svg>."""
    width, height, left, right, top, bottom = 288, 176, 32, 40, 10, 26
    everything = [*points, *held_out]
    last_step = max((step for step, _ in everything), default=1) or 1
    ticks = nice_ticks(max((loss for _, loss in everything), default=1.0), 4)

    def place(step: float, loss: float) -> tuple[float, float]:
        x = left + (width - left - right) * step / last_step
        return x, height - bottom - (height - top - bottom) * loss / ticks[-1]

    parts = [f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">']
    for tick in ticks:
        _, y = place(0, tick)
        parts.append(f'<line class="grid" x1="{left}" x2="{width - right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{left - 7}" y="{y + 3.5:.1f}" text-anchor="end">{number(tick)}</text>')
    for tick in nice_ticks(last_step, 3):
        if tick <= last_step:
            x, _ = place(tick, 0)
            parts.append(f'<text class="tick" x="{x:.1f}" y="{height - 9}" text-anchor="middle">{number(tick)}</text>')
    ends = []
    for series, css in ((points, "--train"), (held_out, "--held")):
        if series:
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in series))
            parts.append(f'<polyline class="curve" style="stroke:var({css})" points="{path}"/>')
            x, y = place(*series[-1])
            parts.append(f'<circle r="3" cx="{x:.1f}" cy="{y:.1f}" style="fill:var({css})"/>')
            ends.append((y, series[-1][1], css))
    for y, loss in _spread(ends):
        parts.append(f'<text class="value" x="{width - right + 7}" y="{y + 4:.1f}">{loss:.2f}</text>')
    return "".join([*parts, "</svg>"])


def _spread(ends: list[tuple[float, float, str]]) -> list[tuple[float, float]]:
    """Move two labels that would overlap apart."""
    placed: list[tuple[float, float]] = []
    for y, loss, _ in sorted(ends):
        placed.append((max(y, placed[-1][0] + 13) if placed else y, loss))
    return placed


def bar_chart(groups: Sequence[BarGroup], top: float, unit: str, title: str, name_width: int = 120) -> str:
    """Grouped horizontal bars from 0 to `top`, values written at their ends. Returns one <svg>."""
    width, right, bar, gap, between = 760, 92, 15, 3, 15
    ticks = nice_ticks(top, 5)
    scale = (width - name_width - right) / ticks[-1]
    height = sum(len(g.bars) * (bar + gap) - gap + between for g in groups) + 28
    parts = [f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">']
    for tick in ticks:
        x = name_width + tick * scale
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{height - 24}"/>')
        label = f"{number(tick)}{unit}"
        parts.append(f'<text class="tick" x="{x:.1f}" y="{height - 8}" text-anchor="middle">{label}</text>')
    y: float = between / 2
    for group in groups:
        tall = len(group.bars) * (bar + gap) - gap
        middle = y + tall / 2 + 4.5
        parts.append(f'<text class="name" x="{name_width - 12}" y="{middle:.1f}" text-anchor="end">')
        parts.append(f"{escape(group.name)}</text>")
        for index, item in enumerate(group.bars):
            parts.append(_bar(item, name_width, y + index * (bar + gap), bar, scale))
        if group.marker is not None:
            x = name_width + group.marker * scale
            parts.append(f'<line class="marker" x1="{x:.1f}" x2="{x:.1f}" y1="{y - 4:.1f}" y2="{y + tall + 4:.1f}"/>')
        y += tall + between
    return "".join([*parts, "</svg>"])


def _bar(item: Bar, left: float, y: float, thick: float, scale: float) -> str:
    length = max(item.value * scale, 1.0)
    end = max(length, (item.whisker or 0.0) * scale)
    parts = [
        f'<rect x="{left}" y="{y:.1f}" width="{length:.1f}" height="{thick}" rx="3" style="fill:var({item.css})"/>'
    ]
    if item.whisker is not None:
        middle = y + thick / 2
        x = left + item.whisker * scale
        parts.append(
            f'<path class="whisker" d="M{left + length:.1f} {middle:.1f}H{x:.1f}M{x:.1f} {y + 3:.1f}v{thick - 6}"/>'
        )
    parts.append(f'<text class="value" x="{left + end + 7:.1f}" y="{y + thick - 3:.1f}">{escape(item.label)}</text>')
    return "".join(parts)


def heat_map(tokens: Sequence[str], weights: Sequence[Sequence[float]], language: str, title: str) -> str:
    """Columns are tokens in reading order of the ids, rows are encoder layers, the first layer at the bottom.

    `weights` [S, L], each row sums to 1; a cell's opacity is its weight relative to the largest in the map.
    """
    layers = len(weights[0]) if weights else 0
    cell_width, left, top = 64, 62, 6
    cell_height = 30 if layers <= 8 else 20
    width, height = left + cell_width * len(tokens) + 4, top + cell_height * layers + 34
    largest = max((w for row in weights for w in row), default=1.0)
    parts = [
        f'<svg viewBox="0 0 {width} {height}" style="min-width:{width * 0.72:.0f}px;max-width:{width}px" role="img" '
    ]
    parts.append(f'aria-label="{escape(title)}">')
    for layer in range(layers):
        y = top + (layers - 1 - layer) * cell_height
        middle = y + cell_height / 2 + 4
        parts.append(f'<text class="tick" x="{left - 9}" y="{middle:.1f}" text-anchor="end">layer {layer + 1}</text>')
        for column, row in enumerate(weights):
            share = row[layer] / largest
            x = left + column * cell_width
            ink = "cell-strong" if share > 0.6 else "cell-weak"
            parts.append(
                f'<rect class="cell" x="{x + 1}" y="{y + 1}" width="{cell_width - 2}" height="{cell_height - 2}" '
            )
            parts.append(f'rx="4" fill-opacity="{0.06 + 0.94 * share:.3f}"/>')
            parts.append(f'<text class="{ink}" x="{x + cell_width / 2}" y="{middle:.1f}" text-anchor="middle">')
            parts.append(f"{row[layer]:.2f}</text>")
    for column, token in enumerate(tokens):
        center = left + (column + 0.5) * cell_width
        shown = escape(token if len(token) <= 8 else token[:7] + "…")
        parts.append(
            f'<text class="token" x="{center}" y="{height - 12}" text-anchor="middle" {language_attributes(language)}>'
        )
        parts.append(f"{shown}</text>")
    return "".join([*parts, "</svg>"])
