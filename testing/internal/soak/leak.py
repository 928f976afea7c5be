"""No leak over many sessions: batches of short ones, and rest between them."""

import socket
import subprocess
import sys
import time

from contenders import BenchError, Process, split_address
from processes import CHANNEL, Gate, LastWords, RedisServer
from storms import newcomers, publish

MIB = 1 << 20
RESIDENT_GROWTH_MAX = 4 * MIB
BATCH = 5000
PER_SECOND = 5000
# So many sessions until its memory is that of a gateway in use. It still grows a
# little until it has met every port once.
WARM_UP_BATCHES = 4
REST_SECONDS_MAX = 10.0
STOP_SECONDS_MAX = 1.5
SETTINGS = {"SESSION_IDLE_TIMEOUT_SECS": "2", "UNCONFIRMED_TIMEOUT_SECS": "1"}


def await_descriptors(gate, count):
    deadline = time.monotonic() + REST_SECONDS_MAX
    while gate.descriptors() != count:
        if time.monotonic() > deadline:
            raise BenchError(
                f"leak check: {gate.descriptors()} descriptors at rest instead of "
                f"{count}"
            )
        time.sleep(0.02)


def one_batch(options, folder, gate, redis, is_disconnected):
    """How many of its clients got no reply."""
    path = folder / "addresses.txt"
    arguments = ("--addresses", path)
    with newcomers(options, gate, BATCH, BATCH / PER_SECOND, *arguments) as clients:
        lost = clients.result()["lost"]
    if is_disconnected:
        commands = "".join(
            f"PUBLISH {CHANNEL} {line}\r\n" for line in path.read_text().split()
        )
        with socket.create_connection(split_address(redis.address)) as publisher:
            publish(publisher, commands.encode(), BATCH)
    return lost


def run_batches(options, folder, gate, redis):
    """Resident bytes at rest after each batch, and how many clients were lost."""
    deadline = time.monotonic() + 10
    # What is open then is what is open at rest.
    while not redis.has_both_connections():
        if time.monotonic() > deadline:
            raise BenchError("the gateway does not start:\n" + gate.log())
        time.sleep(0.02)
    descriptors = gate.descriptors()
    resident, lost = [], 0
    # A few more: a client may get the port of an earlier one that is still
    # known, and then begins no session.
    batches = max(WARM_UP_BATCHES + 1, round(1.02 * options.sessions / BATCH + 0.5))
    for number in range(batches):
        lost += one_batch(options, folder, gate, redis, number % 2 == 1)
        await_descriptors(gate, descriptors)
        resident.append(gate.size()["resident"])
        print(
            f"leak check: batch {number + 1} of {batches}, "
            f"{resident[-1] / MIB:.1f} MiB",
            file=sys.stderr,
        )
    return resident, lost


def check_leaks(options, folder, findings):
    """What was measured; what is wrong goes to `findings`."""
    redis = RedisServer(folder)
    try:
        with Process(
            [options.bin / "testing/internal/bench/echo"],
            folder / "echo.log",
            stdout=subprocess.PIPE,
            text=True,
        ) as echo:
            redis.set_backend(echo.read_line())
            settings = {**SETTINGS, "REDIS_ADDR": redis.address}
            program = options.bin / "cli/udp-gate"
            with Gate(program, folder, settings) as gate:
                resident, lost = run_batches(options, folder, gate, redis)
                status = gate.stop(STOP_SECONDS_MAX)
                words = LastWords(gate.log())
                log_lines = gate.log().splitlines()
                last_lines = log_lines[-2:]
                warnings = [line for line in log_lines if " info " not in line]
    finally:
        redis.stop()
    growth = max(resident) - resident[WARM_UP_BATCHES - 1]
    print(
        f"leak check: {words.created:,} sessions, {lost:,} clients not served; "
        f"resident {resident[WARM_UP_BATCHES - 1] / MIB:.1f} MiB after "
        f"{WARM_UP_BATCHES * BATCH:,}, {resident[-1] / MIB:.1f} at the end, growth at "
        f"most {growth / MIB:.1f}"
    )
    print("the gateway: " + "\n  ".join(warnings + last_lines))
    for is_true, text in (
        (status == 0, f"exit status {status}, 0 is wanted"),
        (words.created >= options.sessions, f"only {words.created} sessions"),
        (growth <= RESIDENT_GROWTH_MAX, f"memory grew by {growth / MIB:.1f} MiB"),
        (lost == 0, f"{lost} clients were not served"),
        (
            words.created == words.total("ended"),
            f"{words.created} sessions created, {words.total('ended')} ended",
        ),
        (
            words.dropped == words.total("dropped"),
            f"{words.dropped} dropped, reasons for {words.total('dropped')}",
        ),
    ):
        if not is_true:
            findings.append(f"leak check: {text}")
    return {"sessions": words.created, "lost": lost, "resident": resident}
