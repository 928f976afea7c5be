"""The gateway and the Redis of a soak: what can be killed, and what is measured."""

import os
import pathlib
import re
import signal
import socket
import subprocess
import time

from contenders import BenchError, Process, die_with_parent, free_address, split_address

KEY = "udp_gate:backend"
CHANNEL = "udp_gate:disconnect"


class Gate:
    """A udp-gate whose end, last words and size are looked at."""

    def __init__(self, program, folder, settings):
        self.address = free_address()
        self._log_path = folder / "gate.log"
        with open(self._log_path, "wb") as log:
            # pylint: disable-next=consider-using-with
            self._process = subprocess.Popen(
                [program],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={
                    "PROXY_ADDR": self.address,
                    # All clients come from one address.
                    "MAX_UNCONFIRMED_SESSIONS_PER_IP": "0",
                    **settings,
                },
                cwd=folder,
                preexec_fn=die_with_parent,
            )
        self.pid = self._process.pid

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self._process.kill()
        self._process.wait()

    def is_running(self):
        return self._process.poll() is None

    def log(self):
        return pathlib.Path(self._log_path).read_text(errors="replace")

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def size(self):
        """Resident bytes, descriptors and threads."""
        found = {"descriptors": self.descriptors()}
        status = pathlib.Path(f"/proc/{self.pid}/status").read_text()
        for line in status.splitlines():
            name, _, value = line.partition(":")
            if name == "VmRSS":
                found["resident"] = int(value.split()[0]) * 1024
            elif name == "Threads":
                found["threads"] = int(value)
        return found

    def stop(self, seconds_max):
        """Tells it to stop: its exit status, None where it does not."""
        self._process.terminate()
        try:
            return self._process.wait(seconds_max)
        except subprocess.TimeoutExpired:
            return None


class LastWords:
    """The numbers that a gateway prints when it stops (cli/report.cc)."""

    def __init__(self, log):
        found = re.search(
            r"stopped: (\d+) sessions created, (\d+) datagrams forwarded, "
            r"(\d+) dropped(?:\n.*? info (.*))?",
            log,
        )
        if not found:
            raise BenchError("the gateway did not say what it did:\n" + log[-2000:])
        self.created, self.forwarded, self.dropped = map(int, found.groups()[:3])
        self.sections = {}
        for section in (found[4] or "").split("; "):
            heading, _, rest = section.partition(": ")
            parts = (part.rpartition(" ") for part in rest.split(", ") if " " in part)
            self.sections[heading] = {name: int(count) for name, _, count in parts}

    def total(self, heading):
        return sum(self.sections.get(heading, {}).values())


class RedisServer:
    """A redis-server that keeps nothing and can be killed and hang."""

    def __init__(self, folder):
        self._folder = folder
        self.address = free_address(socket.SOCK_STREAM)
        self._process = None
        self.start()

    def start(self):
        host, port = split_address(self.address)
        command = ["redis-server", "--bind", host, "--port", str(port)]
        command += ["--save", "", "--appendonly", "no", "--dir", str(self._folder)]
        self._process = Process(command, self._folder / "redis.log")
        deadline = time.monotonic() + 10
        while True:
            try:
                if self.commands("PING") == 1:
                    return
            except OSError:
                pass
            if time.monotonic() > deadline:
                raise BenchError("redis-server: " + self._process.log())
            time.sleep(0.02)

    def stop(self):
        self._process.__exit__()

    def kill(self):
        self.signal(signal.SIGKILL)
        self._process.__exit__()

    def signal(self, number):
        os.kill(self._process.pid, number)

    def commands(self, *lines):
        """Sends these lines, and waits for as many answers of one line."""
        answers = 0
        with socket.create_connection(split_address(self.address), 5) as connection:
            connection.sendall("".join(line + "\r\n" for line in lines).encode())
            while answers < len(lines):
                answer = connection.recv(65536)
                if not answer or answer.startswith(b"-"):
                    raise BenchError("Redis: " + answer.decode(errors="replace"))
                answers += answer.count(b"\n")
        return answers

    def set_backend(self, address):
        self.commands(f"DEL {KEY}", f"SET {KEY} {address}")

    def publish(self, targets):
        self.commands(*(f"PUBLISH {CHANNEL} {target}" for target in targets))

    def has_subscriber(self):
        with socket.create_connection(split_address(self.address), 5) as connection:
            connection.sendall(f"PUBSUB NUMSUB {CHANNEL}\r\n".encode())
            return connection.recv(1000).endswith(b":1\r\n")

    def has_both_connections(self):
        """Those of a gateway: one that subscribes, and one that gets the key."""
        with socket.create_connection(split_address(self.address), 5) as connection:
            connection.sendall(b"INFO clients\r\n")
            # This connection is the third.
            found = re.search(rb"connected_clients:(\d+)", connection.recv(1000))
        return self.has_subscriber() and found and int(found.group(1)) >= 3


def datagrams_of_namespace():
    """UDP datagrams that programs of this network namespace have sent and read.

    A datagram counts as read when a program takes it out of its socket, as
    proc(5), /proc/net/snmp, has it on Linux; what is never read does not count.
    """
    text = pathlib.Path("/proc/self/net/snmp").read_text()
    names, values = (line.split() for line in text.splitlines() if "Udp:" in line[:4])
    numbers = dict(zip(names, values))
    return int(numbers["OutDatagrams"]), int(numbers["InDatagrams"])
