"""How long a gateway that was killed takes to continue its sessions.

Each client of before keeps its socket. All of them must get replies again, and the
backend must see each on the source port that it had.
"""

import json
import re
import socket
import subprocess
import time

from contenders import BenchError, Process, split_address
from patience import FACTOR, environment, longer
from store_rig import STORE, KeptGate

# So few that on a slow machine none of their round trips takes 200 ms.
PLAYERS_UNDER_WAY = 100
RECOVERED = re.compile(
    r"continues \d+ sessions of the former process, .*"
    r" in (?:(?:(\d+)m)?([\d.]+)s|([\d.]+)ms|0)$",
    re.MULTILINE,
)


def settings():
    """Of the gateway; its time limits are the defaults, or longer where all is slow."""
    if FACTOR == 1:
        return dict(STORE)
    return {
        **STORE,
        "REDIS_TIMEOUT_MS": str(round(longer(1000))),
        "SESSION_IDLE_TIMEOUT_SECS": str(round(longer(60))),
        "UNCONFIRMED_TIMEOUT_SECS": str(round(longer(30))),
    }


class Survivor:
    """A client that sends all the time, and so sees when the gateway serves again."""

    def __init__(self, address):
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.connect(split_address(address))
        self._number = 0

    def __enter__(self):
        # A session is confirmed if it has round trips for a second.
        for _ in range(6):
            self.await_reply(longer(5))
            time.sleep(0.25)
        return self

    def __exit__(self, *unused):
        self._socket.close()

    def await_reply(self, seconds):
        """To a datagram that it sends from now on."""
        first = self._number + 1
        deadline = time.monotonic() + seconds
        self._socket.settimeout(0.002 * FACTOR)
        while time.monotonic() < deadline:
            self._number += 1
            datagram = b"\xc0 %d" % self._number
            try:
                self._socket.send(datagram)
                if int(self._socket.recv(100)[2:]) >= first:
                    return
            except ConnectionRefusedError:
                time.sleep(0.002)
            except TimeoutError:
                pass
        raise BenchError("no reply to a client that should go on")


class Players:
    """Many clients, each with a confirmed session, that go on when told."""

    def __init__(self, options, folder, target, count):
        command = [options.bin / "testing/internal/bench/newcomers", "--target", target]
        command += ["--clients", str(count), "--under-way", str(PLAYERS_UNDER_WAY)]
        command += ["--trips-later", "2"]
        self._process = Process(
            command,
            folder / "players.log",
            environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self):
        self._await_all("before")
        return self

    def __exit__(self, *unused):
        self._process.__exit__()

    def go_on(self):
        """Each does two more round trips."""
        self._process.write_line("")
        self._await_all("after the gateway was killed")

    def _await_all(self, when):
        line = self._process.read_line(70)
        if not line or "clients" not in json.loads(line):
            raise BenchError(f"a client got no reply {when}: " + self._process.log())


def measure_recovery(options, folder, store, size):
    with KeptGate(options, folder, store, settings(), has_admin=True) as gate:
        with Survivor(gate.address) as survivor:
            with Players(options, folder, gate.address, size - 1) as players:
                store.await_records(size)
                before = store.records()
                gate.kill()
                began = time.monotonic()
                gate.start()
                survivor.await_reply(longer(60))
                serving = time.monotonic() - began
                # If it serves before the end, it has found the survivor's by itself.
                gate.await_continued(size - 1)
                players.go_on()
                after = store.await_rewritten(before)
                ports = gate.source_ports()
    # It has ended, so that all of its log is there.
    log = gate.log()
    said = RECOVERED.search(log)
    if said is None:
        raise BenchError("it does not say what it continues:\n" + log[-2000:])
    minutes, seconds, milliseconds = (float(text or 0) for text in said.groups())
    return {
        "sessions": size,
        **compare(before, after, ports),
        "recovery_seconds": 60 * minutes + seconds + milliseconds / 1000,
        "serving_seconds": serving,
    }


def compare(before, after, ports):
    """Of the sessions, from their records and the ports that are open in the end."""
    continued = [c for c in before if c in after and after[c].run != before[c].run]
    moved = [
        client
        for client in continued
        if after[client].source != before[client].source
        or split_address(before[client].source)[1] not in ports
    ]
    return {
        "continued": len(continued),
        "on_other_port": len(moved),
        "lost": len(before) - len(continued),
    }
