"""Charts as SVG files that stand alone, plain colours on white: curves, bars with intervals, a grid of shares."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from lrengine.demo.svg import nice_ticks, number

COLOURS = ("#0b6e6e", "#c2571a", "#3f5fa8", "#8a6fb0", "#a08a2c", "#5c626d", "#b3261e")
INK = "#111"
WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 640, 320, 52, 34, 42
LEGEND = 150  # at the right


@dataclass(frozen=True)
class Point:
    """`low` and `high` bound the interval, where there is one."""

    x: float
    value: float
    low: float | None = None
    high: float | None = None


def curves(series: Mapping[str, Sequence[Point]], title: str, x_name: str, log_x: bool = False) -> str:
    """A line a name, its intervals as vertical strokes. Names without points are left out."""
    series = {name: points for name, points in series.items() if points}
    every = [point for points in series.values() for point in points]
    ticks = nice_ticks(max((point.high or point.value for point in every), default=1.0), 5)
    spread = [_along(point.x, log_x) for point in every] or [0.0]
    first, last = min(spread), max(spread)
    right = WIDTH - LEGEND

    def x_of(x: float) -> float:
        return LEFT + (right - LEFT - 12) * (_along(x, log_x) - first) / ((last - first) or 1.0)

    def y_of(value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * value / ticks[-1]

    parts = [_open(WIDTH, HEIGHT, title)]
    for tick in ticks:
        y = y_of(tick)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{right}" stroke="#ddd"/>{_text(LEFT - 6, y + 4, number(tick), "end")}')
    marks = sorted({point.x for point in every}) if log_x else nice_ticks(max(p.x for p in every) if every else 1, 5)
    for mark in marks:
        if _along(mark, log_x) <= last and x_of(mark) >= LEFT:
            parts.append(_text(x_of(mark), HEIGHT - BOTTOM + 16, number(mark), "middle"))
    parts.append(_text((LEFT + right) / 2, HEIGHT - 8, x_name, "middle"))
    for place, (name, points) in enumerate(series.items()):
        colour = COLOURS[place % len(COLOURS)]
        path = " ".join(f"{x_of(point.x):.1f},{y_of(point.value):.1f}" for point in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for point in points:
            if point.low is not None and point.high is not None:
                x = x_of(point.x) + 2 * place  # side by side, or they would hide each other
                parts.append(f'<path d="M{x:.1f} {y_of(point.low):.1f}V{y_of(point.high):.1f}" stroke="{colour}"/>')
        y = TOP + 8 + 18 * place
        parts.append(f'<rect x="{right + 10}" y="{y}" width="12" height="4" fill="{colour}"/>')
        parts.append(_text(right + 28, y + 6, name))
    return "".join([*parts, "</svg>\n"])


def bars(values: Mapping[str, Point], title: str) -> str:
    """A horizontal bar a name, with its interval and its value."""
    left, row = 190, 24
    height = TOP + row * len(values) + 12
    ticks = nice_ticks(max((point.high or point.value for point in values.values()), default=1.0), 5)
    scale = (WIDTH - left - 70) / ticks[-1]
    parts = [_open(WIDTH, height, title)]
    for place, (name, point) in enumerate(values.items()):
        y = TOP + row * place
        length = max(point.value * scale, 0.0)
        parts.append(f'<rect x="{left}" y="{y + 4}" width="{length:.1f}" height="{row - 8}" fill="{COLOURS[0]}"/>')
        parts.append(_text(left - 8, y + 16, name, "end"))
        end = length
        if point.low is not None and point.high is not None:
            low, end = (max(bound * scale, 0.0) for bound in (point.low, point.high))
            parts.append(f'<path d="M{left + low:.1f} {y + 12}H{left + end:.1f}" stroke="{INK}" stroke-width="2"/>')
        parts.append(_text(left + max(end, length) + 6, y + 16, f"{point.value:.1f}"))
    return "".join([*parts, "</svg>\n"])


def shares(
    rows: Mapping[str, Sequence[float]],
    columns: Sequence[str],
    title: str,
    deviations: Mapping[str, Sequence[float]] | None = None,
) -> str:
    """A line a name (a language, a token), a cell a column (a layer): the share written in percent and shaded, and
    below it its deviation where there is one."""
    left, cell, row = 130, 42, 22 if deviations is None else 33
    width, height = left + cell * len(columns) + 8, TOP + 20 + row * len(rows) + 8
    largest = max((value for values in rows.values() for value in values), default=1.0) or 1.0
    cells, words = [], [_text(left + cell * (place + 0.5), TOP + 14, name) for place, name in enumerate(columns)]
    for line, (name, values) in enumerate(rows.items()):
        y = TOP + 20 + row * line
        words.append(_text(left - 8, y + 15, name, "end"))
        for place, value in enumerate(values):
            ink = "#fff" if value > 0.8 * largest else INK
            x, shade = left + cell * (place + 0.5), 0.05 + 0.95 * value / largest
            cells.append(f'<rect x="{left + cell * place}" y="{y}" width="{cell - 1}" height="{row - 1}" '
                         f'fill-opacity="{shade:.2f}"/>')  # fmt: skip
            words.append(_text(x, y + 15, f"{100 * value:.0f}", colour=ink))
            if deviations is not None:
                words.append(_text(x, y + 28, f"\u00b1{100 * deviations[name][place]:.0f}", colour=ink))
    shaded = [f'<g fill="{COLOURS[0]}">', *cells, "</g>"]
    return "".join([_open(width, height, title), *shaded, '<g text-anchor="middle">', *words, "</g></svg>\n"])


def _along(x: float, log: bool) -> float:
    return math.log10(x) if log else x


def _open(width: float, height: float, title: str) -> str:
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
            f'font-family="sans-serif" font-size="12" fill="{INK}" role="img"><title>{escape(title)}</title>'
            f'<rect width="{width}" height="{height}" fill="#fff"/>'
            f'{_text(10, 18, title)}')  # fmt: skip


def _text(x: float, y: float, words: str, anchor: str = "", colour: str = INK) -> str:
    """Without `anchor` it stands as the element around it says, from `x` on where none does."""
    placed = f' text-anchor="{anchor}"' if anchor else ""
    filled = f' fill="{colour}"' if colour != INK else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{placed}{filled}>{escape(words)}</text>'
