"""Those that stand between client and backend, and how each is started."""

import ctypes
import dataclasses
import os
import pathlib
import select
import shlex
import shutil
import signal
import socket
import subprocess
import time

from patience import longer
from scenario import GATE_SETTINGS, MANY_CLIENTS_PER_ADDRESS

NGINX_MODULE = "/usr/lib/nginx/modules/ngx_stream_module.so"
NGINX_CONFIGURATION = """\
load_module {module};
daemon off;
{user}
pid {folder}/nginx.pid;
error_log stderr warn;
worker_processes 2;
worker_rlimit_nofile {descriptors};
events {{
  worker_connections {connections};
  # Whether a worker reads all that waits, or one datagram per iteration.
  multi_accept {multi_accept};
}}
stream {{
  server {{
    listen {listen} udp reuseport rcvbuf=8m sndbuf=8m;
    proxy_pass {backend};
    # Replies without limit, as a relay of a game needs them.
    proxy_timeout 60s;
  }}
}}
"""


# By name, with what multi_accept is set to; the first is nginx's default. The
# second runs only where --contenders names it.
NGINX_VARIANTS = {"nginx": "off", "nginx-multi": "on"}


class BenchError(Exception):
    """A run broke; the text says how."""


def die_with_parent():
    """Runs in a child: it ends when this process does, however that ends."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)


class Process:
    """A child in a session of its own; leaving the block ends all of it."""

    def __init__(self, command, log_path, environment=None, folder=None, **more):
        self._log_path = log_path
        with open(log_path, "wb") as log:
            more.setdefault("stdin", subprocess.DEVNULL)
            more.setdefault("stdout", log)
            self._process = subprocess.Popen(
                command,
                stderr=log,
                env={"PATH": os.environ.get("PATH", ""), **(environment or {})},
                cwd=folder,
                start_new_session=True,
                preexec_fn=die_with_parent,
                **more,
            )
        self.pid = self._process.pid

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.pid, number)
                self._process.wait(2)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                pass
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                pipe.close()

    def is_running(self):
        return self._process.poll() is None

    def read_line(self, seconds=10):
        """The next line of its output; empty after so long without one."""
        if not select.select([self._process.stdout], [], [], longer(seconds))[0]:
            return ""
        return self._process.stdout.readline().strip()

    def write_line(self, text):
        """To its standard input, where that is a pipe of text."""
        self._process.stdin.write(text + "\n")
        self._process.stdin.flush()

    def wait(self, seconds):
        """Its exit status, as soon as there is one; None where it goes on."""
        # Popen.wait() with a timeout looks every 50 ms.
        end = os.pidfd_open(self.pid)
        try:
            select.select([end], [], [], seconds)
        finally:
            os.close(end)
        return self._process.poll()

    def log(self):
        text = pathlib.Path(self._log_path).read_text(errors="replace")
        return "\n".join(text.splitlines()[-10:])

    def tree(self):
        """The process and its descendants, once no more appear."""
        before, now = None, self._tree_now()
        for _ in range(20):
            if now == before:
                break
            time.sleep(0.1)
            before, now = now, self._tree_now()
        return now

    def _tree_now(self):
        found, waiting = [], [self.pid]
        while waiting:
            pid = waiting.pop()
            found.append(pid)
            try:
                for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
                    children = (task / "children").read_text()
                    waiting += [int(child) for child in children.split()]
            except OSError:
                pass  # it ended
        return sorted(found)


def free_address(kind=socket.SOCK_DGRAM):
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return "127.0.0.1:%d" % probe.getsockname()[1]


def split_address(address):
    host, _, port = address.rpartition(":")
    return host, int(port)


def wait_until_forwarding(address, process):
    """Sends until something comes back, 10 s at most."""
    deadline = time.monotonic() + longer(10)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(split_address(address))
        probe.settimeout(0.05)
        while time.monotonic() < deadline:
            if not process.is_running():
                raise BenchError("the contender ended:\n" + process.log())
            try:
                probe.send(b"probe")
                if probe.recv(100) == b"probe":
                    return
            except ConnectionRefusedError:
                time.sleep(0.02)
            except TimeoutError:
                pass
    raise BenchError("nothing is forwarded:\n" + process.log())


class Redis:
    """A redis-server that keeps nothing."""

    def __init__(self, folder):
        self.address = free_address(socket.SOCK_STREAM)
        host, port = split_address(self.address)
        command = ["redis-server", "--bind", host, "--port", str(port)]
        command += ["--save", "", "--appendonly", "no", "--dir", str(folder)]
        self.process = Process(command, folder / "redis.log")

    def set_backend(self, backend):
        deadline = time.monotonic() + longer(10)
        while True:
            try:
                with socket.create_connection(
                    split_address(self.address), timeout=longer(5)
                ) as connection:
                    connection.sendall(
                        b"SET udp_gate:backend " + backend.encode() + b"\r\n"
                    )
                    if connection.recv(100) == b"+OK\r\n":
                        return
            except OSError:
                pass
            if time.monotonic() > deadline:
                raise BenchError("redis-server: " + self.process.log())
            time.sleep(0.05)


@dataclasses.dataclass
class Plan:
    """How to start a contender: what Process wants."""

    command: list
    environment: dict = dataclasses.field(default_factory=dict)


def gate_plan(options, settings):
    """udp-gate with these settings and one fixed backend."""

    def plan(listen, backend):
        environment = {
            "PROXY_ADDR": listen,
            "BACKEND_ADDR": backend,
            **MANY_CLIENTS_PER_ADDRESS,
            **settings,
        }
        return Plan([gate_program(options)], environment)

    return plan


def gate_program(options):
    return options.bin / "cli/udp-gate"


def gate_version(options):
    return version_of(gate_program(options), "--version")


def version_of(*command):
    """The first line that the program says of itself."""
    result = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=longer(30),
        check=False,
    )
    return result.stdout.decode(errors="replace").strip().partition("\n")[0]


class Contenders:
    """Those that can run here, by name, each a function that makes a Plan."""

    def __init__(self, options, folder):
        self.by_name = {}
        self.notes = []
        self.redis = None
        self._options = options
        self._folder = folder
        if self._is_wanted("direct"):
            self.by_name["direct"] = None
        self.notes.append(gate_version(options))
        for name, settings in GATE_SETTINGS.items():
            if self._is_wanted(name):
                self.by_name[name] = self._gate(settings)
                text = " ".join(f"{key}={value}" for key, value in settings.items())
                self.notes.append(f"{name}: {text or 'default settings'}")
        for name, multi_accept in NGINX_VARIANTS.items():
            if self._is_wanted(name):
                self._add_nginx(name, multi_accept)
        if self._is_wanted("goref"):
            self._add_goref()
        for text in options.command:
            name, separator, command = text.partition("=")
            if not separator or "{listen}" not in command:
                raise BenchError(
                    f"--command {text}: want NAME='... {{listen}} {{backend}}'"
                )
            self.by_name[name] = self._other(command)
        for name in options.contenders or ():
            if name not in self.by_name:
                raise BenchError(f"there is no contender {name} here")
        if options.ask_redis or "goref" in self.by_name:
            self.redis = Redis(folder)

    def stop(self):
        if self.redis:
            self.redis.process.__exit__()

    def _is_wanted(self, name):
        if self._options.contenders is None:
            return name != "nginx-multi"
        return name in self._options.contenders

    def _gate(self, settings):
        if not self._options.ask_redis:
            return gate_plan(self._options, settings)

        def plan(listen, backend):
            self.redis.set_backend(backend)
            environment = {"PROXY_ADDR": listen, "REDIS_ADDR": self.redis.address}
            environment.update(MANY_CLIENTS_PER_ADDRESS)
            return Plan([gate_program(self._options)], {**environment, **settings})

        return plan

    def _add_nginx(self, name, multi_accept):
        program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if not program or not os.path.exists(NGINX_MODULE):
            self.notes.append(f"{name} left out: it or its stream module is missing")
            return
        descriptors = descriptor_limit()

        def plan(listen, backend):
            configuration = self._folder / "nginx.conf"
            configuration.write_text(
                NGINX_CONFIGURATION.format(
                    module=NGINX_MODULE,
                    user="user root;" if os.geteuid() == 0 else "",
                    folder=self._folder,
                    descriptors=descriptors,
                    connections=descriptors - 100,
                    multi_accept=multi_accept,
                    listen=listen,
                    backend=backend,
                )
            )
            command = [program, "-e", "stderr", "-p", self._folder]
            return Plan(command + ["-c", configuration])

        self.by_name[name] = plan
        self.notes.append(
            f"{name}: 2 workers, reuseport, multi_accept {multi_accept}; "
            + version_of(program, "-v")
        )

    def _add_goref(self):
        source = self._options.goref
        if not (source / "main.go").exists():
            self.notes.append(f"goref left out: there is no {source}/main.go")
            return
        if not shutil.which("go") or not shutil.which("redis-server"):
            self.notes.append("goref left out: no Go toolchain or no redis-server")
            return
        program = self._folder / "goref"
        environment = {"GO111MODULE": "off", "GOPATH": "/usr/share/gocode"}
        build = subprocess.run(
            ["go", "build", "-o", program, "."],
            cwd=source,
            env={**os.environ, **environment},
            capture_output=True,
            timeout=600,
            check=False,
        )
        if build.returncode != 0:
            raise BenchError("goref: " + build.stderr.decode(errors="replace"))

        def plan(listen, backend):
            self.redis.set_backend(backend)
            environment = {"PROXY_ADDR": listen, "REDIS_ADDR": self.redis.address}
            return Plan([program], environment)

        self.by_name["goref"] = plan
        self.notes.append("goref: " + version_of("go", "version"))

    @staticmethod
    def _other(text):
        def plan(listen, backend):
            words = shlex.split(text)
            return Plan([w.format(listen=listen, backend=backend) for w in words])

        return plan


def descriptor_limit():
    return int(subprocess.check_output(["sh", "-c", "ulimit -Hn"]))
