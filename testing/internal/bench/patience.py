"""How long the tools wait: longer on a slow machine, such as an emulated one."""

import os

# As in testing/await.h.
VARIABLE = "UDPGATE_TEST_TIMEOUT_FACTOR"
FACTOR = min(100.0, max(1.0, float(os.environ.get(VARIABLE) or 1)))


def longer(seconds):
    """Of a time limit, what it is on this machine."""
    return seconds * FACTOR


def environment():
    """For a program of ours that waits, too."""
    return {VARIABLE: f"{FACTOR:g}"}
