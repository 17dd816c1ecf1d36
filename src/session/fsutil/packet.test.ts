import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Packet, Stat } from '../../pb/fsutil.ts';
import { decodeStat, encodeStat, type FsPacket, packetCodec, packetSize } from './packet.ts';
import { comparePaths, type FsStat, fileTimeOf, GO_DIR, goMode, hasData, unixPermissions } from './stat.ts';

/** Same numbers in every run. */
function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

function randomStat(next: () => number): FsStat {
  const pick = <T>(...values: T[]): T => values[Math.floor(next() * values.length)] as T;
  const bytes = (n: number): Uint8Array => Uint8Array.from({ length: n }, () => next() * 256);
  return {
    path: pick('', 'a', 'dir/ü☃/file', 'x'.repeat(300)),
    mode: pick(0, 0o644, GO_DIR + 0o755, 0xffff_ffff),
    uid: pick(0, 1, 127, 128, 4294967294),
    gid: pick(0, 5, 70000),
    size: pick(0, 1, 300, 2 ** 31, 2 ** 40 + 3, Number.MAX_SAFE_INTEGER),
    modTime: pick(0n, 1n, -1n, 1_700_000_000_123_456_789n, -(2n ** 63n), 2n ** 63n - 1n),
    linkname: pick('', '../target', 'é'),
    devmajor: pick(0, 8, 4095),
    devminor: pick(0, 1, 2 ** 20),
    xattrs: pick<FsStat['xattrs']>(
      undefined,
      { 'user.a': bytes(3) },
      { 'security.capability': bytes(200), 'user.e': bytes(0), '': bytes(1) },
    ),
  };
}

function generated(stat: FsStat): Stat {
  return Stat.fromPartial({
    ...stat,
    size: BigInt(stat.size),
    devmajor: BigInt(stat.devmajor),
    devminor: BigInt(stat.devminor),
    xattrs: { ...stat.xattrs },
  });
}

test('the packet codec agrees with the generated one, both ways', () => {
  const next = random(7);
  for (let i = 0; i < 3000; i++) {
    const packet: FsPacket = {
      type: Math.floor(next() * 5),
      stat: next() < 0.6 ? randomStat(next) : undefined,
      id: next() < 0.5 ? 0 : Math.floor(next() * 2 ** 32),
      data: next() < 0.5 ? Buffer.alloc(0) : Buffer.alloc(Math.floor(next() * 70000), i),
    };
    const theirs = Packet.encode({
      type: packet.type as Packet['type'],
      stat: packet.stat && generated(packet.stat),
      ID: packet.id ?? 0,
      data: packet.data ?? Buffer.alloc(0),
    }).finish();
    const ours = packetCodec.encode(packet).finish();
    assert.equal(packetSize(packet), ours.length);
    assert.deepEqual(Packet.decode(new Uint8Array(ours)), Packet.decode(new Uint8Array(theirs)));
    const back = packetCodec.decode(theirs);
    assert.deepEqual(Buffer.from(packetCodec.encode(back).finish()), Buffer.from(ours));
    assert.deepEqual(back.stat?.modTime, packet.stat?.modTime);
    assert.equal(back.stat?.size, packet.stat?.size);
    const parts = packetCodec.encodeParts?.(packet, 5) ?? [];
    assert.deepEqual(Buffer.concat(parts).subarray(5), Buffer.from(ours));
    assert.equal(parts.length, (packet.data?.length ?? 0) < 4096 ? 1 : 2);
  }
});

test('truncated and random bytes never crash the decoder or read past the end', () => {
  const next = random(3);
  const whole = encodeStat(randomStat(next));
  for (let i = 0; i < whole.length; i++) {
    try {
      decodeStat(whole.subarray(0, i));
    } catch (error) {
      assert.ok(error instanceof RangeError);
    }
  }
  for (let i = 0; i < 2000; i++) {
    const junk = Uint8Array.from({ length: 40 }, () => next() * 256);
    try {
      packetCodec.decode(junk);
    } catch (error) {
      assert.ok(error instanceof RangeError);
    }
  }
});

test('modes, times and order', () => {
  assert.equal(goMode(0o104755), 0x0080_0000 + 0o755);
  assert.equal(goMode(0o041777), GO_DIR + 0x0010_0000 + 0o777);
  assert.equal(unixPermissions(goMode(0o106755)), 0o6755);
  assert.ok(hasData(goMode(0o100600)) && !hasData(goMode(0o010600)));
  assert.deepEqual(fileTimeOf(-1n), { sec: -1, nsec: 999_999_999 });
  const sorted = ['a', 'a/b', 'a/b/c', 'a-b', 'a.b', 'ab', 'b'];
  assert.deepEqual([...sorted].reverse().sort(comparePaths), sorted);
});
