"""For MODULE.bazel: the system's libraries as repositories. Bazel 4 has no module extensions, so this file is one of its own."""

load(":system_deps.bzl", "udpgate_system_deps")

# Modules of the Bazel Central Registry provide these; see MODULE.bazel.
_MODULES = ["com_google_absl", "com_google_googletest"]

def _is_module(name):
    return name in _MODULES

def _system_libraries_impl(_module_context):
    udpgate_system_deps(exists = _is_module)

system_libraries = module_extension(implementation = _system_libraries_impl)
