"""Line charts: convert points to SVG paths and ticks for a template.

A chart has a fixed size, and one unit is one pixel, so that its text is as large as the page's.
"""

import math

WIDTH, HEIGHT = 360, 190
LEFT, RIGHT, TOP, BOTTOM = 56, 352, 10, 164  # the frame of the curves


def chart(title, curves, x_max, note=""):
    """The template's data for curves over kimg, from 0 to `x_max`.

    curves: dicts with "points" [(kimg, value), ...] in order of kimg, "best" (a point to mark, or None), and any other
        entries, which are kept.
    """
    values = [value for curve in curves for _, value in curve["points"]]
    y_ticks = ticks(*widened(min(values), max(values)))
    place = placement(x_max or 1, y_ticks[0], y_ticks[-1])
    return geometry(title, curves, x_max or 1, y_ticks, place, note)


def log_chart(title, curves, x_max, note=""):
    """Like `chart`, but logarithmic if the values are positive and span more than one power of ten."""
    values = [value for curve in curves for _, value in curve["points"]]
    if min(values) <= 0 or max(values) < 10 * min(values):
        return chart(title, curves, x_max, note)
    y_ticks = log_ticks(min(values), max(values))
    scaled = placement(x_max or 1, math.log10(y_ticks[0]), math.log10(y_ticks[-1]))
    return geometry(title, curves, x_max or 1, y_ticks, lambda x, y: scaled(x, math.log10(y)), note or "logarithmic")


def widened(low, high, share=0.04):
    """The range, wide enough that a constant with little noise looks constant and ticks have few digits."""
    least = share * max(abs(low), abs(high)) or 1
    missing = max(least - (high - low), 0)
    return low - missing / 2, high + missing / 2


def placement(x_max, low, high):
    """The function from (kimg, value) to a position on the chart."""
    across, up = (RIGHT - LEFT) / x_max, (BOTTOM - TOP) / (high - low)
    return lambda x, y: (LEFT + x * across, BOTTOM - (y - low) * up)


def geometry(title, curves, x_max, y_ticks, place, note):
    bottom = y_ticks[0]
    return {
        "title": title,
        "note": note,
        "x_max": x_max,
        "curves": [
            {
                **curve,
                "path": path([place(*point) for point in curve["points"]]),
                "mark": mark(curve["best"], place),
            }
            for curve in curves
        ],
        "x_ticks": [(round(place(x, bottom)[0], 1), figure(x)) for x in ticks(0, x_max) if x <= x_max],
        "y_ticks": [(round(place(0, y)[1], 1), figure(y)) for y in y_ticks],
    }


def path(places):
    """An SVG path through positions on the chart; a single one becomes a dot (with round line ends)."""
    steps = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    return f"M{steps}h.01" if len(places) == 1 else f"M{steps}"


def mark(point, place):
    return None if point is None else [round(number, 1) for number in place(*point)]


def ticks(low, high, count=4):
    """Round numbers, about `count` steps of 1, 2 or 5 times a power of ten, over the range from `low` to `high`."""
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next((factor * power for factor in (1, 2, 5) if factor * power >= rough), 10 * power)
    first, last = math.floor(low / step + 1e-6), math.ceil(high / step - 1e-6)
    return [index * step for index in range(first, last + 1)]


def log_ticks(low, high):
    """1, 2 and 5 times powers of ten from below `low` to above `high`; only the powers if there are many."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    if last - first > 3:
        stride = -(-(last - first) // 4)
        return [10.0**exponent for exponent in range(first, last + stride, stride)]
    fine = [factor * 10.0**exponent for exponent in range(first, last + 1) for factor in (1, 2, 5)]
    start = max(index for index, tick in enumerate(fine) if tick <= low)
    end = min(index for index, tick in enumerate(fine) if tick >= high)
    return fine[start : end + 1]


def thin(points, limit=400):
    """Average neighbouring points until at most `limit` remain: the chart has no more pixels."""
    size = -(-len(points) // limit)
    if size <= 1:
        return points
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [(group[-1][0], sum(value / len(group) for _, value in group)) for group in groups]


def figure(value):
    """Format a number: four digits, no trailing zeros, thousands in full, 1.2e-5 for tiny numbers."""
    if abs(value) >= 1e6 or 0 < abs(value) < 1e-3:
        factor, exponent = f"{value:.2e}".split("e")
        return f"{float(factor):g}e{int(exponent)}"
    if abs(value) >= 1000:
        return f"{value:.0f}"
    return f"{value:.4g}"
