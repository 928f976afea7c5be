"""What the project's own pages show of a run.

A page has a place for it between two comments, each on a line of its own:

    <!-- begin NAME: any words -->
    <!-- end NAME -->
"""

import pathlib
import re
import textwrap

import report as reports
import scenario
from plot import plot

PAGE = "docs/benchmarks.md"
PICTURE = "docs/bench.svg"


class PageError(Exception):
    """A page is not as it should be; the text says how."""


def replace_between(page, name, content):
    """The text of a page with other content between the comments of `name`."""
    place = re.compile(
        rf"(<!-- begin {name}: [^\n]*-->\n).*?(<!-- end {name} -->\n)", re.DOTALL
    )
    page, count = place.subn(
        lambda match: f"{match[1]}\n{content.strip()}\n\n{match[2]}", page
    )
    if count != 1:
        raise PageError(f"{count} places named {name}, 1 is wanted")
    return page


def update_page(path, name, content):
    try:
        path.write_text(replace_between(path.read_text(), name, content))
    except PageError as error:
        raise PageError(f"{path}: {error}") from None


def update_docs(root, report):
    """Puts table and picture of a benchmark into docs/benchmarks.md."""
    if report.errors:
        raise PageError(f"a run broke, so {PAGE} stays as it is")
    update_page(root / PAGE, "benchmark", benchmark_section(report))
    (root / PICTURE).parent.mkdir(exist_ok=True)
    (root / PICTURE).write_text(plot(report))


def update_docs_text(root, name, text, before=""):
    """Puts the text of a report into docs/benchmarks.md, long lines wrapped.

    `before` are lines of Markdown that go before it.
    """
    lines = (
        textwrap.fill(line, 100, subsequent_indent="    ", break_on_hyphens=False)
        if len(line) > 110
        else line
        for line in text.strip().splitlines()
    )
    content = "```text\n" + "\n".join(lines) + "\n```"
    update_page(root / PAGE, name, f"{before}\n\n{content}" if before else content)


def paragraph(words):
    return textwrap.fill(
        " ".join(words.split()),
        80,
        break_long_words=False,
        break_on_hyphens=False,
    )


def markdown_table(header, rows):
    """Text columns first to last; a cell that is a number stands right."""
    lines = ["| " + " | ".join(row) + " |" for row in (header, *rows)]
    marks = ["---" if i < 2 else "--:" for i in range(len(header))]
    lines.insert(1, "|" + "|".join(marks) + "|")
    return "\n".join(lines)


def round_trip_cell(entry):
    names = ("p50_ns", "p99_ns", "p99_9_ns")
    return " / ".join(f"{entry[name]['median'] / 1000:,.0f}" for name in names)


def loss_cell(entry):
    percent = 100 * entry["lost"] / max(1, entry["sent"])
    return "0" if entry["lost"] == 0 else f"{percent:.2g}"


def target_cell(report, load, name, other):
    """With the target, if there is one; bold where it is missed."""
    ratio = report.summary.ratio(load.name, name, other)
    if ratio is None or name == other:
        return ""
    for target in scenario.CPU_TARGETS:
        if target[:3] == (load.name, name, other):
            is_met = ratio <= target[3]
            shown = f"{ratio:.2f}" if is_met else f"**{ratio:.2f}**"
            return f"{shown} (\N{LESS-THAN OR EQUAL TO} {target[3]:.2f})"
    return f"{ratio:.2f}"


def benchmark_table(report):
    header = (
        "Load",
        "Gateway",
        "CPU ns per datagram",
        "/ nginx",
        "/ goref",
        "Replies/s",
        "p50 / p99 / p99.9 \N{MICRO SIGN}s",
        "Loss %",
        "Faults",
    )
    rows = []
    for load in report.loads:
        title = f"{load.title}, {load.size_bytes:,} bytes"
        for name in report.names:
            entry = report.summary.by_key.get((load.name, name))
            if entry is None:
                continue
            cpu = reports.cell(entry, "cpu_ns_per_datagram")
            rows.append(
                (
                    title,
                    name,
                    "" if name == "direct" else cpu,
                    target_cell(report, load, name, "nginx"),
                    target_cell(report, load, name, "goref"),
                    f"{entry['replies_per_second']['median']:,.0f}",
                    round_trip_cell(entry),
                    loss_cell(entry),
                    f"{reports.faults(entry):,}",
                )
            )
            title = ""
    return markdown_table(header, rows)


def target_lines(report):
    missed = [text for text, is_met in report.targets if is_met is False]
    unknown = sum(is_met is None for _, is_met in report.targets)
    total = len(report.targets)
    met = total - len(missed) - unknown
    if met == total:
        return f"Targets: all {total} are met."
    also = f" {unknown} could not be measured." if unknown else ""
    words = f"Targets: {met} of {total} are met.{also}"
    if not missed:
        return words
    lines = [words + " Missed:", ""]
    return "\n".join(lines + [f"- {text}" for text in missed])


def measured_lines(report, command):
    """Where, when and with what, in a few lines."""
    method = report.method
    return paragraph(
        f"Measured {report.date} with `{command}` on {report.where()}: "
        f"{method['rounds']} rounds, in each run {method['warmup']:g} s to warm up "
        f"and {method['seconds']:g} s measured; the hypervisor took at most "
        f"{report.stolen_percent():.1f} % of the machine. "
        + ". ".join(note.rstrip(".") for note in report.notes)
        + "."
    )


CAPTION = """
Medians over all rounds, with the least and the greatest in brackets. CPU is user
and system time of all threads of the gateway; each reply that came back is two
datagrams. In brackets behind a ratio: the target, bold where it is missed.
`direct` is no gateway at all, `goref` one in Go with a worker pool and a goroutine
a session. Faults are datagrams reordered, doubled or damaged.
"""
ONE_RUN = """
**Only figures of one run compare:** machines, and hours on one machine, differ by
more than gateways do.
"""


def benchmark_section(report):
    return "\n\n".join(
        (
            "![CPU nanoseconds per forwarded datagram of udp-gate and other "
            f"gateways, at each load]({pathlib.PurePath(PICTURE).name})",
            paragraph(ONE_RUN),
            benchmark_table(report),
            paragraph(CAPTION),
            target_lines(report),
            measured_lines(report, "./tools/bench.sh"),
        )
    )
