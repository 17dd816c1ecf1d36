import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { test } from 'node:test';
import { BuildError, Code, hasCode } from '../base/errors.ts';
import { silentLogger } from '../base/log.ts';
import type { UsageRecord } from '../cache/ref.ts';
import type { DiskSpace } from './config-values.ts';
import { DiskGuard } from './disk-guard.ts';
import { diskLimits, headroom, UsedBytes } from './disk-limits.ts';

const MIB = 2 ** 20;
const MB = 1e6;

test('limits: what is kept free, and when room is made', () => {
  const big = diskLimits(undefined, 252e9);
  assert.deepEqual(big, {
    ceilingBytes: undefined,
    reserveBytes: 256 * MIB,
    marginBytes: 1024 * MIB,
    foreseenBytes: 252e9 / 8,
  });
  const small = diskLimits(undefined, 24 * MIB);
  assert.deepEqual(small, {
    ceilingBytes: undefined,
    reserveBytes: 2.4 * MIB,
    marginBytes: 3 * MIB,
    foreseenBytes: 3 * MIB,
  });
  assert.equal(diskLimits({ percent: 50 }, 3e9).ceilingBytes, 1.5e9);
  assert.equal(diskLimits({ bytes: 800 * MB }, 252e9).marginBytes, 64 * MIB);
  const space = { totalBytes: 1000 * MB, freeBytes: 500 * MB, availableBytes: 400 * MB, blockBytes: 4096 };
  assert.equal(headroom({ ...big, reserveBytes: 10 * MB }, space, 100 * MB), 390 * MB);
  assert.equal(headroom({ ...big, reserveBytes: 10 * MB, ceilingBytes: 120 * MB }, space, 100 * MB), 20 * MB);
  const used = new UsedBytes();
  assert.equal(used.estimate(space), 0);
  used.set(70 * MB, 450 * MB, 1);
  assert.equal(used.estimate(space), 120 * MB, '50 MB were written since');
});

/** A disk of 1000 MB that holds `cache` removable records of 100 MB each and some other bytes. */
function fixture(
  options: {
    cache?: number;
    other?: number;
    hardLimit?: DiskSpace;
    slowMs?: number;
    pausable?: boolean;
  } = {},
) {
  const state = {
    records: options.cache ?? 0,
    bytes: 0,
    other: options.other ?? 0,
    doomed: 0,
    paused: false,
  };
  const store = (): number => (state.records + state.doomed) * 100 * MB + state.bytes;
  const guard = new DiskGuard({
    root: '/root',
    hardLimit: options.hardLimit,
    space: () => {
      const free = 1000 * MB - store() - state.other;
      return { totalBytes: 1000 * MB, freeBytes: free, availableBytes: free, blockBytes: 4096 };
    },
    refs: {
      evict: async function* () {
        while (state.records > 0) {
          state.records--;
          state.doomed++;
          yield { id: 'r', size: 100 * MB } as UsageRecord;
        }
      },
      inUse: async () => ({
        bytes: 30 * MB,
        largest: [{ id: 'u', size: 30 * MB, description: 'a base' } as UsageRecord],
      }),
    },
    measure: async () => store(),
    emptied: async () => {
      await sleep(options.slowMs ?? 0);
      state.doomed = 0;
    },
    steps: {
      pause: () => options.pausable !== false && (state.paused = true),
      resume: () => void (state.paused = false),
    },
    log: silentLogger,
  });
  const write = async (megabytes: number, signal: AbortSignal): Promise<void> => {
    for (let i = 0; i < megabytes; i++) {
      state.bytes += MB;
      do await sleep(1);
      while (state.paused && !signal.aborted);
      signal.throwIfAborted();
    }
  };
  return { guard, state, write };
}

const step = (name: string) => ({ name, contained: true, signal: new AbortController().signal });

test('records make room before a disk is full', async () => {
  const { guard, state, write } = fixture({ cache: 8 });
  await using _guard = guard;
  using _watched = guard.watch();
  await guard.writing(step('step'), (signal) => write(600, signal));
  assert.equal(state.bytes, 600 * MB);
  assert.ok(state.records < 4, String(state.records));
});

for (const hardLimit of [undefined, { bytes: 800 * MB }])
  test(`steps that write faster than records go stand still meanwhile${hardLimit ? ', below a ceiling' : ''}`, async () => {
    const options = { cache: 7, slowMs: 300, hardLimit };
    const { guard, state, write } = fixture(options);
    {
      await using _guard = guard;
      using _watched = guard.watch();
      await guard.writing(step('step'), (signal) => write(600, signal));
      assert.equal(state.bytes, 600 * MB);
      assert.equal(state.paused, false);
    }
    const other = fixture({ ...options, pausable: false });
    await using _other = other.guard;
    using _watched = other.guard.watch();
    await assert.rejects(
      other.guard.writing(step('step'), (signal) => other.write(600, signal)),
      /no space left on device for step: .*records that nobody uses are being removed, but not as fast as is written$/,
    );
  });

test('what does not write in a container cannot wait and fails; those that can go on', async () => {
  const { guard, state, write } = fixture({ cache: 7, slowMs: 300 });
  await using _guard = guard;
  using _watched = guard.watch();
  const waiting = guard.writing(step('RUN'), (signal) => write(300, signal));
  const copy = guard.writing({ ...step('COPY'), contained: false }, async (signal) => {
    for (;;) {
      state.bytes += MB;
      await sleep(1, undefined, { signal });
    }
  });
  await assert.rejects(copy, /^BuildError: no space left on device for COPY: /);
  await waiting;
  assert.equal(state.paused, false);
});

test('a ceiling holds although the disk has room, and what others write on it does not count', async () => {
  const { guard, state, write } = fixture({ cache: 3, other: 100 * MB, hardLimit: { bytes: 400 * MB } });
  await using _guard = guard;
  using _watched = guard.watch();
  const other = (async () => {
    await sleep(5);
    state.other += 200 * MB;
  })();
  await guard.writing(step('step'), (signal) => write(200, signal));
  await other;
  assert.ok(state.records * 100 * MB + state.bytes <= 400 * MB);
  await assert.rejects(
    guard.writing(step('RUN big'), (signal) => write(1000, signal)),
    (error) => {
      assert.ok(hasCode(error, Code.resourceExhausted));
      assert.match(
        BuildError.from(error).message,
        /^no space left on device for RUN big: the ceiling of 400\.00MB \(worker\.oci\.hardLimit\) is reached with [34]\d\d\.\d\dMB; no record is left that could be removed: builds use 30\.00MB, among them 30\.00MB by a base; the rest is metadata and what is written by RUN big$/,
      );
      return true;
    },
  );
  assert.ok(state.bytes <= 410 * MB, String(state.bytes));
  assert.equal(state.records, 0);
  state.bytes -= 350 * MB; // what the failed step has written is removed
  await guard.writing(step('next'), (signal) => write(40, signal));
});

test('a burst of writes stops nobody while there is room for what it may write until it is seen again', async () => {
  const { guard, state } = fixture({ other: 450 * MB });
  await using _guard = guard;
  using _watched = guard.watch();
  // Nothing can be removed, which a step that fills the disk has found out.
  await assert.rejects(
    guard.writing(step('big'), async (signal) => {
      state.other = 920 * MB;
      await sleep(1000, undefined, { signal });
    }),
  );
  state.other = 700 * MB;
  await guard.writing(step('small'), async (signal) => {
    state.other += 130 * MB; // at this rate the rest would not last for the time it takes to stop
    await sleep(200, undefined, { signal });
  });
});

test("a client's full disk is not taken for this one", async () => {
  const { guard } = fixture({});
  await using _guard = guard;
  const text = 'error from receiver: openat f: no space left on device';
  const failing = guard.writing(step('export'), () => Promise.reject(new BuildError(text)));
  await assert.rejects(failing, { message: text });
});

test('on a full disk nothing starts to write; a step that fails there says why', async () => {
  const { guard, state } = fixture({ other: 995 * MB });
  await using _guard = guard;
  let ran = false;
  await assert.rejects(
    guard.writing(step('step'), async () => {
      ran = true;
    }),
    /no space left on device for step: the disk of \/root has 5\.00MB left of 1\.00GB/,
  );
  assert.equal(ran, false);
  state.other = 0;
  await assert.rejects(
    guard.writing(step('step'), async () => {
      state.other = 999 * MB;
      throw new BuildError('exit code: 1');
    }),
    /no space left on device for step: .*: exit code: 1$/,
  );
  state.other = 0;
  await assert.rejects(
    guard.writing(step('step'), async () => {
      throw new BuildError('exit code: 2');
    }),
    /^BuildError: exit code: 2$/,
  );
});

test('what builds can do without goes when nothing else is left', async () => {
  const { guard, state, write } = fixture({ other: 600 * MB });
  await using _guard = guard;
  state.bytes = 395 * MB;
  let asked = 0;
  guard.onNothingLeft(async () => {
    const left = asked++ === 0;
    if (left) state.bytes -= 250 * MB;
    return left;
  });
  await guard.writing(step('step'), (signal) => write(10, signal));
  assert.equal(asked, 1);
});
