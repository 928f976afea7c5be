"""Tests that run the real program."""

load("@rules_cc//cc:defs.bzl", "cc_library", "cc_test")

# What they are made of.
_DEPS = [
    ":e2e",
    "//testing:await",
    "//testing:echo_backend",
    "//testing:loopback_peer",
    "//testing/internal/support",
    "//udpgate:proxy_options",
    "//udpgate:proxy_stats",
    "//udpgate:socket_address",
    "//udpgate/dns:fake_dns_server",
    "//udpgate/fastpath:kernel_rights",
    "@com_github_nlohmann_json//:json",
    "@com_google_absl//absl/functional:function_ref",
    "@com_google_absl//absl/status",
    "@com_google_absl//absl/status:statusor",
    "@com_google_absl//absl/strings",
    "@com_google_absl//absl/time",
    "@com_google_googletest//:gtest",
]

# They make network namespaces, or load a program into the kernel.
NETWORK = [
    "local",
    "no-sandbox",
]

def gateway_tests(names, fast_path_tags = None, size = "medium", deps = [], data = [], env = {}, **kwargs):
    """Makes an end-to-end test of the source file of each name.

    Args:
      names: of the tests; the source file of `a_test` is a_test.cc.
      fast_path_tags: if given, there is an `a_test_on_fast_path` as well, with
        these tags: the same with the kernel's fast path.
      size: as of cc_test.
      deps: beside those of all tests.
      data: likewise.
      env: likewise.
      **kwargs: passed on to cc_test.
    """
    for name in names:
        cc_library(
            name = name + "_cases",
            testonly = True,
            srcs = [name + ".cc"],
            deps = _DEPS + deps,
            alwayslink = True,
        )
        variants = [("", env, kwargs)]
        if fast_path_tags != None:
            required = dict(env, UDPGATE_FAST_PATH = "required")
            on_fast_path = dict(kwargs, tags = fast_path_tags)
            variants.append(("_on_fast_path", required, on_fast_path))
        for suffix, variant_env, arguments in variants:
            cc_test(
                name = name + suffix,
                size = size,
                data = ["//cli:udp-gate"] + data,
                env = dict(variant_env, UDPGATE_BINARY = "$(rootpath //cli:udp-gate)"),
                deps = [
                    ":%s_cases" % name,
                    "@com_google_googletest//:gtest_main",
                ],
                **arguments
            )
