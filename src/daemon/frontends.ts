import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { goJson } from '../base/gojson.ts';
import type { Bridge, Frontend } from '../frontend/bridge.ts';
import { dockerfileFrontend } from '../frontend/dockerfile.ts';
import { gatewayFrontend, type ServedFrontend } from '../frontend/gateway.ts';
import { platformToJson } from '../oci/platform.ts';
import type { WorkerRecord } from '../pb/worker.ts';
import { healthService } from '../rpc/health.ts';
import { createGrpcServer } from '../rpc/server.ts';
import type { DaemonConfig } from './config.ts';
import { bridgeService, GatewayBuild } from './gateway.ts';
import { platformFromWire } from './platform-wire.ts';
import type { Worker } from './worker.ts';

type Workers = () => Promise<readonly WorkerRecord[]>;

/** The frontends by their names, those that are not switched off. */
export function openFrontends(
  { frontends: config }: DaemonConfig,
  worker: Worker,
  workers: Workers,
): ReadonlyMap<string, Frontend> {
  const frontends = new Map<string, Frontend>();
  if (config.dockerfile) frontends.set('dockerfile.v0', dockerfileFrontend(config.standsInFor));
  if (!config.gateway) return frontends;
  const gateway = gatewayFrontend({
    refs: worker.refs,
    executor: worker.executor,
    serve: (bridge, stream) => serveFrontend(bridge, stream, workers),
    fileIn: (name, content) => fileIn(worker.tmpDir, name, content),
    workers: async () => workersJson(await workers()),
    allowed: config.gatewayRepositories,
  });
  return frontends.set('gateway.v0', gateway);
}

function serveFrontend(
  bridge: Bridge,
  stream: Parameters<ReturnType<typeof createGrpcServer>['serve']>[0],
  workers: Workers,
): ServedFrontend {
  const build = new GatewayBuild(bridge);
  const services = [bridgeService(async () => build, workers), healthService([''])];
  const connection = createGrpcServer({ services }).serve(stream);
  return {
    get outcome() {
      return build.outcome;
    },
    close: async () => {
      connection.destroy();
      await build.containers.close();
    },
  };
}

function fileIn(parent: string, name: string, content: Uint8Array) {
  const dir = mkdtempSync(join(parent, 'frontend-'));
  writeFileSync(join(dir, name), content, { mode: 0o400 });
  return { dir, release: () => rmSync(dir, { recursive: true, force: true }) };
}

/** The list as upstream's clients print it (FEATURES I2). */
function workersJson(records: readonly WorkerRecord[]): string {
  return goJson(
    records.map((record) => ({
      id: record.ID,
      labels: record.Labels,
      platforms: record.platforms.map((platform) => platformToJson(platformFromWire(platform))),
      gcPolicy: record.GCPolicy.map(({ filters, ...policy }) => ({
        all: policy.all,
        filter: filters,
        keepDuration: policy.keepDuration,
        reservedSpace: policy.reservedSpace,
        maxUsedSpace: policy.maxUsedSpace,
        minFreeSpace: policy.minFreeSpace,
      })),
      buildkitVersion: {
        package: record.BuildkitVersion?.package ?? '',
        version: record.BuildkitVersion?.version ?? '',
        revision: record.BuildkitVersion?.revision ?? '',
      },
      cdiDevices: record.CDIDevices.map((device) => ({
        name: device.Name,
        autoAllow: device.AutoAllow,
        annotations: device.Annotations,
        onDemand: device.OnDemand,
      })),
    })),
  );
}
