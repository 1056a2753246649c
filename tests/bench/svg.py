# SPDX-License-Identifier: BSD-3-Clause
"""A bar chart as an SVG text: groups of horizontal bars, each with its range as a whisker."""

import dataclasses
from xml.sax.saxutils import escape

WIDTH, LABELS, BAR, GAP, TOP = 760, 200, 15, 12, 58
PLOT = WIDTH - LABELS - 110
FONT = 'font-family="sans-serif" font-size="12"'
COLOURS = ("#1b6ca8", "#63a6d6", "#b4d4ec")


@dataclasses.dataclass(frozen=True)
class Bar:
    """`shade` 0 is this project's, 1 others', 2 a second figure of the same."""
    label: str
    value: float
    least: float
    greatest: float
    text: str
    shade: int = 1


def bar_chart(title, subtitle, groups):
    """`groups` are (heading, bars); each group has a scale of its own."""
    parts, y = [], TOP
    for heading, bars in groups:
        parts.append(_text(8, y, heading, weight="bold"))
        y += 8
        scale = PLOT / max(max(bar.greatest for bar in bars), 1e-9)
        for bar in bars:
            parts += _bar(bar, y, scale)
            y += BAR + 5
        y += GAP + 10
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y}" '
        f'viewBox="0 0 {WIDTH} {y}" role="img">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{y}" fill="#ffffff"/>',
        _text(8, 20, title, weight="bold"), _text(8, 37, subtitle, colour="#555555"),
        *parts, "</svg>", ""])


def _bar(bar, y, scale):
    middle = y + BAR / 2
    left, right = LABELS + bar.least * scale, LABELS + bar.greatest * scale
    found = [
        _text(LABELS - 8, y + BAR - 3, bar.label, anchor="end"),
        f'<rect x="{LABELS}" y="{y}" width="{bar.value * scale:.1f}" height="{BAR}" '
        f'fill="{COLOURS[bar.shade]}"/>',
    ]
    if bar.greatest > bar.least:
        found.append(f'<path d="M{left:.1f} {middle:.1f}H{right:.1f}M{left:.1f} {middle - 4:.1f}v8'
                     f'M{right:.1f} {middle - 4:.1f}v8" stroke="#222222" fill="none"/>')
    end = max(right, LABELS + bar.value * scale) + 6
    found.append(_text(end, y + BAR - 3, bar.text))
    return found


def _text(x, y, text, anchor="start", weight="normal", colour="#111111"):
    return (f'<text x="{x:.1f}" y="{y:.1f}" {FONT} font-weight="{weight}" fill="{colour}" '
            f'text-anchor="{anchor}">{escape(text)}</text>')
