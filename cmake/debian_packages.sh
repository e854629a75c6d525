# Sourced by tests/run.sh and examples/run.sh.

# need PACKAGE…: installs those Debian packages that are missing; calls apt for nothing else.
need() {
  local missing=() package
  if ! command -v dpkg-query >/dev/null; then
    echo "not a Debian system: expecting what these packages bring: $*" >&2
    return 0
  fi
  for package in "$@"; do
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return 0
  echo "installing ${missing[*]}"
  as_root apt-get update -q || return 1
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"
}

# unless COMMAND PACKAGE: prints the package where the command is missing.
unless() { command -v "$1" >/dev/null || echo "$2"; }

as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    echo "needs root or sudo for: $*" >&2
    return 1
  fi
}
