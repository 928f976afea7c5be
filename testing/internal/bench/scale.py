"""The second half of the benchmark: many sessions, and many at once.

What bench.py measures is the price of a datagram. This measures what becomes
of it when 18,000 sessions are live, and what clients that play notice when
thousands of others come, fall silent or are disconnected at once.

All of it runs in a network namespace of its own where that is possible, so
that its ports and settings are nobody else's.
"""

import argparse
import ctypes
import fcntl
import json
import os
import pathlib
import resource
import select
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time

import report
from contenders import (
    BenchError,
    Process,
    Redis,
    die_with_parent,
    free_address,
    split_address,
    version_of,
    wait_until_forwarding,
)
from measure import machine
from pages import update_docs_text
from scenario import MANY_CLIENTS_PER_ADDRESS

ROOT = pathlib.Path(__file__).resolve().parents[3]

# What must be reached.
CPU_RATIO_MAX = 1.5
BYTES_PER_SESSION_MAX = 1024
P99_RATIO_MAX = 1.5

FEW_CLIENTS = 500
RATE = 20000
PORT_RANGE = "1024 65535"
CHANNEL = "udp_gate:disconnect"
EXPIRY_TIMEOUT_SECONDS = 2
# An idle session ends at so many times the timeout at the latest.
EXPIRY_FACTOR = 1.25
# What makes a storm stands for other machines, and should not take the cores
# from the gateway, the backend and the clients that are watched.
STORM_NICE = 19
# Descriptors beside those of sessions.
DESCRIPTORS_RESERVED = 500

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
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--scale", action="store_true", help="what led here")
    add("--bin", type=pathlib.Path, required=True, help="bazel-bin of the build")
    add("--out", type=pathlib.Path, help="folder for the results (temporary)")
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
    add("--update-docs", action="store_true", help="put the report into docs/benchmarks.md")
    add("--quick", action="store_true", help="one short round: does it work?")
    add("--check", action="store_true", help="fail where a target is missed")
    add("--quiet", action="store_true", help="no progress on standard error")
    options = parser.parse_args()
    for name in options.storms:
        if name not in STORMS:
            parser.error(f"there is no storm {name}")
    if options.quick:
        options.rounds = options.pairs = 1
        options.seconds, options.warmup = 1.0, 0.3
    options.bin = options.bin.resolve()
    return options


def enter_network_namespace():
    """The reason why not, or None."""
    clone_newuser, clone_newnet = 0x10000000, 0x40000000
    libc = ctypes.CDLL(None, use_errno=True)
    user = os.geteuid()
    if libc.unshare(clone_newnet) != 0:
        if libc.unshare(clone_newuser | clone_newnet) != 0:
            return "unshare: " + os.strerror(ctypes.get_errno())
        pathlib.Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            siocsifflags, iff_up = 0x8914, 1
            request = struct.pack("16sh22x", b"lo", iff_up)
            fcntl.ioctl(control, siocsifflags, request)
        range_path = pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range")
        range_path.write_text(PORT_RANGE)
    except OSError as error:
        raise BenchError(f"the new network namespace: {error}") from error
    return None


def raise_descriptor_limit():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def give_way(pid):
    """Lowers the priority of a process that leads a session of its own.

    Where the kernel groups by sessions, a nice value counts within one only
    (sched(7), autogroup).
    """
    os.setpriority(os.PRIO_PGRP, pid, STORM_NICE)
    path = pathlib.Path(f"/proc/{pid}/autogroup")
    while path.exists():
        try:
            path.write_text(str(STORM_NICE))
            return
        except BlockingIOError:  # once in 100 ms, unless by root
            time.sleep(0.1)


class Clients:
    """A load generator, ready to start when told."""

    def __init__(self, options, target, *arguments, is_storm=False):
        command = [options.bin / "testing/internal/bench/load", "--target", target]
        command += ["--await-line", *(str(word) for word in arguments)]
        # pylint: disable-next=consider-using-with
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
        if is_storm:
            give_way(self._process.pid)
        self._is_told = False

    def __enter__(self):
        if not select.select([self._process.stdout], [], [], 60)[0]:
            self.__exit__()
            raise BenchError("load: not ready after 60 s")
        if self._process.stdout.readline() != b"ready\n":
            self._process.kill()
            text = self._process.communicate()[1].decode(errors="replace")
            raise BenchError(text.strip() or "load ended")
        return self

    def __exit__(self, *unused):
        self._process.kill()
        self._process.communicate()

    def go(self):
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()
        self._is_told = True

    def result(self):
        if not self._is_told:
            self.go()
        output, errors = self._process.communicate(timeout=120)
        if self._process.returncode != 0:
            raise BenchError(errors.decode(errors="replace"))
        return json.loads(output)


class Gate:
    """A gateway between an echo backend and whoever comes."""

    def __init__(self, options, folder, settings, redis=None):
        self._echo = Process(
            [options.bin / "testing/internal/bench/echo"],
            folder / "echo.log",
            stdout=subprocess.PIPE,
            text=True,
        )
        backend = self._echo.read_line()
        self.address = free_address()
        environment = {
            "PROXY_ADDR": self.address,
            **MANY_CLIENTS_PER_ADDRESS,
            **settings,
        }
        if redis is None:
            environment["BACKEND_ADDR"] = backend
        else:
            redis.set_backend(backend)
            environment.setdefault("REDIS_ADDR", redis.address)
        self._process = Process(
            [options.bin / "cli/udp-gate"], folder / "gate.log", environment, folder
        )
        self.pid = self._process.pid

    def __enter__(self):
        wait_until_forwarding(self.address, self._process)
        return self

    def __exit__(self, *unused):
        self._process.__exit__()
        self._echo.__exit__()

    def resident_bytes(self):
        status = pathlib.Path(f"/proc/{self.pid}/status").read_text()
        for line in status.splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise BenchError("the gateway ended:\n" + self._process.log())

    def descriptors(self):
        """Each session has one, so that its changes count sessions."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def await_descriptors(self, least, most, seconds):
        """How many there are in the end."""
        deadline = time.monotonic() + seconds
        while True:
            count = self.descriptors()
            if least <= count <= most or time.monotonic() > deadline:
                return count
            time.sleep(0.01)


# CPU and memory with few and with many sessions.


def measure_size(options, folder, client_count):
    with Gate(options, folder, {}) as gate:
        before = gate.resident_bytes()
        arguments = ["--clients", client_count, "--rate", RATE, "--cpu-pid", gate.pid]
        arguments += ["--warmup", options.warmup, "--seconds", options.seconds]
        # A client's turn comes seldom where there are many.
        arguments += ["--drain", 2]
        with Clients(options, gate.address, *arguments) as clients:
            clients.go()
            time.sleep(options.warmup + options.seconds / 2)
            resident = gate.resident_bytes()
            sessions = gate.descriptors()
            result = clients.result()
    if result["replies"] == 0:
        raise BenchError("no reply came back while measuring")
    result["cpu_ns_per_datagram"] = result["gate_cpu_ns"] / (2 * result["replies"])
    result["clients"] = client_count
    result["descriptors"] = sessions
    result["resident_bytes_before"] = before
    result["resident_bytes"] = resident
    result["bytes_per_session"] = (resident - before) / client_count
    return result


# What clients that play notice of the others.


def live_arguments(options):
    rate = round(options.live * options.tick)
    arguments = ["--clients", options.live, "--rate", rate, "--warmup", 0.5]
    return arguments + ["--seconds", options.window, "--drain", 2]


def measure_live(options, gate, storm, with_them=None):
    """`storm` is called when the measured time begins, others go with them."""
    with Clients(options, gate.address, *live_arguments(options)) as live:
        if with_them:
            with_them.go()
        live.go()
        time.sleep(0.5)
        storm()
        return live.result()


def newcomers(options, gate, count, seconds, *more):
    """Clients that send one datagram each, all of them within `seconds`."""
    arguments = ["--cold", "--clients", count, "--rate", round(count / seconds)]
    arguments += ["--drain", 3, *more]
    return Clients(options, gate.address, *arguments, is_storm=True)


def storm_created(options, folder, redis, count):
    """A pair: the quiet run, the stormy one, and what the storm itself did."""
    del redis
    with Gate(options, folder, {}) as gate:
        return come_at_once(options, gate, count)


def storm_relayed(options, folder, redis, count):
    """A control, without a target: as much traffic, and nobody comes."""
    del redis
    arguments = ["--clients", FEW_CLIENTS, "--rate", round(count / options.window)]
    arguments += ["--warmup", 0.5, "--seconds", options.window, "--drain", 2]
    with Gate(options, folder, {}) as gate:
        quiet = measure_live(options, gate, lambda: None)
        with Clients(options, gate.address, *arguments, is_storm=True) as others:
            stormy = measure_live(options, gate, lambda: None, others)
            storm = others.result()
        return quiet, stormy, storm


def storm_slow_redis(options, folder, redis, count):
    port = split_address(redis.address)[1]
    relay_command = [options.bin / "testing/internal/bench/slow_redis", str(port), "1"]
    with Process(
        relay_command, folder / "relay.log", stdout=subprocess.PIPE, text=True
    ) as relay:
        give_way(relay.pid)
        settings = {"REDIS_ADDR": relay.read_line()}
        with Gate(options, folder, settings, redis) as gate:
            return come_at_once(options, gate, count)


def come_at_once(options, gate, count):
    quiet = measure_live(options, gate, lambda: None)
    with newcomers(options, gate, count, min(1.0, options.window)) as others:
        stormy = measure_live(options, gate, others.go)
        storm = others.result()
    return quiet, stormy, storm


def storm_expired(options, folder, redis, count):
    del redis
    settings = {"SESSION_IDLE_TIMEOUT_SECS": str(EXPIRY_TIMEOUT_SECONDS)}
    with Gate(options, folder, settings) as gate:
        quiet = measure_live(options, gate, lambda: None)
        most = gate.descriptors()
        with newcomers(options, gate, count, count / 20000) as others:
            storm = others.result()
        came = time.monotonic()
        created = gate.descriptors() - most

        # Their end lies in the middle of the measured time.
        middle = EXPIRY_TIMEOUT_SECONDS * (1 + EXPIRY_FACTOR) / 2
        lead = options.window / 2 + 0.6
        with Clients(options, gate.address, *live_arguments(options)) as live:
            time.sleep(max(0.0, came + middle - lead - time.monotonic()))
            before = gate.descriptors()
            live.go()
            stormy = live.result()
            after = gate.descriptors()
        storm.update(created=created, ended=before - after)
        return quiet, stormy, storm


def storm_disconnected(options, folder, redis, count):
    with Gate(options, folder, {}, redis) as gate:
        quiet = measure_live(options, gate, lambda: None)
        before = gate.descriptors()
        path = folder / "addresses.txt"
        more = ("--addresses", path)
        with newcomers(options, gate, count, count / 5000, *more) as others:
            storm = others.result()
            commands = "".join(
                f"PUBLISH {CHANNEL} {line}\r\n" for line in path.read_text().split()
            )
        created = gate.descriptors()
        told = []
        with socket.create_connection(split_address(redis.address)) as publisher:
            stormy = measure_live(
                options,
                gate,
                lambda: told.append(publish(publisher, commands.encode(), count)),
            )
        after = gate.await_descriptors(0, created - count + options.live, 5)
        storm.update(created=created - before, publish_seconds=told[0])
        # Whoever played in the second run is there instead.
        storm["ended"] = created + options.live - after
        return quiet, stormy, storm


def publish(publisher, commands, count):
    """All at once. How long Redis took."""
    begin = time.monotonic()
    publisher.settimeout(30)
    publisher.sendall(commands)
    answers = 0
    while answers < count:
        answer = publisher.recv(65536)
        if not answer or b"-" in answer:
            raise BenchError("PUBLISH: " + answer.decode(errors="replace"))
        answers += answer.count(b"\n")
    return time.monotonic() - begin


STORMS = {
    "created": ("sessions created within a second", storm_created),
    "expired": ("sessions expire at once", storm_expired),
    "disconnected": ("sessions disconnected at once", storm_disconnected),
    "newcomers": ("newcomers within a second, Redis 1 ms away", storm_slow_redis),
    "relayed": (
        f"round trips of {FEW_CLIENTS} clients within a second, whose sessions are"
        " live already: a control, without a target",
        storm_relayed,
    ),
}
NEEDS_REDIS = ("disconnected", "newcomers")
NO_TARGET = ("relayed",)


def measure_storm(options, folder, redis, name):
    is_large = name in ("newcomers", "relayed")
    count = options.newcomers if is_large else options.storm
    quiet, stormy, storm = STORMS[name][1](options, folder, redis, count)
    return {
        "count": count,
        "quiet": quiet,
        "stormy": stormy,
        "storm": storm,
        "p99_ratio": stormy["p99_ns"] / max(1, quiet["p99_ns"]),
    }


# All of it.


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
    out = options.out or pathlib.Path(tempfile.mkdtemp(prefix="udpgate_report."))
    out.mkdir(parents=True, exist_ok=True)
    document = {
        "date": time.strftime("%Y-%m-%d %H:%M %Z"),
        "machine": here,
        "notes": plan.notes,
        "summary": summary.to_json(),
        "targets": [{"target": t, "met": is_met} for t, is_met in targets],
        "runs": results,
    }
    (out / "scale.txt").write_text(text)
    (out / "scale.json").write_text(json.dumps(document, indent=1) + "\n")
    print(text)
    print(f"Written to {out}: scale.txt, scale.json")
    if any("error" in result for result in results):
        return 1
    if options.update_docs:
        update_docs_text(ROOT, "scale", text)
    return 1 if options.check and not all(met for _, met in targets) else 0


if __name__ == "__main__":
    sys.exit(main())
