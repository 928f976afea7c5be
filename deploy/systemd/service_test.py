#!/usr/bin/env python3
"""Runs the unit under a real systemd: start, reload under load, drain, stop.

  service_test.py UDP_GATE FOLDER_OF_UNITS

systemd runs as the first process of namespaces of its own (processes, mounts,
network); only its control groups are the machine's. As root, and only where the
test may (UDPGATE_TEST_SYSTEMD=1), since a systemd sets some of the kernel's
limits. Says so and ends well where none comes up.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

GATE_PORT = 19132
BACKEND_PORT = 19133
AWAIT_SECONDS = 20

# Runs as the first process. What it mounts goes with its namespace.
INIT = r"""
set -e
mount --make-rprivate /
mount -t proc proc /proc
# A systemd that starts creates and removes files: none of the machine's.
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/system /run/udp-gate-test
cp "$FOLDER/udp-gate" "$FOLDER/udp-gate.env" /run/udp-gate-test
cp "$FOLDER/udp-gate.service" "$FOLDER/test.target" /run/systemd/system
ln -s /dev/null /run/systemd/system/network-online.target
for folder in /tmp /var/tmp /var/log /var/lib/systemd /root; do
  if [ -d "$folder" ]; then mount -t tmpfs tmpfs "$folder"; fi
done
mount --bind / /mnt
mount --bind /mnt /mnt -o remount,ro
for folder in /proc /sys /dev /run /tmp /var/tmp /var/log /var/lib/systemd \
  /root; do
  if [ -d "$folder" ]; then mount --rbind "$folder" "/mnt$folder"; fi
done
ip link set lo up
cd /mnt
pivot_root . mnt
umount --lazy /mnt
if touch /etc/udp-gate-test 2> /dev/null; then exit 1; fi
export container=lxc
exec /lib/systemd/systemd --system --unit=test.target --log-target=null \
  --show-status=no
"""


def fail(why):
    print("FAILED:", why, file=sys.stderr)
    sys.exit(1)


def await_true(what, condition):
    deadline = time.monotonic() + AWAIT_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            fail(what)
        time.sleep(0.01)


class Systemd:
    def __init__(self, folder, command=None):
        self._unshare = subprocess.Popen(
            command or ["unshare", "--fork", "--pid", "--mount", "--net",
                        "--kill-child", "bash", "-c", INIT],
            env={"FOLDER": folder, "PATH": os.environ["PATH"]},
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True)

    def pid(self):
        """Of the first process in the namespaces, as it is known here."""
        path = f"/proc/{self._unshare.pid}/task/{self._unshare.pid}/children"
        with open(path, encoding="ascii") as children:
            return children.read().split()[0]

    def command(self, *words):
        return ["nsenter", "--target", self.pid(), "--pid", "--mount", "--net",
                *words]

    def systemctl(self, *words):
        return subprocess.run(self.command("systemctl", "--no-pager", *words),
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, timeout=60, check=False)

    def is_up(self):
        if self._unshare.poll() is not None:
            return False
        try:
            return self.systemctl("list-units").returncode == 0
        except (OSError, IndexError):
            return False

    def why_not(self):
        self.stop()
        return self._unshare.stderr.read().strip()

    def show(self, name):
        line = self.systemctl("show", "--property", name, "udp-gate").stdout
        return line.strip().partition("=")[2]

    def stop(self):
        # The first process ignores what it does not handle, but for this.
        self._unshare.kill()
        self._unshare.wait()


# Runs within: a backend that says from which port it was asked, and a player
# who never stops. Prints a line a second, and at the end what went wrong.
PLAYER = r"""
import socket, sys, threading, time
gate, backend = int(sys.argv[1]), int(sys.argv[2])
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", backend))
def echo():
    while True:
        data, address = server.recvfrom(2048)
        server.sendto(data + b" %d" % address[1], address)
threading.Thread(target=echo, daemon=True).start()
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.connect(("127.0.0.1", gate))
client.settimeout(2)
ports = set()
faults = []
running = True
def wait_for_end():
    global running
    sys.stdin.readline()
    running = False
threading.Thread(target=wait_for_end, daemon=True).start()
number = 0
while running:
    number += 1
    client.send(b"%d" % number)
    try:
        echoed, port = client.recv(2048).split()
        ports.add(port)
        if echoed != b"%d" % number:
            faults.append("%r instead of %d" % (echoed, number))
    except OSError as error:
        faults.append("%d: %s" % (number, error))
    if number == 1:
        print("plays", flush=True)
    time.sleep(0.002)
print(number, len(ports), faults, flush=True)
"""


def main():
    gate, units = sys.argv[1:]
    if os.environ.get("UDPGATE_TEST_SYSTEMD") != "1" or os.geteuid() != 0:
        print("not run: it needs UDPGATE_TEST_SYSTEMD=1, and root")
        return
    folder = tempfile.mkdtemp()
    shutil.copy(gate, os.path.join(folder, "udp-gate"))
    with open(os.path.join(units, "udp-gate.service"),
              encoding="utf-8") as file:
        unit = file.read()
    for before, after in (
            ("/usr/bin/udp-gate", "/run/udp-gate-test/udp-gate"),
            ("/etc/udp-gate/udp-gate.env", "/run/udp-gate-test/udp-gate.env"),
            ("WatchdogSec=20", "WatchdogSec=1"),
            # Nothing of a machine's start comes along.
            ("[Unit]\n", "[Unit]\nDefaultDependencies=no\n")):
        if before not in unit:
            fail(f"the unit has no {before}")
        unit = unit.replace(before, after)
    for name, content in (
            ("udp-gate.service", unit),
            ("test.target", "[Unit]\nDefaultDependencies=no\n"),
            ("udp-gate.env", f"PROXY_ADDR=127.0.0.1:{GATE_PORT}\n"
             f"BACKEND_ADDR=127.0.0.1:{BACKEND_PORT}\n"
             "DRAIN_TIMEOUT_SECS=60\nSESSION_IDLE_TIMEOUT_SECS=1\n")):
        with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
            file.write(content)
    systemd = Systemd(folder)
    try:
        deadline = time.monotonic() + AWAIT_SECONDS
        while not systemd.is_up():
            if time.monotonic() > deadline:
                print("not run: no systemd comes up here:", systemd.why_not())
                return
            time.sleep(0.05)
        run(systemd)
    finally:
        systemd.stop()
        shutil.rmtree(folder)
    print("the unit starts, upgrades under load, drains and stops")


def run(systemd):
    # Type=notify: start returns when the gateway is ready.
    started = systemd.systemctl("start", "udp-gate")
    if started.returncode != 0:
        fail(started.stdout + systemd.systemctl("status", "udp-gate").stdout)
    if "listening on 127.0.0.1" not in systemd.show("StatusText"):
        fail("its status does not say where it listens")
    player = subprocess.Popen(
        systemd.command("python3", "-c", PLAYER, str(GATE_PORT),
                        str(BACKEND_PORT)),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    if player.stdout.readline() != "plays\n":
        fail("the player is not served")
    for _ in range(3):
        before = systemd.show("MainPID")
        if systemd.systemctl("reload", "udp-gate").returncode != 0:
            fail("reload")
        await_true("no new main process",
                   lambda: systemd.show("MainPID") not in ("0", before))
        if systemd.show("ActiveState") != "active":
            fail("it is not active after a reload")
    # The new process feeds the watchdog, twice in its time; without that the
    # service would be killed in the middle of this.
    for _ in range(6):
        fed = systemd.show("WatchdogTimestampMonotonic")
        await_true(
            "the watchdog is not fed",
            lambda: systemd.show("WatchdogTimestampMonotonic") != fed)
    if systemd.show("NRestarts") != "0":
        fail("the service was started anew")
    # It drains while the player plays.
    if systemd.systemctl("stop", "--no-block", "udp-gate").returncode != 0:
        fail("stop")
    await_true("it does not drain",
               lambda: systemd.show("StatusText") == "draining")
    player.stdin.write("\n")
    player.stdin.flush()
    rounds, ports, faults = player.stdout.readline().split(" ", 2)
    player.wait()
    if ports != "1" or faults.strip() != "[]":
        fail(f"the player, {rounds} rounds: {ports} ports, {faults}")
    await_true("it does not stop",
               lambda: systemd.show("ActiveState") == "inactive")
    if systemd.show("Result") != "success":
        fail("it stopped with " + systemd.show("Result"))


if __name__ == "__main__":
    main()
