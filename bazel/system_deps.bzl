"""Debian's libraries as external repositories, under the labels that their upstreams use.

A target here carries link options alone: the headers lie in the compiler's own search path. Because the labels are upstream's
(`@com_google_absl//absl/strings`), the same BUILD files also work in a workspace that brings the real repositories.
"""

def _system_libraries_impl(repository_ctx):
    repository_ctx.file("WORKSPACE", "workspace(name = \"%s\")\n" % repository_ctx.name)
    targets_by_package = {}
    for label, link_options in repository_ctx.attr.libraries.items():
        package, _, name = label.partition(":")
        targets_by_package.setdefault(package, []).append((name, link_options))
    for package, targets in targets_by_package.items():
        lines = ["package(default_visibility = [\"//visibility:public\"])", ""]
        for name, link_options in targets:
            lines.append("cc_library(name = %r, linkopts = %r)" % (name, link_options))
        path = package + "/BUILD.bazel" if package else "BUILD.bazel"
        repository_ctx.file(path, "\n".join(lines) + "\n")

_system_libraries = repository_rule(
    implementation = _system_libraries_impl,
    attrs = {"libraries": attr.string_list_dict(doc = "'package:target' to its link options.")},
)

def _stub_impl(repository_ctx):
    repository_ctx.file("WORKSPACE", "workspace(name = \"%s\")\n" % repository_ctx.name)
    for path, content in repository_ctx.attr.files.items():
        repository_ctx.file(path, content)

def _libnice_impl(repository_ctx):
    # GLib's headers lie beside the compiler's search path, and part of them below
    # a folder of the architecture.
    result = repository_ctx.execute(["pkg-config", "--cflags-only-I", "nice"])
    if result.return_code != 0:
        fail("libnice-dev is missing: " + result.stderr)
    includes = []
    for word in result.stdout.split(" "):
        path = word.strip()[2:]
        if "glib-2.0" in path:
            includes.append("include_%d" % len(includes))
            repository_ctx.symlink(path, includes[-1])
    repository_ctx.file("WORKSPACE", "workspace(name = \"%s\")\n" % repository_ctx.name)
    repository_ctx.file("BUILD.bazel", """
cc_library(
    name = "nice",
    hdrs = glob(["include_*/**/*.h"]),
    includes = %r,
    linkopts = ["-lnice", "-lgio-2.0", "-lgobject-2.0", "-lglib-2.0"],
    visibility = ["//visibility:public"],
)
""" % includes)

_libnice = repository_rule(implementation = _libnice_impl)

_stub = repository_rule(
    implementation = _stub_impl,
    attrs = {"files": attr.string_dict(doc = "Path to content.")},
)

_RULES_CC_DEFS = """
def cc_library(**kwargs):
    native.cc_library(**kwargs)

def cc_binary(**kwargs):
    native.cc_binary(**kwargs)

def cc_test(**kwargs):
    native.cc_test(**kwargs)

def cc_import(**kwargs):
    native.cc_import(**kwargs)

def cc_proto_library(**kwargs):
    native.cc_proto_library(**kwargs)

def cc_toolchain(**kwargs):
    native.cc_toolchain(**kwargs)

def cc_toolchain_suite(**kwargs):
    native.cc_toolchain_suite(**kwargs)
"""

def bazel_builtin_repositories():
    """What Bazel 4.2.3 itself asks for at the start, so that a build needs no download."""
    if not native.existing_rule("rules_cc"):
        _stub(name = "rules_cc", files = {
            "BUILD.bazel": "",
            "cc/BUILD.bazel": "",
            "cc/defs.bzl": _RULES_CC_DEFS,
        })
    if not native.existing_rule("rules_shell"):
        _stub(name = "rules_shell", files = {
            "BUILD.bazel": "",
            "shell/BUILD.bazel": "",
            "shell/sh_test.bzl": "def sh_test(**kwargs):\n    native.sh_test(**kwargs)\n",
        })
    if not native.existing_rule("remote_coverage_tools"):
        _stub(name = "remote_coverage_tools", files = {
            "BUILD.bazel": "filegroup(name = \"coverage_report_generator\", visibility = [\"//visibility:public\"])\n",
        })
    if not native.existing_rule("rules_java"):
        native.local_repository(name = "rules_java", path = "/usr/share/bazel/rules/java")
    if not native.existing_rule("rules_proto"):
        native.local_repository(name = "rules_proto", path = "/usr/share/bazel/rules/proto")

def udpgate_system_deps(exists = None):
    """The libraries that udpgate links, from Debian 12's packages. A repository that already exists is left alone.

    Args:
      exists: tells by name whether a repository exists; None: the workspace
        knows. (A module extension has no `native.existing_rule`.)
    """
    exists = exists or native.existing_rule
    if not exists("com_google_absl"):
        _system_libraries(name = "com_google_absl", libraries = {
            "absl/base:core_headers": [],
            "absl/cleanup:cleanup": [],
            "absl/container:flat_hash_map": ["-labsl_raw_hash_set", "-labsl_hash"],
            "absl/container:flat_hash_set": ["-labsl_raw_hash_set", "-labsl_hash"],
            "absl/functional:any_invocable": [],
            "absl/functional:function_ref": [],
            "absl/hash:hash": ["-labsl_hash", "-labsl_city", "-labsl_low_level_hash"],
            "absl/hash:hash_testing": ["-labsl_bad_variant_access", "-labsl_hash", "-labsl_strings"],
            "absl/status:status": ["-labsl_status", "-labsl_cord"],
            "absl/status:statusor": ["-labsl_statusor", "-labsl_status"],
            "absl/strings:cord": ["-labsl_cord"],
            "absl/strings:str_format": ["-labsl_str_format_internal"],
            "absl/strings:strings": ["-labsl_strings", "-labsl_throw_delegate"],
            "absl/time:time": ["-labsl_time", "-labsl_time_zone"],
            "absl/types:optional": ["-labsl_bad_optional_access"],
            "absl/types:span": ["-labsl_throw_delegate"],
        })
    if not exists("boost"):
        # Headers alone. Beast asserts what a peer decides (`n >= 5` in
        # parse_chunk_header), which must not end a process in any build.
        _stub(name = "boost", files = {"BUILD.bazel": """
package(default_visibility = ["//visibility:public"])

cc_library(name = "asio", defines = ["BOOST_DISABLE_ASSERTS"])

cc_library(name = "beast", defines = ["BOOST_DISABLE_ASSERTS"])
"""})
    if not exists("openssl"):
        _system_libraries(name = "openssl", libraries = {
            ":crypto": ["-lcrypto"],
            ":ssl": ["-lssl", "-lcrypto"],
        })
    if not exists("com_github_redis_hiredis"):
        _system_libraries(name = "com_github_redis_hiredis", libraries = {":hiredis": ["-lhiredis"]})
    if not exists("com_github_c_ares_c_ares"):
        _system_libraries(name = "com_github_c_ares_c_ares", libraries = {":ares": ["-lcares"]})
    if not exists("com_github_cliutils_cli11"):
        _system_libraries(name = "com_github_cliutils_cli11", libraries = {":cli11": []})
    if not exists("com_github_gabime_spdlog"):
        _system_libraries(name = "com_github_gabime_spdlog", libraries = {":spdlog": ["-lspdlog", "-lfmt"]})
    if not exists("com_github_libbpf_libbpf"):
        _system_libraries(name = "com_github_libbpf_libbpf", libraries = {":libbpf": ["-lbpf"]})
    if not exists("com_github_nlohmann_json"):
        _system_libraries(name = "com_github_nlohmann_json", libraries = {":json": []})
    if not exists("com_github_jupp0r_prometheus_cpp"):
        _system_libraries(name = "com_github_jupp0r_prometheus_cpp", libraries = {"core:core": ["-lprometheus-cpp-core"]})
    if not exists("com_github_systemd_systemd"):
        _system_libraries(name = "com_github_systemd_systemd", libraries = {":libsystemd": ["-lsystemd"]})
    if not exists("com_github_google_benchmark"):
        _system_libraries(name = "com_github_google_benchmark", libraries = {":benchmark": ["-lbenchmark"]})
    if not exists("com_google_googletest"):
        _system_libraries(name = "com_google_googletest", libraries = {
            ":gtest": ["-lgmock", "-lgtest"],
            ":gtest_main": ["-lgmock_main", "-lgmock", "-lgtest"],
        })
    if not exists("libnice"):
        _libnice(name = "libnice")
