"""Plots as inline SVG: plain strings, no script, no font, no file from elsewhere.

Colours are classes of the page (``s0`` to ``s4``, ``muted``, ``grid``), so that they follow its light or dark scheme.
Each plot has a title and a description for screen readers, and says nothing by colour alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from math import floor, log10

WIDTH = 720
_ROW = 30
_LABELS = 190
_RIGHT = 70


def bars(title: str, rows: Sequence[tuple[str, float, float, float]], top: float = 1.0, *, decimals: int = 3) -> str:
    """Horizontal bars from 0 to ``top``: (label, value, low, high), the interval as a whisker.

    Where value, low and high are one, there is no interval.
    """
    height = _ROW * len(rows) + 34
    scale = (WIDTH - _LABELS - _RIGHT) / top
    parts = [_axis(0, top, height, lambda x: _LABELS + x * scale)]
    for i, (label, value, low, high) in enumerate(rows):
        parts += _bar(i, label, scale, max(value, 0), (low, high), max(high, value), f"{value:,.{decimals}f}")
    said = "; ".join(
        f"{label} {value:,.{decimals}f}" + ("" if low == high else f" ({low:,.{decimals}f} to {high:,.{decimals}f})")
        for label, value, low, high in rows
    )
    return _svg(title, said, height, parts)


def lines(title: str, labels: Sequence[str], series: Mapping[str, Sequence[float | None]]) -> str:
    """One line a series over the same labels; each line is named at its end and has marks of its own."""
    height, left, right, top, bottom = 260, 48, 110, 12, 28
    known = [value for values in series.values() for value in values if value is not None]
    low = floor(min(known, default=0.0) * 10) / 10
    low = low if low < 1 else 0.9
    wide = (WIDTH - left - right) / max(len(labels) - 1, 1)
    tall = (height - top - bottom) / (1 - low)
    parts = []
    for step in range(6):
        value = low + (1 - low) * step / 5
        y = height - bottom - (value - low) * tall
        parts.append(f'<line class="grid" x1="{left}" x2="{WIDTH - right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_text(left - 8, y + 4, f"{value:.2f}", "end", "num muted"))
    parts += [_text(left + i * wide, height - 8, label, "middle", "muted") for i, label in enumerate(labels)]
    ends: list[float] = []
    for index, (name, values) in enumerate(series.items()):
        points = [
            (left + i * wide, height - bottom - (value - low) * tall)
            for i, value in enumerate(values)
            if value is not None
        ]
        if not points:
            continue
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline class="line s{index}" points="{path}"/>')
        parts += [f'<circle class="s{index}" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>' for x, y in points]
        y = points[-1][1]
        # Lines that end together would be named on top of one another.
        while any(abs(y - other) < 18 for other in ends):
            y += 18
        ends.append(y)
        legend = WIDTH - right + 8
        parts.append(f'<line class="line s{index}" x1="{legend}" x2="{legend + 26}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_text(legend + 32, y + 4, name, "start"))
    height = max(height, int(max(ends, default=0)) + 14)
    said = "; ".join(
        f"{name}: " + ", ".join(f"{label} {v:.3f}" for label, v in zip(labels, values, strict=True) if v is not None)
        for name, values in series.items()
    )
    return _svg(title, said, height, parts)


def percentiles(title: str, rows: Sequence[tuple[str, float, float, float]], unit: str) -> str:
    """A bar to the median, a line to the 95th percentile, a dot at the 99th: (label, p50, p95, p99)."""
    top = max((row[3] for row in rows), default=1.0) or 1.0
    height = _ROW * len(rows) + 34
    scale = (WIDTH - _LABELS - _RIGHT) / top
    parts = [_axis(0, top, height, lambda x: _LABELS + x * scale)]
    for i, (label, p50, p95, p99) in enumerate(rows):
        parts += _bar(i, label, scale, p50, (p50, p95), p99, f"{p50:.1f}")
        parts.append(f'<circle class="ink" cx="{_LABELS + p99 * scale:.1f}" cy="{_middle(i)}" r="3"/>')
    said = "; ".join(f"{label} p50 {a:.1f}, p95 {b:.1f}, p99 {c:.1f} {unit}" for label, a, b, c in rows)
    return _svg(title, said, height, parts)


def differences(title: str, rows: Sequence[tuple[str, float, float, float, bool]]) -> str:
    """Differences with their intervals around 0: (label, difference, low, high, is_significant), filled if so."""
    reach = max((max(abs(row[2]), abs(row[3])) for row in rows), default=0.0) * 1.1 or 0.01
    labels = 260
    height = _ROW * len(rows) + 34
    scale = (WIDTH - labels - _RIGHT) / (2 * reach)

    def place(value: float) -> float:
        return labels + (value + reach) * scale

    parts = [_axis(-reach, reach, height, place)]
    parts.append(f'<line class="ink" x1="{place(0):.1f}" x2="{place(0):.1f}" y1="0" y2="{height - 26}"/>')
    for i, (label, difference, low, high, significant) in enumerate(rows):
        middle = 18 + i * _ROW
        parts.append(_text(labels - 10, middle + 4, label, "end"))
        parts.append(_whisker(place(low), place(high), middle))
        kind = "ink" if significant else "hollow"
        parts.append(f'<circle class="{kind}" cx="{place(difference):.1f}" cy="{middle}" r="5"/>')
        parts.append(_text(WIDTH - _RIGHT + 8, middle + 4, f"{difference:+.3f}", "start", "num"))
    said = "; ".join(
        f"{label} {d:+.4f} ({low:+.4f} to {high:+.4f}){', significant' if s else ''}" for label, d, low, high, s in rows
    )
    return _svg(title, said, height, parts)


def waterfall(title: str, values: Sequence[float]) -> str:
    """One thin bar a question, the largest gain first: how many gain, how many lose, by how much."""
    height, left, top = 200, 48, 10
    ordered = sorted(values, reverse=True)
    better, worse = sum(v > 0 for v in ordered), sum(v < 0 for v in ordered)
    said = f"{better} questions better, {worse} worse, {len(ordered) - better - worse} equal"
    if len(ordered) > WIDTH:  # a bar would be thinner than a pixel
        ordered = [ordered[i * len(ordered) // WIDTH] for i in range(WIDTH)]
    reach = max((abs(value) for value in ordered), default=0.0) or 1.0
    tall = (height - 2 * top) / 2
    middle = top + tall
    wide = (WIDTH - left - 10) / max(len(ordered), 1)
    parts = []
    for value in (reach, 0.0, -reach):
        y = middle - value / reach * tall
        parts.append(f'<line class="grid" x1="{left}" x2="{WIDTH - 10}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_text(left - 8, y + 4, f"{value:+.2f}" if value else "0", "end", "num muted"))
    for i, value in enumerate(ordered):
        if value:
            tip = abs(value) / reach * tall
            y = middle - tip if value > 0 else middle
            kind = "gain" if value > 0 else "loss"
            size = f'width="{max(wide - 0.2, 0.4):.2f}" height="{tip:.1f}"'
            parts.append(f'<rect class="{kind}" x="{left + i * wide:.2f}" y="{y:.1f}" {size}/>')
    return _svg(title, said, height, parts)


def _bar(
    row: int, label: str, scale: float, value: float, whisker: tuple[float, float], end: float, said: str
) -> list[str]:
    """A row: its label, a bar to ``value``, a whisker over it, and what is ``said`` beyond ``end``."""
    middle = _middle(row)
    return [
        _text(_LABELS - 10, middle + 4, label, "end"),
        f'<rect class="s0" x="{_LABELS}" y="{middle - 10}" width="{value * scale:.1f}" height="20" rx="2"/>',
        _whisker(_LABELS + whisker[0] * scale, _LABELS + whisker[1] * scale, middle),
        _text(_LABELS + end * scale + 8, middle + 4, said, "start", "num"),
    ]


def _middle(row: int) -> int:
    return 18 + row * _ROW


def _svg(title: str, description: str, height: int, parts: Sequence[str]) -> str:
    name = escape(f"{title}. {description}")
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(title)}">'
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{name}" preserveAspectRatio="xMinYMin">'
        f"<title>{escape(title)}</title>{''.join(parts)}</svg></div>"
    )


def _axis(low: float, high: float, height: int, place: Callable[[float], float]) -> str:
    step = _nice((high - low) / 5)
    first = -floor(-low / step)
    parts, index = [], first
    while index * step <= high + 1e-9:
        value = index * step
        x = place(value)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{height - 26}"/>')
        parts.append(_text(x, height - 8, f"{value:.10g}" if value else "0", "middle", "num muted"))
        index += 1
    return "".join(parts)


def _nice(step: float) -> float:
    """The next larger of 1, 2 and 5 times a power of ten."""
    power = 10.0 ** floor(log10(step))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= step * (1 - 1e-9))


def _whisker(start: float, end: float, y: float) -> str:
    return (
        f'<path class="whisker" d="M{start:.1f} {y}H{end:.1f}M{start:.1f} {y - 4}v8M{end:.1f} {y - 4}v8"/>'
        if end > start
        else ""
    )


def _text(x: float, y: float, text: str, anchor: str, kind: str = "") -> str:
    name = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{name}>{escape(text)}</text>'
