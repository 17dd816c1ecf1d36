import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { createLogger } from '../base/log.ts';
import { mountsUnder } from '../sys/mountinfo.ts';
import { enterMountNamespace } from '../sys/namespace.ts';
import { deleteBridge, interfaceExists } from '../sys/netif.ts';
import { type ChildProcess, findExecutable, spawn } from '../sys/spawn.ts';
import { type CniOptions, openBridgeProvider, openCniProvider } from './cni.ts';
import type { ContainerNetwork } from './network.ts';
import { openNetworks } from './network-mode.ts';

await enterMountNamespace({ argv: process.argv, execArgv: process.execArgv, env: process.env });

const BINARIES = '/usr/lib/cni';
const searchPath = `${process.env.PATH}:/usr/sbin:/sbin`;
const missing = !existsSync(join(BINARIES, 'bridge')) || !findExecutable('iptables', searchPath);
const skip = missing && 'needs containernetworking-plugins and iptables';
const base = mkdtempSync(join(tmpdir(), 'cni-'));
const bridge = `bkt${process.pid}`.slice(0, 15);
const log: string[] = [];
const options: CniOptions = {
  root: base,
  configPath: join(base, 'cni.json'),
  binaryDir: BINARIES,
  bridgeName: bridge,
  bridgeSubnet: `10.${100 + (process.pid % 100)}.0.0/24`,
  searchPath,
  log: createLogger({ level: 'warn', format: 'text', write: (line) => void log.push(line) }),
};
after(() => {
  deleteBridge(bridge);
  assert.deepEqual(mountsUnder(base), []);
  rmSync(base, { recursive: true });
  assert.deepEqual(log, []);
});

async function inside(network: ContainerNetwork, script: string): Promise<string> {
  assert.ok(typeof network.source === 'object');
  const args = ['nsenter', `--net=${network.source.path}`, 'sh', '-c', script];
  const file = findExecutable('nsenter', searchPath)!;
  const child: ChildProcess = spawn({ file, args, env: { PATH: searchPath }, stdout: 'pipe' });
  let out = '';
  for await (const chunk of child.stdout!) out += String(chunk);
  await child.exited;
  return out;
}

test('a bridge from cni.json: address, loopback, and nothing left after the release', { skip }, async () => {
  writeFileSync(
    options.configPath,
    JSON.stringify({
      cniVersion: '0.3.1',
      name: 'test',
      type: 'bridge',
      bridge,
      isGateway: true,
      ipMasq: true,
      ipam: {
        type: 'host-local',
        subnet: options.bridgeSubnet,
        routes: [{ dst: '0.0.0.0/0' }],
        dataDir: join(base, 'ipam'),
      },
    }),
  );
  const provider = await openCniProvider({ ...options, initLockPath: join(base, 'lock') });
  const [one, two] = await Promise.all([provider.open('', {}), provider.open('box', {})]);
  const seen = await inside(one, 'ip -o -4 addr; ip route');
  assert.match(seen, /eth0\s+inet 10\.\d+\.0\.\d+\/24/);
  assert.match(seen, /lo\s+inet 127\.0\.0\.1/);
  assert.match(seen, /default via 10\./);
  const other = /eth0\s+inet ([\d.]+)/.exec(await inside(two, 'ip -o -4 addr'))?.[1];
  assert.match(await inside(one, `busybox ping -c 1 -W 2 ${other}`), /1 packets received/);
  await Promise.all([one.release(), two.release()]);
  assert.deepEqual(readdirSync(join(base, 'net/cni')), []);
  assert.deepEqual(
    readdirSync(join(base, 'ipam/test')).filter((name) => name.startsWith('10.')),
    [],
  );
  await provider.close();
});

test('namespaces of an earlier daemon are cleared at start', { skip }, async () => {
  const earlier = await openCniProvider(options);
  const left = await earlier.open('', {});
  assert.ok(typeof left.source === 'object');
  assert.ok(existsSync(left.source.path));
  const provider = await openCniProvider(options);
  assert.deepEqual(readdirSync(join(base, 'net/cni')), []);
  await provider.close();
});

test('the built-in bridge comes and goes with its provider', { skip }, async () => {
  deleteBridge(bridge);
  const root = join(base, 'builtin');
  mkdirSync(root);
  const networks = await openNetworks({ ...options, root, mode: 'bridge', preferBridge: false });
  assert.equal(networks.label, 'cni');
  const network = await networks.providers.unset!.open('', {});
  assert.match(await inside(network, 'ip -o -4 addr'), /eth0\s+inet 10\./);
  await network.release();
  assert.ok(interfaceExists(bridge));
  await networks.close();
  assert.equal(interfaceExists(bridge), false);
});

test('modes: auto falls back to the host, errors name what is wrong', { skip }, async () => {
  const warned: string[] = [];
  const quiet = createLogger({ level: 'warn', format: 'text', write: (line) => void warned.push(line) });
  const nowhere = { ...options, log: quiet, configPath: join(base, 'none.json'), preferBridge: false };
  assert.equal((await openNetworks({ ...nowhere, mode: 'auto' })).label, 'host');
  assert.match(warned.splice(0).join(), /using host network/);
  await assert.rejects(openNetworks({ ...nowhere, mode: 'other' }), {
    message: 'invalid network mode: "other"',
  });
  await assert.rejects(openNetworks({ ...nowhere, mode: 'cni' }), {
    message: `failed to read cni config "${nowhere.configPath}": open ${nowhere.configPath}: no such file or directory`,
  });
  await assert.rejects(openBridgeProvider({ ...options, binaryDir: '/nonexistent' }), {
    message: /^failed to find CNI bridge "\/nonexistent\/bridge" or buildkit-cni-bridge/,
  });
  writeFileSync(
    join(base, 'bad.json'),
    JSON.stringify({ name: 'x', cniVersion: '0.3.1', type: 'no-such-plugin' }),
  );
  await assert.rejects(openNetworks({ ...nowhere, mode: 'cni', configPath: join(base, 'bad.json') }), {
    message: `CNI setup error: failed to find plugin "no-such-plugin" in path [${BINARIES}]`,
  });
  assert.deepEqual(readdirSync(join(base, 'net/cni')), []);
});
