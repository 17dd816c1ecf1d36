// Caches that one daemon writes and another, with nothing of its own, reads: how many steps are not run again.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { cpSync } from 'node:fs';
import { ActionsCache } from '../../src/testing/actions-cache.ts';
import { FakeAzblob, TEST_ACCOUNT } from '../../src/testing/fake-azblob.ts';
import { FakeS3, TEST_KEYS } from '../../src/testing/fake-s3.ts';
import { Daemon, type Programs, Registry, TempDir } from './harness.ts';

/** A pair of programs, by the name that the table has for them. */
export interface Side extends Programs {
  readonly name: string;
}

export interface CrossCacheRow {
  readonly kind: string;
  readonly mode: string;
  readonly from: string;
  readonly to: string;
  /** Of the same build. */
  readonly same: Count;
  /** Of a build where one file of the first stage and the last step are others. */
  readonly changed: Count;
}

export interface Count {
  readonly cached: number;
  readonly steps: number;
}

const KINDS = ['registry', 'inline', 'local', 's3', 'azblob', 'gha v1', 'gha v2'] as const;
const MODES = ['min', 'max'] as const;

/** All kinds of steps; the first stage is one that `mode=min` does not keep. */
const DOCKERFILE = `FROM BASE AS build
ARG VERSION=1
ENV TOOL=\${VERSION}
WORKDIR /src
COPY go.mod ./
RUN cat go.mod >deps && cat /proc/sys/kernel/random/uuid >uuid
COPY --chmod=750 --chown=12:34 lib/ lib/
RUN --mount=type=cache,target=/var/cache/x --mount=type=bind,source=lib,target=/lib2 ls /lib2 >listed
COPY main.c ./
RUN <<EOF
cat main.c lib/* >out
sha256sum out >sum
EOF
FROM BASE AS tools
ADD archive.tar /opt/
RUN --network=none test -f /opt/in/archive && echo $TOOL >/tool
FROM BASE
WORKDIR /app
COPY --from=build /src/out ./
COPY --link --from=tools /tool /linked/tool
COPY --from=tools --link /opt /opt
RUN echo final >final
`;

/** One row for each kind, mode and pair of sides, in the order of `pairs`. */
export async function crossCaches(
  pairs: readonly (readonly [Side, Side])[],
  log: (line: string) => void,
): Promise<readonly CrossCacheRow[]> {
  await using registry = await Registry.start();
  await using actions = await ActionsCache.start();
  await registry.pushBusybox();
  await using s3 = await FakeS3.start();
  await using azure = await FakeAzblob.start();
  using dir = new TempDir();
  makeContexts(dir, registry.host);
  const rows: CrossCacheRow[] = [];
  for (const [from, to] of pairs) {
    await using writer = await Daemon.start({ config: registry.config, programs: from });
    await using reader = await Daemon.start({ config: registry.config, programs: to });
    for (const kind of KINDS)
      for (const mode of MODES) {
        const name = `${from.name}-${to.name}-${mode}`;
        const image = `${registry.host}/${kind}/${name}`;
        const places: Record<typeof kind, Place> = {
          registry: { to: `type=registry,ref=${image}` },
          inline: { to: 'type=inline', from: `type=registry,ref=${image}`, image },
          local: { to: `type=local,dest=${dir.join(name)}`, from: `type=local,src=${dir.join(name)}` },
          s3: { to: s3Place(s3, name) },
          azblob: { to: azblobPlace(azure, name) },
          'gha v1': { to: ghaPlace(actions, 1, name) },
          'gha v2': { to: ghaPlace(actions, 2, name) },
        };
        const place = places[kind];
        await writer.build(dir.join('same'), exportArgs(place, mode));
        const read = async (context: string): Promise<Count> => {
          await reader.buildctl(['prune', '--all']);
          const output = ['--output', `type=local,dest=${dir.join('out')}`];
          const source = ['--import-cache', place.from ?? place.to];
          const { stderr } = await reader.build(dir.join(context), [...source, ...output]);
          return count(stderr);
        };
        const same = await read('same');
        const row = { kind, mode, from: from.name, to: to.name, same, changed: await read('changed') };
        rows.push(row);
        assert.deepEqual(actions.violations, [], `${kind} ${row.from} to ${row.to}`);
        log(`${kind} ${mode} ${row.from} to ${row.to}: ${text(same)}, changed ${text(row.changed)}`);
      }
  }
  return rows;
}

/** A Markdown table with a column for each pair; each cell: the same build, then the changed one. */
export function crossCacheTable(rows: readonly CrossCacheRow[]): string {
  const pairs = [...new Set(rows.map(({ from, to }) => `${from} → ${to}`))];
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  const cell = (kind: string, mode: string, pair: string): string => {
    const row = rows.find((r) => r.kind === kind && r.mode === mode && `${r.from} → ${r.to}` === pair);
    return row ? `${text(row.same)}, ${text(row.changed)}` : '';
  };
  return [
    line(['cache', ...pairs]),
    line(Array.from({ length: pairs.length + 1 }, () => '---')),
    ...KINDS.flatMap((kind) =>
      MODES.map((mode) => line([`${kind}, ${mode}`, ...pairs.map((pair) => cell(kind, mode, pair))])),
    ),
  ].join('\n');
}

function text({ cached, steps }: Count): string {
  return `${cached}/${steps}`;
}

/** Attributes of a cache for both flags, where they are not the same. */
interface Place {
  readonly to: string;
  readonly from?: string;
  /** Pushed with the cache inside. */
  readonly image?: string;
}

function exportArgs({ to, image }: Place, mode: string): string[] {
  const output = image === undefined ? [] : ['--output', `type=image,name=${image},push=true`];
  return ['--export-cache', `${to},mode=${mode}`, ...output];
}

function s3Place({ host }: FakeS3, name: string): string {
  const { accessKeyId, secretAccessKey } = TEST_KEYS;
  return `type=s3,bucket=bucket,region=us-east-1,endpoint_url=http://${host},use_path_style=true,access_key_id=${accessKeyId},secret_access_key=${secretAccessKey},name=${name}`;
}

function azblobPlace({ host }: FakeAzblob, name: string): string {
  const { name: account, key } = TEST_ACCOUNT;
  return `type=azblob,account_url=http://${host}/${account},account_name=${account},secret_access_key=${key},container=box,name=${name}`;
}

function ghaPlace(actions: ActionsCache, version: 1 | 2, name: string): string {
  const attrs = { ...actions.attrs(version), scope: `v${version}-${name}` };
  return ['type=gha', ...Object.entries(attrs).map(([key, value]) => `${key}=${value}`)].join(',');
}

function makeContexts(dir: TempDir, host: string): void {
  const base = `${host}/library/busybox`;
  dir.write({
    'same/Dockerfile': DOCKERFILE.replaceAll('BASE', base),
    'same/go.mod': 'module x',
    'same/lib/a': 'a',
    'same/lib/b/c': 'c',
    'same/main.c': 'int main;',
    'same/archive.tar': archive(),
  });
  cpSync(dir.join('same'), dir.join('changed'), { recursive: true, preserveTimestamps: true });
  dir.write({
    'changed/main.c': 'other',
    'changed/Dockerfile': DOCKERFILE.replaceAll('BASE', base).replace('echo final', 'echo other'),
  });
}

/** Steps are the vertexes `[stage 2/9] …` that are no base image. */
function count(stderr: string): Count {
  const ids = new Map<string, boolean>();
  for (const [, id = ''] of stderr.matchAll(/^(#\d+) \[[^\]]* ?\d+\/\d+\] (?!FROM)/gm)) ids.set(id, false);
  for (const [, id = ''] of stderr.matchAll(/^(#\d+) CACHED$/gm)) if (ids.has(id)) ids.set(id, true);
  return { cached: [...ids.values()].filter(Boolean).length, steps: ids.size };
}

/** A tar of one file. */
function archive(): Buffer {
  using dir = new TempDir();
  dir.write({ 'in/archive': 'abc' });
  const flags = ['--sort=name', '--mtime=@1600000000', '--owner=0', '--group=0', '--numeric-owner'];
  return execFileSync('tar', [...flags, '-C', dir.path, '-c', 'in']);
}
