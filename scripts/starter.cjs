// Runs a bundle of dist/lib with the compiled code that an earlier run of the same command left in dist/code-cache.
// What Node keeps by itself is what it compiles at once, and nearly all of a bundle is compiled when it is first
// called: half of the work of a short command. scripts/build.mjs puts the name of the program in.
'use strict';
const { closeSync, fstatSync, mkdirSync, openSync, readFileSync, renameSync, writeFileSync } = require('node:fs');
const { dirname, join } = require('node:path');
const { Script } = require('node:vm');

const COMMANDS = ['build', 'b', 'du', 'prune', 'debug', 'dial-stdio'];
/** A program that ran this long may have compiled more than what is kept, and has the time to look. */
const LONG_RUN_S = 10;
/** What is kept is replaced by code of this many times its size. */
const MORE = 1.1;
const file = join(__dirname, 'lib', `${__PROGRAM__}.cjs`);
const fd = openSync(file);
const { mtimeMs, size } = fstatSync(fd);
const source = readFileSync(fd, 'utf8');
closeSync(fd);
const command = COMMANDS.find((name) => process.argv.includes(name)) ?? 'other';
const kept = join(__dirname, 'code-cache', `${__PROGRAM__}-${command}-${process.version}-${size}-${mtimeMs}`);
let cachedData;
try {
  cachedData = readFileSync(kept);
} catch {
  // The first run of this command.
}
const wrapped = `(function (exports, require, module, __filename, __dirname) {${source}\n})`;
const script = new Script(wrapped, { filename: file, cachedData });
const missing = !cachedData || script.cachedDataRejected;
process.once('exit', () => {
  if (!missing && process.uptime() < LONG_RUN_S) return;
  try {
    const data = script.createCachedData();
    if (!missing && data.length < cachedData.length * MORE) return;
    mkdirSync(dirname(kept), { recursive: true });
    writeFileSync(`${kept}.${process.pid}`, data);
    renameSync(`${kept}.${process.pid}`, kept);
  } catch {
    // Somebody else's checkout, or a full disk: the next run compiles again.
  }
});
script.runInThisContext().call(exports, exports, require, module, file, dirname(file));
