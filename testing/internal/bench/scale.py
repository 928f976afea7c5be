"""The second half of the benchmark: many sessions, and many at once.

What bench.py measures is the price of a datagram. This measures what becomes
of it when 18,000 sessions are live, and what clients that play notice when
thousands of others come, fall silent or are disconnected at once.

All of it runs in a network namespace of its own where that is possible, so
that its ports and settings are nobody else's.
"""

import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

import report
from contenders import BenchError, Redis, version_of
from measure import machine
from pages import update_docs_text
from storms import (
    DESCRIPTORS_RESERVED,
    FEW_CLIENTS,
    NEEDS_REDIS,
    NO_TARGET,
    RATE,
    STORMS,
    STORM_NICE,
    enter_network_namespace,
    give_way,
    measure_size,
    measure_storm,
    raise_descriptor_limit,
)
from tool import new_parser, to_document, write_results

ROOT = pathlib.Path(__file__).resolve().parents[3]

# What must be reached.
CPU_RATIO_MAX = 1.5
BYTES_PER_SESSION_MAX = 1024
P99_RATIO_MAX = 1.5

METHOD = """\
Every figure is of udp-gate with default settings and one fixed backend, or a
Redis where the text says so. CPU is that of the gateway's process in the measured
{seconds:g} s, divided by the datagrams that it forwarded in them. Memory is VmRSS
of /proc/PID/status. In the storms {live:,} clients play, {tick:g} datagrams a second
each; of each pair of runs the first is quiet, and in the second thousands of
other sessions are created, expire or are disconnected while the {window:g} s last
in which round trips count. Each pair has a gateway of its own. What makes a storm,
Redis among it, runs at a lower priority (nice {nice}), since it stands for other
machines. Figures are medians, with the least and the greatest in brackets; a
ratio is the median of the ratios of the pairs."""


def parse_options():
    parser = new_parser(__doc__, "scale")
    add = parser.add_argument
    add("--rounds", type=int, default=3, help="of few and many sessions")
    add("--seconds", type=float, default=5.0, help="measured, of each of these")
    add("--warmup", type=float, default=1.0, help="seconds before that")
    add("--sessions", type=int, default=18000, help="many: so many are live")
    add("--pairs", type=int, default=5, help="quiet and stormy runs of each kind")
    add("--live", type=int, default=200, help="clients that play in these")
    add("--tick", type=float, default=20.0, help="datagrams/s of each of them")
    add("--window", type=float, default=1.0, help="measured seconds of each run")
    add("--storm", type=int, default=5000, help="sessions created or ended at once")
    add("--newcomers", type=int, default=10000, help="clients that ask a slow Redis")
    add("--storms", type=lambda text: text.split(","), default=",".join(STORMS))
    options = parser.parse_args()
    for name in options.storms:
        if name not in STORMS:
            parser.error(f"there is no storm {name}")
    if options.quick:
        options.rounds = options.pairs = 1
        options.seconds, options.warmup = 1.0, 0.3
    options.bin = options.bin.resolve()
    return options


class Plan:
    """What can run here."""

    def __init__(self, options, folder):
        self.notes = [version_of(options.bin / "cli/udp-gate", "--version")]
        reason = enter_network_namespace()
        hard = raise_descriptor_limit()
        self.notes.append(f"descriptors: {hard}")
        self.sizes = [FEW_CLIENTS, options.sessions]
        self.storms = options.storms
        if reason is not None:
            self.notes.append(f"no network namespace of its own ({reason})")
            self._leave_out_sizes(options, "that needs one")
        elif hard < options.sessions + DESCRIPTORS_RESERVED:
            self._leave_out_sizes(options, "so many descriptors are not allowed")
        self.redis = None
        if shutil.which("redis-server"):
            self.redis = Redis(folder)
            give_way(self.redis.process.pid)
            self.notes.append(version_of("redis-server", "--version"))
        else:
            self.storms = [s for s in self.storms if s not in NEEDS_REDIS]
            left_out = " and ".join(NEEDS_REDIS)
            self.notes.append(f"{left_out} left out: there is no redis-server")

    def _leave_out_sizes(self, options, why):
        self.notes.append(f"{options.sessions:,} sessions left out: {why}")
        self.sizes = []

    def close(self):
        if self.redis:
            self.redis.process.__exit__()


def measure(options, plan, folder):
    """All runs: a list of results, each with round and kind."""
    results = []

    def add(number, kind, function, *arguments):
        started = time.monotonic()
        try:
            result = function(*arguments)
        except (BenchError, OSError, subprocess.TimeoutExpired) as error:
            result = {"error": str(error).strip()}
        results.append({"round": number, "kind": kind, **result})
        if not options.quiet:
            seconds = time.monotonic() - started
            text = result.get("error") or describe(result)
            print(
                f"round {number + 1} {kind:14} {seconds:4.1f} s  {text}",
                file=sys.stderr,
            )

    for number in range(options.rounds):
        sizes = plan.sizes[::-1] if number % 2 else plan.sizes
        for size in sizes:
            add(number, f"{size} clients", measure_size, options, folder, size)
    for number in range(options.pairs):
        for name in plan.storms:
            add(number, name, measure_storm, options, folder, plan.redis, name)
    return results


def describe(result):
    if "p99_ratio" in result:
        return "p99 {:.0f} us, quiet {:.0f} us".format(
            result["stormy"]["p99_ns"] / 1000, result["quiet"]["p99_ns"] / 1000
        )
    return "{cpu_ns_per_datagram:.0f} ns, {bytes_per_session:.0f} bytes".format(
        **result
    )


def succeeded(results, kind):
    return [r for r in results if r["kind"] == kind and "error" not in r]


class Summary:
    """Of each kind its figures, as report.spread makes them."""

    def __init__(self, options, results):
        few, many = (
            succeeded(results, f"{size} clients")
            for size in (FEW_CLIENTS, options.sessions)
        )
        self.sizes = {}
        for group in (few, many):
            if group:
                self.sizes[group[0]["clients"]] = {
                    name: report.spread([run[name] for run in group])
                    for name in (
                        "cpu_ns_per_datagram",
                        "resident_bytes_before",
                        "resident_bytes",
                        "bytes_per_session",
                        "p99_ns",
                    )
                }
                entry = self.sizes[group[0]["clients"]]
                entry["lost"] = sum(run["lost"] for run in group)
                entry["sent"] = sum(run["sent"] for run in group)
        self.cpu_ratio = None
        by_round = {run["round"]: run["cpu_ns_per_datagram"] for run in few}
        ratios = [
            run["cpu_ns_per_datagram"] / by_round[run["round"]]
            for run in many
            if run["round"] in by_round
        ]
        if ratios:
            self.cpu_ratio = report.spread(ratios)
        self.storms = {}
        for name in STORMS:
            group = succeeded(results, name)
            if group:
                self.storms[name] = self._storm(group)

    @staticmethod
    def _storm(group):
        def live(run, key):
            return run["quiet"][key] + run["stormy"][key]

        return {
            "count": group[0]["count"],
            "quiet_p99_ns": report.spread([r["quiet"]["p99_ns"] for r in group]),
            "stormy_p99_ns": report.spread([r["stormy"]["p99_ns"] for r in group]),
            "stormy_max_ns": report.spread([r["stormy"]["max_ns"] for r in group]),
            "p99_ratio": report.spread([r["p99_ratio"] for r in group]),
            "live_lost": sum(live(r, "lost") for r in group),
            "others_sent": sum(r["storm"]["sent"] for r in group),
            "others_lost": sum(r["storm"]["lost"] for r in group),
            "others_p99_ns": report.spread([r["storm"]["p99_ns"] for r in group]),
            "ended": [r["storm"].get("ended") for r in group],
        }

    def to_json(self):
        return {
            "sizes": self.sizes,
            "cpu_ratio": self.cpu_ratio,
            "storms": self.storms,
        }


def verdicts(options, plan, summary):
    """Of each target: what it is, whether it is met (None: not known)."""
    found = []

    def at_most(text, value, most, digits):
        if value is None:
            found.append((f"{text}: not measured, at most {most}", None))
        else:
            shown = f"{value:,.{digits}f}"
            found.append((f"{text} = {shown}, at most {most:,}", value <= most))

    size = options.sessions
    ratio = summary.cpu_ratio and summary.cpu_ratio["median"]
    text = f"{size:,} sessions: CPU / that with {FEW_CLIENTS}"
    at_most(text, ratio, CPU_RATIO_MAX, 2)
    entry = summary.sizes.get(size)
    memory = entry and entry["bytes_per_session"]["median"]
    text = f"{size:,} sessions: resident bytes of each"
    at_most(text, memory, BYTES_PER_SESSION_MAX, 0)
    for name in STORMS:
        if name in NO_TARGET:
            continue
        entry = summary.storms.get(name)
        ratio = entry and entry["p99_ratio"]["median"]
        at_most(f"{name}: p99 of live clients / quiet", ratio, P99_RATIO_MAX, 2)
        if name == "newcomers":
            lost = entry and entry["others_lost"]
            at_most("newcomers: first datagrams lost", lost, 0, 0)
    return found


def size_lines(options, summary):
    if not summary.sizes:
        return []
    rows = [("", "CPU ns/datagram", "KiB before", "KiB then", "bytes/session", "lost")]
    for size, entry in summary.sizes.items():
        rows.append(
            (
                f"{size:,} clients",
                report.cell(entry, "cpu_ns_per_datagram"),
                report.cell(entry, "resident_bytes_before", 1024),
                report.cell(entry, "resident_bytes", 1024),
                report.cell(entry, "bytes_per_session"),
                "{lost:,} of {sent:,}".format(**entry),
            )
        )
    title = f"{RATE:,} requests/s in all, {options.rounds} rounds"
    return [title, *aligned(rows), ""]


def storm_lines(summary):
    rows = [
        ("", "quiet p99 us", "p99 us", "ratio", "greatest us", "lost")
        + ("others", "lost", "their p99 us")
    ]
    for name, entry in summary.storms.items():
        rows.append(
            (
                name,
                report.cell(entry, "quiet_p99_ns", 1000),
                report.cell(entry, "stormy_p99_ns", 1000),
                report.cell(entry, "p99_ratio", digits=2),
                report.cell(entry, "stormy_max_ns", 1000),
                str(entry["live_lost"]),
                f"{entry['count']:,}",
                str(entry["others_lost"]),
                report.cell(entry, "others_p99_ns", 1000),
            )
        )
    return aligned(rows)


def aligned(rows):
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        rest = (text.rjust(width) for text, width in zip(row[1:], widths[1:]))
        lines.append("  ".join((row[0].ljust(widths[0]), *rest)).rstrip())
    return lines


def to_text(options, here, plan, summary, targets, results):
    lines = [
        "udp-gate benchmark of scale, " + time.strftime("%Y-%m-%d %H:%M %Z"),
        "{cpu}, {cores} cores, Linux {kernel}; load average before: "
        "{load_before:.2f}".format(**here),
        "",
        METHOD.format(nice=STORM_NICE, **vars(options)),
        *plan.notes,
        "",
        *size_lines(options, summary),
        f"Round trips of clients that play, {options.pairs} pairs",
        *storm_lines(summary),
        *(f"{name}: {STORMS[name][0]}" for name in summary.storms),
        "",
        "Targets",
    ]
    words = {True: "pass", False: "FAIL", None: "????"}
    lines += [f"  {words[is_met]}  {text}" for text, is_met in targets]
    for result in results:
        if "error" in result:
            lines.append("BROKE: round {round}, {kind}: {error}".format(**result))
    return "\n".join(lines) + "\n"


def main():
    options = parse_options()
    here = machine()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="udpgate_scale."))
    plan = None
    try:
        plan = Plan(options, folder)
        results = measure(options, plan, folder)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    finally:
        if plan:
            plan.close()
        shutil.rmtree(folder, ignore_errors=True)
    summary = Summary(options, results)
    targets = verdicts(options, plan, summary)
    text = to_text(options, here, plan, summary, targets, results)
    document = to_document(
        here, plan.notes, targets, summary=summary.to_json(), runs=results
    )
    write_results(options.out, "scale", text, document)
    if any("error" in result for result in results):
        return 1
    if options.update_docs:
        update_docs_text(ROOT, "scale", text)
    return 1 if options.check and not all(met for _, met in targets) else 0


if __name__ == "__main__":
    sys.exit(main())
