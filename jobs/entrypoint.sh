#!/bin/sh
# `jobs.<name> key=value ...` runs a job; anything else (ray start ..., bash) runs as it is.
set -eu
case "${1:-}" in
  jobs.*) exec python -m "$@" ;;
  *) exec "$@" ;;
esac
