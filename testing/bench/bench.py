#!/usr/bin/python3
"""Measures udp-gate side by side with other UDP gateways.

Run it by tools/bench.sh, which builds what it needs. Every contender stands
between the same load generator (load.cc) and the same echo backend (echo.cc),
all on 127.0.0.1. For each round and each load the contenders take turns, each
as a fresh process; the order moves on by one with each round.

Writes a report to standard output, and report.txt, results.json and plot.svg
to the output folder. The exit status is 0 unless a run broke; with --check
also unless every target is met.
"""

import argparse
import json
import os
import pathlib
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import report
from contenders import (
    BenchError,
    Contenders,
    Process,
    die_with_parent,
    free_address,
    wait_until_forwarding,
)
from scenario import LOADS


def machine():
    model = "unknown CPU"
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "load_before": os.getloadavg()[0],
    }


def stolen_seconds():
    """CPU time that the hypervisor gave to others so far (proc(5))."""
    ticks = int(pathlib.Path("/proc/stat").read_text().split()[8])
    return ticks / os.sysconf("SC_CLK_TCK")


def run_load(options, load, target, pids):
    command = [options.bin / "testing/bench/load", "--target", target]
    command += [*load.arguments, "--size", str(load.size_bytes)]
    command += ["--warmup", str(options.warmup), "--seconds", str(options.seconds)]
    command += ["--drain", str(options.drain)]
    for pid in pids:
        command += ["--cpu-pid", str(pid)]
    limit = 30 + options.warmup + options.seconds + options.drain
    result = subprocess.run(
        command,
        capture_output=True,
        timeout=limit,
        check=False,
        preexec_fn=die_with_parent,
    )
    if result.returncode != 0:
        raise BenchError(result.stderr.decode(errors="replace"))
    return json.loads(result.stdout)


def run_once(options, load, plan, folder):
    """One contender, one load: what the load generator says, and more."""
    echo_command = [options.bin / "testing/bench/echo"]
    with Process(
        echo_command, folder / "echo.log", stdout=subprocess.PIPE, text=True
    ) as echo:
        backend = echo.read_line()
        if not backend:
            raise BenchError("echo: " + echo.log())
        if plan is None:
            return run_load(options, load, backend, [])
        listen = free_address()
        made = plan(listen, backend)
        with Process(
            made.command, folder / "contender.log", made.environment, folder
        ) as gate:
            wait_until_forwarding(listen, gate)
            pids = gate.tree()
            started, stolen = time.monotonic(), stolen_seconds()
            result = run_load(options, load, listen, pids)
            stolen = (stolen_seconds() - stolen) / (time.monotonic() - started)
            if not gate.is_running() or gate.tree() != pids:
                raise BenchError("its processes changed:\n" + gate.log())
            result["processes"] = len(pids)
            result["stolen_percent"] = 100 * stolen / (os.cpu_count() or 1)
    forwarded = 2 * result["replies"]
    if forwarded == 0:
        raise BenchError("no reply came back while measuring")
    result["cpu_ns_per_datagram"] = result["gate_cpu_ns"] / forwarded
    return result


def measure(options, loads, contenders, folder):
    """All runs: a list of results, each with round, load and contender."""
    results = []
    names = list(contenders.by_name)
    for number in range(options.rounds):
        for load in loads:
            first = number % len(names)
            for name in names[first:] + names[:first]:
                head = {"round": number, "load": load.name, "contender": name}
                started = time.monotonic()
                try:
                    plan = contenders.by_name[name]
                    result = run_once(options, load, plan, folder)
                except (BenchError, OSError, subprocess.TimeoutExpired) as error:
                    result = {"error": str(error).strip()}
                results.append({**head, **result})
                tell_progress(options, results[-1], time.monotonic() - started)
    return results


def tell_progress(options, result, seconds):
    if options.quiet:
        return
    text = result.get("error")
    if text is None:
        text = "{:.0f} replies/s".format(result["replies_per_second"])
        if "cpu_ns_per_datagram" in result:
            text += ", {:.0f} ns".format(result["cpu_ns_per_datagram"])
    print(
        "round {} {:12} {:14} {:4.1f} s  {}".format(
            result["round"] + 1,
            result["load"],
            result["contender"],
            seconds,
            text,
        ),
        file=sys.stderr,
    )


def parse_loads(text):
    by_name = {load.name: load for load in LOADS}
    loads = []
    for word in text.split(","):
        name, separator, size = word.partition("@")
        if name not in by_name or (separator and not size.isdigit()):
            raise argparse.ArgumentTypeError(f"there is no load {word}")
        load = by_name[name]
        loads.append(load.with_size(int(size)) if separator else load)
    return loads


def parse_options():
    root = pathlib.Path(__file__).resolve().parent.parent.parent
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--bin", type=pathlib.Path, required=True, help="bazel-bin of the build")
    add("--out", type=pathlib.Path, help="folder for the results (temporary)")
    add("--rounds", type=int, default=3)
    add("--seconds", type=float, default=5.0, help="measured, of each run")
    add("--warmup", type=float, default=1.0, help="seconds before that")
    add("--drain", type=float, default=0.5, help="seconds to wait after that")
    add(
        "--loads",
        type=parse_loads,
        default=",".join(load.name for load in LOADS),
        help="which; NAME@BYTES for another size, such as saturation@512",
    )
    add(
        "--contenders",
        type=lambda text: text.split(","),
        help="only these, by name, with commas, and those of --command",
    )
    add(
        "--command",
        action="append",
        default=[],
        metavar="NAME=COMMAND",
        help="one more contender; {listen} and {backend} in it become addresses",
    )
    add(
        "--goref",
        type=pathlib.Path,
        default=root.parent / "shared/reference/goref",
        help="folder of a gateway in Go to compare with",
    )
    add("--redis", action="store_true", help="udp-gate asks a Redis for backends")
    add("--quick", action="store_true", help="one round of 1 s: does it work?")
    add("--check", action="store_true", help="fail where a target is missed")
    add("--quiet", action="store_true", help="no progress on standard error")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds, options.warmup = 1, 1.0, 0.3
    return options


def main():
    signal.signal(signal.SIGTERM, lambda *unused: sys.exit(143))
    options = parse_options()
    options.bin = options.bin.resolve()
    here = machine()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="udpgate_bench."))
    contenders = None
    try:
        contenders = Contenders(options, folder)
        results = measure(options, options.loads, contenders, folder)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    finally:
        if contenders and contenders.redis:
            contenders.redis.process.__exit__()
        shutil.rmtree(folder, ignore_errors=True)

    summary = report.Summary(results)
    targets = report.verdicts(summary, options.loads)
    text = report.to_text(options, here, summary, targets, contenders, results)
    picture = report.plot(summary, options.loads, contenders.by_name, here)
    out = options.out or pathlib.Path(tempfile.mkdtemp(prefix="udpgate_report."))
    texts = {"report.txt": text, "plot.svg": picture}
    report.write(out, options, here, summary, results, targets, texts)
    print(text)
    print(f"Written to {out}: report.txt, results.json, plot.svg")
    if any("error" in result for result in results):
        return 1
    return 1 if options.check and not all(is_met for _, is_met in targets) else 0


if __name__ == "__main__":
    sys.exit(main())
