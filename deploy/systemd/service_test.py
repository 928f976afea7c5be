#!/usr/bin/env python3
"""Runs the units under a real systemd: start, reload under load, drain, stop; and
with the socket and crash recovery `kill -9` under load (docs/fleet.md, set-up 1).

  service_test.py UDP_GATE CRASH_LOAD FOLDER_OF_UNITS FLEET_PAGE

FLEET_PAGE is docs/fleet.md, whose settings of set-up 1 are used as they are.

systemd runs as the first process of namespaces of its own (processes, mounts,
network); only its control groups are the machine's. As root, and only where the
test may (UDPGATE_TEST_SYSTEMD=1), since a systemd sets some of the kernel's
limits. Says so and ends well where none comes up.
"""

import os
import random
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
CRASH_CLIENTS = 5000
CRASHES = 20
CRASH_GAP_MILLISECONDS_MAX = 1000

# Runs as the first process. What it mounts goes with its namespace.
INIT = r"""
set -e
mount --make-rprivate /
mount -t proc proc /proc
# A systemd that starts creates and removes files: none of the machine's.
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/system /run/udp-gate-test
cp -r "$FOLDER"/programs/* /run/udp-gate-test
cp -r "$FOLDER"/units/* /run/systemd/system
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


def read(folder, name):
    with open(os.path.join(folder, name), encoding="utf-8") as file:
        return file.read()


def adapted(text, changes):
    for before, after in changes:
        if before not in text:
            fail(f"the unit has no {before}")
        text = text.replace(before, after)
    return text


def documented_settings(page, heading):
    """Those of the first block below a heading that begins so."""
    with open(page, encoding="utf-8") as file:
        below = file.read().partition(f"\n## {heading}")[2]
    block = below.partition("\n```ini\n")[2].partition("\n```\n")[0]
    settings = dict(line.split("=", 1) for line in block.splitlines())
    if "SESSION_STORE" not in settings:
        fail(f"{page} has no settings below {heading}")
    return settings


# Nothing of a machine's start comes along.
ALONE = ("[Unit]\n", "[Unit]\nDefaultDependencies=no\n")


def service_unit(units):
    return adapted(read(units, "udp-gate.service"), (
        ("/usr/bin/udp-gate", "/run/udp-gate-test/udp-gate"),
        ("/etc/udp-gate/udp-gate.env", "/run/udp-gate-test/udp-gate.env"),
        ("WatchdogSec=20", "WatchdogSec=1"),
        ALONE))


def with_systemd(programs, files, settings, body):
    """Runs `body` with a systemd that has these units; False if none comes up."""
    folder = tempfile.mkdtemp()
    for name in ("programs", "units"):
        os.mkdir(os.path.join(folder, name))
    for program in programs:
        shutil.copy(program, os.path.join(folder, "programs"))
    files = {f"units/{name}": content for name, content in files.items()}
    files["units/test.target"] = "[Unit]\nDefaultDependencies=no\n"
    files["programs/udp-gate.env"] = "".join(
        f"{name}={value}\n" for name, value in settings.items())
    for name, content in files.items():
        path = os.path.join(folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(content)
    systemd = Systemd(folder)
    try:
        deadline = time.monotonic() + AWAIT_SECONDS
        while not systemd.is_up():
            if time.monotonic() > deadline:
                print("not run: no systemd comes up here:", systemd.why_not())
                return False
            time.sleep(0.05)
        body(systemd)
    finally:
        systemd.stop()
        shutil.rmtree(folder)
    return True


def main():
    gate, load, units, page = sys.argv[1:]
    if os.environ.get("UDPGATE_TEST_SYSTEMD") != "1" or os.geteuid() != 0:
        print("not run: it needs UDPGATE_TEST_SYSTEMD=1, and root")
        return
    service = {"udp-gate.service": service_unit(units)}
    if not with_systemd([gate], service, {
            "PROXY_ADDR": f"127.0.0.1:{GATE_PORT}",
            "BACKEND_ADDR": f"127.0.0.1:{BACKEND_PORT}",
            "DRAIN_TIMEOUT_SECS": 60,
            "SESSION_IDLE_TIMEOUT_SECS": 1}, run):
        return
    print("the unit starts, upgrades under load, drains and stops")
    recovery = dict(service)
    recovery["udp-gate.socket"] = adapted(read(units, "udp-gate.socket"),
                                          (ALONE,))
    recovery["udp-gate.service.d/crash-recovery.conf"] = read(
        units, "crash-recovery.conf")
    with_systemd([gate, load], recovery, {
        **documented_settings(page, "Set-up 1"),
        "GATEWAY_ID": "crash",
        # All players come from one address here.
        "MAX_UNCONFIRMED_SESSIONS_PER_IP": 0,
        "NEW_SESSIONS_PER_SEC": 0}, run_crashes)


def waited_milliseconds(systemd, pid):
    """How long the threads of a process have waited for a processor so far."""
    lines = subprocess.run(
        systemd.command("sh", "-c", f"cat /proc/{pid}/task/*/schedstat"),
        stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
    return sum(int(line.split()[1]) for line in lines) // 1000000


def run_crashes(systemd):
    redis = subprocess.Popen(
        systemd.command("redis-server", "--save", "", "--dir", "/tmp"),
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    def redis_cli(*words):
        return subprocess.run(systemd.command("redis-cli", *words),
                              stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, text=True,
                              check=False).stdout.strip()

    await_true("no Redis", lambda: redis_cli("PING") == "PONG")
    for unit in ("udp-gate.socket", "udp-gate.service"):
        started = systemd.systemctl("start", unit)
        if started.returncode != 0:
            fail(started.stdout + systemd.systemctl("status", unit).stdout)
    load = subprocess.Popen(
        systemd.command("/run/udp-gate-test/crash_load",
                        f"127.0.0.1:{GATE_PORT}", str(CRASH_CLIENTS)),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(command):
        load.stdin.write(command + "\n")
        load.stdin.flush()
        return load.stdout.readline().strip()

    redis_cli("SET", "udp_gate:backend", load.stdout.readline().strip())
    if ask("join") != "joined":
        fail("the players are not served")
    await_true("not all sessions have a record", lambda: redis_cli(
        "SCARD", "udp_gate:session:@index:crash") == str(CRASH_CLIENTS))
    gaps = []
    for _ in range(CRASHES):
        if not ask("served").startswith("served "):
            fail("the players are not served any more")
        # A random moment of the gateway's work.
        time.sleep(random.uniform(0.3, 1.5))
        before = systemd.show("MainPID")
        if systemd.systemctl("kill", "--kill-who=main", "--signal=KILL",
                             "udp-gate").returncode != 0:
            fail("kill")
        # Nothing else runs meanwhile that would take the gateway's time.
        answer = ask("served").split()
        if answer[0] != "served":
            fail("the players are not served any more")
        now = systemd.show("MainPID")
        if now in ("0", before):
            fail("it was not killed")
        gaps.append((int(answer[1]), waited_milliseconds(systemd, now)))
    moved, served, heard = (int(number) for number in ask("end").split())
    load.wait()
    redis.kill()
    redis.wait()
    print("gaps in ms, and for how long the new gateway waited for a processor:",
          ", ".join(f"{gap} ({waited})" for gap, waited in gaps))
    worst = sorted(gap for gap, _ in gaps)
    print(f"{CRASHES} times kill -9 with {CRASH_CLIENTS} sessions: the longest "
          f"silence of a player was {worst[len(worst) // 2]} ms (median) and "
          f"{worst[-1]} ms (worst); sessions lost: {moved}")
    if moved != 0 or served != CRASH_CLIENTS or heard != CRASH_CLIENTS:
        fail(f"lost {moved}, served {served}, reached by the backend {heard}")
    # What else a busy machine does is not the gateway's.
    if max(gap - waited for gap, waited in gaps) > CRASH_GAP_MILLISECONDS_MAX:
        fail("a player waited for more than a second")


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
