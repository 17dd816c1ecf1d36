// Runs a bundle of dist/lib with the compiled code that an earlier run of the same command left in dist/code-cache.
// What Node keeps by itself is what it compiles at once, and nearly all of a bundle is compiled when it is first
// called: half of the work of a short command. scripts/build.mjs puts the name of the program in.
'use strict';
const { closeSync, fstatSync, mkdirSync, openSync, readFileSync, renameSync, writeFileSync } = require('node:fs');
const { dirname, join } = require('node:path');
const { Script } = require('node:vm');

const COMMANDS = ['build', 'b', 'du', 'prune', 'debug', 'dial-stdio'];
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
if (!cachedData || script.cachedDataRejected)
  process.once('exit', () => {
    try {
      mkdirSync(dirname(kept), { recursive: true });
      writeFileSync(`${kept}.${process.pid}`, script.createCachedData());
      renameSync(`${kept}.${process.pid}`, kept);
    } catch {
      // Somebody else's checkout, or a full disk: the next run compiles again.
    }
  });
script.runInThisContext().call(exports, exports, require, module, file, dirname(file));
