#!/usr/bin/env python3
"""Installs an older package, and upgrades it while clients play.

  upgrade_test.py PACKAGE [OLDER_PACKAGE]

OLDER_PACKAGE is PACKAGE with a lower version if none is given. As root. A systemd
and a copy of the machine's file system are in namespaces: see overlay_root.sh and
../systemd/service_test.py. Counts the replies that were lost.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "systemd"))
# pylint: disable=wrong-import-position
from service_test import Systemd, await_true, fail

AWAIT_SECONDS = 30
GATE_PORT = 19132
BACKEND_PORT = 19133
PLAYERS = 100
SETTINGS = f"""PROXY_ADDR=127.0.0.1:{GATE_PORT}
BACKEND_ADDR=127.0.0.1:{BACKEND_PORT}
"""
INSIDE = "/run/udpgate-test"
# Nothing of a machine's start comes along.
INIT = f"""
set -e
mkdir -p /etc/systemd/system/udp-gate.service.d
ln -sf /dev/null /etc/systemd/system/network-online.target
printf '[Unit]\\nDefaultDependencies=no\\n' \
  > /etc/systemd/system/udp-gate.service.d/test.conf
cp {INSIDE}/test.target /run/systemd/system
export container=lxc
exec /lib/systemd/systemd --system --unit=test.target --log-target=null \
  --show-status=no
"""

# Runs within: a backend that says from which port it was asked, and players who
# never stop. Prints at the end how many rounds, replies that were lost, and ports
# beyond one for each player.
PLAYERS_PROGRAM = r"""
import selectors, socket, sys, threading
gate, backend, count = map(int, sys.argv[1:])
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", backend))
def echo():
    while True:
        data, address = server.recvfrom(2048)
        server.sendto(data + b" %d" % address[1], address)
threading.Thread(target=echo, daemon=True).start()
players = []
for _ in range(count):
    player = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    player.connect(("127.0.0.1", gate))
    player.settimeout(5)
    players.append((player, set()))
running = True
def wait_for_end():
    global running
    sys.stdin.readline()
    running = False
threading.Thread(target=wait_for_end, daemon=True).start()
rounds = lost = 0
while running:
    rounds += 1
    for player, _ in players:
        player.send(b"%d" % rounds)
    for player, ports in players:
        try:
            number = 0
            while number != rounds:  # a reply of an earlier round came late
                number, port = map(int, player.recv(2048).split())
                ports.add(port)
        except OSError:
            lost += 1
    if rounds == 1:
        print("plays", flush=True)
print(rounds, lost, sum(len(ports) - 1 for _, ports in players), flush=True)
"""


def check(systemd, *words):
    result = subprocess.run(systemd.command(*words), stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True, timeout=120,
                            check=False)
    if result.returncode != 0:
        fail(f"{' '.join(words)}: {result.stdout}")
    return result.stdout.strip()


def program_of(systemd):
    return check(systemd, "readlink", f"/proc/{systemd.show('MainPID')}/exe")


def start_players(systemd):
    players = subprocess.Popen(
        systemd.command("python3", "-c", PLAYERS_PROGRAM, str(GATE_PORT),
                        str(BACKEND_PORT), str(PLAYERS)),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    if players.stdout.readline() != "plays\n":
        fail("the players are not served")
    return players


def run(systemd):
    check(systemd, "dpkg", "--install", f"{INSIDE}/old.deb")
    check(systemd, "sh", "-c",
          f"cat {INSIDE}/settings > /etc/udp-gate/udp-gate.env")
    started = systemd.systemctl("start", "udp-gate")
    if started.returncode != 0:
        fail(started.stdout + systemd.systemctl("status", "udp-gate").stdout)
    players = start_players(systemd)

    before = systemd.show("MainPID")
    check(systemd, "dpkg", "--install", f"{INSIDE}/new.deb")
    if systemd.show("MainPID") != before:
        fail("the installation ended the program")
    if check(systemd, "cat", "/etc/udp-gate/udp-gate.env") != SETTINGS.strip():
        fail("the installation changed the settings")
    if not program_of(systemd).endswith("(deleted)"):
        fail(f"the program was not replaced: {program_of(systemd)}")
    check(systemd, "systemctl", "reload", "udp-gate")
    await_true("no new main process",
               lambda: systemd.show("MainPID") not in ("0", before))
    # The predecessor has handed everything over when it is gone.
    await_true("the old process does not end", lambda: subprocess.run(
        systemd.command("test", "-e", f"/proc/{before}"), check=False,
        timeout=AWAIT_SECONDS).returncode != 0)
    if systemd.show("ActiveState") != "active":
        fail("it is not active after the upgrade")
    if program_of(systemd) != "/usr/bin/udp-gate":
        fail(f"it runs {program_of(systemd)}")
    players.stdin.write("\n")
    players.stdin.flush()
    rounds, lost, ports = map(int, players.stdout.readline().split())
    players.wait()
    print(f"{PLAYERS} players, {rounds} rounds: {lost} of {PLAYERS * rounds} "
          f"replies lost, {ports} sessions anew")
    if lost or ports:
        fail("the upgrade was noticed")

    check(systemd, "dpkg", "--purge", "udp-gate")
    if systemd.show("ActiveState") != "inactive":
        fail("it runs though its package is gone")
    left = check(systemd, "sh", "-c",
                 "ls -d /usr/bin/udp-gate /etc/udp-gate /usr/share/doc/udp-gate"
                 " /lib/systemd/system/udp-gate.* 2> /dev/null || true")
    if left:
        fail(f"the purge left {left}")


def make_older(package, older):
    """Packs the files of `package` again, under a lower version."""
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder) / "root"
        subprocess.run(("dpkg-deb", "--raw-extract", package, root), check=True)
        control = root / "DEBIAN" / "control"
        control.write_text(re.sub(r"(?m)^Version: .*$", "Version: 0.0.1",
                                  control.read_text()))
        subprocess.run(("dpkg-deb", "--build", root, older), check=True,
                       stdout=subprocess.DEVNULL)


def main():
    if not 2 <= len(sys.argv) <= 3:
        sys.exit(__doc__)
    folder = tempfile.mkdtemp()
    shutil.copy(sys.argv[1], os.path.join(folder, "new.deb"))
    older = os.path.join(folder, "old.deb")
    if len(sys.argv) == 3:
        shutil.copy(sys.argv[2], older)
    else:
        make_older(sys.argv[1], older)
    for name, content in (("settings", SETTINGS),
                          ("test.target",
                           "[Unit]\nDefaultDependencies=no\n")):
        with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
            file.write(content)
    systemd = Systemd(folder, [str(HERE / "overlay_root.sh"), folder,
                               "bash", "-c", INIT])
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
    print("the package upgrades under load")


if __name__ == "__main__":
    main()
