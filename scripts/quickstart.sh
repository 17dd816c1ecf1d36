#!/bin/sh
# Builds examples/hello into an OCI image without a running daemon, runs it, says where it is.
# BUILDKIT_BIN names another folder with the executables than bin/, dist/standalone for one.
set -eu
cd "$(dirname "$0")/.."
scripts/setup.sh --quickstart

out=${1:-$PWD/dist/quickstart}
mkdir -p "$out"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp examples/hello/* "$work/"
cp "$(command -v busybox)" "$work/busybox"

echo "== building examples/hello (no daemon needed)"
PATH="${BUILDKIT_BIN:-$PWD/bin}:$PATH" buildctl build "$work" --output "type=oci,name=hello:latest,dest=$out/hello.tar"

echo "== running it"
mkdir "$work/layout"
tar -xf "$out/hello.tar" -C "$work/layout"
umoci unpack --image "$work/layout:latest" "$work/bundle" >/dev/null
sed -i 's/"terminal": true/"terminal": false/' "$work/bundle/config.json"
(cd "$work/bundle" && runc run "hello-$$" </dev/null)

echo "== the image is $out/hello.tar"
