"""Players, gateway and servers in network namespaces of their own.

    players 10.0.1.2 --- 10.0.1.1 gateway 10.1.0.1 --- 10.1.0.2 server 0
            10.0.3.2 --- 10.0.3.1         10.1.1.1 --- 10.1.1.2 server 1 ...

The gateway's namespace routes, too, so that players and servers can reach each
other, and it counts what it routes: a join whose media bypasses the gateway is
seen there.
"""

import contextlib
import itertools
import json
import os
import pathlib
import re
import subprocess
import sys
import urllib.request

_INTERNAL = pathlib.Path(__file__).resolve().parent.parent
# What the benchmark and the stage of real programs have already.
sys.path[1:1] = [str(_INTERNAL / "bench"), str(_INTERNAL / "programs")]

# pylint: disable=wrong-import-position
from contenders import BenchError, Process
from network import Namespace, NotAllowedError, await_condition, await_line

PEERS = _INTERNAL / "programs/peers"
SCRIPTS = pathlib.Path(__file__).resolve().parent

PORT = 19132
MEDIA_PORT = 19133
PLAYERS = ("10.0.1.2", "10.0.3.2")
GATEWAY = "10.0.1.1"
ADMIN = "127.0.0.1:9132"
REDIS = "127.0.0.1:6379"
BACKEND_KEY = "udp_gate:backend"

LIBRARIES = ("wrtc", "node-datachannel", "werift")
# One UDP port for all players, or one for each.
SHAPES = ("one", "each")
START_SECONDS = 20

COUNTERS = """
table inet nethernet {
  counter direct { }
  chain forward {
    type filter hook forward priority 0; policy %s;
    counter name direct
  }
}
"""

# Stateless, so that a port changes in mid-connection.
OTHER_PORTS = """
table ip players {
  map outer { type inet_service : inet_service; elements = { %s } }
  map inner { type inet_service : inet_service; elements = { %s } }
  chain output {
    type filter hook output priority raw;
    ip daddr %s udp dport %d udp sport set udp sport map @outer
  }
  chain prerouting {
    type filter hook prerouting priority raw;
    ip saddr %s udp sport %d udp dport set udp dport map @inner
  }
}
"""

_numbers = itertools.count()


def _ip(*words):
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


class Network:
    """The namespaces; a context manager."""

    def __init__(self, server_count):
        self._exits = contextlib.ExitStack()
        prefix = f"udpgate-{os.getpid()}-{next(_numbers)}"
        try:
            self.players = self._namespace(prefix + "-client")
            self.gateway = self._namespace(prefix + "-gateway")
            self.servers = [
                self._namespace(f"{prefix}-server{i}") for i in range(server_count)
            ]
            self._make_links()
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

    def _link(self, space, interface, gateway_interface, address, prefix):
        """`address` on the side of `space`; the gateway has the same with a 1."""
        ends = ("link", "add", interface, "netns", space.name, "type", "veth")
        _ip(*ends, "peer", "name", gateway_interface, "netns", self.gateway.name)
        router = re.sub("2$", "1", address)
        for name, end, own in (
            (space.name, interface, address),
            (self.gateway.name, gateway_interface, router),
        ):
            more = ("nodad",) if ":" in own else ()
            _ip("-n", name, "address", "add", f"{own}/{prefix}", "dev", end, *more)
            _ip("-n", name, "link", "set", end, "up")
        return router

    def _make_links(self):
        for number, address in enumerate(PLAYERS):
            self._link(self.players, f"c{number}", f"g{number}", address, 24)
        _ip("-n", self.players.name, "route", "add", "default", "via", GATEWAY)
        for number, space in enumerate(self.servers):
            address = self.server_address(number)
            router = self._link(space, "s0", f"h{number}", address, 24)
            _ip("-n", space.name, "route", "add", "default", "via", router)
        self.gateway.run("sysctl", "-q", "-w", "net.ipv4.ip_forward=1")

    @staticmethod
    def server_address(number):
        return f"10.1.{number}.2"

    def count_direct(self, policy="accept"):
        """Counts from 0 what is routed past udp-gate; `drop` lets nothing pass."""
        rules = "delete table inet nethernet\n" if self._has_rules() else ""
        rules += COUNTERS % policy
        self.gateway.run("nft", "-f", "-", text=rules)

    def _has_rules(self):
        return "inet nethernet" in self.gateway.run("nft", "list", "tables")

    def direct_packets(self):
        text = self.gateway.run("nft", "list", "counter", "inet", "nethernet", "direct")
        return int(re.search(r"packets (\d+)", text)[1])

    def give_other_ports(self, workers):
        """From now on the gateway sees these players come from other ports."""
        text = self.players.run("ss", "-Hanup")
        pids = "|".join(str(worker.pid) for worker in workers)
        found = re.findall(rf":(\d+) +\S+ +users:.*pid=(?:{pids}),", text)
        inner = sorted({int(port) for port in found})
        taken = {int(port) for port in re.findall(r":(\d+) ", text)}
        free = itertools.filterfalse(taken.__contains__, itertools.count(10000))
        outer = list(itertools.islice(free, len(inner)))

        def elements(keys, values):
            return ", ".join(f"{key} : {value}" for key, value in zip(keys, values))

        end = (GATEWAY, PORT)
        maps = (elements(inner, outer), elements(outer, inner))
        self.players.run("nft", "-f", "-", text=OTHER_PORTS % (*maps, *end, *end))


class Worker:
    """A process of node that writes a line of JSON for each command."""

    def __init__(self, exits, space, folder, name, *command, environment=None):
        self._path = folder / f"{name}.log"
        self.name = name
        self._process = exits.enter_context(
            Process(
                space.command("node", *command),
                self._path,
                {
                    "HOME": str(folder),
                    "NODE_PATH": str(PEERS / "node_modules"),
                    **(environment or {}),
                },
                folder,
                stdin=subprocess.PIPE,
                text=True,
            )
        )
        self._numbers = itertools.count(1)

    @property
    def pid(self):
        return self._process.pid

    def await_ready(self):
        self.await_line('^"?ready"?$', START_SECONDS)

    def await_line(self, pattern, seconds):
        return await_line(self._process, self._path, pattern, seconds)

    def start(self, **command):
        """Sends a command; its number."""
        number = next(self._numbers)
        self._process.write_line(json.dumps({"id": number, **command}))
        return number

    def write(self, text):
        self._process.write_line(text)

    def finish(self, number, seconds):
        """What it says of the command once it is done."""
        line = self.await_line(rf'^\{{"id":{number},.*\}}$', seconds)[0]
        return json.loads(line)

    def log(self):
        lines = self._path.read_text(errors="replace").splitlines()
        return [line[:300] for line in lines if not line.startswith('{"id"')][-12:]


class Gateway:
    """udp-gate in its namespace with a Redis beside it; a context manager."""

    def __init__(self, network, program, settings, folder):
        self._space = network.gateway
        self._exits = contextlib.ExitStack()
        host, port = REDIS.split(":")
        command = ["redis-server", "--bind", host, "--port", port, "--save", ""]
        command += ["--appendonly", "no", "--dir", str(folder)]
        environment = {
            "PROXY_ADDR": f"{GATEWAY}:{PORT}",
            "NETHERNET_ADDR": f"{GATEWAY}:{PORT}",
            "REDIS_ADDR": REDIS,
            "ADMIN_ADDR": ADMIN,
            "SESSION_LOG": "all",
            **settings,
        }
        try:
            redis = self._exits.enter_context(
                Process(self._space.command(*command), folder / "redis.log")
            )
            await_condition("redis-server", self._is_redis_there, 10, redis)
            self._process = self._exits.enter_context(
                Process(self._space.command(program), folder / "gateway.log", environment)
            )
            await_condition("/readyz", self._is_ready, 10, self._process)
        except BaseException:
            self._exits.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self._exits.close()

    def _redis(self, *words):
        port = REDIS.rpartition(":")[2]
        return self._space.run("redis-cli", "-p", port, *words).strip()

    def _is_redis_there(self):
        try:
            return self._redis("PING") == "PONG"
        except BenchError:
            return False

    def set_backend(self, address):
        self._redis("SET", BACKEND_KEY, address)

    def _is_ready(self):
        try:
            self._get("/readyz")
        except OSError:
            return False
        return True

    def _get(self, path):
        def read():
            with urllib.request.urlopen(f"http://{ADMIN}{path}", timeout=5) as response:
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

    def log(self):
        return self._process.log()
