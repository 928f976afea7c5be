"""The programs: how each is started, and what is timed of it.

A program's `run` does one run: the server in its namespace, the client in its
own, towards `run.target`, which is the server itself or the gateway. It returns
seconds, and raises BenchError where the program did not do what it is there for.
"""

import json
import pathlib
import shutil
import subprocess
import time

from contenders import BenchError
from network import (
    PORT,
    SERVER_ADDRESS,
    answer_seconds,
    await_condition,
)

# Until what was started can be spoken to.
START_SECONDS = 10
PEERS = pathlib.Path(__file__).resolve().parent / "peers"
MEGABYTE = 1000000


class Program:
    """What all have in common."""

    # Of --only; one word.
    name = ""
    title = ""
    # Round-trip times at which it runs, in milliseconds.
    rtts = (0, 100)
    # Programs that it needs, and modules of node in peers/.
    commands = ()
    modules = ()
    # A direct run that takes longer is broken.
    seconds_max = 20.0

    def prepare(self, folder):
        """Makes files that all runs use."""

    def missing(self):
        """What it needs and this machine does not have."""
        found = [command for command in self.commands if not shutil.which(command)]
        found += [
            f"npm package {module}"
            for module in self.modules
            if not (PEERS / "node_modules" / module).is_dir()
        ]
        return found

    def run(self, run):
        raise NotImplementedError

    def verdicts(self, _run_count, _created):
        """Targets of its own for the runs through the gateway.

        `_created` is how many sessions these created.
        """
        return []


def random_file(path, size):
    with open("/dev/urandom", "rb") as source:
        path.write_bytes(source.read(size))
    return path


def require_same(run, path, expected):
    if not path.exists() or path.read_bytes() != expected.read_bytes():
        raise BenchError(f"{path.name} did not arrive as it was sent{run.logs()}")


class Quic(Program):
    """HTTP/3 over QUIC, by ngtcp2's example programs."""

    commands = ("gtlsclient", "gtlsserver", "openssl")

    def __init__(self, name, size, shown, rtts=(0, 100), migrates=False):
        self.name = name
        self.title = f"QUIC (ngtcp2), {shown}"
        if migrates:
            self.title += ", client migrates meanwhile"
        self.rtts = rtts
        self._size = size
        self._migrates = migrates
        self._folder = None

    def prepare(self, folder):
        self._folder = folder / self.name
        (self._folder / "documents").mkdir(parents=True)
        random_file(self._folder / "documents/file", self._size)
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"]
            + ["-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", "/CN=localhost"]
            + ["-keyout", self._folder / "key", "-out", self._folder / "certificate"],
            check=True,
            capture_output=True,
        )

    def run(self, run):
        documents = self._folder / "documents"
        run.serve(
            *("gtlsserver", "-q", "-d", documents, SERVER_ADDRESS, PORT),
            *(self._folder / "key", self._folder / "certificate"),
        )
        command = ["gtlsclient", "-q", "--exit-on-all-streams-close"]
        command.append(f"--download={run.folder}")
        if self._migrates:
            # Long before the last byte: after three round trips of slow start.
            milliseconds = 10 + 3 * run.network.rtt_milliseconds
            command.append(f"--change-local-addr={milliseconds}ms")
        seconds = run.client(*command, run.target, PORT, "https://localhost/file")
        require_same(run, run.folder / "file", documents / "file")
        return seconds

    def verdicts(self, run_count, created):
        if not self._migrates:
            return []
        most = 2 * run_count
        text = f"{self.name}: sessions created in {run_count} runs = {created}"
        return [(f"{text}, at least {most}: the client migrated", created >= most)]


class Srt(Program):
    """The server sends a file by srt-file-transmit."""

    name = "srt"
    title = "SRT, 30 MB from the server"
    commands = ("srt-file-transmit",)

    def prepare(self, folder):
        self._file = random_file(folder / "srt_source", 30 * MEGABYTE)

    def run(self, run):
        source = f"srt://{SERVER_ADDRESS}:{PORT}?mode=listener"
        run.serve("srt-file-transmit", "-q", f"file://{self._file}", source)
        arrived = run.folder / "arrived"
        seconds = run.client(
            *("srt-file-transmit", "-q", f"srt://{run.target}:{PORT}?mode=caller"),
            f"file://{arrived}",
        )
        require_same(run, arrived, self._file)
        return seconds


class Coap(Program):
    """A GET in blocks (RFC 7959), by libcoap's example programs."""

    name = "coap"
    title = "CoAP, block-wise GET of 20 KB"
    commands = ("coap-client-notls", "coap-server-notls")

    def prepare(self, folder):
        self._file = random_file(folder / "coap_source", 20000)

    def run(self, run):
        run.serve("coap-server-notls", "-A", SERVER_ADDRESS, "-p", PORT, "-d", 1)
        put = ("coap-client-notls", "-m", "put", "-f", self._file)
        run.network.server.run(*put, f"coap://{SERVER_ADDRESS}:{PORT}/file")
        arrived = run.folder / "arrived"
        seconds = run.client(
            *("coap-client-notls", "-B", 90, "-m", "get", "-o", arrived),
            f"coap://{run.target}:{PORT}/file",
        )
        require_same(run, arrived, self._file)
        return seconds


class RakNet(Program):
    """RakNet's C++ library on both sides, see peers/raknet.js."""

    commands = ("node",)
    modules = ("raknet-native",)

    def __init__(self, name, title, size, login_size=0, rtts=(0, 100)):
        self.name = name
        self.title = title
        self.rtts = rtts
        self._sizes = (size, login_size)

    def run(self, run):
        script = ("node", PEERS / "raknet.js")
        run.serve(*script, "server", SERVER_ADDRESS, PORT, *self._sizes)
        run.client(*script, "client", run.target, PORT, *self._sizes)
        return run.seconds_said()


class WebRtc(Program):
    """A data channel of WebRTC, as NetherNet has it, see peers/webrtc.js.

    The client gets the server's answer with one candidate alone: where it is
    to send. The server gets none, lest it sends around the gateway; werift as a
    server cannot do with none.
    """

    commands = ("node",)
    # The package of each.
    MODULES = {
        "node-datachannel": "node-datachannel",
        "wrtc": "@roamhq/wrtc",
        "werift": "werift",
    }

    def __init__(self, name, server, client, size, size_shown, rtts=(0, 100)):
        self.name = name
        shown = server if server == client else f"{client} with {server}"
        self.title = f"WebRTC ({shown}), {size_shown} as the channel opens"
        self._size = size
        self.modules = tuple(self.MODULES[library] for library in {server, client})
        self.rtts = rtts
        self._server = server
        self._client = client

    def run(self, run):
        script = ("node", PEERS / "webrtc.js")
        server = run.start(
            *(run.network.server, "server", *script, self._server),
            *("server", self._size, PORT),
        )
        client = run.start(
            *(run.network.client, "client", *script, self._client),
            *("client", self._size),
        )
        server.await_line("^ready$", START_SECONDS)
        offer = json.loads(client.await_line(r'^\{"type".*\}$', START_SECONDS)[0])
        server.write_line(json.dumps(with_candidate(offer, None)))
        answer = json.loads(server.await_line(r'^\{"type".*\}$', START_SECONDS)[0])
        client.write_line(json.dumps(with_candidate(answer, run.target)))
        run.finish(client)
        return run.seconds_said()


def with_candidate(description, address):
    """A description with one ICE candidate (RFC 8839, section 5.1), or none."""
    lines = []
    for line in description["sdp"].splitlines():
        if not line.startswith("a=candidate:"):
            lines.append(line)
        elif address is not None:
            lines.append(f"a=candidate:1 1 udp 2113937151 {address} {PORT} typ host")
            address = None
    return {**description, "sdp": "\r\n".join(lines) + "\r\n"}


class Minetest(Program):
    """From the client's first datagram until it has joined the game.

    What it shows goes to Xvfb, which draws by software. Its cache is empty, so
    that the server sends all media.
    """

    name = "minetest"
    title = "Minetest, until it has joined"
    commands = ("/usr/games/minetest", "/usr/games/minetestserver", "Xvfb")
    # It takes longest of all, and so begins first.
    seconds_max = 40.0
    SERVER_SETTINGS = "server_announce = false\nmg_name = singlenode\n"
    CLIENT_SETTINGS = "enable_sound = false\nscreen_w = 320\nscreen_h = 240\n"

    def run(self, run):
        settings = run.folder / "server.conf"
        settings.write_text(self.SERVER_SETTINGS)
        server = run.serve(
            *("/usr/games/minetestserver", "--world", run.folder / "world"),
            *("--gameid", "minetest_game", "--port", PORT, "--config", settings),
            *("--logfile", ""),
        )
        display = run.start(
            run.network.client,
            "display",
            *("Xvfb", "-displayfd", "1", "-screen", "0", "320x240x24"),
            *("-nolisten", "tcp"),
        )
        number = display.await_line("^[0-9]+$", START_SECONDS)[0]
        settings = run.folder / "client.conf"
        settings.write_text(self.CLIENT_SETTINGS)
        client = run.start(
            run.network.client,
            "client",
            *("/usr/games/minetest", "--go", "--info", "--address", run.target),
            *("--port", PORT, "--name", "player", "--config", settings),
            *("--logfile", ""),
            environment={"DISPLAY": ":" + number},
        )
        client.await_line("Connecting to server at", START_SECONDS)
        begin = time.monotonic()
        server.await_line("player .*joins game", run.seconds_max)
        return time.monotonic() - begin


class Kcptun(Program):
    """TCP connections in KCP: iperf3 downloads by the first of the tunnel.

    KCP has no handshake of its own; iperf3 exchanges its parameters first. A
    server that spoke first of all would answer two small datagrams with a whole
    window, as a reflector does.
    """

    name = "kcptun"
    title = "kcptun, iperf3 downloads 5 MB"
    commands = ("iperf3", "kcptun-client", "kcptun-server")
    SIZE = 5 * MEGABYTE
    TCP_PORT = 19140

    def run(self, run):
        source = run.start(
            *(run.network.server, "source", "iperf3", "-s", "-1"),
            *("-p", self.TCP_PORT, "--forceflush"),
        )
        source.await_line("listening on", START_SECONDS)
        address = f"127.0.0.1:{self.TCP_PORT}"
        run.serve("kcptun-server", "-t", address, "-l", f":{PORT}")
        tunnel = run.start(
            *(run.network.client, "tunnel", "kcptun-client"),
            *("-r", f"{run.target}:{PORT}", "-l", address),
        )
        tunnel.await_line("listening on:", START_SECONDS)
        seconds = run.client(
            *("iperf3", "-c", "127.0.0.1", "-p", self.TCP_PORT, "-R", "-J"),
            *("-n", self.SIZE),
        )
        document = json.loads((run.folder / "client.log").read_text())
        if document["end"]["sum_received"]["bytes"] < self.SIZE:
            raise BenchError("the download ended early" + run.logs())
        return seconds


class Iperf3(Program):
    """One datagram from the client, then datagrams from the server alone.

    That is what a reflector looks like, too: only a trickle is promised with
    the limit on replies, see programs.py.
    """

    name = "iperf3"
    title = "iperf3 -u -R, 20 Mbit/s"
    rtts = (0,)
    commands = ("iperf3",)
    MEGABITS_PER_SECOND = 20
    SIZE = 1200
    SECONDS = 8

    def run(self, run):
        """Not seconds, but the datagrams of each second."""
        server = run.start(
            *(run.network.server, "server", "iperf3", "-s", "-1"),
            *("-p", PORT, "--forceflush"),
        )
        server.await_line("listening on", START_SECONDS)
        run.client(
            *("iperf3", "-c", run.target, "-p", PORT, "-u", "-R", "-J"),
            *("-b", f"{self.MEGABITS_PER_SECOND}M", "-l", self.SIZE),
            *("-t", self.SECONDS, "-i", 1),
        )
        document = json.loads((run.folder / "client.log").read_text())
        sums = [part["sum"] for part in document["intervals"]]
        return [one["packets"] - one["lost_packets"] for one in sums]

    def lost_percent(self, received):
        """iperf3 itself counts losses only up to the last one that came."""
        megabits = self.MEGABITS_PER_SECOND * self.SECONDS
        sent = megabits * 1000000 / 8 / self.SIZE
        return max(0.0, 100 * (1 - sum(received) / sent))


class WireGuard(Program):
    """wireguard-go, many clients of one server: the server sends after silence.

    The client's keepalive of 25 s is what opens the tunnel. It stays silent, as
    it may, until the server sends.
    """

    name = "wireguard"
    title = "WireGuard, keepalive 25 s, the server sends"
    commands = ("wireguard-go", "wg")
    SILENCES_SECONDS = (14, 24)
    ANSWER_SECONDS = 0.9

    def run_all(self, run, targets):
        """A tunnel for each target; for each, the seconds to an answer.

        One after each silence; None where there was no answer.
        """
        # Such a name is one of a socket that all namespaces share.
        prefix = "w" + "".join(run.network.client.name.split("-")[1:3])
        server = prefix + "s"
        key, server_public = self._keys(run.folder / f"{server}.key")
        self._start(run, run.network.server, server)
        run.network.server.run(
            "wg", "set", server, "private-key", key, "listen-port", PORT
        )
        tunnels = []
        for number, target in enumerate(targets):
            # A network of its own, so that answers go the way they came.
            ours, theirs = f"10.9.{number}.1", f"10.9.{number}.2"
            client = f"{prefix}c{number}"
            key, public = self._keys(run.folder / f"{client}.key")
            self._start(run, run.network.client, client)
            run.network.server.run(
                *("wg", "set", server, "peer", public, "allowed-ips", theirs + "/32")
            )
            for space, interface, address in (
                (run.network.server, server, ours),
                (run.network.client, client, theirs),
            ):
                space.run("ip", "address", "add", address + "/24", "dev", interface)
            run.network.client.run(
                *("wg", "set", client, "private-key", key),
                *("peer", server_public, "allowed-ips", ours + "/32"),
                *("endpoint", f"{target}:{PORT}", "persistent-keepalive", 25),
            )
            tunnels.append(theirs)
        await_condition(
            "handshakes of WireGuard",
            lambda: self._handshakes(run, server) == len(tunnels),
            20,
        )
        answers = [[] for _ in tunnels]
        for silence in self.SILENCES_SECONDS:
            time.sleep(silence)
            for tunnel, times in zip(tunnels, answers):
                times.append(
                    run.network.server.call(
                        answer_seconds, tunnel, self.ANSWER_SECONDS
                    )
                )
        return answers

    @staticmethod
    def _start(run, space, interface):
        process = run.start(space, interface, "wireguard-go", "-f", interface)
        await_condition(
            f"{interface} of wireguard-go",
            lambda: pathlib.Path(f"/var/run/wireguard/{interface}.sock").exists(),
            START_SECONDS,
            process.process,
        )
        space.run("ip", "link", "set", interface, "up")

    @staticmethod
    def _keys(path):
        key = subprocess.check_output(["wg", "genkey"], text=True)
        path.touch(mode=0o600)
        path.write_text(key)
        return path, subprocess.check_output(["wg", "pubkey"], input=key, text=True).strip()

    @staticmethod
    def _handshakes(run, interface):
        text = run.network.server.run("wg", "show", interface, "latest-handshakes")
        return sum(not line.endswith("\t0") for line in text.splitlines())


TIMED = (
    Quic("quic-50k", 50000, "50 KB"),
    Quic("quic-5m", 5 * MEGABYTE, "5 MB"),
    Quic("quic-100m", 100 * MEGABYTE, "100 MB", rtts=(0,)),
    Quic("quic-migration", 5 * MEGABYTE, "5 MB", migrates=True),
    Srt(),
    Coap(),
    RakNet("raknet-20k", "RakNet, 20 KB pushed on connect", 20000),
    RakNet("raknet-2m", "RakNet, 2 MB pushed on connect", 2 * MEGABYTE),
    RakNet(
        *("raknet-login", "RakNet, login of 20 KB, then 1 MB from the server"),
        *(MEGABYTE, 20000),
    ),
    WebRtc(
        *("node-datachannel", "node-datachannel", "node-datachannel"),
        *(2 * MEGABYTE, "2 MB"),
    ),
    # As a server wrtc itself hangs in one of fifteen runs, without a gateway, too.
    WebRtc("wrtc", "node-datachannel", "wrtc", 2 * MEGABYTE, "2 MB"),
    # All of it is JavaScript, which takes seconds for 2 MB.
    WebRtc("werift", "node-datachannel", "werift", 200000, "200 KB"),
    Minetest(),
    Kcptun(),
)
