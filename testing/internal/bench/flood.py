#!/usr/bin/python3
"""A flood of forged new clients, and what clients that play notice of it.

Run it by tools/flood.sh, which builds what it needs. A gateway with its default
settings, its backends named by a Redis, stands between an echo backend and 200
clients that play. They are measured twice, each time after they have played
long enough to be confirmed: quietly, and while flood.cc sends 50,000 datagrams
a second of as many forged clients. Two seconds after the flood, newcomers
come. With --datagrams each forged client sends several, and with
--source-ports the gateway has so few of them that they run out first.

Writes a report to standard output, and flood.txt and flood.json to the output
folder. The exit status is 0 if all targets are met, 1 if one is missed or
the run broke, and 77 if raw sockets are not allowed.
"""

import argparse
import json
import os
import pathlib
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time

from contenders import (
    BenchError,
    Redis,
    die_with_parent,
    split_address,
    version_of,
)
from measure import machine, stolen_seconds
from pages import update_docs_text
from scale import aligned
from storms import Clients, Gate, enter_network_namespace, raise_descriptor_limit
from tool import to_document, write_results

ROOT = pathlib.Path(__file__).resolve().parents[3]
EXIT_NOT_ALLOWED = 77

# What must be reached.
LOSS_PERCENT_MAX = 0.1
P99_RATIO_MAX = 2.0
P99_ALWAYS_ALLOWED_MS = 20.0
RESIDENT_GROWTH_MIB_MAX = 64.0
# Of the descriptor limit, so many are left.
DESCRIPTORS_LEFT_MIN = 50
NEWCOMER_MS_MAX = 100.0
# Less than this share of the rate is no flood.
RATE_SHARE_MIN = 0.95

# Three datagrams, each after a reply, over a second: a session is confirmed.
CONFIRM_SECONDS = 3.0
REST_SECONDS = 2.0
NEWCOMERS = 20
SAMPLE_SECONDS = 0.25
MIB = 1 << 20


def parse_options():
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--bin", type=pathlib.Path, required=True, help="bazel-bin of the build")
    add("--out", type=pathlib.Path, help="folder for the results (temporary)")
    add("--seconds", type=float, default=30.0, help="of flood")
    add("--rate", type=int, default=50000, help="forged new clients a second")
    add("--size", type=int, default=64, help="bytes of each of their datagrams")
    add("--seed", type=int, default=1, help="of the forged addresses")
    add("--datagrams", type=int, default=1, help="of each forged client")
    add("--gap-ms", type=int, default=100, help="from one of them to the next")
    add("--source-ports", type=int, help="that the gateway can use (the system's)")
    add("--live", type=int, default=200, help="clients that play")
    add("--tick", type=float, default=20.0, help="datagrams/s of each of them")
    add("--quiet-seconds", type=float, default=10.0, help="measured before")
    add("--update-docs", action="store_true", help="put the report into docs/benchmarks.md")
    add("--set", action="append", default=[], metavar="NAME=VALUE", help="of the gateway")
    options = parser.parse_args()
    if options.datagrams < 1 or (options.source_ports or 1) < 1:
        parser.error("--datagrams and --source-ports: want 1 or more")
    for text in options.set:
        if "=" not in text:
            parser.error(f"--set {text}: want NAME=VALUE")
    options.bin = options.bin.resolve()
    return options


def can_forge():
    try:
        socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW).close()
    except PermissionError:
        return False
    return True


def live_clients(options, gate, seconds):
    arguments = ["--clients", options.live]
    arguments += ["--rate", round(options.live * options.tick)]
    arguments += ["--warmup", CONFIRM_SECONDS, "--seconds", seconds, "--drain", 2]
    return Clients(options, gate.address, *arguments)


def take_sample(gate):
    """What the gateway holds now: resident bytes and descriptors."""
    return {"resident": gate.resident_bytes(), "descriptors": gate.descriptors()}


def sample_until(gate, is_over):
    """Samples of the gateway, one at least."""
    samples = [take_sample(gate)]
    while not is_over():
        time.sleep(SAMPLE_SECONDS)
        samples.append(take_sample(gate))
    return samples


def start_flood(options, gate):
    command = [options.bin / "testing/internal/bench/flood", "--target", gate.address]
    command += ["--rate", str(options.rate), "--seconds", str(options.seconds)]
    command += ["--size", str(options.size), "--seed", str(options.seed)]
    command += ["--datagrams", str(options.datagrams)]
    command += ["--gap-ms", str(options.gap_ms)]
    # pylint: disable-next=consider-using-with
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=die_with_parent,
    )


def flood_result(process):
    output, errors = process.communicate(timeout=30)
    if process.returncode != 0:
        raise BenchError(errors.decode(errors="replace").strip())
    return json.loads(output)


def newcomer_seconds(gate, number):
    """How long the reply to a newcomer's first datagram takes, 1 s at most."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.bind((f"127.0.9.{number + 1}", 0))
        client.connect(split_address(gate.address))
        client.settimeout(1.0)
        begin = time.monotonic()
        client.send(b"newcomer")
        try:
            client.recv(100)
        except TimeoutError:
            return None
        return time.monotonic() - begin


def measure(options, folder, redis):
    settings = dict(text.split("=", 1) for text in options.set)
    with Gate(options, folder, settings, redis) as gate:
        result = {"before": take_sample(gate)}
        with live_clients(options, gate, options.quiet_seconds) as live:
            result["quiet"] = live.result()
        result["quiet_sample"] = take_sample(gate)

        with live_clients(options, gate, options.seconds) as live:
            live.go()
            time.sleep(CONFIRM_SECONDS)
            began, stolen = time.monotonic(), stolen_seconds()
            process = start_flood(options, gate)
            try:
                samples = sample_until(gate, lambda: process.poll() is not None)
                ended = time.monotonic()
                result["stolen_percent"] = (
                    100 * (stolen_seconds() - stolen) / (ended - began)
                ) / (os.cpu_count() or 1)
                result["flood"] = flood_result(process)
            finally:
                process.kill()
            time.sleep(max(0.0, ended + REST_SECONDS - time.monotonic()))
            result["newcomers"] = [
                newcomer_seconds(gate, number) for number in range(NEWCOMERS)
            ]
            result["stormy"] = live.result()
        result["samples"] = samples
        result["after"] = take_sample(gate)
    result["last_words"] = [
        line
        for line in (folder / "gate.log").read_text(errors="replace").splitlines()
        if "stopped: " in line or "dropped: " in line or "ended: " in line
    ]
    if not result["last_words"]:
        raise BenchError("the gateway did not stop as it should")
    return result


def loss_percent(live):
    return 100 * live["lost"] / max(1, live["sent"])


def p99_ms(live):
    return live["p99_ns"] / 1e6


def verdicts(options, result, descriptors_max):
    """Of each target: what it is, and whether it is met."""
    found = []

    def at_most(text, value, most, digits):
        found.append(
            (f"{text} = {value:,.{digits}f}, at most {most:,.{digits}f}", value <= most)
        )

    flood, stormy = result["flood"], result["stormy"]
    share = flood["per_second"] / options.rate
    found.append(
        (
            f"the flood reached {flood['per_second']:,.0f} a second of "
            f"{options.rate:,} (at least {100 * RATE_SHARE_MIN:.0f} %)",
            share >= RATE_SHARE_MIN,
        )
    )
    at_most("loss of live clients, %", loss_percent(stormy), LOSS_PERCENT_MAX, 3)
    most = max(P99_ALWAYS_ALLOWED_MS, P99_RATIO_MAX * p99_ms(result["quiet"]))
    at_most("p99 of live clients, ms", p99_ms(stormy), most, 2)
    faults = sum(stormy[name] for name in ("reordered", "duplicates", "corrupt"))
    at_most("datagrams of theirs reordered, doubled or damaged", faults, 0, 0)
    greatest = max(sample["resident"] for sample in result["samples"])
    growth = (greatest - result["quiet_sample"]["resident"]) / MIB
    at_most("resident memory beyond quiet, MiB", growth, RESIDENT_GROWTH_MIB_MAX, 1)
    greatest = max(sample["descriptors"] for sample in result["samples"])
    at_most("descriptors", greatest, descriptors_max - DESCRIPTORS_LEFT_MIN, 0)
    came = [seconds for seconds in result["newcomers"] if seconds is not None]
    text = f"{REST_SECONDS:g} s after: {len(came)} of {NEWCOMERS} newcomers served"
    found.append((text, len(came) == NEWCOMERS))
    if came:
        at_most("the slowest of them, ms", 1000 * max(came), NEWCOMER_MS_MAX, 2)
    return found


def table(result):
    samples = result["samples"]
    rows = [("", "quiet", "flood")]

    def add(text, function, form):
        rows.append(
            (text, *(form.format(function(result[k])) for k in ("quiet", "stormy")))
        )

    add("live datagrams sent", lambda live: live["sent"], "{:,}")
    add("lost", lambda live: live["lost"], "{:,}")
    add("lost, %", loss_percent, "{:.3f}")
    add("p50, ms", lambda live: live["p50_ns"] / 1e6, "{:.3f}")
    add("p99, ms", p99_ms, "{:.3f}")
    add("p99.9, ms", lambda live: live["p99_9_ns"] / 1e6, "{:.3f}")
    add("greatest, ms", lambda live: live["max_ns"] / 1e6, "{:.1f}")
    before = result["quiet_sample"]
    for name, text, unit in (
        ("resident", "gateway's resident MiB, at most", MIB),
        ("descriptors", "gateway's descriptors, at most", 1),
    ):
        greatest = max(sample[name] for sample in samples)
        digits = 1 if unit > 1 else 0
        rows.append(
            (
                text,
                f"{before[name] / unit:,.{digits}f}",
                f"{greatest / unit:,.{digits}f}",
            )
        )
    return aligned(rows)


def shape(options):
    """Lines on what is not as usual."""
    if options.datagrams > 1:
        yield (
            f"{options.datagrams} datagrams of each forged client, "
            f"{options.gap_ms} ms apart"
        )
    if options.source_ports is not None:
        yield f"{options.source_ports:,} source ports"


def limit_source_ports(count):
    """All others stay for what binds a port by its number."""
    path = pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range")
    first, _ = (int(text) for text in path.read_text().split())
    path.write_text(f"{first} {first + count - 1}")


def to_text(options, here, notes, result, targets):
    lines = [
        "udp-gate under a flood, " + time.strftime("%Y-%m-%d %H:%M %Z"),
        "{cpu}, {cores} cores, Linux {kernel}; load average before: "
        "{load_before:.2f}; the hypervisor took {stolen:.1f} %".format(
            stolen=result["stolen_percent"], **here
        ),
        f"{options.live} clients that play, {options.tick:g} datagrams a second each; "
        f"{options.rate:,} forged new clients",
        f"a second for {options.seconds:g} s, {result['flood']['sent']:,} in all, "
        f"seed {options.seed}; " + (" ".join(options.set) or "default settings"),
        *shape(options),
        *notes,
        "",
        *table(result),
        "",
        *result["last_words"],
        "",
        "Targets",
    ]
    lines += [f"  {'pass' if is_met else 'FAIL'}  {t}" for t, is_met in targets]
    return "\n".join(lines) + "\n"


def run(options, folder):
    notes = [version_of(options.bin / "cli/udp-gate", "--version")]
    reason = enter_network_namespace()
    if reason is not None:
        notes.append(f"no network namespace of its own ({reason})")
        if options.source_ports is not None:
            raise BenchError("--source-ports needs a network namespace of its own")
    elif options.source_ports is not None:
        limit_source_ports(options.source_ports)
    notes.append(f"descriptors: {raise_descriptor_limit()}")
    redis = Redis(folder)
    try:
        return notes, measure(options, folder, redis)
    finally:
        redis.process.__exit__()


def main():
    options = parse_options()
    if not can_forge():
        print("flood: raw sockets are not allowed here: nothing measured")
        return EXIT_NOT_ALLOWED
    here = machine()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="udpgate_flood."))
    try:
        notes, result = run(options, folder)
    except (BenchError, OSError, subprocess.TimeoutExpired) as error:
        print(f"flood: {error}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    descriptors_max = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    targets = verdicts(options, result, descriptors_max)
    text = to_text(options, here, notes, result, targets)
    document = to_document(here, notes, targets, run=result)
    write_results(options.out, "flood", text, document)
    if options.update_docs:
        update_docs_text(ROOT, "flood", text)
    return 0 if all(is_met for _, is_met in targets) else 1


if __name__ == "__main__":
    sys.exit(main())
