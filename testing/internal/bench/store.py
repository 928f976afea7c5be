"""The session store: what it costs, and how long recovery takes.

bench.py --store runs this. A gateway asks a Redis for its backend; with the store
on, the same Redis keeps its sessions. Runs with the store off and on take turns.
Then gateways with more and more sessions are killed and started again.
"""

import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

import store_plot
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
from measure import machine, run_load
from pages import update_docs_text
from scenario import MANY_CLIENTS_PER_ADDRESS
from store_report import SHORT_LIFE_SECONDS, STATES, STORE_LOADS, Summary, to_text, verdicts
from storms import (
    DESCRIPTORS_RESERVED,
    Clients,
    enter_network_namespace,
    give_way,
    raise_descriptor_limit,
)
from tool import new_parser, to_document, write_results

ROOT = pathlib.Path(__file__).resolve().parents[3]
PICTURE = "docs/recovery.svg"
PICTURE_LINE = "![Seconds of recovery by number of sessions](recovery.svg)"

STORE = {"SESSION_STORE": "redis", "GATEWAY_ID": "bench"}
INDEX = "udp_gate:session:@index:bench"
RECOVERED = re.compile(
    r"continues (\d+) sessions of the former process, (\d+) of them on another source"
    r" port, and lost (\d+), in (?:([\d.]+)s|([\d.]+)ms|0\b)"
)


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
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds, options.warmup = 1, 1.0, 0.3
    options.bin = options.bin.resolve()
    return options


class Store:
    """A Redis that keeps backend and sessions, and a connection to it."""

    def __init__(self, folder):
        self._redis = Redis(folder)
        give_way(self._redis.process.pid)
        self.address = self._redis.address

    def close(self):
        self._redis.process.__exit__()

    def begin(self, backend):
        """Forgets all, but for the backend."""
        self._redis.set_backend(backend)
        self.command("FLUSHALL")
        self._redis.set_backend(backend)

    def command(self, *words):
        """The reply, as redis-cli shows it."""
        host, port = split_address(self.address)
        done = subprocess.run(
            ["redis-cli", "-h", host, "-p", str(port), *words],
            capture_output=True,
            timeout=30,
            check=True,
        )
        return done.stdout.decode().strip()

    def record_count(self):
        return int(self.command("SCARD", INDEX))

    def commands_processed(self):
        """Of a session store; those of a script are not counted."""
        info = self.command("INFO", "commandstats")
        found = re.findall(r"cmdstat_(?:eval|sscan):calls=(\d+)", info)
        return sum(int(count) for count in found)

    def cpu_seconds(self):
        info = self.command("INFO", "cpu")
        return sum(
            float(re.search(rf"used_cpu_{kind}:([\d.]+)", info)[1])
            for kind in ("user", "sys")
        )


class KeptGate:
    """A gateway that can be killed and started again; its backend stays."""

    def __init__(self, options, folder, store, settings, core=None):
        self._folder = folder
        self._echo = Process(
            [options.bin / "testing/internal/bench/echo"],
            folder / "echo.log",
            stdout=subprocess.PIPE,
            text=True,
        )
        store.begin(self._echo.read_line())
        self.address = free_address()
        self._environment = {
            "PROXY_ADDR": self.address,
            "REDIS_ADDR": store.address,
            "NEW_SESSIONS_PER_SEC": "0",
            **MANY_CLIENTS_PER_ADDRESS,
            **settings,
        }
        self._command = [options.bin / "cli/udp-gate"]
        if core is not None:
            self._command = ["taskset", "-c", str(core), *self._command]
        self.process = None

    def start(self):
        self.process = Process(
            self._command, self._folder / "gate.log", self._environment, self._folder
        )

    def kill(self):
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait(10)
        self.process.__exit__()

    def log(self):
        return (self._folder / "gate.log").read_text(errors="replace")

    def __enter__(self):
        self.start()
        wait_until_forwarding(self.address, self.process)
        return self

    def __exit__(self, *unused):
        self.process.__exit__()
        self._echo.__exit__()


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
        await_records(store, options.newcomers)
    redis = store.cpu_seconds() - redis_before
    result["redis_ns_per_newcomer"] = 1e9 * redis / options.newcomers
    return result


def await_records(store, count):
    deadline = time.monotonic() + 20
    while store.record_count() < count:
        if time.monotonic() > deadline:
            raise BenchError(f"{store.record_count():,} records, not {count:,}")
        time.sleep(0.02)


class Survivor:
    """A client whose session must go on."""

    def __init__(self, address):
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.connect(split_address(address))
        self._number = 0

    def __enter__(self):
        # A session is confirmed if it has round trips for a second.
        for _ in range(6):
            self.await_reply(5)
            time.sleep(0.25)
        return self

    def __exit__(self, *unused):
        self._socket.close()

    def await_reply(self, seconds):
        deadline = time.monotonic() + seconds
        self._socket.settimeout(0.002)
        while time.monotonic() < deadline:
            self._number += 1
            datagram = b"\xc0 %d" % self._number
            try:
                self._socket.send(datagram)
                if self._socket.recv(100):
                    return
            except ConnectionRefusedError:
                time.sleep(0.002)
            except TimeoutError:
                pass
        raise BenchError("no reply to a client that should go on")


def measure_recovery(options, folder, store, size):
    # Whoever is there already is one of them.
    arguments = ["--clients", size - 2, "--rate", 20000, "--warmup", 0]
    # Until each has sent five times in more than a second.
    arguments += ["--seconds", max(2.0, 5 * size / 20000), "--drain", 0.5]
    with KeptGate(options, folder, store, dict(STORE)) as gate:
        with Survivor(gate.address) as survivor:
            with Clients(options, gate.address, *arguments) as clients:
                clients.result()
                await_records(store, size - 1)
                gate.kill()
                began = time.monotonic()
                gate.start()
                survivor.await_reply(60)
                serving = time.monotonic() - began
    # It has ended, so that all of its log is there.
    log = gate.log()
    said = RECOVERED.search(log)
    if said is None:
        raise BenchError("it does not say what it continues:\n" + log[-2000:])
    seconds, milliseconds = (float(text or 0) for text in said.groups()[3:])
    return {
        "sessions": size,
        "continued": int(said[1]),
        "on_other_port": int(said[2]),
        "lost": int(said[3]),
        "recovery_seconds": seconds + milliseconds / 1000,
        "serving_seconds": serving,
    }


class Plan:
    """What can run here."""

    def __init__(self, options, folder):
        self.notes = [version_of(options.bin / "cli/udp-gate", "--version")]
        for program in ("redis-server", "redis-cli", "taskset"):
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
        states = STATES[::-1] if number % 2 else STATES
        for load in STORE_LOADS:
            for state in states:
                head = {"round": number, "kind": load.name, "of": state}
                add(head, measure_load, load, state)
        for state in states:
            head = {"round": number, "kind": "newcomers", "of": state}
            add(head, measure_newcomers, state)
        for size in plan.sizes:
            head = {"round": number, "kind": "recovery", "of": size}
            add(head, measure_recovery, size)
    return results


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
    targets = verdicts(summary)
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
