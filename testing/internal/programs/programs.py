#!/usr/bin/python3
"""Real programs through udp-gate, beside the same programs without it.

Run it by tools/programs.sh, which builds and installs what it needs. Client,
gateway and server are network namespaces of their own, see network.py. Each
program runs directly and through the gateway, in turns, with the gateway's
default settings. Required:

- the median through the gateway is at most 1.2 times the direct one, or 30 ms
  above it,
- the gateway drops no reply as `unconfirmed_reply_limit`.

A program that fails through the gateway is not run again; one that only takes
too long runs up to three times as often. Two programs are required other things:
WireGuard, that what the server sends after silence is answered; iperf3 -u -R,
which looks like a reflector, that it gets a trickle, and with
UNCONFIRMED_REPLY_FACTOR=0 everything.

The exit status is 0 if all targets are met, 1 if one is missed or a
program is not there, and 77 if network namespaces are not allowed.
"""

import argparse
import collections
import concurrent.futures
import dataclasses
import json
import pathlib
import shutil
import statistics
import sys
import tempfile
import threading
import time

# What the benchmark has already.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "bench"))

# pylint: disable=wrong-import-position
import catalog
from contenders import BenchError, version_of
from measure import machine
from network import (
    GATEWAY_ADDRESS,
    PORT,
    SERVER_ADDRESS,
    Gateway,
    Network,
    NotAllowedError,
    remove_stale_namespaces,
)
from pages import PAGE, markdown_table, paragraph, update_page
from run import Run
from scale import aligned

ROOT = pathlib.Path(__file__).resolve().parents[3]
EXIT_NOT_ALLOWED = 77

# What must be reached.
RATIO_MAX = 1.2
SECONDS_ALWAYS_ALLOWED = 0.030
LOST_PERCENT_BEYOND_DIRECT_MAX = 5.0
# Of the time that a client of iperf3 waits, the share in which it gets something.
TRICKLE_SHARE_MIN = 0.25
# The link of the client must have the round-trip time that it is to have.
RTT_ERROR_MILLISECONDS_MAX = 10.0

# Where the ratio alone is missed, so many times the runs at most.
RUNS_FACTOR_MAX = 3

# Programs at once where there is a round-trip time.
LANES = 3

# A run through the gateway has failed after so many times the direct one.
PATIENCE_RATIO = 4
PATIENCE_SECONDS_MIN = 5.0

DROPPED = 'udpgate_datagrams_dropped_total{reason="unconfirmed_reply_limit"}'
CREATED = "udpgate_sessions_created_total"
UNLIMITED = {"UNCONFIRMED_REPLY_FACTOR": "0"}

RTTS = sorted({rtt for program in catalog.TIMED for rtt in program.rtts})
ALL = {
    program.name: program
    for program in (*catalog.TIMED, catalog.Iperf3(), catalog.WireGuard())
}


@dataclasses.dataclass
class Row:
    """What came of a program at a round-trip time."""

    program: str
    title: str
    rtt: int
    direct: list
    # None: a run that failed.
    gateway: list
    dropped: int
    # Of each target: what it is, and whether it is met.
    targets: list
    unit: str = "s"
    failures: list = dataclasses.field(default_factory=list)

    def is_met(self):
        return all(is_met for _, is_met in self.targets)

    def shown(self, values):
        if not values:
            return "-"
        if None in values:
            return "fails"
        digits = 3 if self.unit == "s" else 1
        return f"{statistics.median(values):.{digits}f} {self.unit}"

    def ratio(self):
        if not self.direct or not self.gateway or None in self.direct + self.gateway:
            return None
        below = statistics.median(self.direct)
        return statistics.median(self.gateway) / below if below > 0 else None

    def cells(self):
        ratio = self.ratio() if self.unit == "s" else None
        return (
            self.title,
            f"{self.rtt} ms",
            self.shown(self.direct),
            self.shown(self.gateway),
            "-" if ratio is None else f"{ratio:.2f}",
            f"{self.dropped:,}",
        )


HEADER = ("Program", "RTT", "Direct", "Gateway", "Ratio", "Replies dropped")


def parse_options():
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--gate", type=pathlib.Path, required=True, help="the program udp-gate")
    add("--delay", type=pathlib.Path, required=True, help="the program of delay.cc")
    add("--out", type=pathlib.Path, help="folder for the results (temporary)")
    add("--runs", type=int, default=5, help="of each program, on each way")
    add("--only", action="append", metavar="NAME", help="one of " + ", ".join(ALL))
    add(
        "--ratio-max",
        type=float,
        default=RATIO_MAX,
        help="of the time through the gateway to the direct one",
    )
    add("--rtt", type=int, action="append", help=f"milliseconds, of {RTTS}")
    add("--set", action="append", default=[], metavar="NAME=VALUE", help="of the gateway")
    add("--update-docs", action="store_true", help="put the table into docs/benchmarks.md")
    add("--quiet", action="store_true", help="no progress on standard error")
    options = parser.parse_args()
    options.only = options.only or list(ALL)
    for name in options.only:
        if name not in ALL:
            parser.error(f"--only {name}: want one of " + ", ".join(ALL))
    options.rtt = options.rtt or RTTS
    for rtt in options.rtt:
        if rtt not in RTTS:
            parser.error(f"--rtt {rtt}: want one of {RTTS}")
    if options.ratio_max < 1:
        parser.error(f"--ratio-max {options.ratio_max:g}: want 1 at least")
    if options.runs < 1:
        parser.error(f"--runs {options.runs}: want 1 at least")
    for text in options.set:
        if "=" not in text:
            parser.error(f"--set {text}: want NAME=VALUE")
    options.settings = dict(text.split("=", 1) for text in options.set)
    options.gate = options.gate.resolve()
    options.delay = options.delay.resolve()
    return options


class Stage:
    """All that runs, with the gateway's settings of the options."""

    def __init__(self, options, folder):
        self._options = options
        self._folder = folder
        self._lock = threading.Lock()
        self.rows = []

    def tell(self, text):
        if not self._options.quiet:
            with self._lock:
                print(text, file=sys.stderr, flush=True)

    def gateway(self, network, folder, **more):
        settings = {**self._options.settings, **more}
        return Gateway(network, self._options.gate, settings, folder)

    def network(self, rtt, folder):
        return Network(self._options.delay, rtt, folder)

    def selected(self, rtt):
        return [
            program
            for name, program in ALL.items()
            if name in self._options.only and rtt in program.rtts
        ]

    def measure(self):
        """All rows. WireGuard, which waits most of the time, runs beside."""
        for name in self._options.only:
            ALL[name].prepare(self._folder)
        selected = {rtt: self.selected(rtt) for rtt in self._options.rtt}
        with concurrent.futures.ThreadPoolExecutor() as beside:
            waiting = []
            for rtt, programs in selected.items():
                for program in programs:
                    if isinstance(program, catalog.WireGuard):
                        waiting.append(
                            beside.submit(self._keep, self._wire_guard, program, rtt)
                        )
            for rtt, programs in selected.items():
                self._measure_in_lanes(
                    rtt, [p for p in programs if not isinstance(p, catalog.WireGuard)]
                )
            for one in waiting:
                one.result()
        order = list(ALL)
        self.rows.sort(key=lambda row: (order.index(row.program), row.rtt))

    def _measure_in_lanes(self, rtt, programs):
        """The programs wait most of the time where there is a round-trip time."""
        lanes = min(LANES if rtt > 0 else 1, len(programs))
        # Those that may take longest begin.
        left = collections.deque(sorted(programs, key=lambda p: -p.seconds_max))
        with concurrent.futures.ThreadPoolExecutor(max(lanes, 1)) as pool:
            for lane in [pool.submit(self._lane, rtt, left) for _ in range(lanes)]:
                lane.result()

    def _lane(self, rtt, left):
        folder = self._new_folder()
        with self.network(rtt, folder) as network:
            measured = network.measured_rtt_milliseconds()
            if not rtt <= measured <= rtt + RTT_ERROR_MILLISECONDS_MAX:
                raise BenchError(f"the round-trip time is {measured} ms, not {rtt} ms")
            while True:
                try:
                    program = left.popleft()
                except IndexError:
                    return
                if isinstance(program, catalog.Iperf3):
                    self._keep(self._iperf3, program, network)
                else:
                    self._keep(self._timed, program, network)

    def _new_folder(self):
        return pathlib.Path(tempfile.mkdtemp(dir=self._folder))

    def _keep(self, measure, program, where):
        """Adds the row; a program that does not even run directly is one, too."""
        begin = time.monotonic()
        try:
            row = measure(program, where)
        except (BenchError, OSError, NotAllowedError) as error:
            rtt = where if isinstance(where, int) else where.rtt_milliseconds
            row = Row(program.name, program.title, rtt, [], [None], 0, [])
            row.failures.append(str(error))
            row.targets.append((f"{program.name}, RTT {rtt} ms: it ran", False))
        with self._lock:
            self.rows.append(row)
        word = "pass" if row.is_met() else "FAIL"
        seconds = time.monotonic() - begin
        self.tell(f"{word}  {' | '.join(row.cells())}  ({seconds:.0f} s)")
        for failure in row.failures:
            self.tell(failure)

    def _run_once(self, program, network, target, seconds_max, folder):
        with Run(network, target, seconds_max, folder) as run:
            return program.run(run)

    def _timed(self, program, network):
        folder = self._new_folder()
        row = Row(program.name, program.title, network.rtt_milliseconds, [], [], 0, [])
        with self.gateway(network, folder) as gateway:
            before = gateway.metrics()
            # A machine that does something else for a second is no fault of the
            # gateway's: where the ratio alone is missed there are more runs, and
            # all of them count.
            while len(row.direct) < self._options.runs * RUNS_FACTOR_MAX:
                self._add_runs(program, network, row, folder, gateway)
                after = gateway.metrics()
                row.dropped = round(after[DROPPED] - before[DROPPED])
                row.targets = timed_verdicts(row, self._options.ratio_max)
                if row.is_met() or row.dropped > 0 or None in row.gateway:
                    break
        created = round(after[CREATED] - before[CREATED])
        row.targets += program.verdicts(len(row.gateway), created)
        return row

    def _add_runs(self, program, network, row, folder, gateway):
        for number in range(self._options.runs):
            # Who is first changes; the first run of all is a direct one.
            steps = [self._timed_directly, self._timed_through]
            for step in steps if number % 2 == 0 else reversed(steps):
                step(program, network, row, folder, gateway)
            if None in row.gateway:
                return

    def _timed_directly(self, program, network, row, folder, _):
        row.direct.append(
            self._run_once(program, network, SERVER_ADDRESS, program.seconds_max, folder)
        )

    def _timed_through(self, program, network, row, folder, gateway):
        seconds_max = max(PATIENCE_SECONDS_MIN, PATIENCE_RATIO * max(row.direct))
        try:
            row.gateway.append(
                self._run_once(program, network, GATEWAY_ADDRESS, seconds_max, folder)
            )
        except BenchError as error:
            row.gateway.append(None)
            row.failures.append(f"{error}\n{indented('gateway', gateway.log())}")

    def _iperf3(self, program, network):
        folder = self._new_folder()
        network.pass_tcp(PORT)

        def run_to(target):
            return self._run_once(program, network, target, program.seconds_max, folder)

        direct = program.lost_percent(run_to(SERVER_ADDRESS))
        with self.gateway(network, folder) as gateway:
            limited = run_to(GATEWAY_ADDRESS)
            dropped = round(gateway.metrics()[DROPPED])
        with self.gateway(network, folder, **UNLIMITED) as gateway:
            free = program.lost_percent(run_to(GATEWAY_ADDRESS))
            dropped_free = round(gateway.metrics()[DROPPED])
        served = sum(count > 0 for count in limited)
        most = direct + LOST_PERCENT_BEYOND_DIRECT_MAX
        return Row(
            program.name,
            program.title,
            network.rtt_milliseconds,
            [direct],
            [program.lost_percent(limited)],
            dropped,
            [
                (
                    f"{program.name}: seconds with datagrams = {served} of "
                    f"{len(limited)}, at least {100 * TRICKLE_SHARE_MIN:.0f} %: a trickle",
                    served >= TRICKLE_SHARE_MIN * len(limited) > 0,
                ),
                (
                    f"{program.name}: lost with UNCONFIRMED_REPLY_FACTOR=0, % = "
                    f"{free:.1f}, at most {most:.1f}; replies dropped = {dropped_free}, "
                    "at most 0",
                    free <= most and dropped_free == 0,
                ),
            ],
            unit="% lost",
        )

    def _wire_guard(self, program, rtt):
        folder = self._new_folder()
        runs = self._options.runs
        targets = [SERVER_ADDRESS, GATEWAY_ADDRESS] * runs
        with self.network(rtt, folder) as network:
            with self.gateway(network, folder) as gateway:
                with Run(network, None, program.seconds_max, folder) as run:
                    answers = program.run_all(run, targets)
                dropped = round(gateway.metrics()[DROPPED])
                log = gateway.log()
        row = Row(program.name, program.title, rtt, [], [], dropped, [])
        for target, times in zip(targets, answers):
            (row.direct if target == SERVER_ADDRESS else row.gateway).extend(times)
        row.targets = timed_verdicts(row, self._options.ratio_max)
        for index, silence in enumerate(program.SILENCES_SECONDS):
            for way, target in (("direct", SERVER_ADDRESS), ("gateway", GATEWAY_ADDRESS)):
                count = sum(
                    times[index] is not None
                    for name, times in zip(targets, answers)
                    if name == target
                )
                text = f"{program.name}, RTT {rtt} ms, {way}: answered after"
                row.targets.append(
                    (f"{text} {silence} s of silence: {count} of {runs}", count == runs)
                )
        if not row.is_met():
            row.failures.append(indented("gateway", log))
        return row


def indented(name, log):
    return "\n".join(f"  {name}: {line[:400]}" for line in log.splitlines())


def timed_verdicts(row, ratio_max):
    name = f"{row.program}, RTT {row.rtt} ms"
    found = [(f"{name}: replies dropped = {row.dropped:,}, at most 0", row.dropped == 0)]
    if None in row.gateway or None in row.direct:
        return found + [(f"{name}: it ends as it should, through the gateway", False)]
    direct = statistics.median(row.direct)
    through = statistics.median(row.gateway)
    most = max(ratio_max * direct, direct + SECONDS_ALWAYS_ALLOWED)
    text = f"{name}: seconds through the gateway = {through:.3f}"
    return found + [(f"{text}, at most {most:.3f}", through <= most)]


def method(options):
    return (
        f"Medians of {options.runs} runs each way, in turns, or up to "
        f"{RUNS_FACTOR_MAX} times as many. Required: at most "
        f"{options.ratio_max:g} times direct, or {1000 * SECONDS_ALWAYS_ALLOWED:.0f} ms above "
        "it, and no reply dropped as unconfirmed_reply_limit."
    )


def to_text(options, here, version, rows):
    table = [(*HEADER, "Verdict")]
    table += [(*row.cells(), "pass" if row.is_met() else "FAIL") for row in rows]
    lines = [
        "real programs through udp-gate, " + time.strftime("%Y-%m-%d %H:%M %Z"),
        "{cpu}, {cores} cores, Linux {kernel}; load average before: "
        "{load_before:.2f}".format(**here),
        f"{version}; {' '.join(options.set) or 'default settings'}",
        method(options),
        "",
        *aligned(table),
        "",
        "Targets",
    ]
    for row in rows:
        lines += [f"  {'pass' if met else 'FAIL'}  {text}" for text, met in row.targets]
    return "\n".join(lines) + "\n"


def to_markdown(options, here, version, rows):
    table = markdown_table(
        ("Program", "Round-trip time", *HEADER[2:]), [row.cells() for row in rows]
    )
    missed = [text for row in rows for text, is_met in row.targets if not is_met]
    total = sum(len(row.targets) for row in rows)
    words = paragraph(
        f"Measured {time.strftime('%Y-%m-%d %H:%M %Z')} with `./tools/programs.sh` on "
        "{cpu}, {cores} cores, Linux {kernel}, ".format(**here)
        + f"{version}, {' '.join(options.set) or 'default settings'}. "
        + method(options)
        + f" Targets: {total - len(missed)} of {total} are met."
    )
    lines = [table, "", words]
    if missed:
        lines += ["", "Missed:", "", *(f"- {text}" for text in missed)]
    return "\n".join(lines)


def main():
    options = parse_options()
    missing = sorted({what for name in options.only for what in ALL[name].missing()})
    if missing:
        print(f"programs: not on this machine: {', '.join(missing)}", file=sys.stderr)
        return 1
    here = machine()
    version = version_of(options.gate, "--version")
    folder = pathlib.Path(tempfile.mkdtemp(prefix="udpgate_programs."))
    stage = Stage(options, folder)
    remove_stale_namespaces()
    try:
        stage.measure()
    except NotAllowedError as error:
        print(f"programs: no network namespaces here: {error}", file=sys.stderr)
        return EXIT_NOT_ALLOWED
    except BenchError as error:
        print(f"programs: {error}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    text = to_text(options, here, version, stage.rows)
    print(text, end="")
    out = options.out or pathlib.Path(tempfile.mkdtemp(prefix="udpgate_report."))
    out.mkdir(parents=True, exist_ok=True)
    (out / "programs.txt").write_text(text)
    document = {"machine": here, "rows": [dataclasses.asdict(row) for row in stage.rows]}
    (out / "programs.json").write_text(json.dumps(document, indent=1) + "\n")
    print(f"written to {out}")
    if options.update_docs:
        content = to_markdown(options, here, version, stage.rows)
        update_page(ROOT / PAGE, "programs", content)
    return 0 if all(row.is_met() for row in stage.rows) else 1


if __name__ == "__main__":
    sys.exit(main())
