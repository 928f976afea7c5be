#!/usr/bin/env python3
"""Checks an installed package: the program answers to --version, is ready, and
relays a datagram and its reply.

  installed_test.py VERSION

VERSION is what the program must print.
"""

import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

SECONDS_MAX = 10


def fail(text):
    sys.exit(f"FAILED: {text}")


def free_port(kind):
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def await_ready(url, program):
    end = time.monotonic() + SECONDS_MAX
    while time.monotonic() < end:
        if program.poll() is not None:
            fail(f"udp-gate ended with {program.returncode}")
        try:
            with urllib.request.urlopen(url, timeout=1) as reply:
                if reply.status == 200:
                    return
        except (OSError, urllib.error.URLError):
            pass
        time.sleep(0.05)
    fail(f"{url} is not ready")


def relay(gate, backend):
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.settimeout(SECONDS_MAX)
    client.sendto(b"question", gate)
    data, sender = backend.recvfrom(2048)
    if data != b"question":
        fail(f"the backend received {data!r}")
    backend.sendto(b"answer", sender)
    data, sender = client.recvfrom(2048)
    if (data, sender) != (b"answer", gate):
        fail(f"the client received {data!r} from {sender}")


def main():
    printed = subprocess.run(["udp-gate", "--version"], capture_output=True,
                             text=True, check=True).stdout
    if not sys.argv[1] or sys.argv[1] not in printed:
        fail(f"udp-gate --version prints {printed!r}")
    backend = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    backend.bind(("127.0.0.1", 0))
    backend.settimeout(SECONDS_MAX)
    gate = ("127.0.0.1", free_port(socket.SOCK_DGRAM))
    admin = f"127.0.0.1:{free_port(socket.SOCK_STREAM)}"
    with subprocess.Popen(
            ["udp-gate", "--proxy-addr", f"{gate[0]}:{gate[1]}",
             "--backend-addr", f"127.0.0.1:{backend.getsockname()[1]}",
             "--admin-addr", admin]) as program:
        try:
            await_ready(f"http://{admin}/readyz", program)
            relay(gate, backend)
        finally:
            program.terminate()
            try:
                program.wait(SECONDS_MAX)
            except subprocess.TimeoutExpired:
                program.kill()
        if program.wait() != 0:
            fail(f"udp-gate ended with {program.returncode}")
    print(f"installed: {printed.strip()}, and it relays")


if __name__ == "__main__":
    main()
