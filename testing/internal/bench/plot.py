"""A picture of a benchmark: CPU per datagram, a panel for each load."""

import xml.sax.saxutils

# Ours in blue, whatever else is compared in other colours.
COLOURS = {
    "udpgate": "#1d5fa8",
    "udpgate-best": "#5b9bd5",
    "nginx": "#7d8590",
    "goref": "#c58a3a",
}
MORE_COLOURS = ("#7a5195", "#4f8f5b", "#b0506a", "#3d8f8f")
CPU = "cpu_ns_per_datagram"
TITLE = "CPU nanoseconds per forwarded datagram (less is better)"

WIDTH = 880
MARGIN = 24
GAP = 36
TOP = 86
BOTTOM = 12
COLUMNS = 2
PANEL_WIDTH = (WIDTH - 2 * MARGIN - GAP) / COLUMNS
# Of a panel: the names on the left, the figures and the ratios on the right.
NAME_WIDTH = 108
VALUE_WIDTH = 58
RATIO_WIDTH = 50
TITLE_HEIGHT = 36
ROW = 28
BAR = 16
SPACE_BELOW = 20
INK = "#1f2328"
FAINT = "#59636e"


def plot(report):
    """An SVG. It has a background of its own, lest a dark page hide it."""
    names = [name for name in report.names if name != "direct"]
    loads = [load for load in report.loads if most_of(report, load, names) > 0]
    panel_height = TITLE_HEIGHT + ROW * len(names) + SPACE_BELOW
    row_count = (len(loads) + COLUMNS - 1) // COLUMNS
    height = TOP + row_count * panel_height + BOTTOM
    rounds = report.method["rounds"]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'width="{WIDTH}" height="{height}" font-size="13" '
        "font-family=\"system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, "
        f'sans-serif" fill="{INK}">',
        f'<rect x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="8" '
        'fill="#ffffff" stroke="#d1d9e0"/>',
        text(MARGIN, 34, TITLE, 'font-size="18" font-weight="600"'),
    ]
    subtitles = (
        f"Median of {rounds} rounds, and from least to greatest. Dashed, and "
        "\N{MULTIPLICATION SIGN}: against nginx. Each load has its own scale.",
        f"{report.where()}; {report.date}",
    )
    for i, words in enumerate(subtitles):
        parts.append(
            text(MARGIN, 54 + 17 * i, words, f'font-size="12" fill="{FAINT}"')
        )
    for i, load in enumerate(loads):
        left = MARGIN + (i % COLUMNS) * (PANEL_WIDTH + GAP)
        top = TOP + (i // COLUMNS) * panel_height
        parts += panel(report, load, names, left, top)
    return "\n".join(parts) + "\n</svg>\n"


def most_of(report, load, names):
    entries = (report.summary.by_key.get((load.name, name), {}) for name in names)
    return max((entry[CPU]["max"] for entry in entries if CPU in entry), default=0)


def panel(report, load, names, left, top):
    bars_left = left + NAME_WIDTH
    bars_width = PANEL_WIDTH - NAME_WIDTH - VALUE_WIDTH - RATIO_WIDTH
    scale = bars_width / most_of(report, load, names)
    parts = [
        f'<text x="{left}" y="{top + 24}"><tspan font-weight="600">'
        f'{load.title}</tspan><tspan fill="{FAINT}">, {load.size_bytes:,} '
        "bytes</tspan></text>"
    ]
    rows_top = top + TITLE_HEIGHT
    reference = report.summary.median(load.name, "nginx", CPU)
    if reference is not None:
        x = bars_left + reference * scale
        parts.append(
            f'<path d="M{x:.1f} {rows_top}v{ROW * len(names)}" stroke="{FAINT}" '
            'stroke-dasharray="3 3" fill="none"/>'
        )
    more_colours = list(MORE_COLOURS)
    for i, name in enumerate(names):
        colour = COLOURS.get(name) or more_colours[i % len(more_colours)]
        middle = rows_top + ROW * i + ROW / 2
        base = middle + 4
        parts.append(text(bars_left - 8, base, name, 'text-anchor="end"'))
        value = report.summary.by_key.get((load.name, name), {}).get(CPU)
        if value is None:
            parts.append(text(bars_left, base, "failed", f'fill="{FAINT}"'))
            continue
        parts += bar(value, bars_left, middle, scale, colour)
        right = left + PANEL_WIDTH
        shown = f"{value['median']:,.0f}"
        parts.append(text(right - RATIO_WIDTH, base, shown, 'text-anchor="end"'))
        ratio = report.summary.ratio(load.name, name, "nginx")
        if ratio is not None and name != "nginx":
            shown = f"{ratio:.2f} \N{MULTIPLICATION SIGN}"
            parts.append(
                text(right, base, shown, f'text-anchor="end" fill="{FAINT}"')
            )
    return parts


def bar(value, left, middle, scale, colour):
    least, median, most = (
        left + value[key] * scale for key in ("min", "median", "max")
    )
    return [
        f'<rect x="{left}" y="{middle - BAR / 2}" width="{median - left:.1f}" '
        f'height="{BAR}" rx="2" fill="{colour}"/>',
        f'<path d="M{least:.1f} {middle}H{most:.1f}M{least:.1f} {middle - 4}v8'
        f'M{most:.1f} {middle - 4}v8" stroke="{INK}" stroke-width="1.2" fill="none"/>',
    ]


def text(x, y, words, attributes=""):
    escaped = xml.sax.saxutils.escape(words)
    return f'<text x="{x}" y="{y}" {attributes}>{escaped}</text>'
