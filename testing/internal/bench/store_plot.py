"""A picture of recovery: seconds by number of sessions."""

import time

from plot import FAINT, INK, text

WIDTH, HEIGHT = 880, 420
LEFT, RIGHT, TOP, BOTTOM = 76, 200, 92, 58
SERIES = (
    ("serving_seconds", "until a client has a reply", "#5b9bd5"),
    ("recovery_seconds", "records read, sockets open", "#1d5fa8"),
)
TITLE = "Recovery after kill -9, in seconds by number of sessions (less is better)"


def nice_step(most, count=5):
    """A round number, of which `count` or so reach `most`."""
    step = 1e-6
    while True:
        for factor in (1, 2, 5):
            if step * factor * count >= most:
                return step * factor
        step *= 10


def ticks(most):
    step = nice_step(most)
    return [step * i for i in range(int(most / step + 1e-9) + 1)]


def plot(recovery, rounds, here):
    """An SVG. `recovery` is by number of sessions, as in store.Summary."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" height="{HEIGHT}" font-size="13" '
        "font-family=\"system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, "
        f'sans-serif" fill="{INK}">',
        f'<rect x="0.5" y="0.5" width="{WIDTH - 1}" height="{HEIGHT - 1}" rx="8" '
        'fill="#ffffff" stroke="#d1d9e0"/>',
        text(24, 34, TITLE, 'font-size="18" font-weight="600"'),
        text(
            24,
            54,
            f"Median of {rounds} rounds, and from least to greatest.",
            f'font-size="12" fill="{FAINT}"',
        ),
        text(
            24,
            71,
            "{cpu}, {cores} cores, Linux {kernel}; ".format(**here)
            + time.strftime("%Y-%m-%d %H:%M %Z"),
            f'font-size="12" fill="{FAINT}"',
        ),
    ]
    if recovery:
        parts += chart(recovery)
    return "\n".join(parts) + "\n</svg>\n"


def chart(recovery):
    most_sessions = max(recovery)
    most_seconds = max(
        entry[name]["max"] for entry in recovery.values() for name, _, _ in SERIES
    )
    most_seconds = max(most_seconds, 1e-3)
    x_scale = (WIDTH - LEFT - RIGHT) / most_sessions
    y_scale = (HEIGHT - TOP - BOTTOM) / most_seconds
    bottom = HEIGHT - BOTTOM

    def x_of(sessions):
        return LEFT + sessions * x_scale

    def y_of(seconds):
        return bottom - seconds * y_scale

    parts = []
    for seconds in ticks(most_seconds):
        y = y_of(seconds)
        parts.append(
            f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#d1d9e0" fill="none"/>'
        )
        parts.append(text(LEFT - 8, f"{y + 4:.1f}", f"{seconds:g}", 'text-anchor="end"'))
    for sessions in ticks(most_sessions):
        parts.append(
            text(
                f"{x_of(sessions):.1f}",
                bottom + 20,
                f"{sessions:,.0f}",
                'text-anchor="middle"',
            )
        )
    middle = LEFT + (WIDTH - LEFT - RIGHT) / 2
    parts.append(
        text(middle, bottom + 42, "sessions", f'text-anchor="middle" fill="{FAINT}"')
    )
    # The first is the higher one; the words must not overlap.
    last = recovery[most_sessions]
    lowest = None
    for name, title, colour in SERIES:
        parts += line(recovery, name, colour, x_of, y_of)
        y = y_of(last[name]["median"]) + 4
        if lowest is not None:
            y = max(y, lowest + 17)
        lowest = y
        x = x_of(most_sessions) + 10
        parts.append(text(f"{x:.1f}", f"{y:.1f}", title, f'fill="{colour}"'))
    return parts


def line(recovery, name, colour, x_of, y_of):
    points = [
        (x_of(size), *(y_of(entry[name][key]) for key in ("median", "min", "max")))
        for size, entry in sorted(recovery.items())
    ]
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y, _, _ in points)
    parts = [f'<path d="M{path}" stroke="{colour}" stroke-width="2" fill="none"/>']
    for x, y, least, most in points:
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>')
        parts.append(
            f'<path d="M{x:.1f} {least:.1f}V{most:.1f}" stroke="{INK}" '
            'stroke-width="1.2" fill="none"/>'
        )
    return parts
