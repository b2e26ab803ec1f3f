#!/bin/sh
# `jobs.<name> key=value ...` runs a job; anything else (ray start ..., bash) runs as it is, a head
# never without a token.
set -eu
export RAY_AUTH_MODE="${RAY_AUTH_MODE:-token}"
case "$*" in
  *ray\ start*--head*)
    [ -n "${RAY_AUTH_TOKEN:-}${RAY_AUTH_TOKEN_PATH:-}" ] || [ "$RAY_AUTH_MODE" != token ] \
      || (umask 077 && ray get-auth-token --generate > /dev/null) ;;
esac
case "${1:-}" in
  jobs.*) exec python -m "$@" ;;
  *) exec "$@" ;;
esac
