import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Digest, digestOf } from '../../base/digest.ts';
import type { SolveStatus, VertexState } from '../types.ts';
import { readColors } from './colors.ts';
import { openDisplay, resetTime } from './display.ts';
import { PlainPainter } from './plain.ts';
import { statusJson, timeText } from './rawjson.ts';
import { Screen } from './screen.ts';
import { mergeIntervals, ProgressTree } from './tree.ts';
import { TtyPainter } from './tty.ts';

const T0 = 1_700_000_000_000_000_000n;
const at = (seconds: number): bigint => T0 + BigInt(Math.round(seconds * 1e9));
const id = (name: string): Digest => digestOf(name);

function vertex(
  name: string,
  started?: number,
  completed?: number,
  more: Partial<VertexState> = {},
): VertexState {
  return {
    digest: id(name),
    inputs: [],
    name,
    cached: false,
    error: '',
    ...(started === undefined ? {} : { started: at(started) }),
    ...(completed === undefined ? {} : { completed: at(completed) }),
    ...more,
  };
}

function status(part: Partial<SolveStatus>): SolveStatus {
  return { vertexes: [], statuses: [], logs: [], warnings: [], ...part };
}

function log(name: string, seconds: number, text: string) {
  return { vertex: id(name), stream: 1 as const, timestamp: at(seconds), data: Buffer.from(text) };
}

function plain(messages: readonly Partial<SolveStatus>[], options = {}): string {
  const painter = new PlainPainter(options);
  const out = messages.map((message) => {
    painter.update(status(message));
    return Buffer.from(painter.paint()).toString();
  });
  return out.join('') + Buffer.from(painter.finish()).toString();
}

test('plain: steps are numbered, finished with their time, separated by blank lines', () => {
  const text = plain([
    { vertexes: [vertex('one', 0)] },
    { vertexes: [vertex('one', 0, 1.26)] },
    { vertexes: [vertex('two', 1, 2, { cached: true }), vertex('three', 1, 3)] },
  ]);
  assert.equal(text, '#1 one\n#1 DONE 1.3s\n\n#2 two\n#2 CACHED\n\n#3 three\n#3 DONE 2.0s\n');
});

test('plain: leaving an open step and coming back', () => {
  const text = plain([
    { vertexes: [vertex('a', 0)] },
    { vertexes: [vertex('b', 0, 1)] },
    { vertexes: [vertex('a', 0, 2)] },
  ]);
  assert.equal(text, '#1 a\n#1 ...\n\n#2 b\n#2 DONE 1.0s\n\n#1 a\n#1 DONE 2.0s\n');
});

test('plain: output lines carry seconds; an unfinished line is completed in place', () => {
  const text = plain([
    { vertexes: [vertex('a', 0)] },
    { logs: [log('a', 0.5, 'first\nsec')] },
    { logs: [log('a', 0.6, 'ond\n'), log('a', 12.345, 'late\n'), log('a', 123.45, 'later\n')] },
    { vertexes: [vertex('a', 0, 130)] },
  ]);
  assert.equal(
    text,
    '#1 a\n#1 0.500 first\n#1 0.500 second\n#1 12.35 late\n#1 123.5 later\n#1 DONE 130.0s\n',
  );
});

test('plain: sub-statuses with sizes and times', () => {
  const base = { vertex: id('a'), name: '', timestamp: at(1), started: at(0) };
  const text = plain([
    { vertexes: [vertex('a', 0)] },
    { statuses: [{ ...base, id: 'pull', current: 500_000, total: 2_000_000 }] },
    // Less than a twentieth more: not worth a line.
    { statuses: [{ ...base, id: 'pull', current: 550_000, total: 2_000_000 }] },
    { statuses: [{ ...base, id: 'pull', current: 2_000_000, total: 2_000_000, completed: at(2) }] },
    { statuses: [{ ...base, id: 'context', current: 12, total: 0, completed: at(0.001) }] },
    { vertexes: [vertex('a', 0, 2)] },
  ]);
  assert.equal(
    text,
    '#1 a\n#1 pull 500.00kB / 2.00MB 1.0s\n#1 pull 2.00MB / 2.00MB 2.0s done\n#1 context 12B done\n#1 DONE 2.0s\n',
  );
});

test('plain: a failed step is repeated at the end with its last ten lines', () => {
  const lines = Array.from({ length: 12 }, (_, i) => `line ${i}\n`).join('');
  const text = plain([
    { vertexes: [vertex('bad', 0)], logs: [log('bad', 1, lines)] },
    { vertexes: [vertex('bad', 0, 1, { error: 'exit code: 1' })] },
    { vertexes: [vertex('stopped', 0, 1, { error: 'x: context canceled' })] },
  ]);
  const tail = Array.from({ length: 10 }, (_, i) => `1.000 line ${i + 2}\n`).join('');
  assert.ok(text.includes('#1 ERROR: exit code: 1\n'));
  assert.ok(text.includes('#2 CANCELED\n'));
  assert.ok(text.endsWith(`------\n > bad:\n${tail}------\n`), text);
  assert.ok(!text.includes(' > stopped:'));
});

test('plain: warnings, long names, description', () => {
  const long = 'n'.repeat(80);
  const warning = {
    vertex: id(long),
    level: 1,
    short: Buffer.from('careful'),
    detail: [],
    url: '',
    ranges: [],
  };
  const message = { vertexes: [vertex(long, 0, 1)], warnings: [warning] };
  assert.match(plain([message]), /^#1 n{80}\n#1 WARN: careful\n#1 DONE/);
  const late = [{ vertexes: [vertex(long, 0, 1)] }, { warnings: [warning] }];
  assert.match(plain(late), /^#1 n{80}\n#1 DONE 1.0s\n\n#1 n{80}\n#1 WARN: careful\n#1 DONE 1.0s\n$/);
  assert.match(plain([message], { cutNames: true }), /^#1 n{72}\.\.\.\n/);
  assert.match(plain([message], { description: 'building with x' }), /^#0 building with x\n\n#1 n/);
});

test('a progress group is one step that waits for a member that counts', () => {
  const group = (weak: boolean) => ({ progressGroup: { id: 'g', name: 'all of it', weak } });
  assert.equal(plain([{ vertexes: [vertex('m1', 0, 1, group(true))] }]), '');
  const text = plain([
    { vertexes: [vertex('m1', 0, 1, group(true)), vertex('m2', 2, undefined, group(false))] },
    { vertexes: [vertex('m2', 2, 3, group(false))] },
  ]);
  assert.equal(text, '#1 all of it\n#1 DONE 2.0s\n');
});

test('intervals that overlap are one', () => {
  const merged = mergeIntervals([
    { start: 5n, stop: 6n },
    { start: 0n, stop: 2n },
    { start: 1n, stop: 3n },
    { start: 8n },
    { start: 9n, stop: 10n },
  ]);
  assert.deepEqual(merged, [{ start: 0n, stop: 3n }, { start: 5n, stop: 6n }, { start: 8n }]);
});

test('a repeated announcement does not undo a start', () => {
  const tree = new ProgressTree();
  tree.update(status({ vertexes: [vertex('a', 0, 1, { cached: true }), vertex('a')] }), 80);
  assert.equal(tree.byDigest.get(id('a'))?.cached, true);
  assert.equal(tree.vertexes.length, 1);
});

const COLORS = readColors({ NO_COLOR: '1' }, () => {});
const size = (columns: number, rows: number) => () => ({ columns, rows });

test('tty: header, right-aligned times, window of output', (t) => {
  const clock = performance.now(); // stands still
  t.mock.method(performance, 'now', () => clock);
  const now = BigInt(Math.round((performance.timeOrigin + clock) * 1e6));
  const painter = new TtyPainter({ colors: { ...COLORS, faint: '' }, size: size(60, 24) });
  const running = { ...vertex('running'), started: now };
  painter.update(status({ vertexes: [running, { ...vertex('done'), started: now, completed: now }] }));
  painter.update(
    status({
      logs: [{ vertex: id('running'), stream: 1, timestamp: now, data: Buffer.from('hello\nworld') }],
    }),
  );
  const first = Buffer.from(painter.paint()).toString();
  const lines = first.replace(/\x1b\[\??\d*[a-zA-Z]/g, '').split('\n');
  assert.match(lines[0]!, /^\[\+\] Building 0\.\ds \(1\/2\) +$/);
  assert.match(lines[1]!, /^ => running +0\.0s$/);
  assert.equal(lines[1]!.length, 59);
  assert.match(lines[2]!, /^ => => # hello +$/);
  assert.match(lines[3]!, /^ => => # world +$/);
  assert.match(lines[4]!, /^ => done +0\.0s$/);
  painter.update(status({ vertexes: [{ ...running, completed: now + 1_500_000_000n }] }));
  const last = Buffer.from(painter.finish()).toString();
  assert.match(last, /^\x1b\[5A\x1b\[0G\x1b\[\?25l\[\+\] Building \d\.\ds \(2\/2\) FINISHED +\n/);
  assert.match(last, / => running +1\.5s\n/);
});

test('tty: what does not fit gives way to unfinished steps', () => {
  const painter = new TtyPainter({ colors: COLORS, size: size(60, 6) });
  painter.update(
    status({ vertexes: [vertex('open', 0), ...[1, 2, 3, 4, 5].map((n) => vertex(`v${n}`, n, n + 1))] }),
  );
  const text = Buffer.from(painter.paint()).toString();
  assert.deepEqual(
    [...text.matchAll(/ => (\S+)/g)].map((m) => m[1]),
    ['open', 'v3', 'v4', 'v5'],
  );
});

test('tty: states and colors', () => {
  const colors = readColors({ BUILDKIT_COLORS: 'run=light-green:error=255,0,0' }, assert.fail);
  const painter = new TtyPainter({ colors, size: size(80, 24) });
  painter.update(
    status({
      vertexes: [
        vertex('a', 0, 1, { cached: true }),
        vertex('b', 0, 1, { error: 'no' }),
        vertex('c', 0, 1, { error: 'context canceled' }),
      ],
    }),
  );
  const text = Buffer.from(painter.paint()).toString();
  assert.match(text, /\x1b\[92m => CACHED a +1\.0s\n\x1b\[0m/);
  assert.match(text, /\x1b\[38;5;196m => ERROR b /);
  assert.match(text, /\x1b\[33m => CANCELED c /);
});

test('colors that are none are told and left out', () => {
  const told: string[] = [];
  const colors = readColors({ BUILDKIT_COLORS: 'run=pinkish:x=red:error:cancel=1,2,300' }, (w) =>
    told.push(w),
  );
  assert.equal(told.length, 4);
  assert.equal(colors.run, '\x1b[34m');
  assert.equal(readColors({ NO_COLOR: '1', BUILDKIT_COLORS: 'run=red' }, assert.fail).run, undefined);
});

test('screen: carriage returns, cursor moves, scrolling, sequences cut in two', () => {
  const screen = new Screen(3, 20);
  const write = (text: string): void => screen.write(Buffer.from(text));
  write('10%\r20%\nnext\x1b[3');
  write('1mred\x1b[0m\n');
  write('\x1b[1A\x1b[2KX');
  assert.deepEqual(
    screen.lines().map((l) => l.trimEnd()),
    ['20%', 'X'],
  );
  write('\na\nb\nc');
  assert.deepEqual(
    screen.lines().map((l) => l.trimEnd()),
    ['a', 'b', 'c'],
  );
  screen.resize(2, 10);
  write('é');
  assert.equal(screen.lines()[0]?.length, 10);
});

test('rawjson leaves out what is empty', () => {
  assert.equal(statusJson(status({})), '{}\n');
  const line = statusJson(
    status({
      vertexes: [vertex('a<b', 0, 1.5)],
      statuses: [{ id: '', vertex: id('a<b'), name: '', current: 0, total: 0, timestamp: at(0) }],
      logs: [log('a<b', 0, 'x')],
    }),
  );
  const digest = id('a<b');
  assert.equal(
    line,
    `{"vertexes":[{"digest":"${digest}","name":"a\\u003cb","started":"2023-11-14T22:13:20Z","completed":"2023-11-14T22:13:21.5Z"}],` +
      `"statuses":[{"id":"","vertex":"${digest}","current":0,"timestamp":"2023-11-14T22:13:20Z"}],` +
      `"logs":[{"vertex":"${digest}","stream":1,"data":"eA==","timestamp":"2023-11-14T22:13:20Z"}]}\n`,
  );
  assert.equal(timeText(T0 + 120n), '2023-11-14T22:13:20.00000012Z');
});

test('times are moved so that the first step starts now', () => {
  const moved = resetTime()(status({ vertexes: [vertex('a', 0, 1)], logs: [log('a', 0.5, 'x')] }));
  const { started, completed } = moved.vertexes[0]!;
  assert.ok(Math.abs(Number(started!) / 1e6 - Date.now()) < 5000);
  assert.equal(completed! - started!, 1_000_000_000n);
  assert.equal(moved.logs[0]!.timestamp - started!, 500_000_000n);
});

test('modes', () => {
  const out = { write: () => {}, isTTY: false };
  assert.throws(() => openDisplay('fancy', out, {}, assert.fail), /invalid progress mode fancy/);
  assert.throws(() => openDisplay('tty', out, {}, assert.fail), /failed to get console/);
  assert.throws(
    () => openDisplay('auto', out, { BUILDKIT_PROGRESS: 'x' }, assert.fail),
    /invalid progress mode x/,
  );
  openDisplay('plain', out, { BUILDKIT_PROGRESS: 'x' }, assert.fail).finish();
  const written: Uint8Array[] = [];
  const quiet = openDisplay('quiet', { write: (data) => written.push(data) }, {}, assert.fail);
  quiet.update(status({ vertexes: [vertex('a', 0)] }));
  quiet.finish();
  assert.deepEqual(written, []);
});
