"""Clients and backends of a soak: all of them, one thread, one loop.

Clients that stay have one socket from the beginning to the end and never fall
silent. Churners are clients that come, send a few datagrams and go. Backends
send back what they get, with their name in front, so that a client knows who
serves it.
"""

import heapq
import select
import socket
import time

from contenders import split_address

BUFFER_BYTES = 1 << 20
READ_MAX = 64


class Backend:
    """An echo server that can die and come back at the same address."""

    def __init__(self, traffic, name):
        self.name = name
        # Where nobody else takes the port while this one is dead.
        self.address = "127.0.0.2:0"
        self._traffic = traffic
        self._socket = None
        self.come_back()

    def come_back(self):
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        self._socket.bind(split_address(self.address))
        self.address = "%s:%d" % self._socket.getsockname()
        self._traffic.watch(self._socket, self)

    def die(self):
        self._traffic.forget(self._socket)

    def is_alive(self):
        return self._socket.fileno() >= 0

    def on_readable(self):
        prefix = self.name.encode() + b" "
        for _ in range(READ_MAX):
            try:
                datagram, source = self._socket.recvfrom(65536)
            except BlockingIOError:
                return
            self._traffic.read += 1
            try:
                self._socket.sendto(prefix + datagram, source)
                self._traffic.sent += 1
            except OSError:
                pass  # it could not be sent


class Client:
    """Sends so many datagrams, one each period, or without end."""

    def __init__(self, traffic, number, period, count=None, host="127.0.0.1"):
        self.number = number
        self.period = period
        self.left = count
        self.sequence = 0
        self.answered = -1  # the highest number that came back
        self.served_by = None
        self.strange = 0  # datagrams that were not for it
        self._traffic = traffic
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind((host, 0))
        self._socket.connect(split_address(traffic.target))
        self.address = "%s:%d" % self._socket.getsockname()
        traffic.watch(self._socket, self)

    def close(self):
        self._traffic.forget(self._socket)

    def send(self, padding):
        payload = b"%d %d " % (self.number, self.sequence) + padding
        self.sequence += 1
        try:
            self._socket.send(payload)
            self._traffic.sent += 1
        except OSError:
            pass  # it could not be sent

    def on_readable(self):
        for _ in range(READ_MAX):
            try:
                datagram = self._socket.recv(65536)
            except BlockingIOError:
                return
            except ConnectionRefusedError:
                continue
            self._traffic.read += 1
            name, number, sequence = datagram.split(b" ", 3)[:3]
            if int(number) != self.number or int(sequence) >= self.sequence:
                self.strange += 1
                continue
            if int(sequence) > self.answered:
                self.answered = int(sequence)
                self.served_by = name.decode()


class Traffic:
    """Drives them all; `sent` and `read` count their datagrams."""

    def __init__(self, random, target):
        self.target = target
        self.sent = 0
        self.read = 0
        self.churn_per_second = 0.0
        self.churners_made = 0
        self.stayers = []
        self._random = random
        self._padding = random.randbytes(1200)
        self._epoll = select.epoll()
        self._watched = {}
        self._agenda = []  # (when, number, client)
        self._numbers = 0
        self._newcomers = 0
        self._next_churner = 0.0
        self._is_silent = False

    def watch(self, sock, owner):
        self._watched[sock.fileno()] = owner
        self._epoll.register(sock.fileno(), select.EPOLLIN)

    def forget(self, sock):
        if sock.fileno() >= 0:
            del self._watched[sock.fileno()]
            sock.close()

    def add_client(self, period, count=None, delay=0.0, host="127.0.0.1"):
        self._numbers += 1
        client = Client(self, self._numbers, period, count, host)
        heapq.heappush(
            self._agenda, (time.monotonic() + delay, client.number, client)
        )
        return client

    def add_stayers(self, count, period):
        for _ in range(count):
            delay = self._random.random() * period
            self.stayers.append(self.add_client(period, delay=delay))

    def add_churner(self, delay=0.0):
        # One in six plays long enough to be confirmed.
        is_long = self._random.random() < 1 / 6
        count = self._random.randint(8, 12) if is_long else self._random.randint(1, 4)
        self.churners_made += 1
        return self.add_client(0.2, count, delay)

    def churners(self):
        return [c for _, _, c in self._agenda if c.left is not None]

    def run(self, seconds):
        self.run_until(lambda: False, seconds)

    def run_until(self, is_done, seconds):
        """Whether `is_done` became true in so many seconds."""
        deadline = time.monotonic() + seconds
        next_look = 0.0
        while True:
            now = time.monotonic()
            if now >= next_look:
                if is_done():
                    return True
                next_look = now + 0.01
            if now >= deadline:
                return False
            self._turn(now, min(deadline, next_look))

    def _turn(self, now, until):
        if self.churn_per_second > 0:
            self._next_churner = max(self._next_churner, now - 0.1)
            while self._next_churner <= now:
                self.add_churner()
                self._next_churner += 1 / self.churn_per_second
        while self._agenda and self._agenda[0][0] <= now:
            self._send_due(now)
        if self._agenda:
            until = min(until, self._agenda[0][0])
        for number, _ in self._epoll.poll(max(0.0, until - time.monotonic())):
            owner = self._watched.get(number)
            if owner:
                owner.on_readable()

    def _send_due(self, now):
        when, number, client = heapq.heappop(self._agenda)
        if client.left == 0:
            client.close()
            return
        if client.left is not None:
            client.left -= 1
        client.send(self._padding[: self._random.randrange(len(self._padding))])
        # A client that is late skips sends.
        when = max(when + client.period, now)
        heapq.heappush(self._agenda, (when, number, client))

    # What is waited for.

    def await_stayers(self, seconds, also=lambda client: True):
        """How long it took until each had a reply to what it sends from now on.

        None where one had none in so many seconds. `also` is asked of each.
        """
        marks = [(client, client.sequence) for client in self.stayers]
        begin = time.monotonic()
        is_done = self.run_until(
            lambda: all(c.answered >= mark and also(c) for c, mark in marks), seconds
        )
        return time.monotonic() - begin if is_done else None

    def await_newcomer(self, seconds, backend=None):
        """How long until one that comes now is served, by this one if named."""
        begin = time.monotonic()
        # An address that no client had before. A port of 127.0.0.1 may still
        # have the session of a churner that has left, on an earlier backend.
        self._newcomers += 1
        host = "127.1.%d.%d" % divmod(self._newcomers, 256)
        client = self.add_client(0.1, count=int(seconds / 0.1), host=host)
        is_done = self.run_until(lambda: client.served_by is not None, seconds)
        client.left = 0
        if not is_done or (backend and client.served_by != backend.name):
            return None
        return time.monotonic() - begin
