import assert from 'node:assert/strict';
import { test } from 'node:test';
import { local } from '../../llb/source.ts';
import { parsePlatform } from '../../oci/platform.ts';
import { convertDockerfile } from '../convert/convert.ts';
import type { ConvertOptions } from '../convert/options.ts';
import { type LintWarning, parseLintConfig } from './linter.ts';

const CONFIG = JSON.stringify({
  architecture: 'amd64',
  os: 'linux',
  config: { Env: ['PATH=/bin'] },
  rootfs: { type: 'layers', diff_ids: [`sha256:${'2'.repeat(64)}`] },
});

/** Converts the file; the warnings on the way. */
async function lint(file: string, change: Partial<ConvertOptions> = {}): Promise<LintWarning[]> {
  const warnings: LintWarning[] = [];
  await convertDockerfile(file, {
    buildArgs: new Map(),
    labels: new Map(),
    target: '',
    buildPlatforms: [parsePlatform('linux/amd64')],
    multiPlatform: false,
    networkMode: 'sandbox',
    hostname: '',
    extraHosts: [],
    shmSize: 0n,
    ulimits: [],
    cgroupParent: '',
    imageResolveMode: 'default',
    cacheIdNamespace: '',
    isNoCache: () => false,
    sourceMap: { filename: 'Dockerfile', language: 'Dockerfile', data: Buffer.from(file) },
    resolveImage: async (ref) => ({ ref, digest: '', config: Buffer.from(CONFIG) }),
    namedContext: () => undefined,
    mainContext: async () => local('context'),
    warn: (warning) => warnings.push(warning),
    ...change,
  });
  return warnings;
}

const short = ({ rule, message, location }: LintWarning): string =>
  `${location[0]?.start.line} ${rule}: ${message}`;

/** A file and the findings that BuildKit v0.32 has for it. */
const GOLDEN: readonly (readonly [file: string, findings: readonly string[]])[] = [
  ['FROM busybox\nCMD ["a"]\n', []],
  [
    'FROM busybox AS Foo\nFROM foo As b\n',
    [
      "1 StageNameCasing: Stage name 'Foo' should be lowercase",
      "2 FromAsCasing: 'As' and 'FROM' keywords' casing do not match",
    ],
  ],
  ['FROM busybox\nRUN a \\\n\n  b\n', ['4 NoEmptyContinuation: Empty continuation line']],
  [
    'from busybox\nRUN a\nrun b\nRun c\n',
    [
      "2 ConsistentInstructionCasing: Command 'RUN' should match the case of the command majority (lowercase)",
      "4 ConsistentInstructionCasing: Command 'Run' should match the case of the command majority (lowercase)",
    ],
  ],
  [
    'FROM busybox AS a\nFROM busybox AS scratch\nFROM busybox AS a\n',
    [
      '2 ReservedStageName: Stage name should not use the same name as reserved stage "scratch"',
      '3 DuplicateStageName: Duplicate stage name "a", stage names should be unique',
    ],
  ],
  [
    'FROM busybox\nCMD a\nENTRYPOINT b\nSHELL ["x"]\nCMD c\n',
    [
      '2 JSONArgsRecommended: JSON arguments recommended for CMD to prevent unintended behavior related to OS signals',
      '3 JSONArgsRecommended: JSON arguments recommended for ENTRYPOINT to prevent unintended behavior related to OS signals',
      '2 MultipleInstructionsDisallowed: Multiple CMD instructions should not be used in the same stage because only the last one will be used',
    ],
  ],
  [
    'FROM busybox\nMAINTAINER me\n',
    ['2 MaintainerDeprecated: Maintainer instruction is deprecated in favor of using label'],
  ],
  [
    'ARG BASE=busybox\nARG NONE\nFROM $BASE$BAZE$NONE\n',
    ["3 UndefinedArgInFrom: FROM argument 'BAZE' is not declared (did you mean BASE?)"],
  ],
  [
    'ARG BASE\nFROM --platform=$TARGETPLATFORM busybox\nFROM --platform=linux/amd64 busybox\nFROM --platform=linux/amd64 busybox AS amd64\n',
    [
      '2 RedundantTargetPlatform: Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior',
      '3 FromPlatformFlagConstDisallowed: FROM --platform flag should not use constant value "linux/amd64"',
    ],
  ],
  [
    'FROM busybox AS a\nWORKDIR x\nWORKDIR y\nFROM a\nWORKDIR z\n',
    ['2 WorkdirRelativePath: Relative workdir "x" can have unexpected results if the base image changes'],
  ],
  [
    'FROM busybox\nARG FOO\nWORKDIR /$FOO/$FOOO/$PAHT\nCOPY <<EOF /\n$inner\nEOF\nRUN echo $shell\n',
    [
      "3 UndefinedVar: Usage of undefined variable '$FOOO'",
      "3 UndefinedVar: Usage of undefined variable '$PAHT' (did you mean $PATH?)",
      "4 UndefinedVar: Usage of undefined variable '$inner'",
    ],
  ],
  [
    'FROM busybox\nENV a b\nLABEL c d\nENV api_key=1 PUBLIC_KEY=2\nARG TOKEN\n',
    [
      '2 LegacyKeyValueFormat: "ENV key=value" should be used instead of legacy "ENV key value" format',
      '3 LegacyKeyValueFormat: "LABEL key=value" should be used instead of legacy "LABEL key value" format',
      '4 SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ENV "api_key")',
      '5 SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ARG "TOKEN")',
    ],
  ],
  [
    'FROM busybox\nEXPOSE 80/TCP 127.0.0.1:80:81\n',
    [
      "2 ExposeInvalidFormat: EXPOSE instruction should not define an IP address or host-port mapping, found '127.0.0.1:80:81'",
      "2 ExposeProtoCasing: Defined protocol '80/TCP' in EXPOSE instruction should be lowercase",
    ],
  ],
  [
    '#check=experimental=all\n# says nothing\nARG a\n# b says\nFROM busybox AS b\n',
    ['3 InvalidDefinitionDescription: Comment for ARG should follow the format: `# a <description>`'],
  ],
  ['# check=skip=all\nFROM busybox\nCMD a\n', []],
  [
    '# check=skip=JSONArgsRecommended\nFROM busybox\nCMD a\nMAINTAINER x\n',
    ['4 MaintainerDeprecated: Maintainer instruction is deprecated in favor of using label'],
  ],
  ['FROM busybox\n# check=skip=JSONArgsRecommended\nCMD a\n', []],
];

/** Not the time of day: the machine may be busy. */
const cpuMs = (): number => process.cpuUsage().user / 1000;

test('files break the rules that BuildKit says they break', async () => {
  for (const [file, findings] of GOLDEN) {
    assert.deepEqual((await lint(file)).map(short), findings, file);
  }
});

test('a warning has the description of its rule and where to read about it', async () => {
  const [warning] = await lint('FROM busybox\nCMD a \\\n b\n');
  assert.equal(warning?.url, 'https://docs.docker.com/go/dockerfile/rule/json-args-recommended/');
  assert.match(warning?.description ?? '', /^JSON arguments recommended for ENTRYPOINT\/CMD/);
  assert.deepEqual(
    warning?.location.map(({ start }) => start.line),
    [2, 3],
  );
});

test('a base that has a name only with build arguments', async () => {
  const buildArgs = new Map([['BASE', 'busybox']]);
  assert.deepEqual((await lint('ARG BASE\nFROM $BASE\n', { buildArgs })).map(short), [
    '2 InvalidDefaultArgInFrom: Default value for ARG $BASE results in empty or invalid base image name',
  ]);
});

test('a base of another platform than the one asked for', async () => {
  const targetPlatform = parsePlatform('linux/arm64');
  assert.deepEqual((await lint('FROM busybox\n', { targetPlatform })).map(short), [
    '1 InvalidBaseImagePlatform: Base image busybox was pulled with platform "linux/amd64", expected "linux/arm64" for current build',
  ]);
});

test('sources that the ignore file leaves out', async () => {
  const file = 'FROM busybox\nCOPY a/b ok /\nADD ./c .\nCOPY . /\nCOPY --from=busybox a /\n';
  const ignoring = (...lines: string[]) => lint(file, { ignorePatterns: async () => lines });
  assert.deepEqual((await ignoring('a', 'c')).map(short), [
    '2 CopyIgnoredFile: Attempting to Copy file "a/b" that is excluded by .dockerignore',
    '3 CopyIgnoredFile: Attempting to Add file "c" that is excluded by .dockerignore',
  ]);
  assert.deepEqual(await ignoring('a', '!a/x'), [], 'paths that are taken back are not judged');
  assert.ok((await ignoring('**')).map(short).some((text) => text.includes('Copy file "."')));
});

test('error=true fails the build when a rule was broken', async () => {
  await assert.rejects(lint('# check=error=true\nFROM busybox\nCMD a\nMAINTAINER b\n'), {
    message: 'lint violation found for rules: MaintainerDeprecated, JSONArgsRecommended',
  });
  await lint('# check=error=true;skip=JSONArgsRecommended\nFROM busybox\nCMD a\n');
  await assert.rejects(lint('FROM busybox\nCMD a\n', { lint: parseLintConfig('error=1') }), /lint violation/);
});

test('very many findings do not hold up the build', async () => {
  const count = 4000;
  const file = Array.from({ length: count }, (_, at) => `ARG A${at}=$B${at}\n`).join('');
  const start = cpuMs();
  const warnings = await lint(`FROM busybox\n${file}`);
  assert.equal(warnings.length, count);
  assert.match(warnings[1]?.message ?? '', /did you mean \$A0\?/);
  assert.ok(cpuMs() - start < 4000);
});

test('options that make no sense', async () => {
  const bad = [
    ['skip', 'invalid check option "skip"'],
    ['foo=bar', 'invalid check option "foo"'],
    ['error=x', 'failed to parse check option "error=x": strconv.ParseBool: parsing "x": invalid syntax'],
  ] as const;
  for (const [text, message] of bad) {
    assert.throws(() => parseLintConfig(text), { message });
    await assert.rejects(lint(`# check=${text}\nFROM busybox\n`), {
      message: `failed to parse check options: ${message}`,
    });
  }
});

test('variables are judged up to the place where the text is at fault', async () => {
  const warnings: LintWarning[] = [];
  for (const file of [
    'FROM busybox\nENV A=$UNSET${PATH:=b}',
    'FROM busybox\nARG A=$UNSET${PATH:=b}',
    'FROM $UNSET${PATH:=b}',
  ])
    await assert.rejects(lint(file, { warn: (warning) => warnings.push(warning) }), /unsupported modifier/);
  assert.deepEqual(warnings.map(short).slice(0, 2), [
    "2 UndefinedVar: Usage of undefined variable '$UNSET'",
    "2 UndefinedVar: Usage of undefined variable '$UNSET'",
  ]);
  assert.match(
    warnings.map(short).join('\n'),
    /^1 UndefinedArgInFrom: FROM argument 'UNSET' is not declared$/m,
  );
});

test('only stages that the target needs, or all', async () => {
  const file = 'FROM busybox AS a\nCMD a\nFROM busybox\n';
  assert.deepEqual(await lint(file), []);
  assert.equal((await lint(file, { allStages: true })).length, 1);
});

test('variables are reported also when the word they stand in fails', async () => {
  const files = [
    ['FROM busybox\nWORKDIR $NO${NEITHER:x}\n', 'UndefinedVar'],
    ['FROM busybox\nARG A=$NO${NEITHER:x}\n', 'UndefinedVar'],
    ['FROM $NO${NEITHER:x}\n', 'UndefinedArgInFrom'],
    ['FROM --platform=$NO${NEITHER:x} busybox\n', 'UndefinedArgInFrom'],
  ] as const;
  for (const [file, rule] of files) {
    const warnings: LintWarning[] = [];
    await assert.rejects(lint(file, { warn: (warning) => warnings.push(warning) }), /unsupported modifier/);
    assert.deepEqual(
      warnings.map((warning) => warning.rule),
      [rule, rule],
      file,
    );
    assert.match(warnings[0]?.message ?? '', /NO/);
  }
});

test('a port that fails is judged first', async () => {
  const warnings: LintWarning[] = [];
  const file = 'FROM busybox\nEXPOSE [::1:80:80/TCP\n';
  await assert.rejects(lint(file, { warn: (warning) => warnings.push(warning) }), /missing '\]' in address/);
  assert.deepEqual(warnings.map(({ rule }) => rule).toSorted(), ['ExposeInvalidFormat', 'ExposeProtoCasing']);
});
