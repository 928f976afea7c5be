#!/usr/bin/python3
"""Measures udp-gate side by side with other UDP gateways.

Run it by tools/bench.sh, which builds what it needs. Every contender stands
between the same load generator (load.cc) and the same echo backend (echo.cc),
all on 127.0.0.1. For each round and each load the contenders take turns, each
as a fresh process; the order moves on by one with each round.

Writes a report to standard output, and report.txt, results.json and plot.svg
to the output folder. With --tuning it compares settings of udp-gate instead,
and writes tuning.txt and tuning.json. --update-docs puts the first into
docs/benchmarks.md, the second into docs/tuning.md. With --from nothing is
measured: the figures are those of an earlier run.

The exit status is 0 unless a run broke; with --check also unless every target
is met.
"""

import argparse
import json
import pathlib
import shutil
import signal
import sys
import tempfile

import joins
import pages
import redis_faults
import report as reports
import scale
import store
import tuning
from contenders import BenchError, Contenders
from measure import machine, run_all
from plot import plot
from scenario import LOADS

ROOT = pathlib.Path(__file__).resolve().parents[3]


def parse_loads(text):
    by_name = {load.name: load for load in LOADS}
    loads = []
    for word in text.split(","):
        name, separator, size = word.partition("@")
        if name not in by_name or (separator and not size.isdigit()):
            raise argparse.ArgumentTypeError(f"there is no load {word}")
        load = by_name[name]
        loads.append(load.with_size(int(size)) if separator else load)
    return loads


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--bin", type=pathlib.Path, required=True, help="bazel-bin of the build")
    add("--out", type=pathlib.Path, help="folder for the results (a new one)")
    add("--rounds", type=int, help="how often (3; 5 to tune)")
    add("--seconds", type=float, help="measured, of each run (5; 2 to tune)")
    add("--warmup", type=float, help="seconds before that (1; 0.5 to tune)")
    add("--drain", type=float, default=0.5, help="seconds after that (%(default)g)")
    add(
        "--loads",
        type=parse_loads,
        default=",".join(load.name for load in LOADS),
        help="of %(default)s; NAME@BYTES for another size, such as bulk@512",
    )
    add(
        "--contenders",
        type=lambda text: text.split(","),
        help="only these, by name, with commas, and those of --command",
    )
    add(
        "--command",
        action="append",
        default=[],
        metavar="NAME=COMMAND",
        help="one more contender; {listen} and {backend} in it become addresses",
    )
    add(
        "--goref",
        type=pathlib.Path,
        default=ROOT.parent / "shared/reference/goref",
        help="folder of a gateway in Go to compare with (%(default)s)",
    )
    add(
        "--ask-redis", action="store_true", help="udp-gate asks a Redis for backends"
    )
    add(
        "--redis",
        action="store_true",
        help="Redis fails and changes instead; --redis --help says more",
    )
    add(
        "--scale",
        action="store_true",
        help="thousands of sessions instead; --scale --help says more",
    )
    add(
        "--nethernet",
        action="store_true",
        help="joins of Bedrock players instead; --nethernet --help says more",
    )
    add(
        "--store",
        action="store_true",
        help="the session store instead; --store --help says more",
    )
    add(
        "--tuning",
        nargs="?",
        const=",".join(tuning.NAMES),
        type=tuning.parse_names,
        metavar="NAMES",
        help=f"compare settings of udp-gate; all of {', '.join(tuning.NAMES)}",
    )
    add(
        "--update-docs",
        action="store_true",
        help=f"put the report into {pages.PAGE}; with --tuning into {tuning.PAGE}",
    )
    add(
        "--from",
        dest="from_folder",
        type=pathlib.Path,
        metavar="FOLDER",
        help="measure nothing, take the JSON that an earlier run left there",
    )
    add("--quick", action="store_true", help="one round of 1 s: does it work?")
    add("--check", action="store_true", help="fail if a target is missed")
    add("--quiet", action="store_true", help="no progress on standard error")
    options = parser.parse_args()
    if options.update_docs and options.tuning not in (None, list(tuning.NAMES)):
        parser.error("--update-docs with --tuning wants all of it")
    choose_effort(options)
    return options


def choose_effort(options):
    """How much to measure, as far as nobody said."""
    rounds, seconds, warmup = 3, 5.0, 1.0
    if options.tuning:
        rounds, seconds, warmup = 5, 2.0, 0.5
    if options.quick:
        rounds, seconds, warmup = 1, 1.0, 0.3
    options.rounds = rounds if options.rounds is None else options.rounds
    options.seconds = seconds if options.seconds is None else options.seconds
    options.warmup = warmup if options.warmup is None else options.warmup


def compare(options, folder):
    """Runs all contenders under all loads and returns a document."""
    here = machine()
    contenders = Contenders(options, folder)
    try:
        runs = run_all(options, options.loads, contenders.by_name, folder)
    finally:
        contenders.stop()
    document = reports.heading(options, here, contenders.notes)
    document.update(reports.runs_document(options.loads, contenders.by_name, runs))
    return document


def document_of(options, measure, name):
    """What `measure` finds, or what an earlier run has left."""
    if options.from_folder:
        return json.loads((options.from_folder / name).read_text())
    folder = pathlib.Path(tempfile.mkdtemp(prefix="udpgate_bench."))
    try:
        return measure(options, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def publish(options, texts, document, document_name):
    """Writes it all, and prints the report, which is the first text."""
    print(next(iter(texts.values())))
    if options.from_folder and not options.out:
        return
    out = options.out or pathlib.Path(tempfile.mkdtemp(prefix="udpgate_report."))
    reports.write(out, texts, document, document_name)
    print(f"Written to {out}: {', '.join(texts)}, {document_name}")


def run_comparison(options):
    document = document_of(options, compare, "results.json")
    report = reports.Report(document)
    document["targets"] = [
        {"target": text, "is_met": is_met} for text, is_met in report.targets
    ]
    texts = {"report.txt": reports.to_text(report), "plot.svg": plot(report)}
    publish(options, texts, document, "results.json")
    if options.update_docs:
        pages.update_docs(ROOT, report)
    if report.errors:
        return 1
    return 1 if options.check and not all(met for _, met in report.targets) else 0


def run_tuning(options):
    document = document_of(options, tuning.measure, "tuning.json")
    report = tuning.TuningReport(document)
    publish(options, {"tuning.txt": tuning.to_text(report)}, document, "tuning.json")
    if options.update_docs:
        tuning.update_docs(ROOT, report)
    return 1 if report.whole.errors else 0


def main():
    signal.signal(signal.SIGTERM, lambda *unused: sys.exit(143))
    if "--scale" in sys.argv[1:]:
        return scale.main()  # has options of its own
    if "--nethernet" in sys.argv[1:]:
        return joins.main()  # the same
    if "--store" in sys.argv[1:]:
        return store.main()  # the same
    if "--redis" in sys.argv[1:]:
        return redis_faults.main()  # the same
    options = parse_options()
    options.bin = options.bin.resolve()
    try:
        return run_tuning(options) if options.tuning else run_comparison(options)
    except (BenchError, OSError, pages.PageError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
