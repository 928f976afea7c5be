"""Fuzz targets: each is run by libFuzzer, and replays its corpus in every test run.

To add one, write NAME_fuzz.cc, put a few inputs into corpus/NAME/, and name it in BUILD.bazel.
"""

load("@rules_cc//cc:defs.bzl", "cc_binary", "cc_library", "cc_test")

_OF_EVERY_TARGET = [
    ":rules",
    "@com_google_absl//absl/base:core_headers",
    "@com_google_absl//absl/status",
    "@com_google_absl//absl/status:statusor",
    "@com_google_absl//absl/strings",
    "@com_google_absl//absl/time",
    "@com_google_absl//absl/types:span",
]

def fuzz_target(name, deps, mutations = 10000):
    """Declares `NAME_fuzz`, for tools/fuzz.sh, and `NAME_corpus_test`.

    Args:
      name: of the target; its source is NAME_fuzz.cc, its corpus in corpus/NAME.
      deps: what the source includes beside rules.h and Abseil.
      mutations: how many the test makes of the corpus; it should take a few seconds under a sanitizer.
    """
    cc_library(
        name = name + "_one_input",
        srcs = [name + "_fuzz.cc"],
        deps = deps + _OF_EVERY_TARGET,
        alwayslink = True,
    )
    cc_test(
        name = name + "_corpus_test",
        size = "small",
        args = [
            "--mutations=%d" % mutations,
            "%s/corpus/%s" % (native.package_name(), name),
        ],
        data = native.glob(["corpus/%s/*" % name]),
        # One thread.
        tags = ["no-tsan"],
        deps = [
            ":replay",
            ":%s_one_input" % name,
        ],
    )

    # libFuzzer brings the main function, and clang alone has libFuzzer.
    cc_binary(
        name = name + "_fuzz",
        linkopts = ["-fsanitize=fuzzer"],
        tags = ["manual"],
        deps = [":%s_one_input" % name],
    )
