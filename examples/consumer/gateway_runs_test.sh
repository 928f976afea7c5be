#!/bin/sh
# The program starts, says where it listens, and ends with its input.
set -eu
output=$("$1" 127.0.0.1:0 127.0.0.1:1 127.0.0.1:2 </dev/null)
case $output in
  "udpgate "*" listens on 127.0.0.1:"*) ;;
  *) echo "unexpected output: $output"; exit 1 ;;
esac
