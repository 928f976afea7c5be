"""Many sessions: how much each takes, and what storms do to those that play.

A storm is thousands of clients that come, fall silent or are disconnected at
once. scale.py and the soak measure with what is here.
"""

import ctypes
import fcntl
import json
import os
import pathlib
import resource
import select
import socket
import struct
import subprocess
import time

from contenders import (
    BenchError,
    Process,
    die_with_parent,
    free_address,
    split_address,
    wait_until_forwarding,
)
from scenario import MANY_CLIENTS_PER_ADDRESS

FEW_CLIENTS = 500
RATE = 20000
PORT_RANGE = "1024 65535"
CHANNEL = "udp_gate:disconnect"
EXPIRY_TIMEOUT_SECONDS = 2
# An idle session ends at so many times the timeout at the latest.
EXPIRY_FACTOR = 1.25
# What makes a storm stands for other machines, and should not take the cores
# from the gateway, the backend and the clients that are watched.
STORM_NICE = 19
# Descriptors beside those of sessions.
DESCRIPTORS_RESERVED = 500


def enter_network_namespace():
    """The reason why not, or None."""
    clone_newuser, clone_newnet = 0x10000000, 0x40000000
    libc = ctypes.CDLL(None, use_errno=True)
    user = os.geteuid()
    if libc.unshare(clone_newnet) != 0:
        if libc.unshare(clone_newuser | clone_newnet) != 0:
            return "unshare: " + os.strerror(ctypes.get_errno())
        pathlib.Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            siocsifflags, iff_up = 0x8914, 1
            request = struct.pack("16sh22x", b"lo", iff_up)
            fcntl.ioctl(control, siocsifflags, request)
        range_path = pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range")
        range_path.write_text(PORT_RANGE)
    except OSError as error:
        raise BenchError(f"the new network namespace: {error}") from error
    return None


def raise_descriptor_limit():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def give_way(pid):
    """Lowers the priority of a process that leads a session of its own.

    Where the kernel groups by sessions, a nice value counts within one only
    (sched(7), autogroup).
    """
    os.setpriority(os.PRIO_PGRP, pid, STORM_NICE)
    path = pathlib.Path(f"/proc/{pid}/autogroup")
    while path.exists():
        try:
            path.write_text(str(STORM_NICE))
            return
        except BlockingIOError:  # once in 100 ms, unless by root
            time.sleep(0.1)


class Clients:
    """A load generator, ready to start when told."""

    def __init__(self, options, target, *arguments, is_storm=False):
        command = [options.bin / "testing/internal/bench/load", "--target", target]
        command += ["--await-line", *(str(word) for word in arguments)]
        # pylint: disable-next=consider-using-with
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
        if is_storm:
            give_way(self._process.pid)
        self._is_told = False

    def __enter__(self):
        if not select.select([self._process.stdout], [], [], 60)[0]:
            self.__exit__()
            raise BenchError("load: not ready after 60 s")
        if self._process.stdout.readline() != b"ready\n":
            self._process.kill()
            text = self._process.communicate()[1].decode(errors="replace")
            raise BenchError(text.strip() or "load ended")
        return self

    def __exit__(self, *unused):
        self._process.kill()
        self._process.communicate()

    def go(self):
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()
        self._is_told = True

    def result(self):
        if not self._is_told:
            self.go()
        output, errors = self._process.communicate(timeout=120)
        if self._process.returncode != 0:
            raise BenchError(errors.decode(errors="replace"))
        return json.loads(output)


class Gate:
    """A gateway between an echo backend and new clients."""

    def __init__(self, options, folder, settings, redis=None):
        self._echo = Process(
            [options.bin / "testing/internal/bench/echo"],
            folder / "echo.log",
            stdout=subprocess.PIPE,
            text=True,
        )
        backend = self._echo.read_line()
        self.address = free_address()
        environment = {
            "PROXY_ADDR": self.address,
            **MANY_CLIENTS_PER_ADDRESS,
            **settings,
            **self._settings_for(backend),
        }
        if redis is not None:
            redis.set_backend(backend)
            environment.setdefault("REDIS_ADDR", redis.address)
        elif not any(name.startswith("REDIS_") for name in environment):
            environment["BACKEND_ADDR"] = backend
        self._process = Process(
            [options.bin / "cli/udp-gate"], folder / "gate.log", environment, folder
        )
        self.pid = self._process.pid

    def __enter__(self):
        wait_until_forwarding(self.address, self._process)
        return self

    def __exit__(self, *unused):
        self._process.__exit__()
        self._echo.__exit__()

    def _settings_for(self, _backend):
        """More settings, once there is a backend."""
        return {}

    def resident_bytes(self):
        status = pathlib.Path(f"/proc/{self.pid}/status").read_text()
        for line in status.splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise BenchError("the gateway ended:\n" + self._process.log())

    def descriptors(self):
        """Each session has one, so that its changes count sessions."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def await_descriptors(self, least, most, seconds):
        """How many there are in the end."""
        deadline = time.monotonic() + seconds
        while True:
            count = self.descriptors()
            if least <= count <= most or time.monotonic() > deadline:
                return count
            time.sleep(0.01)


# CPU and memory with few and with many sessions.


def measure_size(options, folder, client_count):
    with Gate(options, folder, {}) as gate:
        before = gate.resident_bytes()
        arguments = ["--clients", client_count, "--rate", RATE, "--cpu-pid", gate.pid]
        arguments += ["--warmup", options.warmup, "--seconds", options.seconds]
        # A client's turn comes seldom where there are many.
        arguments += ["--drain", 2]
        with Clients(options, gate.address, *arguments) as clients:
            clients.go()
            time.sleep(options.warmup + options.seconds / 2)
            resident = gate.resident_bytes()
            sessions = gate.descriptors()
            result = clients.result()
    if result["replies"] == 0:
        raise BenchError("no reply came back while measuring")
    result["cpu_ns_per_datagram"] = result["gate_cpu_ns"] / (2 * result["replies"])
    result["clients"] = client_count
    result["descriptors"] = sessions
    result["resident_bytes_before"] = before
    result["resident_bytes"] = resident
    result["bytes_per_session"] = (resident - before) / client_count
    return result


# What clients that play notice of the others.


def live_arguments(options):
    rate = round(options.live * options.tick)
    arguments = ["--clients", options.live, "--rate", rate, "--warmup", 0.5]
    return arguments + ["--seconds", options.window, "--drain", 2]


def measure_live(options, gate, storm, with_them=None):
    """`storm` is called when the measured time begins, others go with them."""
    with Clients(options, gate.address, *live_arguments(options)) as live:
        if with_them:
            with_them.go()
        live.go()
        time.sleep(0.5)
        storm()
        return live.result()


def newcomers(options, gate, count, seconds, *more):
    """Clients that send one datagram each, all of them within `seconds`."""
    arguments = ["--cold", "--clients", count, "--rate", round(count / seconds)]
    arguments += ["--drain", 3, *more]
    return Clients(options, gate.address, *arguments, is_storm=True)


def storm_created(options, folder, redis, count):
    """A pair: the quiet run, the stormy one, and what the storm itself did."""
    del redis
    with Gate(options, folder, {}) as gate:
        return come_at_once(options, gate, count)


def storm_relayed(options, folder, redis, count):
    """A control, without a target: as much traffic, and no new clients."""
    del redis
    arguments = ["--clients", FEW_CLIENTS, "--rate", round(count / options.window)]
    arguments += ["--warmup", 0.5, "--seconds", options.window, "--drain", 2]
    with Gate(options, folder, {}) as gate:
        quiet = measure_live(options, gate, lambda: None)
        with Clients(options, gate.address, *arguments, is_storm=True) as others:
            stormy = measure_live(options, gate, lambda: None, others)
            storm = others.result()
        return quiet, stormy, storm


def storm_slow_redis(options, folder, redis, count):
    port = split_address(redis.address)[1]
    relay_command = [options.bin / "testing/internal/bench/slow_redis", str(port), "1"]
    with Process(
        relay_command, folder / "relay.log", stdout=subprocess.PIPE, text=True
    ) as relay:
        give_way(relay.pid)
        settings = {"REDIS_ADDR": relay.read_line()}
        with Gate(options, folder, settings, redis) as gate:
            return come_at_once(options, gate, count)


def come_at_once(options, gate, count):
    quiet = measure_live(options, gate, lambda: None)
    with newcomers(options, gate, count, min(1.0, options.window)) as others:
        stormy = measure_live(options, gate, others.go)
        storm = others.result()
    return quiet, stormy, storm


def storm_expired(options, folder, redis, count):
    del redis
    settings = {"SESSION_IDLE_TIMEOUT_SECS": str(EXPIRY_TIMEOUT_SECONDS)}
    with Gate(options, folder, settings) as gate:
        quiet = measure_live(options, gate, lambda: None)
        most = gate.descriptors()
        with newcomers(options, gate, count, count / 20000) as others:
            storm = others.result()
        came = time.monotonic()
        created = gate.descriptors() - most

        # Their end lies in the middle of the measured time.
        middle = EXPIRY_TIMEOUT_SECONDS * (1 + EXPIRY_FACTOR) / 2
        lead = options.window / 2 + 0.6
        with Clients(options, gate.address, *live_arguments(options)) as live:
            time.sleep(max(0.0, came + middle - lead - time.monotonic()))
            before = gate.descriptors()
            live.go()
            stormy = live.result()
            after = gate.descriptors()
        storm.update(created=created, ended=before - after)
        return quiet, stormy, storm


def storm_disconnected(options, folder, redis, count):
    with Gate(options, folder, {}, redis) as gate:
        quiet = measure_live(options, gate, lambda: None)
        before = gate.descriptors()
        path = folder / "addresses.txt"
        more = ("--addresses", path)
        with newcomers(options, gate, count, count / 5000, *more) as others:
            storm = others.result()
            commands = "".join(
                f"PUBLISH {CHANNEL} {line}\r\n" for line in path.read_text().split()
            )
        created = gate.descriptors()
        told = []
        with socket.create_connection(split_address(redis.address)) as publisher:
            stormy = measure_live(
                options,
                gate,
                lambda: told.append(publish(publisher, commands.encode(), count)),
            )
        after = gate.await_descriptors(0, created - count + options.live, 5)
        storm.update(created=created - before, publish_seconds=told[0])
        # The clients of the second run are there instead.
        storm["ended"] = created + options.live - after
        return quiet, stormy, storm


def publish(publisher, commands, count):
    """All at once. How long Redis took."""
    begin = time.monotonic()
    publisher.settimeout(30)
    publisher.sendall(commands)
    answers = 0
    while answers < count:
        answer = publisher.recv(65536)
        if not answer or b"-" in answer:
            raise BenchError("PUBLISH: " + answer.decode(errors="replace"))
        answers += answer.count(b"\n")
    return time.monotonic() - begin


STORMS = {
    "created": ("sessions created within a second", storm_created),
    "expired": ("sessions expire at once", storm_expired),
    "disconnected": ("sessions disconnected at once", storm_disconnected),
    "newcomers": ("newcomers within a second, Redis 1 ms away", storm_slow_redis),
    "relayed": (
        f"round trips of {FEW_CLIENTS} clients within a second, whose sessions are"
        " live already: a control, without a target",
        storm_relayed,
    ),
}
NEEDS_REDIS = ("disconnected", "newcomers")
NO_TARGET = ("relayed",)


def measure_storm(options, folder, redis, name):
    is_large = name in ("newcomers", "relayed")
    count = options.newcomers if is_large else options.storm
    quiet, stormy, storm = STORMS[name][1](options, folder, redis, count)
    return {
        "count": count,
        "quiet": quiet,
        "stormy": stormy,
        "storm": storm,
        "p99_ratio": stormy["p99_ns"] / max(1, quiet["p99_ns"]),
    }


# All of it.
