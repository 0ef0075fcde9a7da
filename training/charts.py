"""Line charts as geometry: from points to SVG paths and ticks, for a template to draw.

A chart is a small picture of fixed size in which a unit is a pixel, so that its letters are as large as the page's.
"""

import math

WIDTH, HEIGHT = 360, 190
LEFT, RIGHT, TOP, BOTTOM = 48, 352, 10, 164  # the frame that curves are drawn in


def chart(title, curves, x_max, note=""):
    """What a template needs to draw curves over kimg, from 0 to `x_max`.

    curves: dicts with "points" [(kimg, value), ...] in order of kimg, "best" (a point to mark, or None), and anything
        else to keep.
    """
    values = [value for curve in curves for _, value in curve["points"]]
    y_ticks = ticks(min(values), max(values))
    low, high = min([*values, *y_ticks]), max([*values, *y_ticks])
    span = high - low or 1
    x_max = x_max or 1

    def place(x, y):
        return LEFT + x / x_max * (RIGHT - LEFT), BOTTOM - (y / span - low / span) * (BOTTOM - TOP)

    return {
        "title": title,
        "note": note,
        "x_max": x_max,
        "curves": [
            {**curve, "path": path([place(*point) for point in curve["points"]]), "mark": mark(curve["best"], place)}
            for curve in curves
        ],
        "x_ticks": [(round(place(x, low)[0], 1), figure(x)) for x in ticks(0, x_max) if x <= x_max],
        "y_ticks": [(round(place(0, y)[1], 1), figure(y)) for y in y_ticks],
    }


def path(places):
    """An SVG path through places on the chart; a single one becomes a dot, given round line ends."""
    steps = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    return f"M{steps}h.01" if len(places) == 1 else f"M{steps}"


def mark(point, place):
    return None if point is None else [round(number, 1) for number in place(*point)]


def ticks(low, high, count=4):
    """Round numbers, about `count` steps of 1, 2 or 5 times a power of ten, over the range from `low` to `high`."""
    if high / 2 - low / 2 <= 1e-12 * max(abs(low), abs(high)):
        return [low]
    rough = high / count - low / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next((factor * power for factor in (1, 2, 5) if factor * power >= rough), 10 * power)
    first, last = math.floor(low / step + 1e-6), math.ceil(high / step - 1e-6)
    return [index * step for index in range(first, last + 1)]


def thin(points, limit=400):
    """Points as means over neighbours, at most `limit` of them; a line this short has no more pixels to show."""
    size = -(-len(points) // limit)
    if size <= 1:
        return points
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [(group[-1][0], sum(value / len(group) for _, value in group)) for group in groups]


def figure(value):
    """A number for people: four digits, no trailing zeros, thousands in full."""
    if abs(value) >= 1e6 or 0 < abs(value) < 1e-4:
        return f"{value:.3g}"
    if abs(value) >= 1000:
        return f"{value:.0f}"
    return f"{value:.4g}"
