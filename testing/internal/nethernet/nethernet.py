#!/usr/bin/python3
"""Real WebRTC stacks through udp-gate, as players and as servers of NetherNet.

Run it by tools/nethernet.sh, which builds and installs what it needs. Players and
servers are network namespaces of their own, see rig.py. Players are libwebrtc
(@roamhq/wrtc), libdatachannel (node-datachannel) and werift; servers the same
three, with one UDP port for all players and with a port for each. Required:

- each player joins each server, gets an echo on both channels, and the 256 KiB
  that the server sends as the channels open; also over HTTPS,
- 50 players join a server at once,
- all that joined first are still there after 70 s of silence, and their spare
  addresses make no new session in that time,
- the same players play on after a NAT has given each of them other ports,
- a RakNet player on the same UDP port loses nothing meanwhile,
- no packet takes a way around the gateway, where there is one; and joins work
  where there is none.

With --direct there is no gateway: that shows what the stacks do alone.

The exit status is 0 if all targets are met, 1 if one is missed, and 77
if network namespaces are not allowed.
"""

import argparse
import contextlib
import json
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

from rig import (
    GATEWAY,
    LIBRARIES,
    MEDIA_PORT,
    PEERS,
    PLAYERS,
    PORT,
    SCRIPTS,
    SHAPES,
    BenchError,
    Gateway,
    Network,
    NotAllowedError,
    Worker,
)

EXIT_NOT_ALLOWED = 77
PUSH_BYTES = 256 * 1024
MANY = 50
IDLE_SECONDS = 70
# A join, with all that is asked of it; many at once take longer.
JOIN_SECONDS = 60
RAKNET_GAP_MILLISECONDS_MAX = 2000
# Beyond what the stacks need directly.
PUSH_RATIO_MAX = 1.2
PUSH_SECONDS_ALWAYS_ALLOWED = 0.030

DROPPED = 'udpgate_datagrams_dropped_total{reason="unconfirmed_reply_limit"}'
CREATED = "udpgate_sessions_created_total"
JOINED = 'udpgate_nethernet_joins_total{result="joined"}'
PHASES = ("pairs", "https", "isolated", "many", "idle", "nat", "push")


def parse_options():
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--gate", type=pathlib.Path, help="the program udp-gate")
    add("--direct", action="store_true", help="without a gateway")
    add("--out", type=pathlib.Path, help="folder for the results (temporary)")
    add("--phase", action="append", choices=PHASES, help="not all of them")
    add("--player", action="append", choices=LIBRARIES, help="not all of them")
    add("--server", action="append", help="LIBRARY or LIBRARY/SHAPE; not all of them")
    add("--idle-seconds", type=float, default=IDLE_SECONDS)
    add("--many", type=int, default=MANY, help="players at once")
    add("--push-runs", type=int, default=5, help="each way, of each pair")
    add("--set", action="append", default=[], metavar="NAME=VALUE", help="of the gateway")
    options = parser.parse_args()
    if not options.direct and options.gate is None:
        parser.error("--gate or --direct is wanted")
    options.phase = options.phase or [p for p in PHASES if p != "push"]
    options.player = options.player or list(LIBRARIES)
    every = [(library, shape) for library in LIBRARIES for shape in SHAPES]
    options.servers = [
        (library, shape)
        for library, shape in every
        if not options.server
        or library in options.server
        or f"{library}/{shape}" in options.server
    ]
    if not options.servers:
        parser.error("--server: want one of " + ", ".join("/".join(s) for s in every))
    for text in options.set:
        if "=" not in text:
            parser.error(f"--set {text}: want NAME=VALUE")
    options.settings = dict(text.split("=", 1) for text in options.set)
    return options


def make_certificate(folder):
    """Of the gateway's address, signed by itself."""
    paths = folder / "certificate.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"]
        + ["-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", "/CN=udpgate"]
        + ["-addext", f"subjectAltName=IP:{GATEWAY}"]
        + ["-keyout", paths[1], "-out", paths[0]],
        check=True,
        capture_output=True,
    )
    return paths


class Stage:
    """All that runs, and what came of it."""

    def __init__(self, options, folder, exits):
        self._options = options
        self._folder = folder
        self._exits = exits
        self.network = exits.enter_context(Network(len(options.servers)))
        self.targets = []
        self.push = []
        self._gateway = None
        self._players = {}
        self._servers = []
        self._joined = 0

    def check(self, text, is_met, details=()):
        self.targets.append((text, is_met))
        print(("pass  " if is_met else "FAIL  ") + text, file=sys.stderr, flush=True)
        if not is_met:
            for line in details:
                print("      " + str(line), file=sys.stderr, flush=True)

    def start(self):
        """Starts everything that stays; all at once, and then waits."""
        certificate, key = make_certificate(self._folder)
        for number, (library, shape) in enumerate(self._options.servers):
            self._servers.append(
                Worker(
                    *(self._exits, self.network.servers[number], self._folder),
                    *(f"server-{library}-{shape}", SCRIPTS / "server.js", library, shape),
                    *(self.network.server_address(number), PORT, MEDIA_PORT),
                )
            )
        for library in self._options.player:
            self._players[library] = Worker(
                *(self._exits, self.network.players, self._folder),
                *(f"player-{library}", SCRIPTS / "client.js", library),
                environment={"NODE_EXTRA_CA_CERTS": str(certificate)},
            )
        raknet = self._raknet(self.network.servers[0], "raknet-server", "echo", self.home)
        if not self._options.direct:
            settings = {
                "NETHERNET_CERTIFICATE_FILE": str(certificate),
                "NETHERNET_PRIVATE_KEY_FILE": str(key),
                **self._options.settings,
            }
            self._gateway = self._exits.enter_context(
                Gateway(self.network, self._options.gate, settings, self._folder)
            )
            self._gateway.set_backend(f"{self.home}:{PORT}")
        for worker in (*self._servers, *self._players.values(), raknet):
            worker.await_ready()
        target = self.home if self._options.direct else GATEWAY
        self._raknet_player = self._raknet(
            self.network.players, "raknet-player", "play", target
        )
        self._raknet_player.await_ready()

    def _raknet(self, space, name, role, address):
        script = PEERS / "raknet.js"
        return Worker(self._exits, space, self._folder, name, script, role, address, PORT)

    @property
    def home(self):
        return self.network.server_address(0)

    def _url(self, number, scheme="http", is_direct=False):
        if is_direct or self._options.direct:
            return f"http://{self.network.server_address(number)}:{PORT}"
        self._gateway.set_backend(f"{self.network.server_address(number)}:{PORT}")
        return f"{scheme}://{GATEWAY}:{PORT}"

    def _join(self, number, name, counts, **more):
        """Joins at once with so many players of each library; what each says."""
        url = self._url(number, **more)
        started = {
            library: self._players[library].start(
                command="join", url=url, count=count, push_bytes=PUSH_BYTES, name=name
            )
            for library, count in counts.items()
            if count > 0
        }
        outcomes = self._finish(started)
        if self._gateway is not None and not more.get("is_direct"):
            self._joined += sum(len(o["results"]) for o in outcomes.values())
        return outcomes

    def _finish(self, started):
        return {
            library: self._players[library].finish(number, JOIN_SECONDS)
            for library, number in started.items()
        }

    def _each(self, command, name, libraries=None):
        return self._finish(
            {
                library: self._players[library].start(command=command, name=name)
                for library in libraries or self._players
            }
        )

    def _check_joins(self, what, number, outcomes, counts):
        library, shape = self._options.servers[number]
        for player, outcome in outcomes.items():
            count = len(outcome["results"])
            times = [result["seconds"] for result in outcome["results"]]
            text = f"{what}: {player} to {library}, {shape} port: {count} of "
            text += f"{counts[player]} joined"
            if times:
                text += f", in {statistics.median(times):.2f} s"
            details = [
                *outcome["errors"],
                *self._players[player].log(),
                *self._servers[number].log(),
            ]
            if self._gateway is not None:
                details += self._gateway.log().splitlines()
                self._check_candidates(player, outcome)
            self.check(text, count == counts[player], details)

    def _check_candidates(self, player, outcome):
        """A player is told of the gateway alone."""
        told = {c for result in outcome["results"] for c in result["candidates"]}
        if told - {f"{GATEWAY} {PORT}"}:
            self.check(f"{player} is told of the gateway alone", False, sorted(told))

    def pairs(self):
        for number in range(len(self._servers)):
            counts = {library: 1 for library in self._players}
            outcomes = self._join(number, f"pair{number}", counts)
            self._check_joins("pairs", number, outcomes, counts)

    def https(self):
        counts = {library: 1 for library in self._players}
        outcomes = self._join(0, "https", counts, scheme="https")
        self._check_joins("HTTPS", 0, outcomes, counts)
        self._each("close", "https")

    def isolated(self):
        """Without a way around the gateway."""
        self.network.count_direct("drop")
        for number in range(len(self._servers)):
            counts = {library: 1 for library in self._players}
            outcomes = self._join(number, "isolated", counts)
            self._check_joins("isolated", number, outcomes, counts)
            self._each("close", "isolated")

    def many(self):
        libraries = list(self._players)
        for number in range(len(self._servers)):
            counts = {
                library: (self._options.many + index) // len(libraries)
                for index, library in enumerate(libraries)
            }
            begin = time.monotonic()
            outcomes = self._join(number, "many", counts)
            seconds = time.monotonic() - begin
            what = f"{self._options.many} at once, all in {seconds:.1f} s"
            self._check_joins(what, number, outcomes, counts)
            self._each("close", "many")

    def idle(self, since):
        """The players of `pairs` are still there."""
        before = self._created()
        time.sleep(max(0.0, since + self._options.idle_seconds - time.monotonic()))
        after = self._created()
        if before is not None:
            text = f"sessions created while all are silent = {after - before:.0f}"
            self.check(text + ", at most 0", after == before)
        self._check_echoes(lambda: f"after {time.monotonic() - since:.0f} s of silence")

    def _check_echoes(self, when):
        """The players of `pairs` get what they send back."""
        for number, (library, shape) in enumerate(self._options.servers):
            for player, outcome in self._each("echo", f"pair{number}").items():
                self.check(
                    f"{when()}: {player} at {library}, {shape} port, gets an echo",
                    not outcome["errors"],
                    outcome["errors"],
                )

    def nat(self):
        """The players of `pairs` come from other ports."""
        since = time.monotonic()
        before = self._created()
        self.network.give_other_ports(self._players.values())
        self._check_echoes(lambda: f"{time.monotonic() - since:.0f} s after other ports")
        created = self._created() - before
        count = len(self._servers) * len(self._players)
        self.check(
            f"sessions created after that = {created:.0f}, at least {count}",
            created >= count,
        )

    def _created(self):
        return None if self._gateway is None else self._gateway.metrics()[CREATED]

    def measure_push(self):
        """The 256 KiB that the server sends, directly and through the gateway."""
        for number, (library, shape) in enumerate(self._options.servers):
            for player in self._players:
                seconds = {True: [], False: []}
                errors = []
                # A stack may fail to join another directly: its checks may arrive
                # before the answer. That is no fault of the gateway's.
                spare = self._options.push_runs
                for run in range(2 * self._options.push_runs):
                    way = run % 4 in (0, 3)
                    took, said = self._push_once(number, player, way)
                    while took is None and way and spare > 0:
                        spare -= 1
                        took, said = self._push_once(number, player, way)
                    seconds[way] += [] if took is None else [took]
                    errors += said
                self._check_push(f"{player} at {library}, {shape} port", seconds, errors)

    def _push_once(self, number, player, is_direct):
        """How long it took, or None and what was said."""
        outcome = self._join(number, "push", {player: 1}, is_direct=is_direct)[player]
        self._each("close", "push", [player])
        if not outcome["results"]:
            return None, outcome["errors"]
        return outcome["results"][0]["push_seconds"], []

    def _check_push(self, what, seconds, errors):
        runs = self._options.push_runs
        if any(len(times) < runs for times in seconds.values()):
            self.check(f"push: {what}: all joined", False, errors)
            return
        direct, through = (statistics.median(seconds[way]) for way in (True, False))
        most = max(PUSH_RATIO_MAX * direct, direct + PUSH_SECONDS_ALWAYS_ALLOWED)
        self.push.append({"pair": what, "direct": direct, "gateway": through})
        self.check(
            f"push: {what}: {1000 * through:.0f} ms, directly {1000 * direct:.0f} ms, "
            f"at most {1000 * most:.0f} ms",
            through <= most,
        )

    def control(self):
        """What goes past the gateway is counted."""
        self.network.count_direct()
        player = next(iter(self._players))
        self._join(0, "control", {player: 1}, is_direct=True)
        self._each("close", "control", [player])
        self.check(
            "control: a join past the gateway is noticed",
            self.network.direct_packets() > 0,
        )

    def check_direct(self):
        packets = self.network.direct_packets()
        self.check(f"packets past the gateway = {packets}, at most 0", packets == 0)

    def check_servers(self):
        """What the offers held that came to the servers."""
        for number, worker in enumerate(self._servers):

            def read(address=self.network.server_address(number)):
                url = f"http://{address}:{PORT}/seen"
                with urllib.request.urlopen(url, timeout=5) as response:
                    return json.loads(response.read())

            seen = self.network.servers[number].call(read)
            clean = seen["bare"] == seen["joins"]
            text = f"{worker.name}: {seen['bare']} of {seen['joins']} offers without "
            self.check(text + "candidates", clean)
            others = [name for name in seen["forwardedFor"] if name not in PLAYERS]
            self.check(
                f"{worker.name}: is told the address of all players",
                not others,
                others[:5],
            )

    def check_gateway(self):
        values = self._gateway.metrics()
        self.check(
            f"replies dropped = {values[DROPPED]:.0f}, at most 0", values[DROPPED] == 0
        )
        counted = values.get(JOINED, 0)
        self.check(
            f"joins that the gateway counts = {counted:.0f}, {self._joined} were made",
            counted == self._joined,
        )

    def check_raknet(self):
        worker = self._raknet_player
        worker.write("end")
        said = json.loads(worker.await_line(r'^\{"sent".*\}$', 10)[0])
        self.check(
            "RakNet on the same port: {received} of {sent} messages came back, "
            "none for {gap_milliseconds:.0f} ms at most".format(**said),
            0 < said["sent"] == said["received"]
            and said["gap_milliseconds"] <= RAKNET_GAP_MILLISECONDS_MAX,
            worker.log(),
        )

    def run(self):
        phases = self._options.phase
        self.start()
        self.network.count_direct()
        if "pairs" in phases:
            self.pairs()
        since = time.monotonic()
        if "https" in phases and self._gateway is not None:
            self.https()
        if "many" in phases:
            self.many()
        if self._gateway is not None:
            self.check_direct()
            if "isolated" in phases:
                self.isolated()
        if "idle" in phases and "pairs" in phases:
            self.idle(since)
        if "nat" in phases and "pairs" in phases and self._gateway is not None:
            self.nat()
        self.check_raknet()
        if self._gateway is not None:
            self.check_servers()
            self.check_gateway()
            # Last: a server sends on for half a minute to a player who has left.
            self.control()
            if "push" in phases:
                self.measure_push()


def main():
    options = parse_options()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="udpgate_nethernet."))
    stage = None
    try:
        with contextlib.ExitStack() as exits:
            stage = Stage(options, folder, exits)
            stage.run()
    except NotAllowedError as error:
        print(f"nethernet: no network namespaces here: {error}", file=sys.stderr)
        return EXIT_NOT_ALLOWED
    except (BenchError, OSError, subprocess.SubprocessError) as error:
        print(f"FAIL  {error}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    met = sum(is_met for _, is_met in stage.targets)
    print(f"{met} of {len(stage.targets)} targets are met")
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        document = {"targets": stage.targets, "push": stage.push}
        (options.out / "nethernet.json").write_text(json.dumps(document, indent=1) + "\n")
    return 0 if met == len(stage.targets) else 1


if __name__ == "__main__":
    sys.exit(main())
