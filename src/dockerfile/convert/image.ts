import { BuildError } from '../../base/errors.ts';
import type { Platform } from '../../oci/platform.ts';
import type { Healthcheck } from '../instructions/types.ts';
import { encodeJson, type Json, sortedObject } from './json.ts';
import { Members } from './members.ts';

/** The part of an image config that describes how to run it. Changed while a stage is converted. */
export interface RunConfig {
  user: string;
  exposedPorts: Set<string>;
  env: string[];
  entrypoint: readonly string[];
  cmd: readonly string[];
  volumes: Set<string>;
  workingDir: string;
  labels: Map<string, string>;
  stopSignal: string;
  argsEscaped: boolean;
  healthcheck: Healthcheck | undefined;
  onBuild: string[];
  shell: readonly string[];
}

export interface HistoryEntry {
  /** RFC 3339. */
  readonly created?: string;
  readonly createdBy: string;
  readonly author: string;
  readonly comment: string;
  readonly emptyLayer: boolean;
}

/** OCI image config with Docker's additions (FEATURES H52). */
export interface Image {
  created: string | undefined;
  author: string;
  platform: Platform;
  config: RunConfig;
  readonly rootfs: { readonly type: string; readonly diffIds: readonly string[] | undefined };
  history: HistoryEntry[];
}

export const defaultPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

export function emptyImage(platform: Platform): Image {
  const config: RunConfig = {
    user: '',
    exposedPorts: new Set(),
    env: platform.os === 'windows' ? [] : [`PATH=${defaultPath}`],
    entrypoint: [],
    cmd: [],
    volumes: new Set(),
    workingDir: '/',
    labels: new Map(),
    stopSignal: '',
    argsEscaped: false,
    healthcheck: undefined,
    onBuild: [],
    shell: [],
  };
  return {
    created: undefined,
    author: '',
    platform,
    config,
    rootfs: { type: 'layers', diffIds: undefined },
    history: [],
  };
}

export function cloneImage(image: Image): Image {
  const { config } = image;
  return {
    ...image,
    config: {
      ...config,
      exposedPorts: new Set(config.exposedPorts),
      env: [...config.env],
      volumes: new Set(config.volumes),
      labels: new Map(config.labels),
      onBuild: [...config.onBuild],
    },
    history: [...image.history],
  };
}

/**
 * Reads an image config. Members that images do not have are dropped.
 * @throws {BuildError}
 */
export function parseImage(bytes: Uint8Array): Image {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder().decode(bytes));
  } catch (error) {
    throw new BuildError(BuildError.from(error).message, { cause: error });
  }
  const top = Members.of(value, '');
  const rootfs = top.object('rootfs');
  return {
    created: top.time('created'),
    author: top.string('author'),
    platform: parseImagePlatform(top),
    config: parseRunConfig(top.object('config')),
    rootfs: {
      type: rootfs.string('type'),
      diffIds: rootfs.has('diff_ids') ? rootfs.strings('diff_ids') : undefined,
    },
    history: top.objects('history').map((entry) => {
      const created = entry.time('created');
      return {
        createdBy: entry.string('created_by'),
        author: entry.string('author'),
        comment: entry.string('comment'),
        emptyLayer: entry.bool('empty_layer'),
        ...(created === undefined ? {} : { created }),
      };
    }),
  };
}

function parseImagePlatform(top: Members): Platform {
  const version = top.string('os.version');
  const features = top.strings('os.features');
  const variant = top.string('variant');
  return {
    architecture: top.string('architecture'),
    os: top.string('os'),
    ...(version === '' ? {} : { osVersion: version }),
    ...(features.length === 0 ? {} : { osFeatures: features }),
    ...(variant === '' ? {} : { variant }),
  };
}

function parseRunConfig(config: Members): RunConfig {
  const health = config.optional('Healthcheck');
  return {
    user: config.string('User'),
    exposedPorts: new Set(config.keys('ExposedPorts')),
    env: config.strings('Env'),
    entrypoint: config.strings('Entrypoint'),
    cmd: config.strings('Cmd'),
    volumes: new Set(config.keys('Volumes')),
    workingDir: config.string('WorkingDir'),
    labels: config.stringMap('Labels'),
    stopSignal: config.string('StopSignal'),
    argsEscaped: config.bool('ArgsEscaped'),
    healthcheck: health && {
      test: health.strings('Test'),
      interval: health.integer('Interval'),
      timeout: health.integer('Timeout'),
      startPeriod: health.integer('StartPeriod'),
      startInterval: health.integer('StartInterval'),
      retries: Number(health.integer('Retries')),
    },
    onBuild: config.strings('OnBuild'),
    shell: config.strings('Shell'),
  };
}

/** Config bytes in the field order that all BuildKit images have. */
export function encodeImage(image: Image): Uint8Array {
  const { platform, rootfs } = image;
  return Buffer.from(
    encodeJson({
      created: image.created,
      author: text(image.author),
      architecture: platform.architecture,
      os: platform.os,
      'os.version': text(platform.osVersion ?? ''),
      'os.features': list(platform.osFeatures ?? []),
      variant: text(platform.variant ?? ''),
      rootfs: { type: rootfs.type, diff_ids: rootfs.diffIds ?? null },
      history: image.history.length === 0 ? undefined : image.history.map(encodeHistory),
      config: encodeRunConfig(image.config),
    }),
  );
}

function encodeHistory(entry: HistoryEntry): Json {
  return {
    created: entry.created,
    created_by: text(entry.createdBy),
    author: text(entry.author),
    comment: text(entry.comment),
    empty_layer: entry.emptyLayer || undefined,
  };
}

function encodeRunConfig(config: RunConfig): Json {
  return {
    User: text(config.user),
    ExposedPorts: keySet(config.exposedPorts),
    Env: list(config.env),
    Entrypoint: list(config.entrypoint),
    Cmd: list(config.cmd),
    Volumes: keySet(config.volumes),
    WorkingDir: text(config.workingDir),
    Labels: sortedObject(config.labels, (value) => value),
    StopSignal: text(config.stopSignal),
    ArgsEscaped: config.argsEscaped || undefined,
    Healthcheck: config.healthcheck && encodeHealthcheck(config.healthcheck),
    OnBuild: list(config.onBuild),
    Shell: list(config.shell),
  };
}

function encodeHealthcheck(health: Healthcheck): Json {
  return {
    Test: list(health.test),
    Interval: health.interval || undefined,
    Timeout: health.timeout || undefined,
    StartPeriod: health.startPeriod || undefined,
    StartInterval: health.startInterval || undefined,
    Retries: health.retries || undefined,
  };
}

function text(value: string): string | undefined {
  return value === '' ? undefined : value;
}

function list(values: readonly string[]): readonly string[] | undefined {
  return values.length === 0 ? undefined : values;
}

function keySet(values: ReadonlySet<string>): Json | undefined {
  return sortedObject(new Map([...values].map((key) => [key, key])), () => ({}));
}
