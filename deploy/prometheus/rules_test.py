#!/usr/bin/env python3
"""promtool takes the alert rules, every metric that rules and dashboard name is
one that the gateway has, and every one that it has is explained.

  rules_test.py UDP_GATE ALERTS CASES DASHBOARD EXPLANATION...
"""

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request


def check_rules(path, cases):
    if shutil.which("promtool") is None:
        if os.environ.get("CI") == "true":
            sys.exit("there is no promtool")
        print("skipped: there is no promtool")
        return
    subprocess.run(["promtool", "check", "rules", path], check=True)
    subprocess.run(["promtool", "test", "rules", cases], check=True)


def metrics_of(gate):
    """The text of /metrics of a gateway of its own."""
    process = subprocess.Popen(
        [gate, "--proxy-addr=127.0.0.1:0", "--redis-addr=127.0.0.1:9",
         "--admin-addr=127.0.0.1:0", "--nethernet-addr=127.0.0.1:0",
         "--redis-gateway-key=gateways", "--redis-event-stream=events",
         "--session-store=redis"],
        stderr=subprocess.PIPE, text=True)
    try:
        for line in process.stderr:
            found = re.search(r"admin endpoint: (http://\S+)", line)
            if found:
                url = found.group(1) + "metrics"
                with urllib.request.urlopen(url, timeout=20) as reply:
                    return reply.read().decode()
        sys.exit("the gateway has no admin endpoint")
    finally:
        process.kill()
        process.wait()


def main():
    gate, alerts, cases, dashboard, *explanations = sys.argv[1:]
    check_rules(alerts, cases)
    with open(alerts, encoding="utf-8") as file:
        text = file.read()
    with open(dashboard, encoding="utf-8") as file:
        panels = json.load(file)["panels"]
    for panel in panels:
        for target in panel["targets"]:
            text += "\n" + target["expr"]
    used = set(re.findall(r"\b(?:udpgate|process)_[a-z_]+", text))
    used = {re.sub("_bucket$", "", name) for name in used}
    # These are there with the first session.
    known = set(re.findall(r"^# TYPE (\w+)", metrics_of(gate), re.MULTILINE))
    for name in ("", "_opened_total", "_ended_total"):
        known.add("udpgate_backend_sessions" + name)
    # With the first player.
    for name in ("requests_total", "joins_total"):
        known.add("udpgate_nethernet_" + name)
    if len(used) < 10 or used - known:
        sys.exit(f"unknown metrics: {sorted(used - known)}")
    print(f"{len(used)} metrics are known")
    explained = set()
    for path in explanations:
        with open(path, encoding="utf-8") as file:
            explained |= set(re.findall(r"`([a-z_]+)`", file.read()))
    # Plain numbers go by their short names.
    missing = {name for name in known if name not in explained and
               re.sub("^udpgate_|_total$", "", name) not in explained}
    if missing:
        sys.exit(f"not explained: {sorted(missing)}")
    print(f"{len(known)} metrics are explained")


main()
