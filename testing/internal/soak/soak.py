#!/usr/bin/python3
"""A soak: clients come and go while all around udp-gate fails, for minutes.

Run it by tools/soak.sh, which builds what it needs. A udp-gate with short
time-outs stands between three backends and clients: 100 that stay, and churn.
Round for round all faults of faults.py happen in another order. Between two
rounds all is at rest: the churners' sessions have ended, and the gateway is
measured. The first round is to warm up; after it

- resident memory may grow by no more than 4 MiB, whatever the duration,
- there are exactly as many descriptors as before, and no more threads.

At the end the gateway is stopped under traffic. It must end by itself in time with
status 0, and what it says it did must add up: each session that began has ended
for one reason, each datagram was forwarded or dropped for one reason. Where the
soak has a network namespace of its own, the kernel's count of datagrams sent
and read there, less those of clients and backends, must be the gateway's, to the
last datagram.

The leak check is the same with 100,000 short sessions, of which every other
batch is disconnected and the rest falls silent.

The exit status is 0 if all of this holds.
"""

import argparse
import contextlib
import json
import pathlib
import random
import shutil
import sys
import tempfile
import time

# What the benchmark has already.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "bench"))

# pylint: disable=wrong-import-position
from contenders import BenchError, version_of
from faults import Faults
from leak import check_leaks
from measure import machine
from pages import update_docs_text
from processes import Gate, LastWords, RedisServer, datagrams_of_namespace
from storms import enter_network_namespace, raise_descriptor_limit
from traffic import Backend, Traffic

ROOT = pathlib.Path(__file__).resolve().parents[3]
MIB = 1 << 20
RESIDENT_GROWTH_MAX = 4 * MIB
STAYERS = 100
STAYER_PERIOD_SECONDS = 0.1
CHURNERS_PER_SECOND = 100
BACKENDS = 3
# Sessions end soon, so that there are many of them.
SETTINGS = {"SESSION_IDLE_TIMEOUT_SECS": "2", "UNCONFIRMED_TIMEOUT_SECS": "1"}
REST_SECONDS_MAX = 15.0
STOP_SECONDS_MAX = 1.5
ROUNDS_MIN = 2


def parse_options():
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--bin", type=pathlib.Path, required=True, help="bazel-bin of the build")
    add("--out", type=pathlib.Path, help="folder for soak.json and gate.log")
    add("--minutes", type=float, default=2.0, help="0: no soak")
    add("--sessions", type=int, default=100000, help="of the leak check; 0: none")
    add("--seed", type=int, help="of an earlier soak (random)")
    add("--update-docs", action="store_true", help="put the report into docs/benchmarks.md")
    options = parser.parse_args()
    options.bin = options.bin.resolve()
    if options.seed is None:
        options.seed = random.randrange(1 << 32)
    return options


class Soak:
    """One soak, from the gateway's start to its last words."""

    def __init__(self, options, folder, is_alone):
        self._options = options
        self._folder = folder
        # Whether the UDP datagrams of the network namespace are all ours.
        self._is_alone = is_alone
        self._random = random.Random(options.seed)
        self.findings = []
        self.samples = []
        self.slowest = {}
        self.faults_made = 0
        self.churners_made = 0

    def run(self):
        before = datagrams_of_namespace()
        redis = RedisServer(self._folder)
        try:
            settings = {**SETTINGS, "REDIS_ADDR": redis.address}
            program = self._options.bin / "cli/udp-gate"
            with Gate(program, self._folder, settings) as gate:
                traffic = Traffic(self._random, gate.address)
                self._run(gate, redis, traffic)
                self._stop(gate, traffic, before)
        finally:
            redis.stop()

    def _run(self, gate, redis, traffic):
        backends = [Backend(traffic, f"backend-{i}") for i in range(BACKENDS)]
        faults = Faults(self._random, redis, backends, traffic)
        faults.findings = self.findings
        self.slowest = faults.slowest
        faults.name_backend(backends[0])
        if not traffic.run_until(redis.has_subscriber, 10):
            raise BenchError("the gateway does not start:\n" + gate.log())
        descriptors = gate.descriptors() + STAYERS
        traffic.add_stayers(STAYERS, STAYER_PERIOD_SECONDS)
        faults.expect_served("start")

        deadline = time.monotonic() + 60 * self._options.minutes
        while len(self.samples) < ROUNDS_MIN or time.monotonic() < deadline:
            self._one_round(gate, traffic, faults)
            self._rest(gate, traffic, descriptors)
            if self.findings:
                break
        self._expect_no_growth()
        self.churners_made = traffic.churners_made

    def _one_round(self, gate, traffic, faults):
        traffic.churn_per_second = CHURNERS_PER_SECOND
        names = list(faults.all)
        self._random.shuffle(names)
        for name in names:
            known = len(self.findings)
            began = time.monotonic()
            faults.all[name]()
            self.faults_made += 1
            if not gate.is_running():
                raise BenchError(f"{name}: the gateway ended:\n" + gate.log()[-4000:])
            for text in self.findings[known:]:
                print(f"  FAIL  {text}", file=sys.stderr)
            seconds = time.monotonic() - began
            print(
                f"round {len(self.samples) + 1}  {name:18} {seconds:4.1f} s",
                file=sys.stderr,
            )
        traffic.churn_per_second = 0.0

    def _rest(self, gate, traffic, descriptors):
        """Churners leave; then only the clients that stay have sessions."""
        traffic.run_until(
            lambda: not traffic.churners() and gate.descriptors() == descriptors,
            REST_SECONDS_MAX,
        )
        sample = gate.size()
        self.samples.append(sample)
        if sample["descriptors"] != descriptors:
            self.findings.append(
                f"at rest: {sample['descriptors']} descriptors instead of {descriptors}"
            )
        strange = sum(client.strange for client in traffic.stayers)
        if strange:
            self.findings.append(f"{strange} datagrams came to the wrong client")
        print(
            f"at rest  {sample['resident'] / MIB:.1f} MiB, {sample['descriptors']} "
            f"descriptors, {sample['threads']} threads",
            file=sys.stderr,
        )

    def _expect_no_growth(self):
        first = self.samples[0]
        for sample in self.samples[1:]:
            growth = sample["resident"] - first["resident"]
            if growth > RESIDENT_GROWTH_MAX:
                self.findings.append(f"memory grew by {growth / MIB:.1f} MiB")
                break
        most = max(sample["threads"] for sample in self.samples)
        if most > first["threads"]:
            self.findings.append(f"threads grew from {first['threads']} to {most}")

    def _stop(self, gate, traffic, before):
        traffic.churn_per_second = CHURNERS_PER_SECOND
        traffic.run(0.5)
        status = gate.stop(STOP_SECONDS_MAX)
        if status != 0:
            self.findings.append(f"at the stop: exit status {status}, 0 is wanted")
        words = LastWords(gate.log())
        pairs = [
            ("sessions created and ended", words.created, words.total("ended")),
            ("datagrams dropped and reasons", words.dropped, words.total("dropped")),
        ]
        if self._is_alone:
            sent, read = (
                now - then for now, then in zip(datagrams_of_namespace(), before)
            )
            pairs += [
                (
                    "datagrams read, and forwarded or dropped",
                    read - traffic.read,
                    words.forwarded + words.dropped,
                ),
                ("datagrams sent and forwarded", sent - traffic.sent, words.forwarded),
            ]
        for text, one, other in pairs:
            print(f"{text}: {one:,} and {other:,}")
            if one != other:
                self.findings.append(f"{text}: {one} and {other}")
        print("the gateway: " + "\n  ".join(gate.log().splitlines()[-2:]))

    def report(self):
        first, last = self.samples[0], self.samples[-1]
        print(
            f"soak: {len(self.samples)} rounds, {self.faults_made} faults, "
            f"{self.churners_made:,} churners; resident "
            f"{first['resident'] / MIB:.1f} MiB after the first round, "
            f"{last['resident'] / MIB:.1f} after the last, at most "
            f"{max(s['resident'] for s in self.samples) / MIB:.1f}; "
            f"{last['descriptors']} descriptors, {last['threads']} threads"
        )
        for what, seconds in sorted(self.slowest.items()):
            print(f"  {what}: in at most {seconds:.2f} s")


class Tee:
    """Standard output that also keeps what is written to it."""

    def __init__(self, output):
        self._output = output
        self.text = ""

    def write(self, text):
        self.text += text
        return self._output.write(text)

    def flush(self):
        self._output.flush()


def save(options, folder, document):
    if options.out is None:
        return
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "soak.json").write_text(json.dumps(document, indent=1) + "\n")
    for log in folder.glob("*.log"):
        shutil.copy(log, options.out)


def main():
    options = parse_options()
    output = Tee(sys.stdout)
    with contextlib.redirect_stdout(output):
        findings = soak(options)
    if options.update_docs and not findings:
        update_docs_text(ROOT, "soak", output.text)
    return 1 if findings else 0


def soak(options):
    """Prints a report as it goes, and returns what is wrong."""
    here = machine()
    print(
        time.strftime("%Y-%m-%d %H:%M %Z, ")
        + "{cpu}, {cores} cores, Linux {kernel}".format(**here)
    )
    print(f"seed {options.seed}: --seed {options.seed} makes the same choices")
    print(version_of(options.bin / "cli/udp-gate", "--version"))
    reason = enter_network_namespace()
    if reason is not None:
        print(f"no network namespace of its own ({reason}): datagrams not counted")
    raise_descriptor_limit()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="udpgate_soak."))
    findings = []
    document = {"seed": options.seed, "findings": findings}
    try:
        if options.minutes > 0:
            run = Soak(options, folder, reason is None)
            document["samples"] = run.samples
            document["slowest_seconds"] = run.slowest
            run.findings = findings
            run.run()
            run.report()
        if options.sessions > 0:
            document["leak"] = check_leaks(options, folder, findings)
    except (BenchError, OSError) as error:
        findings.append(str(error))
    finally:
        save(options, folder, document)
        shutil.rmtree(folder, ignore_errors=True)
    for text in findings:
        print(f"  FAIL  {text}")
    if not findings:
        print("  pass  nothing grew, and each datagram is accounted for")
    return findings


if __name__ == "__main__":
    sys.exit(main())
