"""Charts as SVG text: lines over a number, and bars with names. Knows nothing of what they show."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 80, 20, 44, 56
COLORS = ("#1f6feb", "#d1242f", "#1a7f37", "#9a6700", "#8250df")
INK, FAINT, PAPER = "#24292f", "#d0d7de", "#ffffff"
BAR_HEIGHT = 24
NAME_WIDTH = 170
TICKS = 5


@dataclass(frozen=True, slots=True)
class Line:
    """A named line through points (x, y)."""

    name: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Bar:
    """A named value; `note` is written at its end."""

    name: str
    value: float
    note: str


def draw_lines(title: str, x_name: str, y_name: str, lines: Sequence[Line]) -> str:
    """A chart of lines with round ticks and a legend. Zero is always on the y axis."""
    xs = [x for line in lines for x, _ in line.points]
    ys = [y for line in lines for _, y in line.points] + [0.0]
    x_ticks, y_ticks = list_ticks(min(xs), max(xs)), list_ticks(min(ys), max(ys))
    left, right = min(*xs, x_ticks[0]), max(*xs, x_ticks[-1])
    low, high = y_ticks[0], y_ticks[-1]

    def to_x(x: float) -> float:
        return LEFT + (x - left) / (right - left or 1) * (WIDTH - LEFT - RIGHT)

    def to_y(y: float) -> float:
        return HEIGHT - BOTTOM - (y - low) / (high - low or 1) * (HEIGHT - TOP - BOTTOM)

    parts = [_text(WIDTH / 2, 22, title, "middle", 15)]
    for y in y_ticks:
        parts.append(_rule(LEFT, to_y(y), WIDTH - RIGHT, to_y(y), INK if y == 0 else FAINT))
        parts.append(_text(LEFT - 8, to_y(y) + 4, _show(y), "end"))
    for x in x_ticks:
        parts.append(_rule(to_x(x), HEIGHT - BOTTOM, to_x(x), HEIGHT - BOTTOM + 5, INK))
        parts.append(_text(to_x(x), HEIGHT - BOTTOM + 20, _show(x), "middle"))
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, x_name, "middle"))
    parts.append(_text(14, TOP - 10, y_name, "start"))
    for number, line in enumerate(lines):
        color = COLORS[number % len(COLORS)]
        points = " ".join(f"{to_x(x):.1f},{to_y(y):.1f}" for x, y in line.points)
        parts.append(f'<polyline fill="none" stroke="{color}" stroke-width="2" points="{points}"/>')
        parts += [f'<circle cx="{to_x(x):.1f}" cy="{to_y(y):.1f}" r="3" fill="{color}"/>' for x, y in line.points]
        at = TOP + 6 + 18 * number
        parts.append(_rule(WIDTH - RIGHT - 200, at, WIDTH - RIGHT - 178, at, color))
        parts.append(_text(WIDTH - RIGHT - 172, at + 4, line.name, "start"))
    return _wrap(HEIGHT, parts)


def draw_bars(title: str, note: str, bars: Sequence[Bar]) -> str:
    """Horizontal bars to both sides of zero, on a scale that is linear up to 1 and logarithmic beyond."""
    height = TOP + BAR_HEIGHT * len(bars) + BOTTOM
    reach = max([_squeeze(abs(one.value)) for one in bars] + [1.0])
    middle = NAME_WIDTH + (WIDTH - NAME_WIDTH) * 0.3
    room = WIDTH - middle - 90
    parts = [_text(WIDTH / 2, 22, title, "middle", 15), _text(WIDTH / 2, height - 16, note, "middle")]
    for number, one in enumerate(bars):
        top = TOP + BAR_HEIGHT * number
        length = _squeeze(abs(one.value)) / reach * room
        is_good = one.value >= 0
        end = middle + length if is_good else middle - min(length, middle - NAME_WIDTH)
        color = COLORS[2] if is_good else COLORS[1]
        parts.append(
            f'<rect x="{min(middle, end):.1f}" y="{top + 4}" width="{abs(end - middle):.1f}" '
            f'height="{BAR_HEIGHT - 8}" fill="{color}"/>'
        )
        parts.append(_text(NAME_WIDTH - 8, top + 17, one.name, "end"))
        parts.append(_text(max(end, middle) + 6, top + 17, one.note, "start"))
    parts.append(_rule(middle, TOP, middle, height - BOTTOM + 6, INK))
    return _wrap(height, parts)


def list_ticks(low: float, high: float) -> list[float]:
    """Round numbers around [low, high], about five."""
    span = high - low or abs(high) or 1.0
    raw = span / TICKS
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * one for one in (1, 2, 2.5, 5, 10) if power * one >= raw * 0.999)
    first = math.floor(low / step + 1e-9)
    last = math.ceil(high / step - 1e-9)
    return [round(number * step, 9) for number in range(first, max(last, first + 1) + 1)]


def _squeeze(value: float) -> float:
    return value if value <= 1 else 1 + math.log10(value)


def _show(value: float) -> str:
    return f"{value:,.10g}"


def _text(x: float, y: float, text: str, anchor: str, size: int = 12) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">{escape(text)}</text>'


def _rule(x1: float, y1: float, x2: float, y2: float, color: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{color}"/>'


def _wrap(height: float, parts: Sequence[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'font-family="sans-serif" fill="{INK}">'
    )
    paper = f'<rect width="{WIDTH}" height="{height}" fill="{PAPER}"/>'
    return "\n".join([head, paper, *parts, "</svg>\n"])
