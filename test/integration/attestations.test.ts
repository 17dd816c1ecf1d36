// What a build says of itself: provenance in images, folders and registries, as clients ask for it.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import type { Digest } from '../../src/base/digest.ts';
import { encodeDefinition } from '../../src/llb/encode.ts';
import { run } from '../../src/llb/exec.ts';
import { marshal } from '../../src/llb/marshal.ts';
import { NetMode } from '../../src/llb/ops.ts';
import { image } from '../../src/llb/source.ts';
import { setNetwork } from '../../src/llb/state.ts';
import { parseManifest } from '../../src/oci/manifest.ts';
import { type CheckedImage, checkImage, type Statement } from '../../src/images/check.ts';
import { Daemon, digest, OUR_DAEMON, Registry, type RunResult, TempDir } from './harness.ts';

let daemon: Daemon;
let registry: Registry;
const dir = new TempDir();
const MULTI = ['--opt', 'platform=linux/amd64,linux/arm64'];
const V1 = 'https://slsa.dev/provenance/v1';

before(async () => {
  registry = await Registry.start();
  await registry.pushBusybox();
  dir.write({ 'env.d/a.json': '{"owner":"tests","builder":{"b":1,"a":2}}', 'env.d/skipped.txt': '{' });
  const topLevel = `provenanceEnvDir = ${JSON.stringify(dir.join('env.d'))}\n`;
  daemon = await Daemon.start({ config: registry.config, topLevel });
  dir.write({
    'ctx/Dockerfile': [
      'FROM busybox AS base',
      'ARG WORD',
      'RUN --mount=type=secret,id=token,required=false echo $WORD > /word',
      'FROM base',
      'COPY Dockerfile /copied',
      '',
    ].join('\n'),
    'plain/Dockerfile': 'FROM scratch\nCOPY Dockerfile /sub/\n',
  });
});

after(async () => {
  await daemon?.[Symbol.asyncDispose]();
  await registry?.[Symbol.asyncDispose]();
  dir[Symbol.dispose]();
});

/** A blob of a layout in a folder. */
function blobIn(layout: string) {
  return ({ digest: name }: { digest: Digest }): Uint8Array | undefined => {
    try {
      return readFileSync(`${layout}/blobs/${name.replace(':', '/')}`);
    } catch {
      return undefined;
    }
  };
}

let count = 0;

/** Builds into an image archive and checks all that is in it. */
async function imageOf(
  context: string,
  args: readonly string[],
  output = 'type=oci,name=example.com/x:1',
  on = daemon,
): Promise<CheckedImage> {
  const out = dir.join(`out${count++}`);
  mkdirSync(out);
  await on.build(dir.join(context), [...args, '--output', `${output},dest=${out}.tar`]);
  execFileSync('tar', ['-xf', `${out}.tar`, '-C', out]);
  const parsed = parseManifest(readFileSync(`${out}/index.json`));
  assert.equal(parsed.kind, 'index');
  return checkImage(parsed.kind === 'index' ? parsed.manifests[0]! : assert.fail(), { read: blobIn(out) });
}

interface Provenance {
  readonly buildDefinition: {
    readonly externalParameters: { readonly request: Record<string, unknown> };
    readonly internalParameters: Record<string, unknown>;
    readonly resolvedDependencies?: readonly { uri: string; digest: Record<string, string> }[];
  };
  readonly runDetails: { builder: { id: string }; metadata: Record<string, unknown> };
}

function provenanceOf({ attestations }: CheckedImage, index = 0): Provenance {
  const [statement] = attestations[index]?.statements ?? [];
  assert.equal(statement?.predicateType, V1);
  return (statement as Statement).predicate as Provenance;
}

test('a little provenance names the base image and keeps arguments and secrets to itself', async () => {
  const args = ['--opt', 'attest:provenance=mode=min,builder-id=https://b', '--opt', 'build-arg:WORD=hush'];
  const image = await imageOf('ctx', args);
  const { buildDefinition, runDetails } = provenanceOf(image);
  const [base] = buildDefinition.resolvedDependencies ?? [];
  assert.equal(base?.uri, 'pkg:docker/busybox@latest?platform=linux%2Famd64');
  const served = JSON.stringify(await registry.manifest('library/busybox', 'latest'));
  assert.equal(`sha256:${base?.digest.sha256}`, digest(Buffer.from(served)));
  assert.deepEqual(buildDefinition.externalParameters.request, {
    frontend: 'dockerfile.v0',
    locals: [{ name: 'context' }, { name: 'dockerfile' }],
    // The client's own request, without what it says.
    root: { configSource: {}, request: {} },
    compatibilityVersion: 30,
  });
  const { owner, builder, buildConfig } = buildDefinition.internalParameters;
  if (OUR_DAEMON) assert.deepEqual([owner, builder, buildConfig], ['tests', { a: 2, b: 1 }, undefined]);
  assert.equal(runDetails.builder.id, 'https://b');
  assert.deepEqual(runDetails.metadata.buildkit_completeness, {
    request: false,
    resolvedDependencies: false,
  });
  assert.doesNotMatch(JSON.stringify(image.attestations), /hush|token/);
  const [subject] = image.attestations[0]?.statements[0]?.subject ?? [];
  assert.equal(subject?.name, 'pkg:docker/example.com/x@1?platform=linux%2Famd64');
});

test('all provenance has the graph, the file, the layers and the names of secrets', async () => {
  const args = ['--opt', 'attest:provenance=capture-usage=1', '--opt', 'build-arg:WORD=told'];
  const image = await imageOf('ctx', args);
  const { buildDefinition, runDetails } = provenanceOf(image);
  const { request } = buildDefinition.externalParameters;
  assert.deepEqual(request.args, { 'build-arg:WORD': 'told' });
  assert.deepEqual(request.secrets, [{ id: 'token', optional: true }]);
  const { buildConfig } = buildDefinition.internalParameters as {
    buildConfig: { llbDefinition: { id: string; inputs?: string[]; op: { Op: object } }[] };
  };
  const steps = buildConfig.llbDefinition;
  assert.deepEqual(
    steps.map(({ op }) => Object.keys(op.Op)[0]),
    ['source', 'exec', 'source', 'file', undefined],
  );
  assert.deepEqual(steps[3]?.inputs, ['step1:0', 'step2:0']);
  assert.doesNotMatch(JSON.stringify(steps), /local\.(session|unique)/);
  const { source, layers, sysUsage } = runDetails.metadata.buildkit_metadata as {
    sysUsage: { memoryStat: object }[];
    source: { infos: { data: string }[]; locations: object };
    layers: Record<string, { digest: string }[][]>;
  };
  assert.ok(sysUsage.at(-1)?.memoryStat);
  const file = readFileSync(dir.join('ctx/Dockerfile'));
  assert.equal(source.infos[0]?.data, file.toString('base64'));
  assert.deepEqual(Object.keys(source.locations).sort(), ['step0', 'step1', 'step2', 'step3']);
  const own = image.images[0]?.manifest.layers.map((layer) => layer.digest) ?? [];
  assert.deepEqual(
    layers['step3:0']?.[0]?.map((layer) => layer.digest),
    own,
  );
  assert.deepEqual(
    layers['step1:0']?.[0]?.map((layer) => layer.digest),
    own.slice(0, 2),
  );
});

test('each platform has its own provenance', async () => {
  const image = await imageOf('plain', [...MULTI, '--opt', 'attest:provenance=mode=max']);
  assert.equal(image.images.length, 2);
  assert.equal(image.attestations.length, 2);
  for (const i of [0, 1]) assert.ok(provenanceOf(image, i));
});

test('version 0.2, flags, and values that make no sense', async () => {
  const image = await imageOf('plain', [
    '--opt',
    'attest:provenance=version=v0.2,mode=min,reproducible=true',
  ]);
  const [statement] = image.attestations[0]?.statements ?? [];
  assert.equal(statement?.predicateType, 'https://slsa.dev/provenance/v0.2');
  const predicate = statement?.predicate as { readonly metadata: { reproducible: boolean } } | undefined;
  assert.equal(predicate?.metadata.reproducible, true);
  const cases = {
    'attest:provenance=version=v9': /invalid provenance SLSA version: v9/,
    'attest:provenance=mode=some': /invalid mode "some"/,
    'attest:provenance=reproducible=perhaps': /failed to parse reproducible flag "perhaps"/,
    'attest:provenance=complete-materials=true': /provenance materials are incomplete(.|\n)*- context\n/,
    'attest:other=': /unknown attestation type "other"/,
  };
  for (const [option, message] of Object.entries(cases)) {
    const { code, stderr } = await daemon.tryBuild(dir.join('plain'), ['--opt', option]);
    assert.equal(code, 1);
    assert.match(stderr, message);
  }
});

test('a graph without a frontend: complete and, without network, hermetic', async () => {
  const base = image('docker.io/library/busybox:latest');
  for (const network of [NetMode.NONE, NetMode.UNSET]) {
    const ran = run(setNetwork(base, network), { args: ['true'] }).root;
    const out = dir.join(`llb${count++}`);
    const input = encodeDefinition(marshal(ran));
    const args = ['--opt', 'attest:provenance=mode=min', '--output', `type=local,dest=${out}`];
    const built = await daemon.buildctl(['build', '--progress', 'plain', ...args], { input });
    assert.equal(built.code, 0, built.stderr);
    const statement: Statement = JSON.parse(readFileSync(`${out}/provenance.json`, 'utf8'));
    const { metadata } = (statement.predicate as Provenance).runDetails;
    assert.deepEqual(metadata.buildkit_completeness, { request: false, resolvedDependencies: true });
    assert.equal(metadata.buildkit_hermetic, network === NetMode.NONE ? true : undefined);
  }
});

test('folders get a file; what is for images only stays out', async () => {
  const files = async (attest: string, output: string): Promise<string[]> => {
    const out = dir.join(`local${count++}`);
    const args = ['--opt', `attest:provenance=${attest}`, '--output', `type=local,dest=${out}${output}`];
    await daemon.build(dir.join('plain'), args);
    return (readdirSync(out, { recursive: true }) as string[]).sort();
  };
  assert.deepEqual(await files('mode=min', ''), ['provenance.json', 'sub', 'sub/Dockerfile']);
  assert.deepEqual(await files('mode=min,inline-only=true', ''), ['sub', 'sub/Dockerfile']);
  const named = await files('mode=min,filename=p.json', ',attestation-prefix=pre-');
  assert.deepEqual(named, ['pre-p.json', 'sub', 'sub/Dockerfile']);
});

test('a pushed image brings its provenance', async () => {
  const name = `${registry.host}/pushed:1`;
  const meta = dir.join('meta.json');
  const built: RunResult = await daemon.build(dir.join('plain'), [
    ...['--opt', 'attest:provenance=mode=min,inline-only=true', '--metadata-file', meta],
    ...['--output', `type=image,name=${name},push=true`],
  ]);
  assert.match(built.stderr, /exporting attestation manifest sha256:/);
  const raw = execFileSync('skopeo', ['inspect', '--raw', '--tls-verify=false', `docker://${name}`]);
  const told = JSON.parse(readFileSync(meta, 'utf8'));
  assert.equal(told['containerimage.digest'], digest(raw));
  assert.equal(told['containerimage.config.digest'], undefined);
  const layout = dir.join('pulled');
  const copy = ['copy', '--insecure-policy', '--all', '--src-tls-verify=false'];
  execFileSync('skopeo', [...copy, `docker://${name}`, `oci:${layout}:1`]);
  const pulled = parseManifest(readFileSync(`${layout}/index.json`));
  const root = pulled.kind === 'index' ? pulled.manifests[0]! : assert.fail();
  const image = await checkImage(root, { read: blobIn(layout) });
  assert.equal(provenanceOf(image).runDetails.builder.id, '');
});

test('the history keeps all provenance of every build, for each platform, asked for or not', async () => {
  const history = async (ref: string) => {
    const format = ['debug', 'histories', '--format', '{{json .}}'];
    const { stdout } = await daemon.buildctl(format);
    const records = stdout
      .toString()
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line).record);
    return records.find(({ Ref }: { Ref: string }) => Ref === ref);
  };
  const predicateOf = async ({ digest: name, annotations }: { digest: string; annotations: object }) => {
    assert.deepEqual(annotations, { 'in-toto.io/predicate-type': V1 });
    const { stdout } = await daemon.buildctl(['debug', 'get', name]);
    return JSON.parse(stdout.toString()) as Provenance;
  };
  const buildOf = async (args: readonly string[]) => {
    const file = dir.join(`ref${count++}`);
    await daemon.build(dir.join('plain'), [...args, '--ref-file', file]);
    return history(readFileSync(file, 'utf8').trim());
  };
  const { Result } = await buildOf(['--opt', 'attest:provenance=mode=min,builder-id=me']);
  const one = await predicateOf(Result.Attestations[0]);
  assert.equal(one.runDetails.builder.id, 'me');
  assert.ok(one.buildDefinition.internalParameters.buildConfig);
  const { sysUsage } = one.runDetails.metadata.buildkit_metadata as { sysUsage: { cpuStat: object }[] };
  assert.ok(sysUsage.at(-1)?.cpuStat);
  const { Results } = await buildOf(MULTI);
  assert.deepEqual(Object.keys(Results), ['linux/amd64', 'linux/arm64']);
  const two = await predicateOf(Results['linux/arm64'].Attestations[0]);
  assert.ok(two.buildDefinition.internalParameters.buildConfig);
});

/** Lists the first directory level of what it is given, in documents of one package. */
const SCANNER = `#!/bin/sh
set -e
env | grep ^BUILDKIT_SCAN_ | sort > /tmp/env
statement() {
  files=$(cd $2; ls -d * 2>/dev/null | sort | sed 's/.*/{"fileName":"&","SPDXID":"SPDXRef-&"}/' | tr '\\n' ',' | sed 's/,$//')
  printf '{"_type":"https://in-toto.io/Statement/v0.1","predicateType":"https://spdx.dev/Document","predicate":{"spdxVersion":"SPDX-2.3","SPDXID":"SPDXRef-DOCUMENT","name":"%s","comment":"%s","files":[%s]}}' $1 "$(tr '\\n' ' ' < /tmp/env)" "$files" > $BUILDKIT_SCAN_DESTINATION/$1.spdx.json
}
statement sbom $BUILDKIT_SCAN_SOURCE
[ -n "$BUILDKIT_SCAN_SOURCE_EXTRAS" ] || exit 0
for extra in $BUILDKIT_SCAN_SOURCE_EXTRAS/*; do
  statement $(basename $extra) $extra
done
`;

async function pushScanner(): Promise<string> {
  dir.write({ 'scanner/scan.sh': SCANNER });
  const file = 'FROM busybox\nCOPY --chmod=755 scan.sh /scan.sh\nENV OWN=1\nENTRYPOINT ["/scan.sh"]\n';
  dir.write({ 'scanner/Dockerfile': file });
  const name = `${registry.host}/scanner:1`;
  await daemon.build(dir.join('scanner'), ['--output', `type=image,name=${name},push=true`]);
  return name;
}

interface Spdx {
  readonly name: string;
  readonly comment: string;
  readonly files: readonly { readonly fileName: string; readonly comment?: string }[];
}

function documentsOf(image: CheckedImage): Spdx[] {
  return image.attestations.flatMap(({ statements }) =>
    statements
      .filter(({ predicateType }) => predicateType === 'https://spdx.dev/Document')
      .map(({ predicate }) => predicate as Spdx),
  );
}

test('a scanner lists what is in the result, and in the context and stages where the file asks', async () => {
  const scanner = await pushScanner();
  const file = [
    'ARG BUILDKIT_SBOM_SCAN_STAGE=tools',
    'FROM busybox AS tools',
    'RUN echo t > /tool',
    'FROM busybox AS unseen',
    'RUN echo u > /u',
    'FROM scratch',
    'ARG BUILDKIT_SBOM_SCAN_CONTEXT=true',
    'COPY --from=tools /tool /',
    'COPY --from=unseen /u /',
    'COPY kept /',
  ];
  dir.write({ 'scanned/Dockerfile': `${file.join('\n')}\n`, 'scanned/kept': '', 'scanned/left': '' });
  const image = await imageOf('scanned', ['--opt', `attest:sbom=generator=${scanner},some=thing`]);
  const documents = documentsOf(image);
  assert.deepEqual(
    documents.map(({ name, files }) => [name, files.map(({ fileName }) => fileName)]),
    [
      ['sbom', ['kept', 'tool', 'u']],
      ['sbom-context', ['kept']],
      ['sbom-tools', ['bin', 'dev', 'etc', 'proc', 'root', 'sys', 'tmp', 'tool']],
    ],
  );
  assert.match(
    documents[0]?.comment ?? '',
    /^BUILDKIT_SCAN_DESTINATION=\/run\/out\/ BUILDKIT_SCAN_SOURCE=\/run\/src\/core\/sbom BUILDKIT_SCAN_SOURCE_EXTRAS=\/run\/src\/extras BUILDKIT_SCAN_some=thing/,
  );
  const layers = image.images[0]?.manifest.layers.map((layer) => `layerID: ${layer.digest}`) ?? [];
  assert.deepEqual(
    documents[0]?.files.map(({ comment }) => comment),
    [layers[2], layers[0], layers[1]],
  );
});

test('each platform is scanned; provenance stands beside it and knows the scanner', async () => {
  const scanner = await pushScanner();
  const args = ['--opt', `attest:sbom=generator=${scanner}`, '--opt', 'attest:provenance=mode=min'];
  const image = await imageOf('plain', [...MULTI, ...args]);
  assert.equal(documentsOf(image).length, 2);
  const types = image.attestations.map(({ statements }) => statements.map((one) => one.predicateType));
  assert.deepEqual(types, Array(2).fill(['https://spdx.dev/Document', V1]));
  const { statements } = image.attestations[0]!;
  const provenance = statements[1]?.predicate as Provenance | undefined;
  const uris = provenance?.buildDefinition.resolvedDependencies?.map(({ uri }) =>
    uri.replace(/\d+(?=\/)/, ''),
  );
  assert.deepEqual(uris, ['pkg:docker/127.0.0.1%3A/scanner@1?platform=linux%2Famd64']);
});

test('graphs without a frontend are scanned by the daemon; folders hold the documents', async () => {
  const scanner = await pushScanner();
  const base = image('docker.io/library/busybox:latest');
  const out = dir.join(`llb${count++}`);
  const input = encodeDefinition(marshal(run(base, { args: ['touch', '/made'] }).root));
  const args = ['--opt', `attest:sbom=generator=${scanner}`, '--output', `type=local,dest=${out}`];
  const built = await daemon.buildctl(['build', '--progress', 'plain', ...args], { input });
  assert.equal(built.code, 0, built.stderr);
  assert.match(built.stderr, /\[linux\/amd64\] generating sbom using /);
  const statement: Statement = JSON.parse(readFileSync(`${out}/sbom.spdx.json`, 'utf8'));
  const { files } = statement.predicate as Spdx;
  assert.ok(files.some(({ fileName }) => fileName === 'made'));
});

test('scanners that do not scan', async () => {
  const cases: [string, RegExp][] = [
    ['generator=', /sbom generator cannot be empty/],
    ['generator=UPPER', /failed to parse sbom generator UPPER/],
    [`generator=${registry.host}/nothing:1`, /nothing:1: not found/],
  ];
  for (const [value, message] of cases) {
    const { code, stderr } = await daemon.tryBuild(dir.join('plain'), ['--opt', `attest:sbom=${value}`]);
    assert.equal(code, 1);
    assert.match(stderr, message);
  }
  dir.write({
    'bad/Dockerfile': [
      'FROM busybox',
      `ENTRYPOINT ["sh", "-c", "echo '{\\"predicateType\\":\\"x\\"}' > $BUILDKIT_SCAN_DESTINATION/a"]`,
      '',
    ].join('\n'),
  });
  const name = `${registry.host}/bad:1`;
  await daemon.build(dir.join('bad'), ['--output', `type=image,name=${name},push=true`]);
  const output = ['--output', `type=oci,dest=${dir.join('bad.tar')}`];
  const attest = ['--opt', `attest:sbom=generator=${name}`];
  const { stderr } = await daemon.tryBuild(dir.join('plain'), [...attest, ...output]);
  assert.match(stderr, /bundle entry x does not match required predicate type https:\/\/spdx.dev\/Document/);
});

/** A host with the unified hierarchy alone, as the daemon sees it. */
const UNIFIED =
  'mount --make-rprivate / && umount -R /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup && exec "$0" "$@"';

interface UsedStep {
  readonly op: { readonly Op: Readonly<Record<string, unknown>> };
  readonly resourceUsage?: { readonly samples: readonly { readonly cpuStat: { usageNanos: number } }[] };
}

test('steps say what they have used, where their cgroups count all of it', {
  skip: !OUR_DAEMON,
}, async () => {
  const stepsOf = (image: CheckedImage): UsedStep[] =>
    (provenanceOf(image).buildDefinition.internalParameters.buildConfig as { llbDefinition: UsedStep[] })
      .llbDefinition;
  const build = (more: string, on: Daemon) => {
    const options = ['--opt', `attest:provenance=mode=max${more}`, '--no-cache'];
    return imageOf('ctx', options, undefined, on).then(stepsOf);
  };
  await using unified = await Daemon.start({
    config: registry.config,
    args: ['--oci-worker-binary', 'runc'],
    through: ['unshare', '-m', 'sh', '-c', UNIFIED],
  });
  const used = await build(',capture-usage=true', unified);
  assert.ok(used.some(({ op }) => op.Op.exec));
  for (const { op, resourceUsage } of used) {
    if (op.Op.exec) assert.ok((resourceUsage?.samples.at(-1)?.cpuStat.usageNanos ?? 0) > 1_000_000);
    else assert.equal(resourceUsage, undefined);
  }
  assert.ok((await build('', unified)).every((step) => step.resourceUsage === undefined));
});
