"""Plots as SVG, written by hand: lines over time and groups of bars. No library, the same bytes for the same figures."""

import html

COLOURS = ("#1b6ca8", "#d1495b", "#2e8b57", "#b7791f", "#6b4c9a", "#5f6b76", "#00868b", "#a0522d")
FONT = 'font-family="system-ui,sans-serif"'


def _text(x, y, words, anchor="start", size=12, more=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" {FONT} {more}>{html.escape(words)}</text>'


def _page(width, height, parts):
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">\n'
            f'<rect width="{width}" height="{height}" fill="#ffffff"/>\n' + "\n".join(parts) + "\n</svg>\n")


def nice_step(span, steps=5):
    """A round distance of grid lines: 1, 2 or 5 times a power of ten."""
    raw = max(span, 1e-9) / steps
    power = 10.0 ** len(str(int(raw))) / 10 if raw >= 1 else 1.0
    while power > raw:
        power /= 10
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw)


def number(value):
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.2g}"


def lines(title, series, x_label, y_label, marks=(), width=860, height=420):
    """series: {name: [(x, y), …]}; marks: x of vertical lines. Gaps wider than a tenth of the plot are not bridged."""
    points = [point for one in series.values() for point in one]
    if not points:
        return _page(width, height, [_text(20, 30, title, size=15), _text(20, 60, "no samples")])
    left, right, top, bottom = 64, width - 210, 62, height - 46
    x_low, x_high = min(x for x, _ in points), max(x for x, _ in points)
    y_step = nice_step(max(max(y for _, y in points), 1e-9))
    y_high = y_step * (int(max(y for _, y in points) / y_step) + 1)
    x_step = nice_step(max(x_high - x_low, 1e-9), 8)

    def place(x, y):
        return (left + (x - x_low) / max(x_high - x_low, 1e-9) * (right - left), bottom - y / y_high * (bottom - top))

    parts = [_text(left, 24, title, size=15, more='font-weight="600"'), _text((left + right) / 2, height - 10, x_label, "middle"),
             _text(16, top - 10, y_label)]
    at = 0.0
    while at <= y_high + 1e-9:
        y = place(x_low, at)[1]
        parts += [f'<path d="M{left} {y:.1f}H{right}" stroke="#e3e7ea"/>', _text(left - 8, y + 4, number(at), "end")]
        at += y_step
    at = x_step * int(x_low / x_step + 0.999)
    while at <= x_high + 1e-9:
        parts.append(_text(place(at, 0)[0], bottom + 18, number(at), "middle"))
        at += x_step
    for mark in marks:
        x = place(mark, 0)[0]
        parts.append(f'<path d="M{x:.1f} {top}V{bottom}" stroke="#f0c9ce" stroke-width="1"/>')
    for index, (name, one) in enumerate(series.items()):
        colour = COLOURS[index % len(COLOURS)]
        for run in _runs(sorted(one), (x_high - x_low) / 10):
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in run))
            parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        y = top + 10 + index * 20
        parts += [f'<rect x="{right + 16}" y="{y - 9}" width="12" height="12" fill="{colour}"/>', _text(right + 34, y + 2, name)]
    return _page(width, height, parts)


def _runs(points, gap):
    run = []
    for point in points:
        if run and point[0] - run[-1][0] > gap:
            yield run
            run = []
        run.append(point)
    if run:
        yield run


def bars(title, rows, unit, note="", width=860):
    """rows: [(name, median, least, most, is_ours)], drawn as lying bars with a whisker from the least to the most."""
    left, right, top, pitch = 300, width - 110, 56, 30
    high = max([most for _, _, _, most, _ in rows] + [1e-9])
    height = top + pitch * len(rows) + 26
    parts = [_text(16, 24, title, size=15, more='font-weight="600"'), _text(16, 43, f"{unit}{'; ' if note else ''}{note}",
                                                                            more='fill="#5f6b76"')]
    for index, (name, median, least, most, is_ours) in enumerate(rows):
        y = top + index * pitch
        size = median / high * (right - left)
        low, top_end = (left + value / high * (right - left) for value in (least, most))
        parts += [_text(left - 10, y + 15, name, "end"),
                  f'<rect x="{left}" y="{y + 3}" width="{max(size, 1):.1f}" height="18" fill="{COLOURS[0] if is_ours else "#b9c3cb"}"/>',
                  f'<path d="M{low:.1f} {y + 12}H{top_end:.1f}M{low:.1f} {y + 8}v8M{top_end:.1f} {y + 8}v8" stroke="#20262b"/>',
                  _text(max(left + size, top_end) + 8, y + 16, number(median))]
    return _page(width, height, parts)
