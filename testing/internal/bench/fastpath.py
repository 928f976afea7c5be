#!/usr/bin/python3
"""What the kernel fast path costs, beside plain routing, NAT, nginx and sockets.

Run it by tools/bench_fastpath.sh, which builds what it needs. Client, gate and
backend are network namespaces of their own, linked by veth pairs. In turns,
round by round, the same load goes through

- `routing`: the gateway's host as a router, to the backend's own address,
- `nat`: the same host with nftables' DNAT and SNAT, which relays to one backend,
- `flowtable`: the same with a flowtable, which established flows bypass the IP
  layer by (in software); kernels are built without it, too,
- `nginx`: nginx stream, 2 workers, reuseport,
- `sockets`: udp-gate with FAST_PATH=off,
- `fastpath`: udp-gate with FAST_PATH=required.

Busy cores are those of the whole machine, load generator and backend included;
what counts is how many more they are than with routing. What the eBPF program
alone needs for a packet comes from fast_path_benchmark (BPF_PROG_TEST_RUN).
"""

import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

from contenders import BenchError, Contenders, Process, gate_program
from measure import machine, stolen_seconds
from pages import update_docs_text
from scale import aligned
from tool import write_results

ROOT = pathlib.Path(__file__).resolve().parents[3]
EXIT_NOT_ALLOWED = 77

CLIENT, GATE, BACKEND = "udpgate-c", "udpgate-g", "udpgate-b"
LISTEN = "10.0.1.1:19132"
BACKEND_ADDRESS = "10.0.2.2:19133"
NAMES = ("routing", "nat", "flowtable", "nginx", "sockets", "fastpath")
NO_PROCESS = ("routing", "nat", "flowtable")

# What an operator of one backend could have without any program.
NAT_RULES = """\
table ip bench {{
  {flowtable}
  chain forward {{
    type filter hook forward priority 0;
    {flow_add}
  }}
  chain to_backend {{
    type nat hook prerouting priority -100;
    ip daddr 10.0.1.1 udp dport 19132 dnat to {backend}
  }}
  chain to_client {{
    type nat hook postrouting priority 100;
    ip daddr 10.0.2.2 udp dport 19133 snat to 10.0.2.1
  }}
}}
"""
FLOWTABLE = "flowtable f { hook ingress priority 0; devices = { g1, g2 }; }"
FLOW_ADD = "ip protocol udp flow add @f"

LOADS = {
    "20k": ("20,000 pairs/s, 200 clients", ("--clients", "200", "--rate", "20000")),
    "50k": ("50,000 pairs/s, 500 clients", ("--clients", "500", "--rate", "50000")),
    "saturation": ("64 clients, window 8", ("--clients", "64", "--window", "8")),
}

# What must be reached.
EXTRA_CORES_MAX = 0.00
P50_BEYOND_ROUTING_US_MAX = 5.0
SATURATION_RATIO_MIN = 1.00


class NotInThisKernel(Exception):
    """A contender cannot run here; the text says what was tried."""


def parse_options():
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--bin", type=pathlib.Path, required=True, help="bazel-bin of the build")
    add("--out", type=pathlib.Path, help="folder for the results (temporary)")
    add("--rounds", type=int, default=5)
    add("--seconds", type=float, default=3.0, help="measured, of each run")
    # A session is confirmed after a second, and then handed over.
    add("--warmup", type=float, default=3.0, help="seconds before that")
    add("--loads", default=",".join(LOADS), help="of these, with commas")
    add("--contenders", default=",".join(NAMES), help="of these, with commas")
    add("--quick", action="store_true", help="one short round: does it work?")
    add("--update-docs", action="store_true", help="put the report into docs/benchmarks.md")
    options = parser.parse_args()
    options.loads = options.loads.split(",")
    options.contenders = options.contenders.split(",")
    for name in options.loads:
        if name not in LOADS:
            parser.error(f"there is no load {name}")
    for name in options.contenders:
        if name not in NAMES:
            parser.error(f"there is no contender {name}")
    if options.quick:
        options.rounds, options.seconds = 1, 1.0
    options.bin = options.bin.resolve()
    return options


def ip(*words):
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


def remove_namespaces():
    for name in (CLIENT, GATE, BACKEND):
        subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


def inside(name, *command):
    return ["ip", "netns", "exec", name, *command]


def link(one, in_one, address_one, other, in_other, address_other):
    ip("link", "add", in_one, "netns", one, "type", "veth", "peer", in_other, "netns", other)
    for space, name, address in (
        (one, in_one, address_one),
        (other, in_other, address_other),
    ):
        ip("-n", space, "address", "add", address + "/24", "dev", name)
        ip("-n", space, "link", "set", name, "up")


def make_namespaces():
    remove_namespaces()
    for name in (CLIENT, GATE, BACKEND):
        ip("netns", "add", name)
        ip("-n", name, "link", "set", "lo", "up")
    link(CLIENT, "c0", "10.0.1.2", GATE, "g1", "10.0.1.1")
    link(GATE, "g2", "10.0.2.1", BACKEND, "b0", "10.0.2.2")
    ip("-n", CLIENT, "route", "add", "default", "via", "10.0.1.1")
    ip("-n", BACKEND, "route", "add", "default", "via", "10.0.2.1")
    subprocess.run(
        inside(GATE, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"), check=True
    )


def idle_seconds():
    """Time in which processors were idle or taken by the hypervisor (proc(5)).

    Idle time is measured; what /proc/stat says of busy time is sampled at ticks,
    which a load that a timer drives can fall between.
    """
    words = pathlib.Path("/proc/stat").read_text().split()
    return sum(int(words[i]) for i in (4, 5, 8)) / os.sysconf("SC_CLK_TCK")


def set_rules(text, error_type=BenchError):
    """The rules of nftables in the gateway's namespace, in place of those before."""
    done = subprocess.run(
        inside(GATE, "nft", "-f", "-"),
        input="flush ruleset\n" + text,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise error_type(" ".join(done.stderr.split("\n")[:1]).strip())


def start(options, contenders, name, folder):
    """What stands between client and backend; None where that is the kernel."""
    if name == "routing":
        return None
    if name in NO_PROCESS:
        has_flowtable = name == "flowtable"
        set_rules(
            NAT_RULES.format(
                backend=BACKEND_ADDRESS,
                flowtable=FLOWTABLE if has_flowtable else "",
                flow_add=FLOW_ADD if has_flowtable else "",
            ),
            NotInThisKernel if has_flowtable else BenchError,
        )
        return None
    if name == "nginx":
        plan = contenders.by_name["nginx"](LISTEN, BACKEND_ADDRESS)
    else:
        plan = contenders.by_name["udpgate"](LISTEN, BACKEND_ADDRESS)
        plan.environment["FAST_PATH"] = "required" if name == "fastpath" else "off"
    command = inside(GATE, *(str(word) for word in plan.command))
    return Process(command, folder / f"{name}.log", plan.environment)


def run_load(options, load, target):
    command = inside(CLIENT, options.bin / "testing/internal/bench/load", "--target", target)
    command += [*LOADS[load][1], "--size", "128"]
    command += ["--warmup", str(options.warmup), "--seconds", str(options.seconds)]
    command += ["--drain", "0.5"]
    with subprocess.Popen(
        [str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        time.sleep(options.warmup + 0.1 * options.seconds)
        begin, idle = time.monotonic(), idle_seconds()
        time.sleep(0.8 * options.seconds)
        elapsed, idle = time.monotonic() - begin, idle_seconds() - idle
        output, errors = process.communicate(timeout=60)
        if process.returncode != 0:
            raise BenchError(errors.decode(errors="replace"))
    result = json.loads(output)
    result["busy_cores"] = os.cpu_count() - idle / elapsed
    return result


def await_forwarding(process, target, options):
    """A first pair goes through; the program in front may still be starting."""
    command = inside(CLIENT, options.bin / "testing/internal/bench/load", "--target", target)
    command += ["--clients", "1", "--window", "1", "--warmup", "0", "--seconds", "0.05"]
    for _ in range(100):
        done = subprocess.run(
            [str(word) for word in command], capture_output=True, check=False
        )
        if done.returncode == 0 and json.loads(done.stdout)["replies"] > 0:
            return
        if process is not None and not process.is_running():
            break
        time.sleep(0.05)
    raise BenchError("nothing is forwarded" + (process.log() if process else ""))


def run_once(options, contenders, load, name, folder):
    target = BACKEND_ADDRESS if name == "routing" else LISTEN
    process = start(options, contenders, name, folder)
    try:
        await_forwarding(process, target, options)
        stolen = stolen_seconds()
        result = run_load(options, load, target)
        result["stolen_seconds"] = stolen_seconds() - stolen
    finally:
        if process is not None:
            process.__exit__()
        elif name != "routing":
            set_rules("")
    if name == "fastpath" and "fast path: from clients" not in process.log():
        raise BenchError("the fast path relayed nothing:\n" + process.log())
    return {"load": load, "contender": name, **result}


def program_nanoseconds(options):
    """What the eBPF program needs for one packet: medians, by name of the packet."""
    program = options.bin / "testing/internal/bench/fast_path_benchmark"
    if not program.exists():
        return {}
    by_name = {}
    for _ in range(options.rounds):
        output = subprocess.check_output(
            [program, "--benchmark_filter=^(Relayed|PassedUp)", "--benchmark_format=json"],
            stderr=subprocess.DEVNULL,
        )
        for run in json.loads(output)["benchmarks"]:
            if "packet_ns" in run:
                name = run["name"].partition("/iterations")[0]
                by_name.setdefault(name, []).append(run["packet_ns"])
    return {name: statistics.median(values) for name, values in by_name.items()}


def program_table(by_name):
    """Rows are kinds of packets, columns sizes of the payload."""
    sizes = sorted({int(name.partition("/")[2]) for name in by_name})
    titles = {
        "RelayedIpv4": "relayed, IPv4",
        "RelayedIpv6": "relayed, IPv6",
        "PassedUpWithoutSession": "of no session",
    }
    rows = [("payload, bytes", *(f"{size:,}" for size in sizes))]
    for kind, title in titles.items():
        values = (by_name.get(f"{kind}/{size}") for size in sizes)
        rows.append((title, *("" if value is None else f"{value:.0f}" for value in values)))
    return ["The eBPF program alone (BPF_PROG_TEST_RUN), nanoseconds a packet", *aligned(rows), ""]


def measure(options, folder):
    of_these = argparse.Namespace(
        bin=options.bin, contenders=None, goref=folder, command=[], ask_redis=False
    )
    contenders = Contenders(of_these, folder)
    echo = inside(BACKEND, str(options.bin / "testing/internal/bench/echo"), BACKEND_ADDRESS)
    runs, missing = [], {}
    with Process(echo, folder / "echo.log"):
        for number in range(options.rounds):
            for load in options.loads:
                for name in options.contenders:
                    if name in missing:
                        continue
                    if name == "nginx" and "nginx" not in contenders.by_name:
                        continue
                    try:
                        run = run_once(options, contenders, load, name, folder)
                    except NotInThisKernel as error:
                        missing[name] = str(error)
                        continue
                    runs.append({"round": number, **run})
                    print(f"round {number + 1}: {load}, {name}", file=sys.stderr)
    return runs, missing


class Summary:
    """Medians by load and contender."""

    def __init__(self, runs):
        self._runs = runs

    def values(self, load, name, key):
        return [
            run[key]
            for run in self._runs
            if run["load"] == load and run["contender"] == name
        ]

    def median(self, load, name, key):
        values = self.values(load, name, key)
        return statistics.median(values) if values else None

    def total(self, load, name, key):
        return sum(self.values(load, name, key))


def verdicts(options, summary):
    found = []

    def judge(text, value, is_met):
        found.append((text.format(value) if value is not None else text, is_met))

    for load in options.loads:
        if load == "saturation":
            ours = summary.median(load, "fastpath", "replies_per_second")
            routing = summary.median(load, "routing", "replies_per_second")
            if ours and routing:
                ratio = ours / routing
                text = f"{load}: replies/s / routing's = {{:.2f}}, at least {SATURATION_RATIO_MIN:.2f}"
                judge(text, ratio, ratio >= SATURATION_RATIO_MIN)
            continue
        busy = [summary.median(load, name, "busy_cores") for name in ("fastpath", "routing")]
        if None not in busy:
            extra = round(busy[0] - busy[1], 2) + 0.0
            text = f"{load}: busy cores beyond routing's = {{:.2f}}, at most {EXTRA_CORES_MAX:.2f}"
            judge(text, extra, extra <= EXTRA_CORES_MAX)
        p50 = [summary.median(load, name, "p50_ns") for name in ("fastpath", "routing")]
        if None not in p50:
            beyond = (p50[0] - p50[1]) / 1000
            text = f"{load}: p50 beyond routing's, us = {{:.1f}}, at most {P50_BEYOND_ROUTING_US_MAX:.1f}"
            judge(text, beyond, beyond <= P50_BEYOND_ROUTING_US_MAX)
    return found


def table(options, summary, missing):
    lines = []
    for load in options.loads:
        rows = [("", "busy cores", "extra", "replies/s", "p50 us", "p99 us")
                + ("lost", "reordered")]
        routing = summary.median(load, "routing", "busy_cores")
        for name in options.contenders:
            busy = summary.median(load, name, "busy_cores")
            if name in missing:
                rows.append((name, *("-" for _ in rows[0][1:])))
            if busy is None:
                continue
            rows.append(
                (
                    name,
                    f"{busy:.2f}",
                    f"{busy - routing:+.2f}" if routing is not None else "",
                    f"{summary.median(load, name, 'replies_per_second'):,.0f}",
                    f"{summary.median(load, name, 'p50_ns') / 1000:,.0f}",
                    f"{summary.median(load, name, 'p99_ns') / 1000:,.0f}",
                    f"{summary.total(load, name, 'lost'):,}",
                    f"{summary.total(load, name, 'reordered'):,}",
                )
            )
        lines += [f"{load}: {LOADS[load][0]}, 128 bytes", *aligned(rows), ""]
    return lines


def missing_lines(missing):
    lines = []
    for name, error in missing.items():
        lines.append(f"{name} is not in this kernel (CONFIG_NF_FLOW_TABLE). Tried, by nft -f:")
        lines += [f"  {FLOWTABLE}", f"  chain forward {{ ... {FLOW_ADD} }}", f"  {error}", ""]
    return lines


def to_text(options, here, summary, missing, program, targets, version):
    lines = [
        "udp-gateway's fast path, " + time.strftime("%Y-%m-%d %H:%M %Z"),
        "{cpu}, {cores} cores, Linux {kernel}".format(**here),
        f"{options.rounds} rounds, {options.warmup:g} s to warm up and "
        f"{options.seconds:g} s measured in each run; medians, and sums of what was "
        "lost and reordered",
        version,
        "",
        *table(options, summary, missing),
        *missing_lines(missing),
        *(program_table(program) if program else []),
        "Targets",
    ]
    lines += [f"  {'pass' if is_met else 'FAIL'}  {text}" for text, is_met in targets]
    return "\n".join(lines) + "\n"


def main():
    options = parse_options()
    here = machine()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="udpgate_fastpath."))
    try:
        make_namespaces()
    except (subprocess.CalledProcessError, OSError) as error:
        print(f"bench_fastpath: no network namespaces here: {error}")
        return EXIT_NOT_ALLOWED
    try:
        program = program_nanoseconds(options)
        runs, missing = measure(options, folder)
    except (BenchError, OSError, subprocess.SubprocessError) as error:
        print(f"bench_fastpath: {error}", file=sys.stderr)
        return 1
    finally:
        remove_namespaces()
        shutil.rmtree(folder, ignore_errors=True)
    summary = Summary(runs)
    targets = verdicts(options, summary)
    version = subprocess.check_output([gate_program(options), "--version"], text=True)
    text = to_text(options, here, summary, missing, program, targets, version.strip())
    write_results(options.out, "fastpath", text, runs)
    if options.update_docs:
        update_docs_text(ROOT, "fastpath", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
