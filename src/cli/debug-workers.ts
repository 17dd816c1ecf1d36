import { formatDuration } from '../base/duration.ts';
import type { GcPolicy, WorkerInfo, WorkerPlatform } from '../client/types.ts';
import { bytesShort } from '../client/units.ts';
import { type CommandContext, openClient } from './context.ts';
import { TABS, tabulate } from './table.ts';
import { parseTemplate } from './template.ts';

/** `buildctl debug workers` (FEATURES L18). */
export async function runWorkers(context: CommandContext): Promise<void> {
  const { flags, signal } = context;
  const format = flags.string('format');
  const template = format === '' ? undefined : parseTemplate(format);
  using client = await openClient(context);
  const workers = await client.listWorkers({ filters: flags.strings('filter'), signal });
  if (template) {
    process.stdout.write(`${template(workers.length > 0 ? workers.map(workerJson) : null)}\n`);
    return;
  }
  const rows = (): string => `ID\tPLATFORMS\n${workers.map((w) => `${w.id}\t${platformList(w)}\n`).join('')}`;
  const text = flags.bool('verbose') ? workers.map(workerBlock).join('') : rows();
  process.stdout.write(tabulate(text, TABS));
}

function workerBlock(worker: WorkerInfo): string {
  const { buildkitVersion: version } = worker;
  const lines = [
    `ID:\t${worker.id}`,
    `Platforms:\t${platformList(worker)}`,
    `BuildKit:\t${version.package} ${version.version} ${version.revision}`,
  ];
  if (version.dockerfileVersion !== '') lines.push(`Dockerfile:\t${version.dockerfileVersion}`);
  lines.push('Labels:', ...sorted(worker.labels).map(([key, value]) => `\t${key}:\t${value}`));
  if (worker.cdiDevices.length > 0) {
    lines.push('Devices:');
    for (const device of worker.cdiDevices) {
      lines.push(`\tName:\t${device.name}`);
      lines.push(device.onDemand ? '\tOnDemand:\ttrue' : `\tAutoAllow:\t${device.autoAllow}`);
      for (const [key, value] of sorted(device.annotations)) lines.push(`\tAnnotations:\t${key}:\t${value}`);
    }
    lines.push('');
  }
  worker.gcPolicy.forEach((rule, index) => {
    lines.push(`GC Policy rule#${index}:`, ...ruleLines(rule));
  });
  return `${lines.join('\n')}\n\n`;
}

function ruleLines(rule: GcPolicy): string[] {
  const lines = [`\tAll:\t${rule.all}`];
  if (rule.filters.length > 0) lines.push(`\tFilters:\t${rule.filters.join(' ')}`);
  if (rule.keepDuration > 0n) lines.push(`\tKeep duration:\t${formatDuration(rule.keepDuration)}`);
  const space = (name: string, bytes: number): void => {
    if (bytes > 0) lines.push(`\t${name}:\t${bytesShort(bytes)}`);
  };
  space('Reserved space', rule.reservedSpace);
  space('Minimum free space', rule.minFreeSpace);
  space('Maximum used space', rule.maxUsedSpace);
  return lines;
}

function workerJson(worker: WorkerInfo) {
  const { dockerfileVersion, ...version } = worker.buildkitVersion;
  return {
    id: worker.id,
    labels: Object.fromEntries(sorted(worker.labels)),
    platforms: worker.platforms.map((p) => ({
      architecture: p.architecture,
      os: p.os,
      ...(p.osVersion === '' ? {} : { 'os.version': p.osVersion }),
      ...(p.osFeatures.length === 0 ? {} : { 'os.features': p.osFeatures }),
      ...(p.variant === '' ? {} : { variant: p.variant }),
    })),
    gcPolicy: worker.gcPolicy.map((rule) => ({
      all: rule.all,
      filter: rule.filters.length > 0 ? rule.filters : null,
      keepDuration: Number(rule.keepDuration),
      reservedSpace: rule.reservedSpace,
      maxUsedSpace: rule.maxUsedSpace,
      minFreeSpace: rule.minFreeSpace,
    })),
    buildkitVersion: { ...version, ...(dockerfileVersion === '' ? {} : { dockerfileVersion }) },
    cdiDevices: worker.cdiDevices.length > 0 ? worker.cdiDevices : null,
  };
}

function platformList(worker: WorkerInfo): string {
  return worker.platforms.map(platformText).join(',');
}

function platformText({ os, architecture, variant, osVersion }: WorkerPlatform): string {
  const name = osVersion === '' ? os : `${os}(${osVersion})`;
  const usual =
    (architecture === 'arm64' && variant === 'v8') || (architecture === 'amd64' && variant === 'v1');
  return [name, architecture, ...(variant === '' || usual ? [] : [variant])].join('/');
}

function sorted(entries: Readonly<Record<string, string>>): [string, string][] {
  return Object.entries(entries).sort(([a], [b]) => (a < b ? -1 : 1));
}
