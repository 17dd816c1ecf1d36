// One Dockerfile, built on two daemons that share nothing: what each exporter writes must be the same bytes.
import { createHash } from 'node:crypto';
import { lstatSync, mkdirSync, readdirSync, readFileSync, readlinkSync, utimesSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Daemon, digest, Registry, TempDir } from './harness.ts';

/** One way to export. `first` and `second` are digests of what came out. */
export interface ReproducibilityRow {
  readonly exporter: string;
  readonly compression: string;
  readonly first: string;
  readonly second: string;
}

const EPOCH = '1700000000';
const COMPRESSIONS = ['gzip', 'zstd', 'uncompressed', 'estargz'];
/** Of the builds: far enough that files made by both cannot have the same times. */
const APART_MS = 2500;
/** Larger than what one worker compresses at once. */
const LARGE_BYTES = 6 << 20;

const DOCKERFILE = `FROM BASE AS build
ARG SOURCE_DATE_EPOCH
WORKDIR /work/deep
COPY --chmod=640 src/ ./
RUN mkdir -p out/b out/a out/c && for i in 3 1 2; do echo $i >out/b/$i; done && ln -s b out/link && ln out/b/1 out/hard
RUN cp large out/copy && chmod 4755 out/b/2 && chown 12:34 out/b/3
FROM BASE
COPY --from=build /work/deep/out /out
COPY --link src/z /linked/
ADD archive.tar /added/
RUN touch /now && echo $((1 + 1)) >/two
ENV B=1 A=2
LABEL z=1 a=2 m=3
VOLUME /v
EXPOSE 80 22/udp
`;

/** Builds all on one daemon, then all on the other. */
export async function compareBuilds(log: (line: string) => void): Promise<readonly ReproducibilityRow[]> {
  await using registry = await Registry.start();
  await registry.pushBusybox();
  const first = await buildAll(registry, 'first', {});
  await sleep(APART_MS);
  // Of one processor, and in another time zone.
  const second = await buildAll(registry, 'second', {
    through: ['taskset', '-c', '0'],
    env: { TZ: 'Pacific/Kiritimati' },
  });
  return [...first].map(([key, value]) => {
    const [exporter = '', compression = ''] = key.split(' ');
    const row = { exporter, compression, first: value, second: second.get(key) ?? 'nothing' };
    log(`${row.first === row.second ? 'same' : 'DIFFERENT'} ${key} ${row.first} ${row.second}`);
    return row;
  });
}

/** What is the same twice, or is not. As lines of a Markdown table. */
export function table(rows: readonly ReproducibilityRow[]): string {
  const compressions = [...new Set(rows.map(({ compression }) => compression))];
  const cell = (exporter: string, compression: string): string => {
    const row = rows.find((one) => one.exporter === exporter && one.compression === compression);
    if (!row) return '';
    return row.first === row.second ? 'same' : 'different';
  };
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  return [
    line(['exporter', ...compressions]),
    line(Array.from({ length: compressions.length + 1 }, () => '---')),
    ...[...new Set(rows.map(({ exporter }) => exporter))].map((exporter) =>
      line([exporter, ...compressions.map((compression) => cell(exporter, compression))]),
    ),
  ].join('\n');
}

async function buildAll(
  registry: Registry,
  name: string,
  options: Parameters<typeof Daemon.start>[0],
): Promise<Map<string, string>> {
  using dir = new TempDir();
  const context = makeContext(dir, `${name}/project-${name}`, registry);
  await using daemon = await Daemon.start({ ...options, config: registry.config });
  const found = new Map<string, string>();
  const build = async (output: string, more: readonly string[] = []): Promise<string> => {
    const metadata = dir.join('metadata.json');
    await daemon.build(context, [
      ...['--opt', `build-arg:SOURCE_DATE_EPOCH=${EPOCH}`, '--metadata-file', metadata],
      ...['--output', output, ...more],
    ]);
    return JSON.parse(readFileSync(metadata, 'utf8'))['containerimage.digest'] as string;
  };
  const index = ['--opt', 'multi-platform=true'];
  for (const compression of COMPRESSIONS) {
    const attrs = `rewrite-timestamp=true,compression=${compression},force-compression=true`;
    const image = (kind: string): string =>
      `type=image,name=${registry.host}/${name}/${kind}:${compression},push=true,${attrs}`;
    found.set(`image ${compression}`, await build(image('plain')));
    found.set(`image(index) ${compression}`, await build(image('index'), index));
    for (const type of ['oci', 'docker']) {
      const dest = dir.join(`${type}.tar`);
      await build(`type=${type},name=example.com/x:1,dest=${dest},${attrs}`);
      found.set(`${type} ${compression}`, digest(readFileSync(dest)));
    }
    const dest = dir.join('index.tar');
    await build(`type=oci,name=example.com/x:1,dest=${dest},${attrs}`, index);
    found.set(`oci(index) ${compression}`, digest(readFileSync(dest)));
  }
  await build(`type=tar,dest=${dir.join('files.tar')}`);
  found.set('tar none', digest(readFileSync(dir.join('files.tar'))));
  await build(`type=local,dest=${dir.join('files')}`);
  found.set('local none', treeDigest(dir.join('files')));
  return found;
}

/** The same files in another place, made in another order and with other times. */
function makeContext(dir: TempDir, path: string, registry: Registry): string {
  const large = Buffer.alloc(LARGE_BYTES);
  for (let i = 0, x = 1; i < LARGE_BYTES; i += 4) {
    x = (Math.imul(x, 1664525) + 1013904223) >>> 0;
    large.writeUInt32LE((x >>> 8) & 0xffff_ff0f, i);
  }
  const files: [string, string | Buffer][] = [
    ['Dockerfile', DOCKERFILE.replaceAll('BASE', `${registry.host}/library/busybox`)],
    ['src/large', large],
    ...['z', 'a', 'm', 'sub/x', 'sub/y'].map((name): [string, string] => [`src/${name}`, `file ${name}`]),
    ['archive.tar', smallTar()],
  ];
  const ordered = path.startsWith('first') ? files : files.toReversed();
  dir.write(Object.fromEntries(ordered.map(([name, content]) => [`${path}/${name}`, content])));
  mkdirSync(dir.join(path, 'src/empty'));
  const time = new Date(Date.now() - 1000 * (path.startsWith('first') ? 5 : 5000));
  for (const [name] of files) utimesSync(dir.join(path, name), time, time);
  return dir.join(path);
}

/** One file, in the past. */
function smallTar(): Buffer {
  const block = Buffer.alloc(512);
  block.write('in/archive', 0);
  block.write('0000644\x000000001\x000000002\x0000000000003\x0014000000000\0        0', 100);
  block.write('ustar\x0000', 257);
  const sum = block.reduce((a, b) => a + b, 0);
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  const data = Buffer.alloc(512);
  data.write('abc');
  return Buffer.concat([block, data, Buffer.alloc(1024)]);
}

/** Of names, kinds, modes, times and content of all below a folder. Owners are the client's. */
export function treeDigest(root: string): string {
  const hash = createHash('sha256');
  for (const name of (readdirSync(root, { recursive: true }) as string[]).sort()) {
    const path = join(root, name);
    const stat = lstatSync(path);
    hash.update(`${name} ${stat.mode} ${Math.floor(stat.mtimeMs / 1000)}\n`);
    if (stat.isSymbolicLink()) hash.update(readlinkSync(path));
    if (stat.isFile()) hash.update(readFileSync(path));
  }
  return `sha256:${hash.digest('hex')}`;
}
