"""NetherNet: what joins cost, and what they do to those that play.

bench.py --nethernet runs this. A gateway with one fixed backend serves signaling
and datagrams. It is measured in pairs: quietly, with 20,000 datagrams a second,
and with the same beside 1,000 joins a second, each of which asks for the status
and sends an offer over a TCP connection of its own; a stub answers it. Then
sessions that a STUN request opened are compared with ordinary ones, and, if the
packages of npm are there, a server's first 256 KiB through the gateway with the
same without it.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

import report
from contenders import BenchError, Process, die_with_parent, free_address, version_of
from measure import machine
from pages import update_docs_text
from scale import aligned
from storms import (
    STORM_NICE,
    Clients,
    Gate,
    enter_network_namespace,
    give_way,
    raise_descriptor_limit,
)
from tool import new_parser, to_document, write_results

ROOT = pathlib.Path(__file__).resolve().parents[3]
NETHERNET = ROOT / "testing/internal/nethernet/nethernet.py"
NODE_MODULES = ROOT / "testing/internal/programs/peers/node_modules/.installed"

# What must be reached.
P99_RATIO_MAX = 1.2
P99_ALWAYS_ALLOWED_MS = 0.2
SIGNALING_CORES_MAX = 1.0
RATE_SHARE_MIN = 0.98
MEDIA_CPU_RATIO_MAX = 1.05

SIGNALING_THREADS = "udpgate-http"
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")

METHOD = """\
Every figure is of udp-gate with default settings, one fixed backend and
NETHERNET_ADDR. {live:,} clients send {rate:,} datagrams a second in all. In the
stormy run of each pair {joins:,} joins a second come beside them: GET and POST of
/v1/join over one TCP connection each, an offer of 2.6 KB, an answer of 1.1 KB by a
stub. Players and stub run at a lower priority (nice {nice}), since they stand for
other machines. CPU of signaling is that of the threads {threads}-*; CPU of a join is
that of the whole process beyond the quiet run. Figures are medians of {rounds} pairs,
with the least and the greatest in brackets."""


def parse_options():
    parser = new_parser(__doc__, "nethernet")
    add = parser.add_argument
    add("--rounds", type=int, default=5, help="pairs, and runs of each kind of session")
    add("--seconds", type=float, default=5.0, help="measured, of each run")
    add("--joins", type=int, default=1000, help="a second")
    add("--live", type=int, default=200, help="clients that play")
    add("--rate", type=int, default=20000, help="datagrams/s of all of them")
    add("--no-push", action="store_true", help="without the stacks of npm")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds = 1, 1.0
    options.bin = options.bin.resolve()
    return options


class Stub:
    """A backend's signaling; a context manager."""

    def __init__(self, options, folder, media_port):
        self._process = Process(
            [options.bin / "testing/internal/bench/signaling_stub", str(media_port)],
            folder / "stub.log",
            stdout=subprocess.PIPE,
            text=True,
        )
        give_way(self._process.pid)
        self.address = self._process.read_line()
        if not self.address:
            raise BenchError("signaling_stub: " + self._process.log())
        self.port = int(self.address.rpartition(":")[2])

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self._process.__exit__()


class SignalingGate(Gate):
    """A gateway that serves signaling; its stub stays with it."""

    def __init__(self, options, folder):
        # Not the players' own address, whose ports their closed connections keep.
        self.signaling = free_address().replace("127.0.0.1", "127.0.0.2")
        # What the answers name: the echo backend, which Gate starts.
        self._stub = None
        self._options = options
        self._folder = folder
        super().__init__(options, folder, {})

    def _settings_for(self, backend):
        self._stub = Stub(self._options, self._folder, backend.rpartition(":")[2])
        return {
            "NETHERNET_ADDR": self.signaling,
            "NETHERNET_BACKEND_PORT": str(self._stub.port),
            # All joins of a run, none of which sends a datagram.
            "NETHERNET_JOINS_MAX": "1000000",
        }

    def __exit__(self, *unused):
        super().__exit__()
        if self._stub is not None:
            self._stub.__exit__()

    def cpu_seconds(self):
        """Of the whole process, and of the threads that serve signaling."""
        total = signaling = 0
        for task in pathlib.Path(f"/proc/{self.pid}/task").iterdir():
            try:
                fields = (task / "stat").read_text().rpartition(")")[2].split()
                name = (task / "comm").read_text()
            except OSError:
                continue  # it has ended
            ticks = int(fields[11]) + int(fields[12])
            total += ticks
            if name.startswith(SIGNALING_THREADS):
                signaling += ticks
        return total / TICKS_PER_SECOND, signaling / TICKS_PER_SECOND


def live_clients(options, gate, *more):
    arguments = ["--clients", options.live, "--rate", options.rate, "--warmup", 1]
    arguments += ["--seconds", options.seconds, "--drain", 1, "--cpu-pid", gate.pid]
    return Clients(options, gate.address, *arguments, *more)


def start_joins(options, gate, seconds):
    command = [options.bin / "testing/internal/bench/signaling_load"]
    command += ["--target", gate.signaling, "--rate", str(options.joins)]
    command += ["--seconds", str(seconds)]
    # pylint: disable-next=consider-using-with
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=die_with_parent,
    )
    give_way(process.pid)
    return process


def joins_result(process):
    output, errors = process.communicate(timeout=60)
    if process.returncode != 0:
        raise BenchError(errors.decode(errors="replace").strip())
    result = json.loads(output)
    result["said"] = errors.decode(errors="replace").strip()
    return result


def run_beside(options, gate, process_seconds=None):
    """The live clients, and joins that last so long, if any."""
    with live_clients(options, gate) as live:
        joins = None
        if process_seconds is not None:
            joins = start_joins(options, gate, process_seconds)
        live.go()
        began, before = time.monotonic(), gate.cpu_seconds()
        result = live.result()
        after, ended = gate.cpu_seconds(), time.monotonic()
        result["signaling_cores"] = (after[1] - before[1]) / (ended - began)
        result["cores"] = (after[0] - before[0]) / (ended - began)
        if joins is not None:
            result["joins"] = joins_result(joins)
    return result


def measure_pair(options, folder):
    with SignalingGate(options, folder) as gate:
        quiet = run_beside(options, gate)
        # As long as clients warm up, are measured and drain.
        stormy = run_beside(options, gate, options.seconds + 2)
    rate = stormy["joins"]["joins_per_second"]
    return {
        "kind": "pair",
        "quiet": quiet,
        "stormy": stormy,
        "p99_ratio": stormy["p99_ns"] / max(1, quiet["p99_ns"]),
        "cpu_ns_per_join": 1e9
        * (stormy["cores"] - quiet["cores"])
        / max(1, rate),
    }


def measure_media(options, folder):
    """CPU of a datagram, in ordinary sessions and in those of joins."""
    found = {"kind": "media"}
    with SignalingGate(options, folder) as gate:
        with live_clients(options, gate) as live:
            found["ordinary"] = live.result()
    with SignalingGate(options, folder) as gate:
        with live_clients(options, gate, "--join", gate.signaling) as live:
            found["joined"] = live.result()
    for name in ("ordinary", "joined"):
        run = found[name]
        if run["replies"] == 0:
            raise BenchError("no reply came back while measuring")
        run["cpu_ns_per_datagram"] = run["gate_cpu_ns"] / (2 * run["replies"])
    found["cpu_ratio"] = (
        found["joined"]["cpu_ns_per_datagram"] / found["ordinary"]["cpu_ns_per_datagram"]
    )
    return found


def measure_push(options, folder):
    """What the stacks of npm say; None where they are not there."""
    if not options.no_push and not NODE_MODULES.exists():
        print("no push: tools/install_peers.sh installs its stacks", file=sys.stderr)
    if options.no_push or not NODE_MODULES.exists():
        return None
    out = folder / "push"
    command = [sys.executable, "-B", NETHERNET, "--gate", options.bin / "cli/udp-gate"]
    command += ["--phase", "push", "--out", out, "--server", "node-datachannel"]
    # What the game and WaterdogPE use; werift waits for timers of its own.
    command += ["--server", "wrtc", "--player", "node-datachannel", "--player", "wrtc"]
    command += ["--push-runs", str(max(2, options.rounds))]
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, timeout=600, check=False
    )
    if done.returncode == 77:
        return None
    if not (out / "nethernet.json").exists():
        raise BenchError("nethernet.py: " + done.stderr.decode(errors="replace")[-2000:])
    return json.loads((out / "nethernet.json").read_text())


def measure(options, folder):
    results = []
    for kind in (measure_pair, measure_media):
        for number in range(options.rounds):
            try:
                result = kind(options, folder)
            except (BenchError, OSError, subprocess.TimeoutExpired) as error:
                result = {"error": str(error).strip(), "kind": kind.__name__}
            result["round"] = number
            results.append(result)
            if not options.quiet:
                said = result.get("error") or result["kind"]
                print(f"round {number + 1} {said}", file=sys.stderr)
    return results


def summary_of(results):
    pairs = [run for run in results if run.get("kind") == "pair" and "error" not in run]
    media = [run for run in results if run.get("kind") == "media" and "error" not in run]
    if not pairs or not media:
        raise BenchError("; ".join(r["error"] for r in results if "error" in r))
    spread = report.spread
    return {
        "quiet_p99_ns": spread([r["quiet"]["p99_ns"] for r in pairs]),
        "stormy_p99_ns": spread([r["stormy"]["p99_ns"] for r in pairs]),
        "p99_ratio": spread([r["p99_ratio"] for r in pairs]),
        "lost": sum(r[name]["lost"] for r in pairs for name in ("quiet", "stormy")),
        "joins_per_second": spread(
            [r["stormy"]["joins"]["joins_per_second"] for r in pairs]
        ),
        "failed": sum(r["stormy"]["joins"]["failed"] for r in pairs),
        "answer_p50_ns": spread([r["stormy"]["joins"]["answer_p50_ns"] for r in pairs]),
        "answer_p99_ns": spread([r["stormy"]["joins"]["answer_p99_ns"] for r in pairs]),
        "signaling_cores": spread([r["stormy"]["signaling_cores"] for r in pairs]),
        "cpu_ns_per_join": spread([r["cpu_ns_per_join"] for r in pairs]),
        "ordinary_cpu": spread([r["ordinary"]["cpu_ns_per_datagram"] for r in media]),
        "joined_cpu": spread([r["joined"]["cpu_ns_per_datagram"] for r in media]),
        "cpu_ratio": spread([r["cpu_ratio"] for r in media]),
    }


def verdicts(options, summary, push):
    """Of each target: what it is, and whether it is met."""
    rate = summary["joins_per_second"]["median"]
    least = RATE_SHARE_MIN * options.joins
    found = [
        (f"joins a second = {rate:,.0f}, at least {least:,.0f}", rate >= least),
        (f"joins failed = {summary['failed']:,}, at most 0", summary["failed"] == 0),
    ]

    def at_most(text, value, most, digits=2):
        found.append(
            (f"{text} = {value:,.{digits}f}, at most {most:,.{digits}f}", value <= most)
        )

    cores = summary["signaling_cores"]["median"]
    at_most("cores of signaling", cores, SIGNALING_CORES_MAX)
    quiet = summary["quiet_p99_ns"]["median"] / 1e6
    most = max(P99_RATIO_MAX * quiet, quiet + P99_ALWAYS_ALLOWED_MS)
    at_most("p99 beside joins, ms", summary["stormy_p99_ns"]["median"] / 1e6, most, 3)
    at_most(
        "CPU of a datagram: session of a join / ordinary session",
        summary["cpu_ratio"]["median"],
        MEDIA_CPU_RATIO_MAX,
    )
    if push is not None:
        met = [is_met for text, is_met in push["targets"] if text.startswith("push:")]
        found.append(
            (f"256 KiB as the channels open, pairs in time = {sum(met)} of {len(met)}",
             all(met) and len(met) > 0)
        )
    return found


def to_text(options, here, notes, summary, push, targets):
    rows = [
        ("round trips, quiet, p99 us", spread_text(summary["quiet_p99_ns"], 1000)),
        ("round trips beside joins, p99 us", spread_text(summary["stormy_p99_ns"], 1000)),
        ("ratio", spread_text(summary["p99_ratio"], digits=2)),
        ("datagrams lost", str(summary["lost"])),
        ("joins a second", spread_text(summary["joins_per_second"])),
        ("time to the answer, p50 ms", spread_text(summary["answer_p50_ns"], 1e6, 2)),
        ("time to the answer, p99 ms", spread_text(summary["answer_p99_ns"], 1e6, 2)),
        ("cores of signaling", spread_text(summary["signaling_cores"], digits=2)),
        ("CPU of a join, us", spread_text(summary["cpu_ns_per_join"], 1000)),
        ("CPU of a datagram, ordinary, ns", spread_text(summary["ordinary_cpu"])),
        ("CPU of a datagram, of a join, ns", spread_text(summary["joined_cpu"])),
        ("ratio", spread_text(summary["cpu_ratio"], digits=2)),
    ]
    lines = [
        "udp-gate benchmark of NetherNet, " + time.strftime("%Y-%m-%d %H:%M %Z"),
        "{cpu}, {cores} cores, Linux {kernel}; load average before: "
        "{load_before:.2f}".format(**here),
        "",
        METHOD.format(nice=STORM_NICE, threads=SIGNALING_THREADS, **vars(options)),
        *notes,
        "",
        *aligned(rows),
        "",
    ]
    if push is not None and push["push"]:
        lines.append("A server's 256 KiB as the channels open, ms, medians")
        rows = [("player at server", "direct", "gateway")]
        for one in push["push"]:
            rows.append(
                (one["pair"], f"{1000 * one['direct']:.0f}", f"{1000 * one['gateway']:.0f}")
            )
        lines += [*aligned(rows), ""]
    lines.append("Targets")
    lines += [f"  {'pass' if met else 'FAIL'}  {text}" for text, met in targets]
    return "\n".join(lines) + "\n"


def spread_text(entry, unit=1, digits=0):
    return report.cell({"value": entry}, "value", unit, digits)


def main():
    options = parse_options()
    here = machine()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="udpgate_joins."))
    try:
        # Before this process enters a namespace of its own.
        push = measure_push(options, folder)
        notes = [version_of(options.bin / "cli/udp-gate", "--version")]
        reason = enter_network_namespace()
        if reason is not None:
            notes.append(f"no network namespace of its own: {reason}")
        notes.append(f"descriptors: {raise_descriptor_limit()}")
        results = measure(options, folder)
        summary = summary_of(results)
    except (BenchError, OSError, subprocess.TimeoutExpired) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    targets = verdicts(options, summary, push)
    text = to_text(options, here, notes, summary, push, targets)
    document = to_document(
        here, notes, targets, summary=summary, push=push, runs=results
    )
    write_results(options.out, "joins", text, document)
    if any("error" in result for result in results):
        return 1
    if options.update_docs:
        update_docs_text(ROOT, "nethernet", text)
    return 1 if options.check and not all(met for _, met in targets) else 0
