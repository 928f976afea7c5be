"""From the runs of store.py to a summary, verdicts and a text."""

import textwrap
import time

import report
from scale import aligned
from scenario import LOADS, Load
from storms import STORM_NICE

# What must be reached.
CPU_RATIO_MAX = 1.03
NEWCOMERS_RATIO_MIN = 0.90
RECOVERY_SESSIONS = 50_000
RECOVERY_SECONDS_MAX = 3.0
# Where all is slow: the time of a session, of the most to that of fewer. Above
# five seconds recovery shares the processor with what is served already.
RECOVERY_GROWTH_MAX = 2.0
COMMANDS_PER_SECOND_MAX = 2000

# The shortest life that can be set: records are refreshed all the time.
SHORT_LIFE_SECONDS = 10
STATES = ("off", "on")

# The first two are of the comparison, too.
STORE_LOADS = (
    LOADS[1],
    LOADS[2],
    Load(
        "refreshed",
        f"20,000 requests/s, 5,000 clients, records live {SHORT_LIFE_SECONDS} s",
        ("--clients", "5000", "--rate", "20000"),
    ),
)

# Of newcomers: title, unit, and whether it has a target.
NEWCOMER_FIGURES = {
    "newcomers_per_second": ("newcomers a second", 1, True),
    "confirmed_per_second": ("confirmed a second", 1, True),
    "open_cpu_ns": ("CPU us to open a session", 1000, False),
    "confirm_cpu_ns": ("CPU us to confirm it", 1000, False),
}

METHOD = """\
Every figure is of udp-gate with default settings (NEW_SESSIONS_PER_SEC=0) and a Redis
that names the backend; with the store on, SESSION_STORE=redis in the same Redis."""
COSTS_METHOD = """ Off
and on take turns, and the order changes with each round. CPU of a datagram is that of
the gateway's process in the measured {seconds:g} s, divided by the datagrams that it
forwarded in them. Newcomers: {newcomers:,} clients, of which {under_way} are under way
at a time, do two round trips each, and a second later two more, with which they are
confirmed, and a record is written; the gateway has a core of its own, and all others
share the rest."""
RECOVERY_METHOD = """ Recovery:
a gateway whose sessions are all confirmed is killed (SIGKILL) and started again;
measured are what it says of reading the records and opening the sockets, and the time
from its start until a client of before has a reply. Then all clients of before must
have replies, and all their source ports must be the same. Figures are medians of
{rounds} rounds, with the least and the greatest in brackets; a ratio is the median of
the ratios of the rounds."""


def succeeded(results, kind, of=None):
    return [
        run
        for run in results
        if run["kind"] == kind and "error" not in run and of in (None, run["of"])
    ]


def ratios(results, kind, name):
    """Of each round in which both succeeded: on / off."""
    off = {run["round"]: run[name] for run in succeeded(results, kind, "off")}
    return [
        run[name] / off[run["round"]]
        for run in succeeded(results, kind, "on")
        if run["round"] in off
    ]


class Summary:
    """Of each kind its figures, as report.spread makes them."""

    def __init__(self, results):
        self.loads = {}
        for load in STORE_LOADS:
            entry = self._pair(results, load.name, "cpu_ns_per_datagram")
            on = succeeded(results, load.name, "on")
            if entry and on:
                entry["commands_per_second"] = report.spread(
                    [run["commands_per_second"] for run in on]
                )
                entry["lost"] = sum(
                    run["lost"] for run in succeeded(results, load.name)
                )
                self.loads[load.name] = entry
        self.newcomers = {
            name: self._pair(results, "newcomers", name) for name in NEWCOMER_FIGURES
        }
        on = succeeded(results, "newcomers", "on")
        self.redis_cpu = on and report.spread(
            [run["redis_ns_per_newcomer"] for run in on]
        )
        self.recovery = {}
        for run in succeeded(results, "recovery"):
            self.recovery.setdefault(run["sessions"], []).append(run)
        self.recovery = {
            size: {
                "recovery_seconds": report.spread(
                    [run["recovery_seconds"] for run in group]
                ),
                "serving_seconds": report.spread(
                    [run["serving_seconds"] for run in group]
                ),
                "on_other_port": sum(run["on_other_port"] for run in group),
                "lost": sum(run["lost"] for run in group),
            }
            for size, group in sorted(self.recovery.items())
        }

    @staticmethod
    def _pair(results, kind, name):
        found = ratios(results, kind, name)
        if not found:
            return None
        return {
            **{
                state: report.spread([run[name] for run in succeeded(results, kind, state)])
                for state in STATES
            },
            "ratio": report.spread(found),
        }

    def to_json(self):
        return vars(self)

    def seconds_of(self, size):
        """The median of recovery."""
        return self.recovery[size]["recovery_seconds"]["median"]


def cost_verdicts(summary):
    """Of each target: what it is, whether it is met (None: not known)."""
    found = []
    for load in STORE_LOADS:
        entry = summary.loads.get(load.name)
        if entry is None:
            found.append((f"{load.name}: not measured", None))
            continue
        ratio = entry["ratio"]["median"]
        text = f"{load.name}: CPU of a datagram, store on / off = {ratio:.3f}"
        found.append((f"{text}, at most {CPU_RATIO_MAX:.2f}", ratio <= CPU_RATIO_MAX))
    for name, (title, _, has_target) in NEWCOMER_FIGURES.items():
        entry = summary.newcomers[name]
        if not has_target:
            continue
        if entry is None:
            found.append((f"{title}: not measured", None))
            continue
        ratio = entry["ratio"]["median"]
        text = f"{title}, store on / off = {ratio:.3f}"
        found.append(
            (f"{text}, at least {NEWCOMERS_RATIO_MIN:.2f}", ratio >= NEWCOMERS_RATIO_MIN)
        )
    entry = summary.loads.get("refreshed")
    if entry is not None:
        rate = entry["commands_per_second"]["median"]
        text = f"Redis commands a second, records live {SHORT_LIFE_SECONDS} s = {rate:,.0f}"
        most = COMMANDS_PER_SECOND_MAX
        found.append((f"{text}, at most {most:,}", rate <= most))
    return found


def recovery_verdicts(summary, is_slow=False):
    """The same; of a slow machine only how the time grows is judged."""
    found = []
    sizes = sorted(summary.recovery)
    if not sizes:
        return [("recovery: not measured", None)]
    size = sizes[-1]
    seconds = summary.seconds_of(size)
    if not is_slow:
        # The share of a smaller number, if so many do not fit here.
        most = RECOVERY_SECONDS_MAX * min(1.0, size / RECOVERY_SESSIONS)
        text = f"recovery of {size:,} sessions = {seconds:.2f} s"
        found.append((f"{text}, at most {most:.2f} s", seconds <= most))
    elif len(sizes) > 1:
        fewer = sizes[-2]
        growth = seconds / size / (summary.seconds_of(fewer) / fewer)
        text = f"recovery of a session, of {size:,} / {fewer:,} sessions = {growth:.2f}"
        most = RECOVERY_GROWTH_MAX
        found.append((f"{text}, at most {most:.2f}", growth <= most))
    bad = sum(e["on_other_port"] + e["lost"] for e in summary.recovery.values())
    found.append(
        (f"sessions that recovery lost, or whose port it lost = {bad}, at most 0", bad == 0)
    )
    return found


def spread_text(entry, unit=1, digits=0):
    return report.cell({"value": entry}, "value", unit, digits)


def to_text(options, here, plan, summary, targets, results):
    method = METHOD + ("" if options.only else COSTS_METHOD) + RECOVERY_METHOD
    lines = [
        "udp-gate benchmark of the session store, "
        + time.strftime("%Y-%m-%d %H:%M %Z"),
        "{cpu}, {cores} cores, Linux {kernel}; load average before: "
        "{load_before:.2f}".format(**here),
        "",
        *textwrap.wrap(method.format(**vars(options)), 88),
        f"Redis runs at a lower priority (nice {STORM_NICE}), as another machine.",
        *plan.notes,
        *([] if options.only else costs_lines(summary)),
        *recovery_lines(summary),
        "",
        "Targets",
    ]
    words = {True: "pass", False: "FAIL", None: "????"}
    lines += [f"  {words[is_met]}  {text}" for text, is_met in targets]
    for result in results:
        if "error" in result:
            lines.append("BROKE: round {round}, {kind} {of}: {error}".format(**result))
    return "\n".join(lines) + "\n"


def costs_lines(summary):
    rows = [("", "store off", "store on", "ratio", "its commands/s", "lost")]
    for load in STORE_LOADS:
        entry = summary.loads.get(load.name)
        if entry is None:
            continue
        rows.append(
            (
                f"{load.title}: CPU ns/datagram",
                spread_text(entry["off"]),
                spread_text(entry["on"]),
                spread_text(entry["ratio"], digits=3),
                spread_text(entry["commands_per_second"]),
                str(entry["lost"]),
            )
        )
    for name, (title, unit, _) in NEWCOMER_FIGURES.items():
        entry = summary.newcomers[name]
        if entry is not None:
            cells = (spread_text(entry[state], unit) for state in STATES)
            ratio = spread_text(entry["ratio"], digits=3)
            rows.append((title, *cells, ratio, "", ""))
    lines = ["", *aligned(rows)]
    if summary.redis_cpu:
        text = spread_text(summary.redis_cpu, 1000, 1)
        lines.append(f"CPU of Redis for a newcomer, us: {text}")
    return lines


def recovery_lines(summary):
    rows = [("sessions", "recovery s", "serving after s", "on another port", "lost")]
    for size, entry in summary.recovery.items():
        rows.append(
            (
                f"{size:,}",
                spread_text(entry["recovery_seconds"], digits=2),
                spread_text(entry["serving_seconds"], digits=2),
                str(entry["on_other_port"]),
                str(entry["lost"]),
            )
        )
    return ["", "Recovery after kill -9", *aligned(rows)]
