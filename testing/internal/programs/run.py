"""One run of one program: its processes, their output, and how long it took."""

import contextlib
import pathlib
import re
import subprocess
import tempfile
import time

from contenders import BenchError, Process
from network import PORT, await_condition, await_line

START_SECONDS = 10
LOG_LINES = 12


class Started:
    """A process of a run, and its output."""

    def __init__(self, process, path):
        self.process = process
        self.path = path

    def await_line(self, pattern, seconds):
        return await_line(self.process, self.path, pattern, seconds)

    def write_line(self, text):
        self.process.write_line(text)

    def output(self):
        return self.path.read_text(errors="replace")


class Run:
    """What a program of catalog.py works with; leaving the block ends all of it."""

    def __init__(self, network, target, seconds_max, parent_folder):
        self.network = network
        # Where the client sends: the server's address, or the gateway's.
        self.target = target
        # The client is done by then, or the run has failed.
        self.seconds_max = seconds_max
        self._exits = contextlib.ExitStack()
        self.folder = pathlib.Path(
            self._exits.enter_context(
                tempfile.TemporaryDirectory(dir=parent_folder, prefix="run.")
            )
        )
        self._started = {}

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self._exits.close()

    def start(self, space, name, *command, environment=None):
        """Starts a program in a namespace; `name` is that of its output."""
        path = self.folder / f"{name}.log"
        process = self._exits.enter_context(
            Process(
                space.command(*command),
                path,
                {"HOME": str(self.folder), **(environment or {})},
                self.folder,
                stdin=subprocess.PIPE,
                text=True,
            )
        )
        self._started[name] = Started(process, path)
        return self._started[name]

    def serve(self, *command):
        """Starts the server, and waits until its socket is there."""
        server = self.start(self.network.server, "server", *command)
        wanted = re.compile(rf"^ *\d+: [0-9A-F]+:{PORT:04X} ", re.MULTILINE)

        def is_bound():
            folder = pathlib.Path(f"/proc/{server.process.pid}/net")
            tables = (folder / name for name in ("udp", "udp6"))
            return any(wanted.search(table.read_text()) for table in tables)

        # Before it has entered the namespace it sees the driver's own sockets,
        # none of which has this port.
        await_condition("the server's socket", is_bound, START_SECONDS, server.process)
        return server

    def client(self, *command):
        """Runs the client to its end: how many seconds that took."""
        begin = time.monotonic()
        self.finish(self.start(self.network.client, "client", *command))
        return time.monotonic() - begin

    def finish(self, client):
        """Waits until the client has ended well."""
        status = client.process.wait(self.seconds_max)
        if status is None:
            raise BenchError(f"no end within {self.seconds_max:.1f} s{self.logs()}")
        if status != 0:
            raise BenchError(f"the client ended with status {status}{self.logs()}")

    def seconds_said(self):
        """The seconds that the client wrote as its last line."""
        found = re.findall(r"^[0-9.]+(?:e-\d+)?$", self._started["client"].output(), re.M)
        if not found:
            raise BenchError("the client said no time" + self.logs())
        return float(found[-1])

    def logs(self):
        """The last lines of each program."""
        lines = []
        for name, started in self._started.items():
            tail = started.output().splitlines()[-LOG_LINES:] or ["(nothing)"]
            lines += [f"  {name}: {line[:200]}" for line in tail]
        return "".join("\n" + line for line in lines)
