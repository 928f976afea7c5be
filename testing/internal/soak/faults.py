"""What goes wrong in a soak, one fault after the other.

Each fault repairs what it broke, and then looks whether clients that stay are
served again and newcomers get in. A Fault returns nothing; what it finds goes
to `findings`.
"""

import signal

# Clients that stay send ten times a second and are served again in so many
# seconds after a fault. A gateway needs some of them to find Redis again: its
# back-off grows to a second and more.
SERVED_AGAIN_SECONDS = 5.0
REDIS_BACK_SECONDS = 15.0


class Faults:
    """All of them, and the world that they happen in."""

    def __init__(self, random, redis, backends, traffic):
        self.all = {
            "key changed": self.key_changed,
            "key gone": self.key_gone,
            "key senseless": self.key_senseless,
            "Redis killed": self.redis_killed,
            "Redis hung": self.redis_hung,
            "backend died": self.backend_died,
            "all backends died": self.all_backends_died,
            "disconnect storm": self.disconnect_storm,
            "rush of newcomers": self.rush,
        }
        self.findings = []
        self.slowest = {}  # by what was waited for, in seconds
        self.current = None
        self._random = random
        self._redis = redis
        self._backends = backends
        self._traffic = traffic

    def name_backend(self, backend):
        self.current = backend
        self._redis.set_backend(backend.address)

    def expect(self, is_true, text):
        if not is_true:
            self.findings.append(text)

    # What must hold after a fault.

    def expect_served(self, what, also=lambda client: True):
        took = self._traffic.await_stayers(SERVED_AGAIN_SECONDS, also)
        self._note(f"{what}: clients that stay served", took, SERVED_AGAIN_SECONDS)

    def expect_newcomer(self, what, seconds=SERVED_AGAIN_SECONDS):
        took = self._traffic.await_newcomer(seconds, self.current)
        self._note(f"{what}: new client served by {self.current.name}", took, seconds)

    def _note(self, what, took, most):
        what = what.replace(f" by {self.current.name}", " by the backend that the key names")
        self.expect(took is not None, f"{what}: not in {most:g} s")
        if took is not None:
            self.slowest[what] = max(took, self.slowest.get(what, 0.0))

    # The faults.

    def key_changed(self):
        before = {c.number: c.served_by for c in self._traffic.stayers}
        self.name_backend(self._another())
        self.expect_newcomer("key changed")
        self.expect_served("key changed")
        moved = sum(c.served_by != before[c.number] for c in self._traffic.stayers)
        self.expect(moved == 0, f"key changed: {moved} live sessions moved")

    def key_gone(self):
        self._redis.commands("DEL udp_gate:backend")
        self._traffic.run(self._random.uniform(0.3, 1))
        self.expect_served("key gone")
        self.name_backend(self._another())
        self.expect_newcomer("key gone")

    def key_senseless(self):
        senseless = ("SET udp_gate:backend no.such:port", "SET udp_gate:backend :0")
        senseless += ("LPUSH udp_gate:backend a b c",)
        for line in senseless:
            self._redis.commands("DEL udp_gate:backend", line)
            self._traffic.run(self._random.uniform(0.2, 0.4))
        self.expect_served("key senseless")
        self.name_backend(self._another())
        self.expect_newcomer("key senseless")

    def redis_killed(self):
        self._redis.kill()
        self._traffic.run(self._random.uniform(0.2, 2))
        self.expect_served("Redis away")
        self._redis.start()
        self._expect_redis_back("Redis killed")

    def redis_hung(self):
        self._redis.signal(signal.SIGSTOP)
        self._traffic.run(self._random.uniform(0.5, 3))
        self.expect_served("Redis hangs")
        self._redis.signal(signal.SIGCONT)
        self._expect_redis_back("Redis hung")

    def _expect_redis_back(self, what):
        self.name_backend(self._another())
        self.expect_newcomer(what, REDIS_BACK_SECONDS)
        is_back = self._traffic.run_until(
            self._redis.has_subscriber, REDIS_BACK_SECONDS
        )
        self.expect(is_back, f"{what}: no subscription in {REDIS_BACK_SECONDS:g} s")

    def backend_died(self):
        dead = self.current
        self.name_backend(self._another())
        dead.die()
        self._traffic.run(self._random.uniform(0.2, 1))
        self.expect_served("a backend dead")
        dead.come_back()
        self.expect_served("a backend back")

    def all_backends_died(self):
        for backend in self._backends:
            backend.die()
        self._traffic.run(self._random.uniform(0.2, 2))
        for backend in self._backends:
            backend.come_back()
        self.expect_served("all backends back")
        self.expect_newcomer("all backends back")

    def disconnect_storm(self):
        """First the key, then the events: all move to the other backend."""
        self.name_backend(self._another())
        targets = [c.address for c in self._traffic.stayers]
        targets += [c.address for c in self._traffic.churners()]
        targets += ["127.0.0.1:9", "65535", "nonsense", "[::1]:1"] * 5
        self._random.shuffle(targets)
        self._redis.publish(targets)
        name = self.current.name
        # Who was on this backend already is moved without a sign of it. The
        # next fault must not meet an event that is still on its way.
        self._traffic.run(0.5)
        self.expect_served(
            "disconnect storm", lambda client: client.served_by == name
        )

    def rush(self):
        clients = [
            self._traffic.add_churner(self._random.random()) for _ in range(1000)
        ]
        self._traffic.run(1.5)
        unserved = sum(client.served_by is None for client in clients)
        self.expect(unserved == 0, f"rush: {unserved} of {len(clients)} not served")
        self.expect_served("rush")

    def _another(self):
        others = [b for b in self._backends if b is not self.current]
        return self._random.choice(others)
