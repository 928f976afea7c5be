#!/usr/bin/env python3
"""Runs the image of the gateway.

  container_test.py ROOT BASE_ROOT IMAGE_JSON COMPOSE_FILE

ROOT and BASE_ROOT are the mounted images of the gateway and of its base,
IMAGE_JSON is what `buildah inspect` says of the first.
"""

import contextlib
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.error
import urllib.request

import yaml

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from container import Container, Network  # pylint: disable=wrong-import-position

IMAGE_MEBIBYTES_MAX = 40
AWAIT_SECONDS = 20


def await_true(what, is_met, container=None):
    deadline = time.monotonic() + AWAIT_SECONDS
    while not is_met():
        if container is not None and not container.is_running():
            raise AssertionError(f"{what}: it ended: {container.log()}")
        if time.monotonic() > deadline:
            raise AssertionError(
                f"{what}: {container.log() if container else 'too late'}")
        time.sleep(0.02)


class Echo:
    """A backend that sends each datagram back."""

    def __init__(self, address):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((address, 0))
        self.socket.settimeout(0.1)
        self.text = f"{address}:{self.socket.getsockname()[1]}"
        self._stops = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while not self._stops.is_set():
            with contextlib.suppress(TimeoutError, ConnectionRefusedError):
                data, client = self.socket.recvfrom(65536)
                self.socket.sendto(data, client)

    def close(self):
        self._stops.set()
        self._thread.join()
        self.socket.close()


class Client:
    def __init__(self, address, port=19132):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.settimeout(0.3)
        self.socket.connect((address, port))

    def asks(self, text):
        try:
            self.socket.send(text)
            return self.socket.recv(65536) == text
        except (TimeoutError, ConnectionRefusedError):
            return False

    def close(self):
        self.socket.close()


def status_of(address, path):
    try:
        url = f"http://{address}:9132{path}"
        with urllib.request.urlopen(url, timeout=2) as reply:
            return reply.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


class ContainerTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder, True)
        os.chmod(self.folder, 0o755)
        self.count = 0

    def network(self, **options):
        network = Network(**options)
        self.addCleanup(network.close)
        return network

    def start(self, network, environment=None, *, root=None, command=None,
              **options):
        self.count += 1
        container = Container(
            root or IMAGE_ROOT, command or ENTRYPOINT, network,
            environment=environment, user=options.pop("user", IMAGE_USER),
            log=f"{self.folder}/log{self.count}",
            working_folder=options.pop("working_folder", IMAGE_FOLDER),
            **options)
        self.addCleanup(container.close)
        return container

    def gateway(self, network, backend, environment=None, **options):
        return self.start(network, {
            "BACKEND_ADDR": backend.text,
            "PROXY_ADDR": "0.0.0.0:19132",
            "ADMIN_ADDR": "0.0.0.0:9132",
            "ADMIN_TOKEN": "a-token-of-the-test",
            **(environment or {})}, **options)

    def echo(self, network):
        backend = Echo(network.host_address)
        self.addCleanup(backend.close)
        return backend

    def client(self, network, port=19132):
        client = Client(network.address, port)
        self.addCleanup(client.close)
        return client

    def serves(self, network, container):
        client = self.client(network)
        await_true("relay", lambda: client.asks(b"hello"), container)
        return client

    def test_probes_and_drain_as_process_1_of_an_ordinary_user(self):
        network = self.network()
        gateway = self.gateway(network, self.echo(network),
                               {"DRAIN_TIMEOUT_SECS": "30",
                                "SESSION_IDLE_TIMEOUT_SECS": "1"})
        client = self.serves(network, gateway)
        self.assertEqual(status_of(network.address, "/healthz"), 200)
        self.assertEqual(status_of(network.address, "/readyz"), 200)
        gateway.signal(signal.SIGTERM)
        await_true("readiness ends",
                   lambda: status_of(network.address, "/readyz") == 503, gateway)
        self.assertTrue(client.asks(b"still here"))
        # The session ends when its client is silent, and with it the drain.
        self.assertEqual(gateway.wait(AWAIT_SECONDS), 0, gateway.log())
        self.assertIn("drain", gateway.log())

    def test_takes_over_between_two_containers(self):
        network = self.network()
        backend = self.echo(network)
        shared = f"{self.folder}/shared"
        os.mkdir(shared)
        os.chmod(shared, 0o777)
        options = dict(binds={"/run/udp-gate": shared})
        settings = {"TAKEOVER_SOCKET": "/run/udp-gate/takeover.sock"}
        old = self.gateway(network, backend, settings, **options)
        client = self.serves(network, old)
        new = self.gateway(network, backend, settings,
                           command=ENTRYPOINT + [
                               "--takeover", settings["TAKEOVER_SOCKET"]],
                           **options)
        await_true("the new one serves", lambda: "listening on" in new.log(), new)
        self.assertEqual(old.wait(AWAIT_SECONDS), 0, old.log() + new.log())
        self.assertTrue(client.asks(b"same session"), new.log())
        self.assertIn("1 session", new.log())

    def test_few_and_many_descriptors(self):
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        for descriptors in (1024, most):
            with self.subTest(descriptors=descriptors):
                network = self.network()
                gateway = self.gateway(network, self.echo(network),
                                       descriptors=descriptors)
                self.serves(network, gateway)

    def test_without_ipv6(self):
        network = self.network(has_ipv6=False)
        gateway = self.gateway(network, self.echo(network))
        self.serves(network, gateway)

    def test_without_proc_sys(self):
        network = self.network()
        gateway = self.gateway(network, self.echo(network), has_proc_sys=False)
        self.serves(network, gateway)

    def test_a_wrong_setting_ends_it_with_one_line(self):
        network = self.network()
        gateway = self.start(network, {"BACKEND_ADDR": "nonsense"})
        self.assertEqual(gateway.wait(AWAIT_SECONDS), 2)
        self.assertIn("BACKEND_ADDR", gateway.log())

    def test_the_services_of_the_compose_file(self):
        with open(COMPOSE_FILE, encoding="utf-8") as file:
            services = yaml.safe_load(file)["services"]
        # All share one network: a name is enough to tell them apart.
        network = self.network()
        hosts = {name: "127.0.0.1" for name in services}
        # No registry: redis and socat are this machine's.
        own = dict(root=self.folder + "/own", user=0, hosts=hosts,
                   working_folder="/")
        os.mkdir(own["root"])
        subprocess.run(("mount", "--bind", "/", own["root"]), check=True)
        self.addCleanup(
            lambda: subprocess.run(("umount", "--lazy", own["root"]),
                                   check=False))
        redis = self.start(network, command=[
            "redis-server", "--save", "", "--protected-mode", "no"], **own)
        health = services["redis"]["healthcheck"]["test"][1:]

        def is_healthy():
            return subprocess.run(
                ["ip", "netns", "exec", network.name] + health, check=False,
                capture_output=True, text=True).stdout.strip() == "PONG"

        await_true("redis", is_healthy, redis)
        orchestrator = self.start(
            network, command=services["orchestrator"]["command"], **own)
        self.assertEqual(orchestrator.wait(AWAIT_SECONDS), 0, orchestrator.log())
        lobby = self.start(
            network, command=["socat"] + services["lobby"]["command"], **own)
        service = services["udp-gate"]
        self.assertTrue(service["read_only"])
        self.assertEqual(service["cap_drop"], ["ALL"])
        gateway = self.start(network, service["environment"], hosts=hosts,
                             descriptors=service["ulimits"]["nofile"])
        self.assertTrue(lobby.is_running(), lobby.log())
        self.serves(network, gateway)
        gateway.signal(signal.SIGTERM)
        period = float(service["stop_grace_period"].rstrip("s"))
        self.assertEqual(gateway.wait(period), 0, gateway.log())

    def test_the_image_is_small(self):
        def mebibytes(folder):
            output = subprocess.run(
                ("du", "--summarize", "--one-file-system", "--bytes", folder),
                check=True, capture_output=True, text=True).stdout
            return int(output.split()[0]) / (1 << 20)

        added = mebibytes(IMAGE_ROOT) - mebibytes(BASE_ROOT)
        print(f"the image adds {added:.1f} MiB to its base")
        self.assertLess(added, IMAGE_MEBIBYTES_MAX)


if __name__ == "__main__":
    if len(sys.argv) < 5:
        sys.exit(__doc__)
    IMAGE_ROOT, BASE_ROOT, image_json, COMPOSE_FILE = sys.argv[1:5]
    with open(image_json, encoding="utf-8") as file:
        config = json.load(file)["OCIv1"]["config"]
    ENTRYPOINT = config["Entrypoint"]
    IMAGE_USER = int(config["User"].split(":")[0])
    IMAGE_FOLDER = config.get("WorkingDir", "/")
    unittest.main(argv=sys.argv[:1] + sys.argv[5:], verbosity=2)
