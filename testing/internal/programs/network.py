"""Client, gateway and server in network namespaces of their own.

    client 10.0.1.2 --- 10.0.1.1 gateway 10.0.2.1 --- 10.0.2.2 server

The gateway's namespace also routes: what a client sends to 10.0.2.2 goes to the
server directly, what it sends to 10.0.1.1 goes through udp-gate. On the link of
the client stands delay.cc where there is to be a round-trip time; both ways to
the server have it.
"""

import contextlib
import ctypes
import itertools
import os
import pathlib
import re
import socket
import subprocess
import threading
import time
import urllib.request

from contenders import BenchError, Process

CLIENT_ADDRESS = "10.0.1.2"
GATEWAY_ADDRESS = "10.0.1.1"
SERVER_ADDRESS = "10.0.2.2"
PORT = 19132
ADMIN_ADDRESS = "127.0.0.1:9132"

# Nothing listens there.
CLOSED_PORT = 9
CONNECT_SECONDS = 5.0

# A burst of a sender that has the processor waits for delay.cc to get it.
QUEUE_FRAMES = 10000
POLL_SECONDS = 0.005
CLONE_NEWNET = 0x40000000

_numbers = itertools.count()


class NotAllowedError(Exception):
    """There can be no network namespaces here."""


def await_condition(what, is_met, seconds, process=None):
    """Waits until `is_met` returns something true, and returns that."""
    deadline = time.monotonic() + seconds
    while True:
        result = is_met()
        if result:
            return result
        if process is not None and not process.is_running():
            # It may have met the condition as the last thing that it did.
            result = is_met()
            if result:
                return result
            raise BenchError(f"{what}: the process ended:\n{process.log()}")
        if time.monotonic() > deadline:
            log = "" if process is None else ":\n" + process.log()
            raise BenchError(f"{what}: not within {seconds:g} s{log}")
        time.sleep(POLL_SECONDS)


def await_line(process, path, pattern, seconds):
    """The first match of a pattern in a log; MULTILINE."""
    found = re.compile(pattern, re.MULTILINE)
    return await_condition(
        f"{pattern!r} in its output",
        lambda: found.search(pathlib.Path(path).read_text(errors="replace")),
        seconds,
        process,
    )


def answer_seconds(address, timeout_seconds):
    """How long an answer of the host takes; None: none in time.

    The answer is that to a TCP connection that nobody accepts. A time-out below
    a second is one of the first segment alone (RFC 6298, section 2).
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.settimeout(timeout_seconds)
        begin = time.monotonic()
        try:
            probe.connect((address, CLOSED_PORT))
        except ConnectionRefusedError:
            return time.monotonic() - begin
        except OSError:
            return None
    raise BenchError(f"somebody listens on port {CLOSED_PORT} of {address}")


class Namespace:
    """One of `ip netns`, and what runs in it."""

    def __init__(self, name):
        self.name = name
        _ip("netns", "add", name)
        _ip("-n", name, "link", "set", "lo", "up")

    def delete(self):
        subprocess.run(
            ["ip", "netns", "delete", self.name], capture_output=True, check=False
        )

    def command(self, *words):
        """What runs this command inside."""
        return ["ip", "netns", "exec", self.name, *(str(word) for word in words)]

    def run(self, *words, text=None):
        """Its output; BenchError where it fails."""
        result = subprocess.run(
            self.command(*words), capture_output=True, text=True, input=text, check=False
        )
        if result.returncode != 0:
            raise BenchError(f"{words}: {result.stderr.strip()}")
        return result.stdout

    def call(self, function, *arguments):
        """Calls a function on a thread inside; its sockets belong there."""
        outcome = []

        def body():
            try:
                with open(f"/run/netns/{self.name}", "rb") as space:
                    libc = ctypes.CDLL(None, use_errno=True)
                    if libc.setns(space.fileno(), CLONE_NEWNET) != 0:
                        raise OSError(ctypes.get_errno(), "setns")
                outcome.append((function(*arguments), None))
            # It is raised again below.
            except Exception as error:  # pylint: disable=broad-except
                outcome.append((None, error))

        thread = threading.Thread(target=body)
        thread.start()
        thread.join()
        result, error = outcome[0]
        if error is not None:
            raise error
        return result


def remove_stale_namespaces():
    """Those of earlier drivers that were killed."""
    names = subprocess.run(
        ["ip", "netns", "list"], capture_output=True, text=True, check=False
    ).stdout
    for name, pid in re.findall(r"^(udpgate-(\d+)-\d+-\w+)", names, re.MULTILINE):
        if not os.path.exists(f"/proc/{pid}"):
            subprocess.run(
                ["ip", "netns", "delete", name], capture_output=True, check=False
            )


class Network:
    """The three namespaces; a context manager."""

    def __init__(self, delay_program, rtt_milliseconds, folder):
        self.rtt_milliseconds = rtt_milliseconds
        self._exits = contextlib.ExitStack()
        self._folder = folder
        prefix = f"udpgate-{os.getpid()}-{next(_numbers)}"
        try:
            self.client = self._namespace(prefix + "-client")
            self.gateway = self._namespace(prefix + "-gateway")
            self.server = self._namespace(prefix + "-server")
            self._make_links(delay_program)
        except (OSError, subprocess.CalledProcessError) as error:
            self._exits.close()
            said = getattr(error, "stderr", None) or error
            raise NotAllowedError(str(said).strip()) from error
        except BaseException:
            self._exits.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self._exits.close()

    def _namespace(self, name):
        made = Namespace(name)
        self._exits.callback(made.delete)
        return made

    def _make_links(self, delay_program):
        ends = (self.client.name, "c0", self.gateway.name, "g1")
        if self.rtt_milliseconds == 0:
            _veth(*ends)
        else:
            log_path = self._folder / "delay.log"
            command = [delay_program, "--milliseconds", str(self.rtt_milliseconds // 2)]
            process = self._exits.enter_context(Process([*command, *ends], log_path))
            await_line(process, log_path, "^ready$", 10)
        _veth(self.gateway.name, "g2", self.server.name, "s0")
        for space, interface, address in (
            (self.client, "c0", CLIENT_ADDRESS),
            (self.gateway, "g1", GATEWAY_ADDRESS),
            (self.gateway, "g2", "10.0.2.1"),
            (self.server, "s0", SERVER_ADDRESS),
        ):
            _ip("-n", space.name, "address", "add", address + "/24", "dev", interface)
            _ip("-n", space.name, "link", "set", interface, "up")
            _ip("-n", space.name, "link", "set", interface, "txqueuelen", str(QUEUE_FRAMES))
        _ip("-n", self.client.name, "route", "add", "default", "via", GATEWAY_ADDRESS)
        _ip("-n", self.server.name, "route", "add", "default", "via", "10.0.2.1")
        self.gateway.run("sysctl", "-q", "-w", "net.ipv4.ip_forward=1")

    def measured_rtt_milliseconds(self):
        """From client to server."""
        times = [
            self.client.call(answer_seconds, SERVER_ADDRESS, CONNECT_SECONDS)
            for _ in range(3)
        ]
        if None in times:
            raise BenchError("the client does not reach the server")
        # The first one finds neighbours, too.
        return 1000 * min(times)

    def pass_tcp(self, port):
        """TCP to this port of the gateway's address goes to the server.

        udp-gate relays UDP alone; some programs want a TCP connection, too.
        """
        self.gateway.run(
            "nft",
            "-f",
            "-",
            text="table ip programs {\n chain to_server {\n"
            "  type nat hook prerouting priority dstnat\n"
            f"  ip daddr {GATEWAY_ADDRESS} tcp dport {port} dnat to {SERVER_ADDRESS}\n"
            " }\n}\n",
        )


def _ip(*words):
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


def _veth(one, in_one, other, in_other):
    ends = ("link", "add", in_one, "netns", one, "type", "veth")
    _ip(*ends, "peer", "name", in_other, "netns", other)


class Gateway:
    """udp-gate in its namespace, in front of the server; a context manager."""

    def __init__(self, network, program, settings, folder):
        self.log_path = folder / "gateway.log"
        self._space = network.gateway
        environment = {
            "PROXY_ADDR": f"{GATEWAY_ADDRESS}:{PORT}",
            "BACKEND_ADDR": f"{SERVER_ADDRESS}:{PORT}",
            "ADMIN_ADDR": ADMIN_ADDRESS,
            "SESSION_LOG": "end",
            **settings,
        }
        self._process = Process(self._space.command(program), self.log_path, environment)
        try:
            await_condition("/readyz", self._is_ready, 10, self._process)
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self._process.__exit__()

    def log(self):
        return self._process.log()

    def _is_ready(self):
        try:
            self._get("/readyz")
        except OSError:
            return False
        return True

    def _get(self, path):
        def read():
            url = f"http://{ADMIN_ADDRESS}{path}"
            with urllib.request.urlopen(url, timeout=5) as response:
                return response.read().decode()

        return self._space.call(read)

    def metrics(self):
        """Values by name, with its labels as they are written."""
        found = {}
        for line in self._get("/metrics").splitlines():
            if line and not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                found[name] = float(value)
        return found
