import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { MessageStream } from '../../rpc/types.ts';
import { memoryTree } from './memory-source.ts';
import { type FsPacket, PacketType } from './packet.ts';
import { sendTree } from './sender.ts';

/** A receiver that sends what it is given, and what it has got: ids of the files whose data is complete. */
function receiver(): {
  stream: MessageStream<FsPacket, FsPacket>;
  give: (packet: FsPacket) => void;
  complete: number[];
  listed: Promise<number>;
} {
  const inbox: FsPacket[] = [];
  const complete: number[] = [];
  const listed = Promise.withResolvers<number>();
  let wake = (): void => {};
  let stats = 0;
  const stream = {
    receive: async () => {
      while (inbox.length === 0) await new Promise<void>((resolve) => (wake = resolve));
      return inbox.shift();
    },
    send: async ({ type, stat, id = 0, data }: FsPacket) => {
      if (type === PacketType.PACKET_STAT && stat) stats++;
      else if (type === PacketType.PACKET_STAT) listed.resolve(stats);
      else if (type === PacketType.PACKET_DATA && !data) complete.push(id);
    },
  } as unknown as MessageStream<FsPacket, FsPacket>;
  const give = (packet: FsPacket): void => {
    inbox.push(packet);
    wake();
  };
  return { stream, give, complete, listed: listed.promise };
}

async function turns(): Promise<void> {
  for (let i = 0; i < 20; i++) await nextTurn();
}

test('requests are answered at once, and from the 257th on together', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const files = Object.fromEntries(Array.from({ length: 400 }, (_, i) => [`f${i}`, 'x']));
  const { stream, give, complete, listed } = receiver();
  const sent = sendTree(stream, memoryTree(files)({}));
  assert.equal(await listed, 400);
  const ask = (from: number, to: number): void => {
    for (let id = from; id < to; id++) give({ type: PacketType.PACKET_REQ, id });
  };
  ask(0, 1);
  await turns();
  assert.equal(complete.length, 1);
  ask(1, 256);
  await turns();
  assert.equal(complete.length, 256);

  ask(256, 258);
  await turns();
  assert.equal(complete.length, 256, 'more may come');
  t.mock.timers.tick(2);
  await turns();
  assert.equal(complete.length, 256);
  t.mock.timers.tick(2);
  await turns();
  assert.equal(complete.length, 258, 'none came');

  ask(258, 289);
  await turns();
  assert.equal(complete.length, 258);
  ask(289, 290);
  await turns();
  assert.equal(complete.length, 290, 'enough came');

  for (let id = 290; id < 320; id += 2) {
    ask(id, id + 2);
    await turns();
    t.mock.timers.tick(2);
    t.mock.timers.tick(2);
    await turns();
    assert.equal(complete.length, id + 2);
  }
  ask(320, 321);
  await turns();
  assert.equal(complete.length, 321, 'it waits for what it has asked for');

  ask(321, 400);
  give({ type: PacketType.PACKET_FIN });
  await sent;
  assert.deepEqual(
    complete.toSorted((a, b) => a - b),
    Object.keys(complete).map(Number),
  );
});
