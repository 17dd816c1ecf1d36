import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Random } from './random.ts';

export interface RandomBuild {
  readonly context: string;
  readonly args: readonly string[];
  /** Where its files are written to. */
  readonly out: string;
  readonly expected: Readonly<Record<string, string>>;
}

/** Steps draw from so many different ones, so that builds share some of them. */
const VARIANTS = 40;
const OUT = '/out';

interface Step {
  readonly lines: readonly string[];
  /** What it writes below /out, by name. */
  readonly files: Readonly<Record<string, string>>;
}

type MakeStep = (random: Random, at: number, context: string) => Step;

const STEPS: readonly MakeStep[] = [
  (random, at) => {
    const text = `run ${random.below(VARIANTS)}`;
    return { lines: [`RUN echo ${text} > ${OUT}/r${at}`], files: { [`r${at}`]: `${text}\n` } };
  },
  (random, at) => {
    const text = `slow ${random.below(VARIANTS)}`;
    const pause = (random.below(8) / 10).toFixed(1);
    return {
      lines: [`RUN sleep ${pause}; echo ${text} > ${OUT}/s${at}`],
      files: { [`s${at}`]: `${text}\n` },
    };
  },
  (random, at, context) => {
    const text = `context ${random.below(VARIANTS)}\n`;
    writeFileSync(join(context, `file${at}`), text);
    const link = random.chance(0.5) ? ' --link' : '';
    return { lines: [`COPY${link} file${at} ${OUT}/c${at}`], files: { [`c${at}`]: text } };
  },
  (random, at, context) => {
    const count = 1 + random.below(30);
    const dir = join(context, `tree${at}`);
    mkdirSync(dir, { recursive: true });
    const files: Record<string, string> = {};
    for (let i = 0; i < count; i++) {
      const text = `${i} of ${random.below(VARIANTS)}\n`.repeat(1 + random.below(2000));
      writeFileSync(join(dir, `f${i}`), text);
      files[`t${at}/f${i}`] = text;
    }
    return { lines: [`COPY tree${at} ${OUT}/t${at}/`], files };
  },
  (random, at) => {
    const id = random.below(4);
    const mode = random.pick(['shared', 'private', 'locked']);
    const text = `cache ${random.below(VARIANTS)}`;
    const mount = `--mount=type=cache,target=/cache,id=c${id}-${mode},sharing=${mode}`;
    const lines = [`RUN ${mount} echo ${text} >> /cache/log; echo ${text} > ${OUT}/m${at}`];
    return { lines, files: { [`m${at}`]: `${text}\n` } };
  },
  (random, at) => {
    const size = 1 + random.below(4);
    const lines = [
      `RUN yes ${random.below(VARIANTS)} | head -c ${size}000000 > /big${at} && cp /big${at} /big${at}b && wc -c < /big${at} > ${OUT}/b${at} && rm /big${at}`,
    ];
    return { lines, files: { [`b${at}`]: `${size}000000\n` } };
  },
  (random, at) => {
    const text = `tmpfs ${random.below(VARIANTS)}`;
    const lines = [`RUN --mount=type=tmpfs,target=/t echo ${text} > /t/x && cp /t/x ${OUT}/p${at}`];
    return { lines, files: { [`p${at}`]: `${text}\n` } };
  },
];

/** Writes a context with a random Dockerfile, whose last stage holds files that are known beforehand. */
export function makeBuild(random: Random, dir: string, registryHost: string): RandomBuild {
  const context = join(dir, 'context');
  const out = join(dir, 'out');
  rmSync(dir, { recursive: true, force: true });
  mkdirSync(context, { recursive: true });
  const lines: string[] = [];
  const expected: Record<string, string> = {};
  const stages = 1 + random.below(3);
  for (let stage = 0; stage < stages; stage++) {
    lines.push(`FROM busybox AS s${stage}`, `RUN mkdir -p ${OUT}`);
    for (let i = 1 + random.below(4); i > 0; i--) {
      const { lines: own, files } = random.pick(STEPS)(random, stage * 10 + i, context);
      lines.push(...own);
      Object.assign(expected, files);
    }
  }
  lines.push('FROM scratch');
  const link = random.chance(0.3) ? '--link ' : '';
  for (let stage = 0; stage < stages; stage++) lines.push(`COPY ${link}--from=s${stage} ${OUT}/ /`);
  writeFileSync(join(context, 'Dockerfile'), lines.join('\n'));
  return { context, out, expected, args: outputs(random, dir, out, registryHost) };
}

function outputs(random: Random, dir: string, out: string, registryHost: string): string[] {
  const args = ['--output', `type=local,dest=${out}`];
  const name = `${registryHost}/chaos:${random.below(5)}`;
  const compression = random.pick([
    '',
    ',compression=zstd',
    ',compression=uncompressed',
    ',compression=gzip',
  ]);
  switch (random.below(5)) {
    case 0:
      args.push('--output', `type=oci,dest=${join(dir, 'image.tar')}${compression}`);
      break;
    case 1:
      args.push('--output', `type=image,name=${name},push=true${compression}`);
      break;
    case 2:
      args.push('--output', `type=image,name=${name},push=true`, '--export-cache', 'type=inline');
      break;
    case 3:
      args.push('--export-cache', `type=local,dest=${join(dir, 'cache')},mode=max`);
      break;
  }
  return args;
}
