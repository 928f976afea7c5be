"""Unit tests, which differ in little but their names."""

load("@rules_cc//cc:defs.bzl", "cc_test")

# Header-only, or in shared libraries that the tests link anyway.
_OF_EVERY_TEST = [
    "@com_google_absl//absl/status",
    "@com_google_absl//absl/status:statusor",
    "@com_google_absl//absl/strings",
    "@com_google_absl//absl/time",
    "@com_google_absl//absl/types:optional",
    "@com_google_absl//absl/types:span",
    "@com_google_googletest//:gtest_main",
]

def unit_tests(names, deps, size = "small", **kwargs):
    """Makes a test of the source file of each name, with the same dependencies.

    Args:
      names: of the tests; the source file of `a_test` is a_test.cc.
      deps: what they test, and what they use beside Abseil and GoogleTest.
      size: as of cc_test.
      **kwargs: passed on to cc_test.
    """
    for name in names:
        cc_test(
            name = name,
            size = size,
            srcs = [name + ".cc"],
            deps = deps + [dep for dep in _OF_EVERY_TEST if dep not in deps],
            **kwargs
        )
