"""The session store: what it costs, and how long recovery takes.

bench.py --store runs this. A gateway asks a Redis for its backend; with the store
on, the same Redis keeps its sessions. Runs with the store off and on take turns.
Then gateways with more and more sessions are killed and started again.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

import patience
import store_plot
from contenders import BenchError, die_with_parent, version_of
from measure import machine, run_load
from pages import update_docs_text
from recovery import measure_recovery
from store_report import (
    SHORT_LIFE_SECONDS,
    STATES,
    STORE_LOADS,
    Summary,
    cost_verdicts,
    recovery_verdicts,
    to_text,
)
from store_rig import STORE, KeptGate, Store
from storms import (
    DESCRIPTORS_RESERVED,
    enter_network_namespace,
    raise_descriptor_limit,
)
from tool import new_parser, to_document, write_results

ROOT = pathlib.Path(__file__).resolve().parents[3]
PICTURE = "docs/recovery.svg"
PICTURE_LINE = "![Seconds of recovery by number of sessions](recovery.svg)"


def parse_options():
    parser = new_parser(__doc__, "store")
    add = parser.add_argument
    add("--rounds", type=int, default=5, help="of each measurement")
    add("--seconds", type=float, default=5.0, help="measured, of each load")
    add("--warmup", type=float, default=1.0, help="seconds before that")
    add("--drain", type=float, default=0.5, help="seconds after that")
    add("--newcomers", type=int, default=15_000, help="clients that come")
    add("--under-way", type=int, default=1000, help="of them at a time")
    add(
        "--sessions",
        type=lambda text: [int(word) for word in text.split(",")],
        default="1000,2000,5000,10000,18000,50000",
        help="that are recovered; fewer if descriptors do not suffice",
    )
    add("--only", choices=("recovery",), help="measure this alone")
    options = parser.parse_args()
    if options.only and options.update_docs:
        parser.error("--update-docs wants all of it")
    if options.quick:
        options.rounds, options.seconds, options.warmup = 1, 1.0, 0.3
    options.bin = options.bin.resolve()
    return options


def settings_of(state, load=None):
    settings = dict(STORE) if state == "on" else {}
    if state == "on" and load is not None and load.name == "refreshed":
        settings["SESSION_STORE_LIFETIME_SECS"] = str(SHORT_LIFE_SECONDS)
    return settings


def measure_load(options, folder, store, load, state):
    with KeptGate(options, folder, store, settings_of(state, load)) as gate:
        began, before = time.monotonic(), store.commands_processed()
        result = run_load(options, load, gate.address, [gate.process.pid])
        commands = store.commands_processed() - before
        seconds = time.monotonic() - began
        result["records"] = store.record_count()
    if result["replies"] == 0:
        raise BenchError("no reply came back while measuring")
    result["cpu_ns_per_datagram"] = result["gate_cpu_ns"] / (2 * result["replies"])
    result["commands_per_second"] = commands / seconds
    return result


def measure_newcomers(options, folder, store, state):
    cores = sorted(os.sched_getaffinity(0))
    mine = cores[1:] or cores
    os.sched_setaffinity(0, mine)
    try:
        gate = KeptGate(options, folder, store, settings_of(state), cores[0])
        with gate:
            return run_newcomers(options, store, gate, state)
    finally:
        os.sched_setaffinity(0, cores)


def run_newcomers(options, store, gate, state):
    command = [options.bin / "testing/internal/bench/newcomers"]
    command += ["--target", gate.address, "--clients", str(options.newcomers)]
    command += ["--under-way", str(options.under_way)]
    command += ["--cpu-pid", str(gate.process.pid)]
    redis_before = store.cpu_seconds()
    done = subprocess.run(
        command,
        capture_output=True,
        timeout=60,
        check=False,
        preexec_fn=die_with_parent,
    )
    if done.returncode != 0:
        raise BenchError(done.stderr.decode(errors="replace") + gate.log()[-2000:])
    result = json.loads(done.stdout)
    if state == "on":
        store.await_records(options.newcomers)
    redis = store.cpu_seconds() - redis_before
    result["redis_ns_per_newcomer"] = 1e9 * redis / options.newcomers
    return result


class Plan:
    """What can run here."""

    def __init__(self, options, folder):
        self.notes = [version_of(options.bin / "cli/udp-gate", "--version")]
        for program in ("redis-server", "redis-cli", "ss", "taskset"):
            if not shutil.which(program):
                raise BenchError(f"there is no {program}")
        self.notes.append(version_of("redis-server", "--version"))
        reason = enter_network_namespace()
        if reason is not None:
            self.notes.append(f"no network namespace of its own: {reason}")
        hard = raise_descriptor_limit()
        self.notes.append(f"descriptors: {hard}")
        fitting = hard - DESCRIPTORS_RESERVED
        self.sizes = [size for size in options.sessions if size <= fitting]
        if len(self.sizes) < len(options.sessions):
            self.notes.append(f"recovery of more than {fitting:,} sessions left out")
        options.newcomers = min(options.newcomers, fitting)
        self.store = Store(folder)


def measure(options, plan, folder):
    """All runs: a list of results, each with round, kind and state or size."""
    results = []

    def add(head, function, *arguments):
        started = time.monotonic()
        try:
            result = function(options, folder, plan.store, *arguments)
        except (BenchError, OSError, subprocess.SubprocessError) as error:
            result = {"error": str(error).strip()}
        results.append({**head, **result})
        if not options.quiet:
            seconds = time.monotonic() - started
            said = result.get("error") or describe(result)
            print(
                "round {} {:10} {:6} {:4.1f} s  {}".format(
                    head["round"] + 1, head["kind"], head["of"], seconds, said
                ),
                file=sys.stderr,
            )

    for number in range(options.rounds):
        if not options.only:
            measure_costs(number, add)
        for size in plan.sizes:
            head = {"round": number, "kind": "recovery", "of": size}
            add(head, measure_recovery, size)
    return results


def measure_costs(number, add):
    """With the store on and off."""
    states = STATES[::-1] if number % 2 else STATES
    for load in STORE_LOADS:
        for state in states:
            head = {"round": number, "kind": load.name, "of": state}
            add(head, measure_load, load, state)
    for state in states:
        head = {"round": number, "kind": "newcomers", "of": state}
        add(head, measure_newcomers, state)


def describe(result):
    if "recovery_seconds" in result:
        return "{recovery_seconds:.3f} s, serving after {serving_seconds:.3f} s".format(
            **result
        )
    if "newcomers_per_second" in result:
        return "{:,.0f}/s, {:.1f} us each, {:.1f} us to confirm".format(
            result["newcomers_per_second"],
            result["open_cpu_ns"] / 1000,
            result["confirm_cpu_ns"] / 1000,
        )
    return "{cpu_ns_per_datagram:,.0f} ns, {commands_per_second:.0f} commands/s".format(
        **result
    )


def main():
    options = parse_options()
    here = machine()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="udpgate_store."))
    plan = None
    try:
        plan = Plan(options, folder)
        results = measure(options, plan, folder)
    except (BenchError, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    finally:
        if plan:
            plan.store.close()
        shutil.rmtree(folder, ignore_errors=True)
    summary = Summary(results)
    targets = [] if options.only else cost_verdicts(summary)
    targets += recovery_verdicts(summary, is_slow=patience.FACTOR > 1)
    text = to_text(options, here, plan, summary, targets, results)
    picture = store_plot.plot(summary.recovery, options.rounds, here)
    document = to_document(
        here, plan.notes, targets, summary=summary.to_json(), runs=results
    )
    write_results(options.out, "store", text, document, {"recovery.svg": picture})
    if any("error" in result for result in results):
        return 1
    if options.update_docs:
        update_docs_text(ROOT, "store", text, PICTURE_LINE)
        (ROOT / PICTURE).write_text(picture)
    return 1 if options.check and not all(met for _, met in targets) else 0


if __name__ == "__main__":
    sys.exit(main())
