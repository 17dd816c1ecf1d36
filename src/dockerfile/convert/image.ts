import { BuildError } from '../../base/errors.ts';
import { goJson, omitEmpty } from '../../base/gojson.ts';
import type { Platform } from '../../oci/platform.ts';
import type { Healthcheck } from '../instructions/types.ts';
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
    value = JSON.parse(new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes));
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
    exposedPorts: new Set(config.set('ExposedPorts')),
    env: config.strings('Env'),
    entrypoint: config.strings('Entrypoint'),
    cmd: config.strings('Cmd'),
    volumes: new Set(config.set('Volumes')),
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
  if (image.history.some(({ created }) => created === ''))
    throw new BuildError(
      'failed to marshal image config: json: error calling MarshalJSON for type *time.Time: Time.MarshalJSON: year outside of range [0,9999]',
    );
  const { platform, rootfs } = image;
  return Buffer.from(
    goJson({
      created: image.created,
      author: omitEmpty(image.author),
      architecture: platform.architecture,
      os: platform.os,
      'os.version': omitEmpty(platform.osVersion),
      'os.features': omitEmpty(platform.osFeatures),
      variant: omitEmpty(platform.variant),
      rootfs: { type: rootfs.type, diff_ids: rootfs.diffIds ?? null },
      history: omitEmpty(image.history.map(encodeHistory)),
      config: encodeRunConfig(image.config),
    }),
  );
}

function encodeHistory(entry: HistoryEntry): object {
  return {
    created: entry.created,
    created_by: omitEmpty(entry.createdBy),
    author: omitEmpty(entry.author),
    comment: omitEmpty(entry.comment),
    empty_layer: omitEmpty(entry.emptyLayer),
  };
}

function encodeRunConfig(config: RunConfig): object {
  return {
    User: omitEmpty(config.user),
    ExposedPorts: keySet(config.exposedPorts),
    Env: omitEmpty(config.env),
    Entrypoint: omitEmpty(config.entrypoint),
    Cmd: omitEmpty(config.cmd),
    Volumes: keySet(config.volumes),
    WorkingDir: omitEmpty(config.workingDir),
    Labels: omitEmpty(config.labels),
    StopSignal: omitEmpty(config.stopSignal),
    ArgsEscaped: omitEmpty(config.argsEscaped),
    Healthcheck: config.healthcheck && encodeHealthcheck(config.healthcheck),
    OnBuild: omitEmpty(config.onBuild),
    Shell: omitEmpty(config.shell),
  };
}

function encodeHealthcheck(health: Healthcheck): object {
  return {
    Test: omitEmpty(health.test),
    Interval: omitEmpty(health.interval),
    Timeout: omitEmpty(health.timeout),
    StartPeriod: omitEmpty(health.startPeriod),
    StartInterval: omitEmpty(health.startInterval),
    Retries: omitEmpty(health.retries),
  };
}

function keySet(values: ReadonlySet<string>): Map<string, object> | undefined {
  return omitEmpty(new Map([...values].map((key) => [key, {}])));
}
