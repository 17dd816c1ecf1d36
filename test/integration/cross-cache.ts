// Caches that one daemon writes and another, with nothing of its own, reads: how many steps are not run again.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { cpSync } from 'node:fs';
import { ActionsCache } from '../../src/testing/actions-cache.ts';
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

const KINDS = ['registry', 'inline', 'local', 'gha v1', 'gha v2'] as const;
type Kind = (typeof KINDS)[number];
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
  using dir = new TempDir();
  makeContexts(dir, registry.host);
  const rows: CrossCacheRow[] = [];
  for (const [from, to] of pairs) {
    await using writer = await Daemon.start({ config: registry.config, programs: from });
    await using reader = await Daemon.start({ config: registry.config, programs: to });
    for (const kind of KINDS)
      for (const mode of MODES) {
        const place = `${from.name}-${to.name}-${mode}`;
        const image = `${registry.host}/${kind}/${place}`;
        const where = { image, folder: dir.join(place), scope: place, actions };
        await writer.build(dir.join('same'), exportArgs(kind, mode, where));
        const read = async (context: string): Promise<Count> => {
          await reader.buildctl(['prune', '--all']);
          const source = ['--import-cache', importSource(kind, where)];
          const output = ['--output', `type=local,dest=${dir.join('out')}`];
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

/** Where the cache of a row lies, for each kind. */
interface Where {
  readonly image: string;
  readonly folder: string;
  readonly scope: string;
  readonly actions: ActionsCache;
}

function exportArgs(kind: Kind, mode: string, where: Where): string[] {
  const { image, folder } = where;
  if (kind === 'inline')
    return ['--export-cache', `type=inline,mode=${mode}`, '--output', `type=image,name=${image},push=true`];
  const place = kind === 'local' ? `type=local,dest=${folder}` : importSource(kind, where);
  return ['--export-cache', `${place},mode=${mode}`];
}

function importSource(kind: Kind, { image, folder, scope, actions }: Where): string {
  if (kind === 'local') return `type=local,src=${folder}`;
  if (kind !== 'gha v1' && kind !== 'gha v2') return `type=registry,ref=${image}`;
  const attrs = { ...actions.attrs(kind === 'gha v1' ? 1 : 2), scope: `${kind.slice(4)}-${scope}` };
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
