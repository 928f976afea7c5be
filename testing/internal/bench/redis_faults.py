"""Redis fails or changes: what those that play notice.

bench.py --redis runs this. Clients play while Redis fails over, is restarted, or
gets other certificates and passwords, and new clients come all the while. Each pair
has a gateway of its own: in the first run Redis is well, in the second all of that
happens.
"""

import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

import report
from contenders import BenchError, Process, free_address, split_address, version_of
from measure import machine
from pages import update_docs_text
from scale import aligned
from storms import (
    STORM_NICE,
    Gate,
    enter_network_namespace,
    give_way,
    measure_live,
    newcomers,
    raise_descriptor_limit,
)
from tool import new_parser, to_document, write_results

ROOT = pathlib.Path(__file__).resolve().parents[3]
KEY = "udp_gate:backend"
MASTER = "mymaster"
USER = "gate"
SENTINELS = 3

# What must be reached.
P99_RATIO_MAX = 1.5

METHOD = """\
Every figure is of udp-gate with default settings and real servers: redis-server, as
master, replica and Sentinel (down-after-milliseconds 1000). {live:,} clients play,
{tick:g} datagrams a second each, and {newcomers:,} new clients a second come during the
{window:g} s in which round trips count. Of each pair of runs nothing happens to Redis in
the first, which is called quiet; in the second Redis does what the line says. The pair
`newcomers` shows what new clients cost by themselves: its first run has none. Servers
and new clients run at a lower priority (nice {nice}), since they stand for other
machines. Figures are medians of {rounds} interleaved pairs, with the least and the
greatest in brackets; a ratio is the median of the ratios of the pairs."""


def parse_options():
    parser = new_parser(__doc__, "redis")
    add = parser.add_argument
    add("--rounds", type=int, default=3, help="pairs of each kind")
    add("--live", type=int, default=200, help="clients that play")
    add("--tick", type=float, default=20.0, help="datagrams/s of each of them")
    add("--window", type=float, default=5.0, help="measured seconds of each run")
    # As many as join a network of 100,000 players; storms have targets of their own.
    add("--newcomers", type=int, default=100, help="new clients a second")
    add("--kinds", type=lambda text: text.split(","), default=",".join(KINDS))
    options = parser.parse_args()
    for name in options.kinds:
        if name not in KINDS:
            parser.error(f"there is no kind {name}")
    if options.quick:
        options.rounds = 1
    options.bin = options.bin.resolve()
    return options


class Server:
    """A redis-server, at a lower priority."""

    def __init__(self, folder, name, *arguments, address=None):
        self.address = address or free_address(socket.SOCK_STREAM)
        self._folder = folder / name
        self._folder.mkdir(exist_ok=True)
        self._arguments = arguments
        self._process = None
        self.start()

    def start(self):
        port = self.address.rpartition(":")[2]
        command = ["redis-server"]
        if "--sentinel" not in self._arguments:
            command += ["--save", "", "--appendonly", "no"]
        command += [*self._arguments, "--bind", "127.0.0.1", "--port", port]
        if "--sentinel" in self._arguments:
            # The file of configuration comes first.
            command.remove("--sentinel")
            command.append("--sentinel")
        command += ["--dir", str(self._folder)]
        self._process = Process(command, self._folder / "redis.log")
        give_way(self._process.pid)
        await_true(lambda: b"PONG" in self.say("PING"), self._process.log)

    def say(self, *words):
        """The reply to one command, as the bytes of the protocol."""
        request = f"*{len(words)}\r\n".encode()
        for word in words:
            request += f"${len(word.encode())}\r\n{word}\r\n".encode()
        try:
            with socket.create_connection(split_address(self.address), 5) as connection:
                connection.sendall(request)
                return connection.recv(65536)
        except OSError:
            return b""

    def kill(self):
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.__exit__()

    def stop(self):
        self._process.__exit__()

    def set_backend(self, address):
        if b"OK" not in self.say("SET", KEY, address):
            raise BenchError("Redis does not take the key")


def await_true(condition, log=lambda: "", seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise BenchError("it does not happen: " + log())
        time.sleep(0.02)


class PlainRig:
    """One Redis."""

    def __init__(self, folder):
        self.server = Server(folder, "plain")
        self.settings = {"REDIS_ADDR": self.server.address}
        self._backend = None

    def set_backend(self, address):
        self._backend = address
        self.server.set_backend(address)

    def disturb(self):
        """Nothing: the new clients alone."""

    def close(self):
        self.server.stop()


class RestartRig(PlainRig):
    """One Redis, which is killed and is there again, empty, a second later."""

    def disturb(self):
        self.server.kill()
        time.sleep(1)
        self.server.start()
        self.server.set_backend(self._backend)


class FailoverRig:
    """A master that is killed, its replica, and Sentinels."""

    def __init__(self, folder):
        self._master = Server(folder, "master")
        port = self._master.address.rpartition(":")[2]
        self._replica = Server(folder, "replica", "--replicaof", "127.0.0.1", port)
        await_true(lambda: b"state=online" in self._master.say("INFO"))
        self._sentinels = []
        for number in range(SENTINELS):
            path = folder / f"sentinel{number}.conf"
            path.write_text(
                f"sentinel monitor {MASTER} 127.0.0.1 {port} 2\n"
                f"sentinel down-after-milliseconds {MASTER} 1000\n"
                f"sentinel failover-timeout {MASTER} 5000\n"
            )
            self._sentinels.append(
                Server(folder, f"sentinel{number}", str(path), "--sentinel")
            )
        for sentinel in self._sentinels:
            await_true(lambda s=sentinel: self._knows_all(s))
        self.settings = {
            "REDIS_SENTINELS": ",".join(s.address for s in self._sentinels),
            "REDIS_SENTINEL_MASTER": MASTER,
        }

    @staticmethod
    def _knows_all(sentinel):
        master = sentinel.say("SENTINEL", "MASTER", MASTER)
        return (
            b"num-other-sentinels\r\n$1\r\n2" in master
            and b"num-slaves\r\n$1\r\n1" in master
        )

    def set_backend(self, address):
        self._master.set_backend(address)
        self._master.say("WAIT", "1", "5000")

    def disturb(self):
        self._master.kill()

    def close(self):
        for server in (*self._sentinels, self._replica, self._master):
            server.stop()


class RotationRig:
    """A Redis with TLS on both sides, whose credentials are replaced."""

    def __init__(self, folder):
        self._folder = folder / "tls"
        self._folder.mkdir()
        self._openssl(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes "
            "-keyout ca.key -out ca.pem -days 2 -subj /CN=authority"
        )
        self._issue("server", "IP:127.0.0.1")
        self._issue("gate", "DNS:gate")
        self._issue("next", "DNS:gate")
        self._password = self._folder / "password"
        self._password.write_text("first")
        tls = free_address(socket.SOCK_STREAM)
        path = self._folder
        self.server = Server(
            folder,
            "rotation",
            *("--tls-port", tls.rpartition(":")[2]),
            *("--tls-cert-file", str(path / "server.pem")),
            *("--tls-key-file", str(path / "server.key")),
            *("--tls-ca-cert-file", str(path / "ca.pem")),
            *("--tls-auth-clients", "yes"),
            *("--user", USER, "on", ">first", "~*", "&*", "+@all"),
        )
        self.settings = {
            "REDIS_ADDR": tls,
            "REDIS_TLS": "on",
            "REDIS_TLS_CA_FILE": str(path / "ca.pem"),
            "REDIS_TLS_CERTIFICATE_FILE": str(path / "gate.pem"),
            "REDIS_TLS_KEY_FILE": str(path / "gate.key"),
            "REDIS_USERNAME": USER,
            "REDIS_PASSWORD_FILE": str(self._password),
        }

    def _openssl(self, arguments):
        done = subprocess.run(
            ["openssl", *arguments.split()],
            cwd=self._folder,
            capture_output=True,
            check=False,
        )
        if done.returncode != 0:
            raise BenchError("openssl: " + done.stderr.decode(errors="replace"))

    def _issue(self, name, alternative_name):
        (self._folder / "extensions").write_text(f"subjectAltName={alternative_name}\n")
        self._openssl(
            "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes "
            f"-keyout {name}.key -out {name}.request -subj /CN={name}"
        )
        self._openssl(
            f"x509 -req -in {name}.request -CA ca.pem -CAkey ca.key -CAcreateserial "
            f"-out {name}.pem -days 2 -extfile extensions"
        )

    def set_backend(self, address):
        self.server.set_backend(address)

    def disturb(self):
        """About 3 s: certificate, then password; connections end both times."""
        for kind in ("key", "pem"):
            shutil.copy(self._folder / f"next.{kind}", self._folder / f"new.{kind}")
            os.replace(self._folder / f"new.{kind}", self._folder / f"gate.{kind}")
        self.server.say("CLIENT", "KILL", "USER", USER)
        self.server.say("ACL", "SETUSER", USER, ">second")
        new = self._folder / "password.new"
        new.write_text("second")
        os.replace(new, self._password)
        # The gateway reads the file once a second.
        time.sleep(2)
        self.server.say("ACL", "SETUSER", USER, "<first")
        self.server.say("CLIENT", "KILL", "USER", USER)

    def close(self):
        self.server.stop()


KINDS = {
    "newcomers": ("new clients alone", PlainRig),
    "failover": ("the master is killed, Sentinel names another", FailoverRig),
    "restart": ("Redis is killed and started again a second later", RestartRig),
    "rotation": ("certificate and password replaced, connections ended", RotationRig),
}


class RedisGate(Gate):
    """A gateway whose Redis the settings name alone."""

    def __init__(self, options, folder, rig):
        self._rig = rig
        super().__init__(options, folder, {}, None)

    def _settings_for(self, backend):
        self._rig.set_backend(backend)
        return self._rig.settings


def measure_pair(options, folder, name):
    rig = KINDS[name][1](folder)
    try:
        with RedisGate(options, folder, rig) as gate:
            count = round(options.newcomers * options.window)
            if name == "newcomers":
                quiet = measure_live(options, gate, lambda: None)
            else:
                with newcomers(options, gate, count, options.window) as others:
                    quiet = measure_live(options, gate, lambda: None, others)
                    others.result()
            with newcomers(options, gate, count, options.window) as others:
                stormy = measure_live(options, gate, rig.disturb, others)
                storm = others.result()
    finally:
        rig.close()
    return {
        "quiet": quiet,
        "stormy": stormy,
        "newcomers": storm,
        "p99_ratio": stormy["p99_ns"] / max(1, quiet["p99_ns"]),
    }


def measure(options, folder):
    results = []
    for number in range(options.rounds):
        first = number % len(options.kinds)
        for name in options.kinds[first:] + options.kinds[:first]:
            own = folder / f"{name}{number}"
            own.mkdir()
            try:
                result = measure_pair(options, own, name)
                said = "p99 {:.0f} us, quiet {:.0f} us".format(
                    result["stormy"]["p99_ns"] / 1000, result["quiet"]["p99_ns"] / 1000
                )
            except (BenchError, OSError, subprocess.TimeoutExpired) as error:
                result = {"error": str(error).strip()}
                said = result["error"]
            results.append({"round": number, "kind": name, **result})
            if not options.quiet:
                print(f"round {number + 1} {name:10} {said}", file=sys.stderr)
    return results


def summary_of(options, results):
    summary = {}
    for name in options.kinds:
        runs = [r for r in results if r["kind"] == name and "error" not in r]
        if not runs:
            continue
        summary[name] = {
            "quiet_p99_ns": report.spread([r["quiet"]["p99_ns"] for r in runs]),
            "stormy_p99_ns": report.spread([r["stormy"]["p99_ns"] for r in runs]),
            "stormy_max_ns": report.spread([r["stormy"]["max_ns"] for r in runs]),
            "p99_ratio": report.spread([r["p99_ratio"] for r in runs]),
            "sent": sum(r["stormy"]["sent"] for r in runs),
            "lost": sum(r["stormy"]["lost"] for r in runs),
            "newcomers": sum(r["newcomers"]["sent"] for r in runs),
            "newcomers_lost": sum(r["newcomers"]["lost"] for r in runs),
        }
    return summary


def verdicts(options, summary):
    """Of each target: what it is, whether it is met."""
    found = []
    for name in options.kinds:
        entry = summary.get(name)
        if entry is None:
            found.append((f"{name}: not measured", False))
            continue
        ratio, lost = entry["p99_ratio"]["median"], entry["lost"]
        text = f"{name}: p99 of live clients / quiet = {ratio:.2f}"
        if name != "newcomers":
            found.append((f"{text}, at most {P99_RATIO_MAX:.2f}", ratio <= P99_RATIO_MAX))
        found.append((f"{name}: live datagrams lost = {lost:,}, at most 0", lost == 0))
    return found


def to_text(options, here, notes, summary, targets, results):
    rows = [
        ("", "quiet p99 us", "p99 us", "ratio", "greatest us", "lost")
        + ("new clients", "not served")
    ]
    for name, entry in summary.items():
        rows.append(
            (
                name,
                report.cell(entry, "quiet_p99_ns", 1000),
                report.cell(entry, "stormy_p99_ns", 1000),
                report.cell(entry, "p99_ratio", digits=2),
                report.cell(entry, "stormy_max_ns", 1000),
                "{lost:,} of {sent:,}".format(**entry),
                f"{entry['newcomers']:,}",
                f"{entry['newcomers_lost']:,}",
            )
        )
    lines = [
        "udp-gate benchmark of Redis, " + time.strftime("%Y-%m-%d %H:%M %Z"),
        "{cpu}, {cores} cores, Linux {kernel}; load average before: "
        "{load_before:.2f}".format(**here),
        "",
        METHOD.format(nice=STORM_NICE, **vars(options)),
        *notes,
        "",
        *aligned(rows),
        *(f"{name}: {KINDS[name][0]}" for name in summary),
        "",
        "Targets",
        *(f"  {'pass' if met else 'FAIL'}  {text}" for text, met in targets),
    ]
    for result in results:
        if "error" in result:
            lines.append("BROKE: round {round}, {kind}: {error}".format(**result))
    return "\n".join(lines) + "\n"


def main():
    options = parse_options()
    here = machine()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="udpgate_redis."))
    try:
        notes = [version_of(options.bin / "cli/udp-gate", "--version")]
        notes.append(version_of("redis-server", "--version"))
        reason = enter_network_namespace()
        if reason is not None:
            notes.append(f"no network namespace of its own: {reason}")
        raise_descriptor_limit()
        results = measure(options, folder)
    except (BenchError, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    summary = summary_of(options, results)
    targets = verdicts(options, summary)
    text = to_text(options, here, notes, summary, targets, results)
    document = to_document(
        here, notes, targets, summary=summary, runs=results
    )
    write_results(options.out, "redis", text, document)
    if any("error" in result for result in results):
        return 1
    if options.update_docs:
        update_docs_text(ROOT, "redis", text)
    return 1 if options.check and not all(met for _, met in targets) else 0
