#!/bin/sh
# Runs an example that checks itself: it must end with status 0.
exec "$@"
