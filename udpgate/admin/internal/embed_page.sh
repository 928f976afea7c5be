#!/bin/sh
# Writes the status page as a C++ string.
#
#   embed_page.sh status_page.html SOURCE.cc
set -eu

{
  echo '#include "udpgate/admin/internal/status_page.h"'
  printf 'const char udpgate::admin::internal::kStatusPage[] = '
  printf 'R"_html_('
  cat "$1"
  echo ')_html_";'
} > "$2"
