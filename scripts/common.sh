# shellcheck shell=bash
# common: what every script here starts with: strict mode, the project's root, one way to speak, one way to fail.
# Sourced, never run. Everything a script says goes to stderr, so that stdout belongs to the program it starts.
set -euo pipefail

# shellcheck disable=SC2034
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
me=${0##*/}

# LC_ALL: a bare system has only the C locales, and we read the output of tools.
export LC_ALL=C.UTF-8
# nbd-client lives where only root's path looks; listing exports with it needs no root.
PATH=$PATH:/usr/sbin:/sbin

say() { printf '%s: %s\n' "$me" "$*" >&2; }
die() {
  say "$*"
  exit 1
}

# usage_of FILE: prints the comment block at the top of a script, without its marks.
usage_of() { sed -n '2,/^[^#]/{/^# shellcheck/d;s/^# \{0,1\}//p}' "$1"; }
