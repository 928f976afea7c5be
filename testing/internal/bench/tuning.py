"""What the settings that matter to an operator are worth, measured.

Each experiment runs udp-gate with several values of one setting, side by side
under loads that show what it does.
"""

import argparse
import dataclasses
import re

import pages
import report as reports
from contenders import gate_plan, gate_version
from measure import machine, run_all
from scenario import LOADS, Load

PAGE = "docs/tuning.md"
NAMES = ("threads", "batch", "buffer")
DEFAULT = "default"
COMMAND = "./tools/bench.sh --tuning"
LOAD_BY_NAME = {load.name: load for load in LOADS}
# So many datagrams under way that a small buffer cannot hold those that wait.
FLOOD = Load(
    "flood",
    "40 clients, window 64",
    ("--clients", "40", "--window", "64"),
)


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Values of one setting (or two that belong together) to compare."""

    name: str
    title: str
    loads: tuple
    # Settings by what the table calls them. The first is the default one.
    variants: dict


def parse_names(text):
    names = text.split(",")
    for name in names:
        if name not in NAMES:
            raise argparse.ArgumentTypeError(f"there is no experiment {name}")
    return names


def experiments(core_count):
    """One for each of NAMES."""
    return (
        Experiment(
            "threads",
            "WORKER_COUNT and LISTENER_COUNT",
            tuple(LOAD_BY_NAME[name] for name in ("saturation", "20k", "bulk")),
            {
                DEFAULT: {},
                **{
                    f"WORKER_COUNT={count}": {"WORKER_COUNT": str(count)}
                    for count in (1, core_count, 2 * core_count)
                },
                "WORKER_COUNT=0": {"WORKER_COUNT": "0"},
                f"WORKER_COUNT=0 LISTENER_COUNT={core_count}": {
                    "WORKER_COUNT": "0",
                    "LISTENER_COUNT": str(core_count),
                },
            },
        ),
        Experiment(
            "batch",
            "BATCH_SIZE",
            tuple(LOAD_BY_NAME[name] for name in ("saturation", "bulk")),
            {
                DEFAULT: {},
                **{
                    f"BATCH_SIZE={size}": {"BATCH_SIZE": str(size)}
                    for size in (1, 16, 256)
                },
            },
        ),
        Experiment(
            "buffer",
            "RECEIVE_BUFFER_BYTES",
            (FLOOD, FLOOD.with_size(1200)),
            {
                DEFAULT: {},
                **{
                    f"RECEIVE_BUFFER_BYTES={size}": {"RECEIVE_BUFFER_BYTES": size}
                    for size in ("212992", "1MiB")
                },
            },
        ),
    )


class TuningReport:
    """What a document says: a Report for each experiment."""

    def __init__(self, document):
        self.parts = []
        for part in document["experiments"]:
            entries = {**document, **part}
            self.parts.append((part["title"], reports.Report(entries)))
        # Of all that ran, for what does not belong to one experiment.
        runs = [run for part in document["experiments"] for run in part["runs"]]
        self.whole = reports.Report(
            {**document, "loads": [], "contenders": [], "runs": runs}
        )


def measure(options, folder):
    """Runs all experiments and returns a document."""
    here = machine()
    document = reports.heading(options, here, [gate_version(options)])
    document["experiments"] = []
    for experiment in experiments(here["cores"]):
        if experiment.name not in options.tuning:
            continue
        plans = {
            name: gate_plan(options, settings)
            for name, settings in experiment.variants.items()
        }
        runs = run_all(options, experiment.loads, plans, folder)
        part = reports.runs_document(experiment.loads, plans, runs)
        document["experiments"].append(
            {"name": experiment.name, "title": experiment.title, **part}
        )
    return document


def to_text(report):
    lines = reports.heading_lines("udp-gate tuning", report.whole)
    for title, part in report.parts:
        for load in part.loads:
            lines += ["", f"{title}; {load.describe()}"]
            lines += reports.table_of(part.summary, load, part.names, (DEFAULT,))
    lines += reports.error_lines(report.whole)
    return "\n".join(lines) + "\n"


def drops_cell(part, load, name):
    """Sums over all rounds, of what the gateway says when it stops."""
    words = "\n".join(
        run.get("last_words", "")
        for run in part.runs
        if (run["load"], run["contender"]) == (load.name, name)
    )
    return " / ".join(
        f"{sum(map(int, re.findall(pattern, words))):,}"
        for pattern in (r"\bkernel drops: (\d+)", r"\bqueue_full (\d+)")
    )


def experiment_table(part):
    header = (
        "Load",
        "Setting",
        "CPU ns per datagram",
        f"/ {DEFAULT}",
        "Replies/s",
        "p50 / p99 / p99.9 \N{MICRO SIGN}s",
        "Loss %",
        "`kernel_drops` / `queue_full`",
    )
    rows = []
    for load in part.loads:
        title = f"{load.title}, {load.size_bytes:,} bytes"
        for name in part.names:
            entry = part.summary.by_key.get((load.name, name))
            if entry is None:
                continue
            rows.append(
                (
                    title,
                    name if name == DEFAULT else f"`{name}`",
                    reports.cell(entry, "cpu_ns_per_datagram"),
                    reports.ratio_cell(part.summary, load, name, DEFAULT),
                    f"{entry['replies_per_second']['median']:,.0f}",
                    pages.round_trip_cell(entry),
                    pages.loss_cell(entry),
                    drops_cell(part, load, name),
                )
            )
            title = ""
    return pages.markdown_table(header, rows)


def section(report):
    parts = [pages.paragraph(pages.ONE_RUN)]
    for title, part in report.parts:
        parts += [f"### {title}", experiment_table(part)]
    parts.append(pages.measured_lines(report.whole, COMMAND))
    return "\n\n".join(parts)


def update_docs(root, report):
    """Puts the tables into docs/tuning.md."""
    if report.whole.errors:
        raise pages.PageError(f"a run broke, so {PAGE} stays as it is")
    pages.update_page(root / PAGE, "tuning", section(report))
