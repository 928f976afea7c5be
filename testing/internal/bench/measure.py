"""Runs one contender under one load, and all of them in turns."""

import json
import os
import pathlib
import platform
import subprocess
import sys
import time

from contenders import (
    BenchError,
    Process,
    die_with_parent,
    free_address,
    wait_until_forwarding,
)


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
    command = [options.bin / "testing/internal/bench/load", "--target", target]
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
    echo_command = [options.bin / "testing/internal/bench/echo"]
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
    # What it said last, when it was told to stop.
    result["last_words"] = gate.log().rpartition("\n")[2]
    forwarded = 2 * result["replies"]
    if forwarded == 0:
        raise BenchError("no reply came back while measuring")
    result["cpu_ns_per_datagram"] = result["gate_cpu_ns"] / forwarded
    return result


def run_all(options, loads, plans, folder):
    """All runs: a list of results, each with round, load and contender.

    `plans` are functions that make a Plan, by the name of the contender. For
    each round and each load they take turns; the order moves on by one with
    each round.
    """
    results = []
    names = list(plans)
    for number in range(options.rounds):
        for load in loads:
            first = number % len(names)
            for name in names[first:] + names[:first]:
                head = {"round": number, "load": load.name, "contender": name}
                started = time.monotonic()
                try:
                    result = run_once(options, load, plans[name], folder)
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
