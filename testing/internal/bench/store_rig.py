"""A Redis that keeps sessions, and a gateway that can be killed."""

import dataclasses
import os
import pathlib
import re
import signal
import socket
import subprocess
import time
import urllib.request

from contenders import (
    BenchError,
    Process,
    Redis,
    free_address,
    split_address,
    wait_until_forwarding,
)
from patience import longer
from scenario import MANY_CLIENTS_PER_ADDRESS
from storms import give_way

STORE = {"SESSION_STORE": "redis", "GATEWAY_ID": "bench"}
PREFIX = "udp_gate:session:"
INDEX = PREFIX + "@index:bench"
ALL_RECORDS = """
local found = {}
for _, client in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  found[#found + 1] = redis.call('GET', ARGV[1] .. client) or nil
end
return found
"""
CONTINUED = re.compile(
    r'^udpgate_store_recovered_total\{result="\w+"\} (\d+)$', re.MULTILINE
)


@dataclasses.dataclass
class Record:
    """A session: which process has written it, and where the backend sees it."""

    run: str
    source: str


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
            timeout=longer(30),
            check=True,
        )
        return done.stdout.decode().strip()

    def record_count(self):
        return int(self.command("SCARD", INDEX))

    def await_records(self, count):
        deadline = time.monotonic() + longer(20)
        while self.record_count() < count:
            if time.monotonic() > deadline:
                raise BenchError(f"{self.record_count():,} records, not {count:,}")
            time.sleep(0.02)

    def records(self):
        """What the gateway has written of each client (udpgate/stored_session.h)."""
        found = {}
        for line in self.command("EVAL", ALL_RECORDS, "1", INDEX, PREFIX).splitlines():
            _, token, _, _, client, _, _, source, *_ = line.split(" ")
            found[client] = Record(run=token[:16], source=source)
        return found

    def await_rewritten(self, before):
        """Until another process has all of them, or that takes too long."""
        deadline = time.monotonic() + longer(20)
        while True:
            now = self.records()
            left = [c for c in before if c in now and now[c].run == before[c].run]
            if not left or time.monotonic() > deadline:
                return now
            time.sleep(0.1)

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

    def __init__(self, options, folder, store, settings, core=None, has_admin=False):
        self._folder = folder
        self._echo = Process(
            [options.bin / "testing/internal/bench/echo"],
            folder / "echo.log",
            stdout=subprocess.PIPE,
            text=True,
        )
        self._backend = self._echo.read_line()
        store.begin(self._backend)
        self.address = free_address()
        self._environment = {
            "PROXY_ADDR": self.address,
            "REDIS_ADDR": store.address,
            "NEW_SESSIONS_PER_SEC": "0",
            **MANY_CLIENTS_PER_ADDRESS,
            **settings,
        }
        if has_admin:
            self._environment["ADMIN_ADDR"] = free_address(socket.SOCK_STREAM)
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
        self.process.wait(longer(10))
        self.process.__exit__()

    def continued(self):
        """Sessions of the former process that it has tried to continue so far."""
        url = "http://" + self._environment["ADMIN_ADDR"] + "/metrics"
        try:
            with urllib.request.urlopen(url, timeout=longer(10)) as response:
                page = response.read().decode()
        except OSError:  # it serves players first
            return 0
        return sum(int(number) for number in CONTINUED.findall(page))

    def await_continued(self, count):
        deadline = time.monotonic() + longer(60)
        while (now := self.continued()) < count:
            if time.monotonic() > deadline:
                raise BenchError(f"{now:,} sessions continued, not {count:,}")
            time.sleep(0.02)

    def source_ports(self):
        """Of sockets that the kernel lists as connected to the backend."""
        command = ["ss", "-Huan", "dst " + self._backend]
        done = subprocess.run(
            command, capture_output=True, timeout=longer(30), check=True, text=True
        )
        return {split_address(line.split()[3])[1] for line in done.stdout.splitlines()}

    def log(self):
        return (self._folder / "gate.log").read_text(errors="replace")

    def __enter__(self):
        self.start()
        wait_until_forwarding(self.address, self.process)
        return self

    def __exit__(self, *unused):
        self.process.__exit__()
        self._echo.__exit__()
