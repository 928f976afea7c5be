"""What is compared: the loads, our settings, and what must be reached."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Load:
    """What the load generator does."""

    name: str
    title: str
    arguments: tuple
    size_bytes: int = 128

    @property
    def is_fixed_rate(self):
        return "--rate" in self.arguments

    def with_size(self, size_bytes):
        return dataclasses.replace(
            self, name=f"{self.name}@{size_bytes}", size_bytes=size_bytes
        )

    def describe(self):
        return f"{self.name}: {self.title}, {self.size_bytes} bytes"


LOADS = (
    Load(
        "saturation",
        "64 clients, window 8",
        ("--clients", "64", "--window", "8"),
    ),
    Load(
        "20k",
        "20,000 requests/s, 200 clients",
        ("--clients", "200", "--rate", "20000"),
    ),
    Load(
        "50k",
        "50,000 requests/s, 500 clients",
        ("--clients", "500", "--rate", "50000"),
    ),
    Load(
        "bulk",
        "60,000 requests/s in bursts of 24, 40 clients",
        ("--clients", "40", "--rate", "60000", "--burst", "24"),
        1200,
    ),
)

# Thousands of clients come from one address here, as they never do elsewhere.
MANY_CLIENTS_PER_ADDRESS = {"MAX_UNCONFIRMED_SESSIONS_PER_IP": "0"}

# What each contender of our own is set to, beyond addresses.
GATE_SETTINGS = {
    "udpgate": {},
    "udpgate-best": {"WORKER_COUNT": "0"},
}

# CPU per datagram at most so many times that of the other: load, ours, other.
CPU_TARGETS = (
    ("saturation", "udpgate", "nginx", 0.87),
    ("saturation", "udpgate-best", "nginx", 0.72),
    ("saturation", "udpgate", "goref", 0.70),
    ("20k", "udpgate", "nginx", 0.95),
    ("20k", "udpgate-best", "nginx", 0.92),
    ("20k", "udpgate", "goref", 0.45),
    ("50k", "udpgate", "nginx", 1.00),
    ("50k", "udpgate-best", "nginx", 0.97),
    ("50k", "udpgate", "goref", 0.63),
    ("bulk", "udpgate", "nginx", 1.00),
    ("bulk", "udpgate-best", "nginx", 0.97),
    ("bulk", "udpgate", "goref", 0.60),
)
P99_TARGETS = (
    ("20k", "udpgate", "nginx", 1.2),
    ("20k", "udpgate-best", "nginx", 1.2),
)
# At the fixed rates, percentage points above `direct`.
LOSS_ABOVE_DIRECT_MAX = 0.01
