import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatDuration, parseDuration } from './duration.ts';
import { type CommandSpec, type ParsedArgs, parseArgs } from './flags.ts';
import { helpText } from './flags-help.ts';

const APP: CommandSpec = {
  name: 'app',
  usage: 'does things',
  version: 'v1',
  flags: [
    { name: 'debug', kind: 'bool', usage: 'more output' },
    { name: 'addr', kind: 'string', usage: 'where', value: 'unix:///x', env: ['APP_ADDR'] },
    { name: 'timeout', kind: 'int', usage: 'seconds', value: '5' },
  ],
  commands: [
    {
      name: 'build',
      aliases: ['b'],
      usage: 'build',
      flags: [
        { name: 'output', aliases: ['o'], kind: 'strings', usage: 'outputs' },
        { name: 'opt', kind: 'strings', usage: 'options' },
        { name: 'no-cache', kind: 'bool', usage: 'no cache' },
        { name: 'keep', kind: 'duration', usage: 'time' },
        { name: 'size', kind: 'float', usage: 'MB' },
        { name: 'verbose', aliases: ['v'], kind: 'bool', usage: 'more' },
      ],
    },
    { name: 'debug', usage: 'debug', commands: [{ name: 'info', usage: 'information' }] },
  ],
};

function parse(...argv: string[]): ParsedArgs {
  return parseArgs(APP, argv, {});
}

function values(...argv: string[]) {
  const parsed = parse(...argv);
  assert.equal(parsed.kind, 'run', JSON.stringify(parsed));
  return parsed as Extract<ParsedArgs, { kind: 'run' }>;
}

test('one or two dashes, equals sign or next argument', () => {
  for (const argv of [['-opt', 'a=b'], ['--opt', 'a=b'], ['--opt=a=b'], ['-opt=a=b']])
    assert.deepEqual(values('build', ...argv).flags.strings('opt'), ['a=b']);
});

test('list flags repeat and keep commas', () => {
  const { flags } = values('b', '-o', 'type=local,dest=x', '--output', 'type=oci', '--output=');
  assert.deepEqual(flags.strings('output'), ['type=local,dest=x', 'type=oci', '']);
});

test('flags of the program are taken before and after the command', () => {
  const { flags } = values('--debug', 'build', '--addr', 'tcp://h:1', '.', '--no-cache=false', 'more');
  assert.equal(flags.bool('debug'), true);
  assert.equal(flags.string('addr'), 'tcp://h:1');
  assert.equal(flags.bool('no-cache'), false);
  assert.equal(flags.isSet('no-cache'), true);
  assert.deepEqual(flags.args, ['.', 'more']);
  assert.equal(flags.number('timeout'), 5);
});

test('-v means verbose in a command that has it and version at the top', () => {
  assert.equal(values('build', '-v').flags.bool('verbose'), true);
  assert.equal(parse('-v').kind, 'version');
  assert.equal(parse('debug', 'info', '-v').kind, 'usage');
});

test('everything after -- is an argument', () => {
  assert.deepEqual(values('build', '--', '--opt', 'x').flags.args, ['--opt', 'x']);
});

test('errors have upstream texts', () => {
  const message = (...argv: string[]) => {
    const parsed = parse(...argv);
    return parsed.kind === 'usage' ? parsed.message : parsed.kind;
  };
  assert.equal(message('--foo'), 'flag provided but not defined: -foo');
  assert.equal(message('build', '-foo=1'), 'flag provided but not defined: -foo');
  assert.equal(message('build', '--opt'), 'flag needs an argument: --opt');
  assert.equal(message('build', '--no-cache=x'), 'invalid value "x" for flag -no-cache: parse error');
  assert.equal(
    message('--timeout', 'x', 'build'),
    'invalid value "x" for flag -timeout: strconv.ParseInt: parsing "x": invalid syntax',
  );
  assert.deepEqual(parse('nosuch'), { kind: 'no-topic', topic: 'nosuch' });
});

test('environment variables come behind the command line', () => {
  const env = { APP_ADDR: 'unix:///env' };
  const from = (argv: string[]) => {
    const parsed = parseArgs(APP, argv, env);
    return parsed.kind === 'run' ? [parsed.flags.string('addr'), parsed.flags.isSet('addr')] : [];
  };
  assert.deepEqual(from(['build']), ['unix:///env', true]);
  assert.deepEqual(from(['build', '--addr=y']), ['y', true]);
});

test('help in all its spellings', () => {
  for (const argv of [['--help'], [], ['help'], ['h']]) {
    const parsed = parse(...argv);
    assert.equal(parsed.kind === 'help' && parsed.path.length, 1);
  }
  for (const argv of [
    ['build', '-h'],
    ['help', 'build'],
    ['--help', 'b'],
  ]) {
    const parsed = parse(...argv);
    assert.equal(parsed.kind === 'help' && parsed.path.at(-1)?.name, 'build', argv.join(' '));
  }
});

test('help text', () => {
  assert.equal(
    helpText([APP]),
    `NAME:
   app - does things

USAGE:
   app [global options] [command [command options]]

VERSION:
   v1

COMMANDS:
   build, b  build
   debug     debug
   help, h   Shows a list of commands or help for one command

GLOBAL OPTIONS:
   --debug        more output
   --addr string  where (default: "unix:///x") [$APP_ADDR]
   --timeout int  seconds (default: 5)
   --help, -h     show help
   --version, -v  print the version
`,
  );
  assert.match(
    helpText([APP, APP.commands![0]!]),
    /--output string, -o string \[ --output string, -o string \] {2}outputs/,
  );
  assert.match(
    helpText([APP, APP.commands![0]!]),
    /time \(default: 0s\)\n +--size float +MB \(default: 0\)\n/,
  );
});

test('durations', () => {
  assert.equal(parseDuration('1h30m'), 5_400_000_000_000n);
  assert.equal(parseDuration('1.5s'), 1_500_000_000n);
  assert.equal(parseDuration('-2ms'), -2_000_000n);
  for (const bad of ['', '3', '1d', 'h', '1h-1m', '.s']) assert.equal(parseDuration(bad), undefined, bad);
  assert.equal(formatDuration(48n * 3_600_000_000_000n), '48h0m0s');
  assert.equal(formatDuration(1_500_000_000n), '1.5s');
  assert.equal(formatDuration(2_000_000n), '2ms');
  assert.equal(formatDuration(61_000_000_000n), '1m1s');
});
