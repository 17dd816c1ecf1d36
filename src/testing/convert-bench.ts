// Converts generated Dockerfiles of 2,000 lines: node src/testing/convert-bench.ts [RUNS [FOLDER]]
// Prints the least and the median time of each shape; with a folder the files are written there for other converters.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseStages } from '../dockerfile/instructions/parse.ts';
import { parseDockerfile } from '../dockerfile/parser.ts';
import { convertCase } from './fuzz/dockerfile.ts';

const LINES = 2_000;
const WARM_UP = 15;

const repeat = (first: readonly string[], make: (at: number) => readonly string[]): string => {
  const lines = [...first];
  for (let at = 0; lines.length < LINES; at++) lines.push(...make(at));
  return `${lines.join('\n')}\n`;
};

const SHAPES: Readonly<Record<string, string>> = {
  mixed: repeat(['# syntax=docker/dockerfile:1', 'ARG VERSION=1.2', 'FROM alpine AS s0'], mixedStage),
  flat: repeat(['FROM alpine', 'ARG V=1'], (at) => [
    `ENV K${at}=v$V`,
    `RUN echo $K${at} && do-something --with ${at}`,
    `COPY f${at} /dest/f${at}`,
    `LABEL l${at}=x`,
  ]),
  runs: repeat(['FROM alpine'], (at) => [`RUN echo step ${at} && true`]),
  envs: repeat(['FROM alpine'], (at) => [`ENV K${at}=v${at}`]),
  copies: repeat(['FROM alpine'], (at) => [`COPY a${at} b${at} /d${at}/`]),
  stages: repeat(['FROM alpine AS s'], (at) => [
    `FROM s${at === 0 ? '' : at - 1} AS s${at}`,
    `RUN echo ${at}`,
  ]),
};

/** As people write them: continuations, heredocs, mounts, copies from the stage before. */
function mixedStage(at: number): string[] {
  return [
    `FROM ${at % 3 === 2 ? `s${at}` : 'alpine'} AS s${at + 1}`,
    'ARG VERSION',
    'ARG MIRROR=https://example.com/$VERSION',
    `ENV APP_HOME=/srv/app${at} \\`,
    '    LANG=C.UTF-8 \\',
    '    PATH=/opt/bin:$PATH',
    'WORKDIR ${APP_HOME}',
    `# step ${at}`,
    `COPY --chown=1000:1000 src/part${at} ./part${at}/`,
    'RUN set -eux; \\',
    `    apk add --no-cache pkg${at}=$VERSION \\`,
    '      git; \\',
    `    make -C part${at} install PREFIX=\${APP_HOME:-/usr}`,
    `ENV K${at}="\${VERSION#1.} v${at}"`,
    `COPY --from=s${at} /srv /prev`,
    `RUN --mount=type=cache,target=/root/.cache --mount=type=bind,from=s${at},target=/m echo $K${at}`,
    `LABEL org.example.k${at}="$VERSION \${MIRROR}"`,
    'RUN <<EOF',
    'echo hello $VERSION',
    'EOF',
    `EXPOSE ${8000 + at}/tcp`,
    'CMD ["/bin/app", "--serve"]',
    'HEALTHCHECK --interval=30s CMD curl -f http://localhost/ || exit 1',
  ];
}

async function times(runs: number, run: () => unknown): Promise<string> {
  const taken: number[] = [];
  for (let at = -WARM_UP; at < runs; at++) {
    const before = performance.now();
    await run();
    if (at >= 0) taken.push(performance.now() - before);
  }
  taken.sort((a, b) => a - b);
  return `least ${taken[0]!.toFixed(1)} ms, median ${taken[runs >> 1]!.toFixed(1)} ms`;
}

const [, , runs = '20', folder] = process.argv;
for (const [name, text] of Object.entries(SHAPES)) {
  if (folder !== undefined) writeFileSync(join(folder, `${name}.Dockerfile`), text);
  const parsing = await times(Number(runs), () => parseStages(parseDockerfile(text).nodes));
  const converting = await times(Number(runs), () => convertCase({ text, buildArgs: new Map() }));
  process.stdout.write(`${name}: parse ${parsing}; convert ${converting}\n`);
}
