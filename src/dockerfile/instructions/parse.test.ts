import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { BuildError } from '../../base/errors.ts';
import { parseDockerfile } from '../parser.ts';
import { csvFields } from './csv.ts';
import { parseMount } from './mount.ts';
import { parseStages } from './parse.ts';
import type { Instruction } from './types.ts';
import { lower, upper } from '../text.ts';
import { formatDuration, memoryBytes, parseDuration } from './units.ts';

function one(line: string): Instruction {
  const stage = parseStages(parseDockerfile(`FROM x\n${line}\n`).nodes).stages[0];
  return stage!.instructions[0]!;
}

function failure(line: string): string {
  try {
    one(line);
  } catch (error) {
    return (error as BuildError).message.replace('dockerfile parse error on line 2: ', '');
  }
  return 'no error';
}

test('stages, names and global arguments', () => {
  const { stages, globalArgs } = parseStages(
    parseDockerfile(
      'ARG A=1 B\n# base of all\n# Base is first\nfrom --platform=p x as Base\nRUN y\nFROM base',
    ).nodes,
  );
  assert.deepEqual(globalArgs[0]?.args, [
    { key: 'A', description: '', value: '1' },
    { key: 'B', description: '' },
  ]);
  assert.equal(stages.length, 2);
  assert.equal(stages[0]?.name, 'base');
  assert.equal(stages[0]?.platform, 'p');
  assert.equal(stages[0]?.description, 'of all');
  assert.equal(stages[0]?.instructions[0]?.name, 'RUN');
});

test('each instruction keeps what it says', () => {
  const cases: [string, object][] = [
    [
      'ADD --checksum=c --unpack=false --keep-git-dir a b',
      { kind: 'add', checksum: 'c', unpack: false, keepGitDir: true, sources: ['a'], dest: 'b' },
    ],
    [
      'copy --from=s --chown=u:g --chmod=755 --link --parents --exclude=p --exclude=q a b c/',
      {
        kind: 'copy',
        from: 's',
        chown: 'u:g',
        chmod: '755',
        link: true,
        parents: true,
        exclude: ['p', 'q'],
        sources: ['a', 'b'],
        dest: 'c/',
      },
    ],
    ['COPY ["a b", "c"]', { sources: ['a b'], dest: 'c' }],
    [
      'ENV a=b c="d e"',
      {
        kind: 'env',
        pairs: [
          { key: 'a', value: 'b', legacy: false },
          { key: 'c', value: '"d e"', legacy: false },
        ],
      },
    ],
    ['LABEL a  b c', { kind: 'label', pairs: [{ key: 'a', value: 'b c', legacy: true }] }],
    ['CMD a b', { kind: 'cmd', command: { words: ['a b'], shellForm: true } }],
    ['ENTRYPOINT ["a"]', { kind: 'entrypoint', command: { words: ['a'], shellForm: false } }],
    ['EXPOSE 90 80', { kind: 'expose', ports: ['80', '90'] }],
    ['USER a', { kind: 'user', user: 'a' }],
    ['WORKDIR /a b', { kind: 'workdir', path: '/a b' }],
    ['VOLUME ["/a", " /b "]', { kind: 'volume', volumes: ['/a', '/b'] }],
    ['STOPSIGNAL --x 9', { kind: 'stopsignal', signal: '9' }],
    ['SHELL ["a", "b"]', { kind: 'shell', shell: ['a', 'b'] }],
    ['ONBUILD  RUN x', { kind: 'onbuild', expression: 'RUN x' }],
    ['MAINTAINER a b', { kind: 'maintainer', maintainer: 'a b' }],
    [
      'HEALTHCHECK NONE',
      {
        kind: 'healthcheck',
        health: { test: ['NONE'], interval: 0n, timeout: 0n, startPeriod: 0n, startInterval: 0n, retries: 0 },
      },
    ],
    [
      'RUN --network=none --security=insecure --mount=target=/a x',
      { kind: 'run', network: 'none', security: 'insecure', mounts: ['target=/a'] },
    ],
    ['RUN --device=a/b=c,required x', { devices: [{ name: 'a/b=c', required: true }] }],
  ];
  for (const [line, expected] of cases) assert.partialDeepStrictEqual(one(line), expected, line);
});

test('wrong instructions are refused with the words users know', () => {
  const cases: [string, string][] = [
    ['RUNN x', 'unknown instruction: RUNN (did you mean RUN?)'],
    ['copi x', 'unknown instruction: copi (did you mean copy?)'],
    [
      'ADD a',
      'ADD requires at least two arguments, but only one was provided. Destination could not be determined',
    ],
    ['COPY --fro=x a b', 'unknown flag: --fro (did you mean from?)'],
    ['COPY --link --link a b', 'duplicate flag specified: --link'],
    ['COPY --link= a b', 'missing a value on flag: --link'],
    ['COPY --from a b', 'missing a value on flag: --from'],
    ['COPY --link=maybe a b', 'expecting boolean value for flag --link, not: maybe'],
    ['COPY a <<E\nE', 'COPY cannot accept a heredoc as a destination'],
    [
      'RUN --mount=from=$X,target=/a y',
      "'from' doesn't support variable expansion, define alias stage instead",
    ],
    ['HEALTHCHECK --interval=1us CMD x', 'Interval "interval" cannot be less than 1ms'],
    ['FROM a b', 'FROM requires either one or three arguments'],
    ['FROM a AS 1', 'invalid name for build stage: "1", name can\'t start with a number or contain symbols'],
  ];
  for (const [line, message] of cases) assert.equal(failure(line), message, line);
});

test('mounts take their keys in order', () => {
  const mount = (value: string) => parseMount(value, (word) => word.replace('$X', 'x'));
  assert.partialDeepStrictEqual(mount('target=/a'), { type: 'bind', target: '/a', readonly: true });
  assert.partialDeepStrictEqual(mount('type=cache,id=$X,dst=/a,sharing=locked,mode=0700,uid=1'), {
    type: 'cache',
    id: 'x',
    sharing: 'locked',
    mode: 0o700,
    uid: 1,
    readonly: false,
  });
  assert.partialDeepStrictEqual(mount('type=tmpfs,target=/t,size=1m'), { sizeLimit: 1048576n });
  const wrong: [string, string][] = [
    ['size=1,type=tmpfs', "unexpected key 'size' for mount type 'bind'"],
    ['type=cach', 'unsupported mount type "cach" (did you mean cache?)'],
    ['type=cache,sharing=lock', 'unsupported sharing value "lock" (did you mean locked?)'],
    ['targt=/a', "unexpected key 'targt' in 'targt=/a' (did you mean target?)"],
    ['type=secret', 'invalid secret mount. one of source, target required'],
    ['type=secret,id=a,source=b', "both source and id can't be set"],
    ['mode=1,target=/a', 'mode not allowed for "bind" type mounts'],
    ['ro=maybe', 'invalid value for ro: maybe'],
    ['nonsense', "invalid field 'nonsense' must be a key=value pair"],
  ];
  for (const [value, message] of wrong) assert.throws(() => mount(value), { message }, value);
});

test('records, sizes and durations', () => {
  assert.deepEqual(csvFields('a,"b,""c""",'), ['a', 'b,"c"', '']);
  assert.throws(() => csvFields('a,b"c'), {
    message: 'parse error on line 1, column 4: bare " in non-quoted-field',
  });
  assert.equal(memoryBytes('1.5kib'), 1536n);
  assert.equal(memoryBytes('64 MB'), 67108864n);
  assert.equal(memoryBytes('x'), undefined);
  assert.equal(memoryBytes('1e999'), undefined);
  assert.equal(memoryBytes('9e9p'), -(2n ** 63n));
  assert.equal(formatDuration(parseDuration('1h2m3.5s')), '1h2m3.5s');
  assert.equal(formatDuration(1_500_000n), '1.5ms');
  assert.equal(formatDuration(90_000_000_000n), '1m30s');
  assert.throws(() => parseDuration('5'), { message: 'time: missing unit in duration "5"' });
});

test('letters change their case one by one', () => {
  // The first has a dot that is dropped; the second has no capital of one letter.
  assert.deepEqual(
    [lower('\u0130A\u03a3'), upper('\u00dfa'), lower('AB'), upper('a-b'), upper('a\udcc2'), lower('A\udcff')],
    ['ia\u03c3', '\u00dfA', 'ab', 'A-B', 'A\ufffd', 'a\ufffd'],
  );
  const { nodes } = parseDockerfile('FROM scratch AS \u0130\n');
  assert.equal(parseStages(nodes).stages[0]?.name, 'i');
});
