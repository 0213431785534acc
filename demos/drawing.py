"""Figures as plain text for a terminal: no colour, no state, no more columns than asked for."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise

from demos.contract import Bars, Figure, Heatmap, Images, Lines, Scatter

HEIGHT = 15  # rows of the plotting area
MARKERS = "*+ox#@%&"
SHADES = " ░▒▓█"

Point = tuple[float, float]
Axis = Callable[[float], float]


def figure_text(figure: Figure, width: int = 80) -> str:
    """Return a figure as lines of text of at most `width` columns (40 at least), its title first.

    Points that have no place (NaN, infinite, not positive on a logarithmic axis) are left out and counted.
    """
    width = max(width, 40)
    match figure:
        case Lines():
            curves = {name: list(zip(figure.at, values, strict=True)) for name, values in figure.series.items()}
            body = _plot(curves, width, figure.x, figure.y, log=figure.log, joined=True)
        case Scatter():
            body = _plot({name: list(points) for name, points in figure.series.items()}, width, figure.x, figure.y)
        case Bars():
            body = _bars(figure, width)
        case Heatmap():
            body = _heatmap(figure, width)
        case Images():
            body = _images(figure, width)
    return "\n".join(line[:width].rstrip() for line in (figure.title, *body))


def _plot(
    series: Mapping[str, Sequence[Point]], width: int, x: str, y: str, *, log: str = "", joined: bool = False
) -> Iterator[str]:
    across = math.log10 if "x" in log else float
    up = math.log10 if "y" in log else float
    placed = {name: list(_placed(points, across, up)) for name, points in series.items()}
    points = [point for curve in placed.values() for point in curve]
    missing = sum(map(len, series.values())) - len(points)
    if not points:
        yield f"(no point to draw, {missing} left out)"
        return
    left, right = _extent(point[0] for point in points)
    bottom, top = _extent(point[1] for point in points)
    labels = [_number(10**value if "y" in log else value) for value in (top, (top + bottom) / 2, bottom)]
    margin = max(map(len, labels))
    columns = width - margin - 2
    grid = [[" "] * columns for _ in range(HEIGHT)]
    for number, curve in enumerate(placed.values()):
        cells = [((px - left) / (right - left) * (columns - 1), (py - bottom) / (top - bottom)) for px, py in curve]
        for column, height in _joined(cells) if joined else cells:
            grid[round((1 - height) * (HEIGHT - 1))][round(column)] = MARKERS[number % len(MARKERS)]
    marks = {0: labels[0], HEIGHT // 2: labels[1], HEIGHT - 1: labels[2]}
    yield y + (" (log)" if "y" in log else "")
    for row, cells in enumerate(grid):
        yield f"{marks.get(row, ''):>{margin}} ┤{''.join(cells)}"
    ends = [_number(10**value if "x" in log else value) for value in (left, right)]
    name = x + (" (log)" if "x" in log else "")
    yield " " * margin + " └" + "─" * columns
    yield " " * (margin + 2) + ends[0] + name.center(columns - len(ends[0]) - len(ends[1])) + ends[1]
    yield from _legend(list(series), width)
    if missing:
        yield f"(left out, having no place: {missing})"


def _placed(points: Sequence[Point], across: Axis, up: Axis) -> Iterator[Point]:
    for px, py in points:
        if math.isfinite(px) and math.isfinite(py) and (across is float or px > 0) and (up is float or py > 0):
            yield across(px), up(py)


def _joined(cells: Sequence[Point]) -> Iterator[Point]:
    """The cells of a curve with those between two neighbours filled in, one for each column."""
    yield from cells
    for (x0, y0), (x1, y1) in pairwise(cells):
        for column in range(math.ceil(min(x0, x1)), math.floor(max(x0, x1)) + 1):
            if x1 != x0:
                yield column, y0 + (y1 - y0) * (column - x0) / (x1 - x0)


def _legend(names: Sequence[str], width: int) -> Iterator[str]:
    line = ""
    for number, name in enumerate(names):
        entry = f"{MARKERS[number % len(MARKERS)]} {name}"
        if line and len(line) + len(entry) + 3 > width:
            yield line
            line = ""
        line += ("   " if line else "") + entry
    if line:
        yield line


def _bars(figure: Bars, width: int) -> Iterator[str]:
    rows = [
        (label, name, values[number])
        for number, label in enumerate(figure.labels)
        for name, values in figure.series.items()
    ]
    longest = max((abs(value) for _, _, value in rows if math.isfinite(value)), default=0.0) or 1.0
    labels = min(max(map(len, figure.labels), default=0), width // 4)
    names = min(max(map(len, figure.series), default=0), width // 4)
    room = width - labels - names - 12
    yield f"{figure.y} by {figure.x}"
    last = None
    for label, name, value in rows:
        bar = "█" * round(abs(value) / longest * room) if math.isfinite(value) else ""
        yield f"{label[:labels] if label != last else '':{labels}} {name[:names]:{names}} {bar} {_number(value)}"
        last = label


def _heatmap(figure: Heatmap, width: int) -> Iterator[str]:
    low, high = _extent(value for row in figure.values for value in row if math.isfinite(value))
    margin = min(max((len(label) for label in figure.row_labels), default=0), width // 4)
    columns = max((len(row) for row in figure.values), default=0)
    step = max(1, math.ceil(columns / (width - margin - 1)))
    wide = 2 if step == 1 and 2 * columns <= width - margin - 1 else 1
    yield f"{figure.y} down, {figure.x} across" + (f", one column in {step}" if step > 1 else "")
    for number, row in enumerate(figure.values):
        label = figure.row_labels[number][:margin] if number < len(figure.row_labels) else ""
        yield f"{label:{margin}} " + "".join(_shade((value - low) / (high - low)) * wide for value in row[::step])
    if figure.column_labels:
        yield " " * (margin + 1) + f"{figure.column_labels[0]} … {figure.column_labels[-1]}"
    yield f"from {_number(low)} (blank) to {_number(high)} ({SHADES[-1]})"


def _images(figure: Images, width: int) -> Iterator[str]:
    """Each row of pictures side by side, broken over several lines of pictures where they do not fit."""
    for number, pictures in enumerate(figure.pixels):
        if number < len(figure.row_labels):
            yield figure.row_labels[number]
        shown = [[[_grey(pixel) for pixel in row] for row in picture] for picture in pictures]
        broad = max((len(row) for picture in shown for row in picture), default=1)
        step = max(1, math.ceil(broad / width))
        wide = 2 if step == 1 and 2 * broad <= width else 1
        each = math.ceil(broad / step) * wide + 1
        for start in range(0, len(shown), max(1, (width + 1) // each)):
            batch = shown[start : start + max(1, (width + 1) // each)]
            for row in range(0, max(map(len, batch)), step * (3 - wide)):
                cells = ("".join(_shade(value) * wide for value in picture[row][::step]) for picture in batch)
                yield " ".join(f"{line:{each - 1}}" for line in cells)
            if figure.column_labels:
                yield "".join(
                    f"{label[: each - 1]:{each}}" for label in figure.column_labels[start : start + len(batch)]
                )
            yield ""


def _grey(pixel: float | Sequence[float]) -> float:
    if isinstance(pixel, Sequence):
        red, green, blue = pixel
        return 0.299 * red + 0.587 * green + 0.114 * blue
    return pixel


def _shade(value: float) -> str:
    """A character that covers about `value` of its cell; "?" where it is not a number."""
    return SHADES[round(min(1.0, max(0.0, value)) * (len(SHADES) - 1))] if math.isfinite(value) else "?"


def _extent(values: Iterator[float]) -> tuple[float, float]:
    """The least and greatest value, moved apart where they are one."""
    known = list(values) or [0.0]
    low, high = min(known), max(known)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _number(value: float) -> str:
    return f"{value:.4g}"
