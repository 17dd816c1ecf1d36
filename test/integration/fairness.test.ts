// How many steps run at once, and for whom. Real steps of a real daemon.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Daemon, OUR_DAEMON, Registry, TempDir } from './harness.ts';

let registry: Registry;
const dir = new TempDir();

before(async () => {
  registry = await Registry.start();
  await registry.pushBusybox();
});

after(async () => {
  await registry?.[Symbol.asyncDispose]();
  dir[Symbol.dispose]();
});

/** A context whose last stage needs `count` steps that can run side by side. */
function sideBySide(name: string, count: number, command: string): string {
  const stages = Array.from(
    { length: count },
    (_, i) => `FROM busybox AS s${i}\nRUN ${command}; echo ${i} > /out`,
  );
  const copies = Array.from({ length: count }, (_, i) => `COPY --from=s${i} /out /${i}`);
  dir.write({ [`${name}/Dockerfile`]: `${stages.join('\n')}\nFROM scratch\n${copies.join('\n')}\n` });
  return dir.join(name);
}

/** Says when it begins and ends, by the machine's own clock: the order of lines of different steps says nothing. */
function timed(name: string, seconds: number): string {
  const say = (word: string): string => `echo ${word} $(cut -d " " -f 1 /proc/uptime)`;
  return `: ${name}; ${say('begun')}; sleep ${seconds}; ${say('ended')}`;
}

/** How many timed steps were under way at the same time. */
function mostAtOnce(stderr: string): number {
  const times = (word: string): number[] =>
    [...stderr.matchAll(new RegExp(`^#\\d+ \\d+\\.\\d+ ${word} (\\d+\\.\\d+)$`, 'gm'))].map((m) =>
      Number(m[1]),
    );
  const [begun, ended] = [times('begun'), times('ended')];
  assert.ok(begun.length > 0 && begun.length === ended.length, stderr);
  const open = (at: number): number =>
    begun.filter((time) => time <= at).length - ended.filter((time) => time <= at).length;
  return Math.max(...begun.map(open));
}

test('no more steps run at once than the daemon has places', async () => {
  await using daemon = await Daemon.start({ config: `max-parallelism = 2\n${registry.config}` });
  const { stderr } = await daemon.build(sideBySide('all', 5, timed('all', 0.1)));
  assert.ok(mostAtOnce(stderr) <= 2, `${mostAtOnce(stderr)} at once`);
});

test('a build keeps to a limit of its own', { skip: OUR_DAEMON ? false : 'ours only' }, async () => {
  await using daemon = await Daemon.start({ config: registry.config });
  const context = (name: string): string => sideBySide(name, 6, timed(name, 0.2));
  const one = await daemon.build(context('one'), ['--max-parallelism', '1']);
  assert.equal(mostAtOnce(one.stderr), 1);
  const two = await daemon.build(context('two'), ['--opt', 'build-arg:BUILDKIT_MAX_PARALLELISM=2']);
  assert.ok(mostAtOnce(two.stderr) <= 2);
  const wrong = await daemon.tryBuild(context('one'), ['--opt', 'max-parallelism=many']);
  assert.match(wrong.stderr, /invalid max-parallelism: "many" is no number of steps/);
});

test('a build that waits for a place says so, with its number', {
  skip: OUR_DAEMON ? false : 'ours only',
}, async () => {
  await using daemon = await Daemon.start({ config: `max-parallelism = 1\n${registry.config}` });
  const context = (name: string, seconds: number): string =>
    sideBySide(name, 1, `: ${name}; sleep ${seconds}`);
  const first = daemon.build(context('holds', 7));
  await new Promise((resolve) => setTimeout(resolve, 1500));
  const { stderr } = await daemon.build(context('waits', 0));
  await first;
  assert.match(stderr, /\[internal\] waiting for a place \(max-parallelism 1\)/);
  assert.match(stderr, /number 1 of 1 steps that wait: \[/);
});
