"""From the results of all runs to a summary, verdicts and a table.

A document is what results.json holds. Everything that is shown of a run, here
and in plot.py and pages.py, is made from it alone.
"""

import dataclasses
import json
import statistics
import time

import scenario

METHOD = """\
CPU is that of the gateway's processes (all threads, user and system, by the
kernel's clock of the process, in nanoseconds) over the measured seconds,
divided by the datagrams that it forwarded in them: two for each reply that came
back. Loss counts datagrams sent in these seconds and not back {drain:g} s after
them. Round trips are those of the datagrams sent in these seconds, until the
kernel has the reply for the client. Figures are medians over {rounds} rounds,
with the least and the greatest in brackets; losses and faults are sums. Each
run: {warmup:g} s to warm up, {seconds:g} s measured.
Only figures of one run of this program compare: machines, and hours on one
machine, differ by more than gateways do."""


class Summary:
    """Results of all rounds, by load and contender."""

    MEDIANS = (
        "cpu_ns_per_datagram",
        "replies_per_second",
        "p50_ns",
        "p99_ns",
        "p99_9_ns",
    )
    SUMS = ("sent", "lost", "reordered", "duplicates", "corrupt", "send_errors")

    def __init__(self, results):
        self.by_key = {}
        groups = {}
        for result in results:
            if "error" not in result:
                key = result["load"], result["contender"]
                groups.setdefault(key, []).append(result)
        for key, group in groups.items():
            entry = {name: sum(r[name] for r in group) for name in self.SUMS}
            entry["loss_percent"] = spread(
                [100 * r["lost"] / max(1, r["sent"]) for r in group]
            )
            for name in self.MEDIANS:
                if name in group[0]:
                    entry[name] = spread([r[name] for r in group])
            self.by_key[key] = entry

    def median(self, load, contender, name):
        entry = self.by_key.get((load, contender), {})
        return entry[name]["median"] if name in entry else None

    def ratio(self, load, ours, other, name="cpu_ns_per_datagram"):
        above = self.median(load, ours, name)
        below = self.median(load, other, name)
        return above / below if above is not None and below else None

    def total_loss_percent(self, load, contender):
        entry = self.by_key.get((load, contender))
        return 100 * entry["lost"] / max(1, entry["sent"]) if entry else None

    def to_list(self):
        return [
            {"load": load, "contender": contender, **entry}
            for (load, contender), entry in self.by_key.items()
        ]


class Report:
    """What a document says, in the form that tables and plots want."""

    def __init__(self, document):
        self.date = document["date"]
        self.machine = document["machine"]
        self.method = document["method"]
        self.notes = document["notes"]
        self.loads = [load_of(entry) for entry in document["loads"]]
        self.names = document["contenders"]
        self.runs = document["runs"]
        self.summary = Summary(self.runs)
        self.targets = verdicts(self.summary, self.loads)
        self.errors = [run for run in self.runs if "error" in run]

    def where(self):
        return "{cpu}, {cores} cores, Linux {kernel}".format(**self.machine)

    def stolen_percent(self):
        return max((run.get("stolen_percent", 0) for run in self.runs), default=0)


def load_of(entry):
    return scenario.Load(**{**entry, "arguments": tuple(entry["arguments"])})


def heading(options, machine, notes):
    """How a document begins."""
    names = ("rounds", "seconds", "warmup", "drain")
    return {
        "date": time.strftime("%Y-%m-%d %H:%M %Z"),
        "machine": machine,
        "method": {name: getattr(options, name) for name in names},
        "notes": notes,
    }


def runs_document(loads, names, runs):
    """How a document goes on: what ran, and what came of it."""
    return {
        "loads": [dataclasses.asdict(load) for load in loads],
        "contenders": list(names),
        "summary": Summary(runs).to_list(),
        "runs": runs,
    }


def spread(values):
    return {
        "median": statistics.median(values),
        "min": min(values),
        "max": max(values),
    }


def verdicts(summary, loads):
    """Of each target: what it is, whether it is met (None: not known)."""
    found = []
    names = {load.name for load in loads}
    for title, name, targets in (
        ("CPU", "cpu_ns_per_datagram", scenario.CPU_TARGETS),
        ("p99", "p99_ns", scenario.P99_TARGETS),
    ):
        for load, ours, other, most in targets:
            if load not in names:
                continue
            ratio = summary.ratio(load, ours, other, name)
            text = f"{load}: {title} of {ours} / {other}"
            shown = "not measured" if ratio is None else f"{ratio:.2f}"
            is_met = None if ratio is None else ratio <= most
            found.append((f"{text} = {shown}, at most {most:.2f}", is_met))
    for load in loads:
        for ours in scenario.GATE_SETTINGS:
            entry = summary.by_key.get((load.name, ours))
            if entry is None:
                continue
            count = faults(entry)
            text = f"{load.name}: {ours} reordered, doubled or damaged {count}"
            found.append((text + " datagrams, at most 0", count == 0))
            direct = summary.total_loss_percent(load.name, "direct")
            if load.is_fixed_rate and direct is not None:
                loss = summary.total_loss_percent(load.name, ours)
                most = direct + scenario.LOSS_ABOVE_DIRECT_MAX
                text = f"{load.name}: {ours} lost {loss:.4f} %"
                found.append((f"{text}, at most {most:.4f} %", loss <= most))
    return found


def faults(entry):
    return entry["reordered"] + entry["duplicates"] + entry["corrupt"]


def cell(entry, name, scale=1.0, digits=0):
    if name not in entry:
        return "-"
    middle, least, most = (
        f"{entry[name][key] / scale:,.{digits}f}" for key in ("median", "min", "max")
    )
    return f"{middle} [{least}..{most}]"


def ratio_cell(summary, load, contender, other):
    ratio = summary.ratio(load.name, contender, other)
    return "-" if ratio is None else f"{ratio:.2f}"


def table_of(summary, load, names, others):
    """Lines of text; a column of ratios for each of `others`."""
    rows = [
        ("", "CPU ns/datagram")
        + tuple("/" + other for other in others)
        + ("replies/s", "loss %", "late/twice/bad", "p50 us", "p99 us", "p99.9 us")
    ]
    for name in names:
        entry = summary.by_key.get((load.name, name))
        if entry is None:
            rows.append((name, "failed") + ("",) * (len(rows[0]) - 2))
            continue
        counts = (entry["reordered"], entry["duplicates"], entry["corrupt"])
        rows.append(
            (name, cell(entry, "cpu_ns_per_datagram"))
            + tuple(ratio_cell(summary, load, name, other) for other in others)
            + (
                cell(entry, "replies_per_second"),
                cell(entry, "loss_percent", digits=4),
                "/".join(str(count) for count in counts),
                cell(entry, "p50_ns", 1000),
                cell(entry, "p99_ns", 1000),
                cell(entry, "p99_9_ns", 1000),
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        first = row[0].ljust(widths[0])
        rest = (text.rjust(width) for text, width in zip(row[1:], widths[1:]))
        lines.append("  ".join((first, *rest)).rstrip())
    return lines


def heading_lines(title, report):
    return [
        f"{title}, {report.date}",
        "{}; load average before: {load_before:.2f}".format(
            report.where(), **report.machine
        ),
        "",
        METHOD.format(**report.method),
        "CPU time that the hypervisor took, in the worst run: "
        f"{report.stolen_percent():.1f} %",
        *report.notes,
    ]


def error_lines(report):
    text = "BROKE: round {round}, {load}, {contender}: {error}"
    return [text.format(**run) for run in report.errors]


def to_text(report):
    lines = heading_lines("udp-gate benchmark", report)
    for load in report.loads:
        lines += ["", load.describe()]
        lines += table_of(report.summary, load, report.names, ("nginx", "goref"))
        if load.is_fixed_rate:
            runs = (run for run in report.runs if run["load"] == load.name)
            late = max((run.get("send_delay_p99_ns", 0) for run in runs), default=0)
            lines.append(
                "99 % of the datagrams were sent at most "
                f"{late / 1000:.0f} us late, in the worst run."
            )
    lines += ["", "Targets"]
    words = {True: "pass", False: "FAIL", None: "????"}
    for text, is_met in report.targets:
        lines.append(f"  {words[is_met]}  {text}")
    lines += error_lines(report)
    return "\n".join(lines) + "\n"


def write(folder, texts, document, document_name):
    """The document as JSON, and `texts` by the names of their files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text)
    (folder / document_name).write_text(json.dumps(document, indent=1) + "\n")
