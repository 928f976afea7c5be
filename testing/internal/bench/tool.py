"""What the tools that bench.py leads to have in common: options and results."""

import argparse
import json
import pathlib
import tempfile
import time


def new_parser(doc, flag):
    """With the options that all of them have; `--flag` of bench.py leads here."""
    parser = argparse.ArgumentParser(
        description=doc.partition("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add(f"--{flag}", action="store_true", help="what led here")
    add("--bin", type=pathlib.Path, required=True, help="bazel-bin of the build")
    add("--out", type=pathlib.Path, help="folder for the results (temporary)")
    add("--update-docs", action="store_true", help="put the report into docs/benchmarks.md")
    add("--quick", action="store_true", help="one short round: does it work?")
    add("--check", action="store_true", help="fail if a target is missed")
    add("--quiet", action="store_true", help="no progress on standard error")
    return parser


def to_document(here, notes, targets, **results):
    """What `write_results` writes as JSON."""
    return {
        "date": time.strftime("%Y-%m-%d %H:%M %Z"),
        "machine": here,
        "notes": notes,
        **results,
        "targets": [{"target": t, "met": is_met} for t, is_met in targets],
    }


def write_results(out, name, text, document, others=None):
    """Writes NAME.txt, NAME.json and `others`, and prints the text.

    Into the folder `out`, or a new temporary one if it is None.
    """
    out = out or pathlib.Path(tempfile.mkdtemp(prefix="udpgate_report."))
    out.mkdir(parents=True, exist_ok=True)
    files = {
        f"{name}.txt": text,
        f"{name}.json": json.dumps(document, indent=1) + "\n",
        **(others or {}),
    }
    for file_name, content in files.items():
        (out / file_name).write_text(content)
    print(text)
    print(f"Written to {out}: {', '.join(files)}")
