"""From the results of all runs to a table, verdicts and a plot."""

import json
import statistics
import time
import xml.sax.saxutils

import scenario

METHOD = """\
CPU is that of the gateway's processes (all threads, user and system, by the
kernel's clock of the process, in nanoseconds) over the measured seconds,
divided by the datagrams that it forwarded in them: two for each reply that came
back. Loss counts datagrams sent in these seconds and not back {drain:g} s after
them. Round trips are those of the datagrams sent in these seconds, measured by
the load generator. Figures are medians over {rounds} rounds, with the least and
the greatest in brackets; losses and faults are sums. Each run: {warmup:g} s to
warm up, {seconds:g} s measured.
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

    def ratio(self, load, ours, other, name):
        above = self.median(load, ours, name)
        below = self.median(load, other, name)
        return above / below if above is not None and below else None

    def total_loss_percent(self, load, contender):
        entry = self.by_key.get((load, contender))
        return 100 * entry["lost"] / max(1, entry["sent"]) if entry else None


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
            faults = entry["reordered"] + entry["duplicates"] + entry["corrupt"]
            text = f"{load.name}: {ours} reordered, doubled or damaged {faults}"
            found.append((text + " datagrams, at most 0", faults == 0))
            direct = summary.total_loss_percent(load.name, "direct")
            if load.is_fixed_rate and direct is not None:
                loss = summary.total_loss_percent(load.name, ours)
                most = direct + scenario.LOSS_ABOVE_DIRECT_MAX
                text = f"{load.name}: {ours} lost {loss:.4f} %"
                found.append((f"{text}, at most {most:.4f} %", loss <= most))
    return found


def cell(entry, name, scale=1.0, digits=0):
    if name not in entry:
        return "-"
    middle, least, most = (
        f"{entry[name][key] / scale:.{digits}f}" for key in ("median", "min", "max")
    )
    return f"{middle} [{least}..{most}]"


def ratio_cell(summary, load, contender, other):
    ratio = summary.ratio(load, contender, other, "cpu_ns_per_datagram")
    return "-" if ratio is None else f"{ratio:.2f}"


def table_of(summary, load, names):
    rows = [
        (
            "contender",
            "CPU ns/datagram",
            "/nginx",
            "/goref",
            "replies/s",
            "loss %",
            "late/twice/bad",
            "p50 us",
            "p99 us",
            "p99.9 us",
        )
    ]
    for name in names:
        entry = summary.by_key.get((load.name, name))
        if entry is None:
            rows.append((name, "failed") + ("",) * 8)
            continue
        faults = (entry["reordered"], entry["duplicates"], entry["corrupt"])
        rows.append(
            (
                name,
                cell(entry, "cpu_ns_per_datagram"),
                ratio_cell(summary, load.name, name, "nginx"),
                ratio_cell(summary, load.name, name, "goref"),
                cell(entry, "replies_per_second"),
                cell(entry, "loss_percent", digits=4),
                "/".join(str(fault) for fault in faults),
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


def to_text(options, here, summary, targets, contenders, results):
    lines = [
        "udp-gate benchmark, {}".format(time.strftime("%Y-%m-%d %H:%M %Z")),
        "{cpu}, {cores} cores, Linux {kernel}; load average before: "
        "{load_before:.2f}".format(**here),
        "",
        METHOD.format(**vars(options)),
    ]
    stolen = max((r.get("stolen_percent", 0) for r in results), default=0)
    lines.append(f"CPU time that the hypervisor took, in the worst run: {stolen:.1f} %")
    lines += contenders.notes
    for load in options.loads:
        lines += ["", load.describe()]
        lines += table_of(summary, load, contenders.by_name)
        if load.is_fixed_rate:
            runs = (r for r in results if r["load"] == load.name)
            late = max((r.get("send_delay_p99_ns", 0) for r in runs), default=0)
            lines.append(
                "99 % of the datagrams were sent at most "
                f"{late / 1000:.0f} us late, in the worst run."
            )
    lines += ["", "Targets"]
    words = {True: "pass", False: "FAIL", None: "????"}
    for text, is_met in targets:
        lines.append(f"  {words[is_met]}  {text}")
    for result in results:
        if "error" in result:
            lines.append(
                "BROKE: round {round}, {load}, {contender}: {error}".format(**result)
            )
    return "\n".join(lines) + "\n"


def plot(summary, loads, names, here):
    """An SVG: CPU per datagram, a panel for each load."""
    names = [name for name in names if name != "direct"]
    colours = ("#1b6ca8", "#3fa7d6", "#8a8d91", "#c98b3c", "#7a5195", "#5b8c5a")
    row, left, right, width = 24, 120, 180, 760
    parts, top = [], 52
    for load in loads:
        entries = [summary.by_key.get((load.name, name), {}) for name in names]
        cpu = "cpu_ns_per_datagram"
        most = max((entry[cpu]["max"] for entry in entries if cpu in entry), default=0)
        if most == 0:
            continue
        scale = (width - left - right) / most
        parts.append(
            f'<text x="16" y="{top + 12}" font-weight="bold">{load.describe()}</text>'
        )
        top += 22
        for i, (name, entry) in enumerate(zip(names, entries)):
            value = entry.get(cpu)
            middle = top + row / 2
            parts.append(
                f'<text x="{left - 8}" y="{middle + 4}" text-anchor="end">'
                f"{xml.sax.saxutils.escape(name)}</text>"
            )
            if value is not None:
                parts += bar(value, left, top, row, scale, colours[i % len(colours)])
            top += row
        top += 16
    where = "{cpu}, {cores} cores, Linux {kernel}".format(**here)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{top + 20}" '
        'font-family="sans-serif" font-size="12">'
        f'<rect width="{width}" height="{top + 20}" fill="white"/>'
        '<text x="16" y="24" font-size="15" font-weight="bold">'
        "CPU nanoseconds per forwarded datagram (less is better)</text>"
        '<text x="16" y="42" fill="#555">median, least and greatest of all '
        f"rounds; {xml.sax.saxutils.escape(where)}</text>"
    )
    return head + "\n" + "\n".join(parts) + "\n</svg>\n"


def bar(value, left, top, row, scale, colour):
    middle = top + row / 2
    ends = [left + value[key] * scale for key in ("min", "median", "max")]
    return [
        f'<rect x="{left}" y="{top + 4}" width="{ends[1] - left:.1f}" '
        f'height="{row - 8}" fill="{colour}"/>',
        f'<path d="M{ends[0]:.1f} {middle}H{ends[2]:.1f}M{ends[0]:.1f} {middle - 4}v8'
        f'M{ends[2]:.1f} {middle - 4}v8" stroke="black" fill="none"/>',
        f'<text x="{ends[2] + 8:.1f}" y="{middle + 4}">{value["median"]:.0f} '
        f'[{value["min"]:.0f}..{value["max"]:.0f}]</text>',
    ]


def write(folder, options, here, summary, results, targets, texts):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text)
    table = [
        {"load": load, "contender": contender, **entry}
        for (load, contender), entry in summary.by_key.items()
    ]
    method = {key: getattr(options, key) for key in ("rounds", "seconds", "warmup")}
    whole = {
        "machine": here,
        "method": method,
        "targets": [{"target": text, "is_met": is_met} for text, is_met in targets],
        "summary": table,
        "runs": results,
    }
    (folder / "results.json").write_text(json.dumps(whole, indent=1) + "\n")
