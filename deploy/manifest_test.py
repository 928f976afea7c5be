#!/usr/bin/env python3
"""The manifests are YAML, and say what the gateway understands.

  manifest_test.py ENV_EXAMPLE DOCKERFILE MANIFEST...
"""

import os
import re
import sys

try:
    import yaml
except ImportError:
    if os.environ.get("CI") == "true":
        sys.exit("there is no python3-yaml")
    print("skipped: there is no python3-yaml")
    sys.exit(0)


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def settings_in(node):
    """The variables that any part of a document gives to the gate."""
    if isinstance(node, list):
        for child in node:
            yield from settings_in(child)
    elif isinstance(node, dict):
        for key, child in node.items():
            if key in ("environment", "data"):
                yield from child
            else:
                yield from settings_in(child)


def main():
    env_example, dockerfile, *manifests = sys.argv[1:]
    known = set(re.findall(r"^([A-Z_]+)=", read(env_example), re.MULTILINE))
    # What is only checked for syntax says so; what is run names the command.
    for path in [dockerfile] + manifests:
        header = " ".join(read(path).split("\n")[:4]).replace("# ", "")
        if not re.search("was not run|tools/container.sh", header):
            sys.exit(f"{path}: says neither that it was not run nor what runs it")
    count = 0
    for path in manifests:
        documents = list(yaml.safe_load_all(read(path)))
        if not all(isinstance(document, dict) for document in documents):
            sys.exit(f"{path}: not all documents are mappings")
        found = set(settings_in(documents))
        if found - known:
            sys.exit(f"{path}: no settings: {sorted(found - known)}")
        count += len(found)
    if count < 4:
        sys.exit(f"only {count} settings were found")
    for instruction in ("FROM", "USER", "ENTRYPOINT"):
        if not re.search(f"^{instruction} ", read(dockerfile), re.MULTILINE):
            sys.exit(f"{dockerfile}: no {instruction}")
    print(f"{len(manifests)} manifests, {count} settings")


main()
