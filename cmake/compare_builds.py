#!/usr/bin/env python3
"""Compares what CMake and Bazel compile.

  cmake/compare_builds.py BUILD_FOLDER

BUILD_FOLDER was configured with CMAKE_EXPORT_COMPILE_COMMANDS=ON. Prints what
differs, and ends with 1 if something does.
"""
import json
import os
import subprocess
import sys

# Tests that are Bazel's alone: see cmake/tests.cmake.
BAZEL_ONLY = ('testing/internal/bench/', 'testing/internal/fuzz/',
              'testing/internal/ice/', 'testing/internal/programs/',
              'testing/internal/simulation/', 'testing/internal/soak/',
              'testing/internal/nethernet/')
GENERATED = ('program_object.cc', 'status_page.cc')


def bazel_sources(query):
  output = subprocess.run(
      ['bazel', 'query', '--ui_event_filters=-info', query],
      check=True, capture_output=True, text=True).stdout
  paths = {label[2:].replace(':', '/').lstrip('/')
           for label in output.split() if label.endswith('.cc')}
  return {path for path in paths if os.path.basename(path) not in GENERATED}


def cmake_sources(folder):
  root = os.getcwd()
  with open(os.path.join(folder, 'compile_commands.json')) as file:
    commands = json.load(file)
  paths = {os.path.relpath(command['file'], root) for command in commands}
  return {path for path in paths
          if not path.startswith('..')
          and os.path.basename(path) not in GENERATED}


def report(what, paths):
  for path in sorted(paths):
    print(f'{what}: {path}')
  return bool(paths)


def main():
  if len(sys.argv) != 2:
    sys.exit(__doc__)
  cmake = cmake_sources(sys.argv[1])
  program = bazel_sources(
      'kind("source file", deps(//cli:udp-gate + //udpgate/... + //testing:all'
      ' except attr(testonly, 1, //udpgate/...) except tests(//...)))')
  program = {path for path in program
             if path.startswith(('cli/', 'udpgate/', 'testing/'))
             and not path.endswith('_test.cc')}
  tests = bazel_sources(
      'kind("source file", labels(srcs, tests(//udpgate/... + //cli/... +'
      ' //testing/...) + filter("_cases$", //testing/internal/e2e:all)))')
  tests = {path for path in tests if path.endswith('_test.cc')
           and not path.startswith(BAZEL_ONLY)}
  differs = report('only Bazel compiles', (program | tests) - cmake)
  cmake_library = {path for path in cmake
                   if path.startswith(('cli/', 'udpgate/'))
                   or path.endswith('_test.cc')}
  helpers = bazel_sources(
      'kind("source file", labels(srcs, attr(testonly, 1, //udpgate/...)))')
  differs |= report('only CMake compiles',
                    cmake_library - program - tests - helpers)
  sys.exit(1 if differs else 0)


if __name__ == '__main__':
  main()
