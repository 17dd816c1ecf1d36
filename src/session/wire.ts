import {
  FileSendDefinition as GeneratedFileSend,
  FileSyncDefinition as GeneratedFileSync,
} from '../pb/filesync.ts';
import { SSHDefinition as GeneratedSsh } from '../pb/sshforward.ts';
import { ControlDefinition } from '../pb/control.ts';
import { UploadDefinition as GeneratedUpload } from '../pb/upload.ts';
import { bytesMethod } from '../rpc/bytes-message.ts';
import type { MessageType } from '../rpc/types.ts';
import { packetCodec } from './fsutil/packet.ts';

/** Headers of Control.Session (FEATURES C1). */
export const SESSION_ID = 'x-docker-expose-session-uuid';
export const SESSION_NAME = 'x-docker-expose-session-name';
export const SESSION_SHARED_KEY = 'x-docker-expose-session-sharedkey';
export const SESSION_METHOD = 'x-docker-expose-session-grpc-method';
export const SESSION_HEALTH_TIMEOUT = 'x-buildkit-session-health-custom-timeout';

/** Metadata of file transfers (FEATURES C6, C14). */
export const DIR_NAME = 'dir-name';
export const INCLUDE_PATTERNS = 'include-patterns';
export const EXCLUDE_PATTERNS = 'exclude-patterns';
export const FOLLOW_PATHS = 'followpaths';
export const ENCODED_SUFFIX = '-encoded';
export const EXPORTER_ID = 'buildkit-attachable-exporter-id';
export const EXPORTER_METADATA_PREFIX = 'exporter-md-';
export const EXPORTER_MULTI_PLATFORM = 'buildkit-exporter-multi-platform';
export const SSH_ID = 'buildkit.ssh.id';
export const DEFAULT_SSH_ID = 'default';
export const UPLOAD_PATH = 'urlpath';
export const UPLOAD_HOST = 'urlhost';
export const STORE_ID = 'buildkit-attachable-store-id';

/** FileSync with the codec made for it. */
export const FileSyncDefinition = {
  ...GeneratedFileSync,
  methods: {
    diffCopy: { ...GeneratedFileSync.methods.diffCopy, requestType: packetCodec, responseType: packetCodec },
    tarStream: GeneratedFileSync.methods.tarStream,
  },
} as const;

/** A message whose bytes are looked at later: FileSend carries packets or file data, depending on the target. */
const rawCodec: MessageType<Uint8Array> = {
  encode: (message) => ({ finish: () => message }),
  decode: (bytes) => bytes,
  strict: true,
};

export const RawFileSendDefinition = {
  ...GeneratedFileSend,
  methods: {
    diffCopy: { ...GeneratedFileSend.methods.diffCopy, requestType: rawCodec, responseType: rawCodec },
  },
} as const;

/** FileSend to one file: the daemon sends its bytes. */
export const FileSendDefinition = {
  ...GeneratedFileSend,
  methods: { diffCopy: bytesMethod(GeneratedFileSend.methods.diffCopy) },
} as const;

export const SSHDefinition = {
  ...GeneratedSsh,
  methods: { ...GeneratedSsh.methods, forwardAgent: bytesMethod(GeneratedSsh.methods.forwardAgent) },
} as const;

export const UploadDefinition = {
  ...GeneratedUpload,
  methods: { pull: bytesMethod(GeneratedUpload.methods.pull) },
} as const;

/** The daemon's own service, one method of which carries the sessions. */
export const SessionControlDefinition = {
  ...ControlDefinition,
  methods: { ...ControlDefinition.methods, session: bytesMethod(ControlDefinition.methods.session) },
} as const;

/** FileSend to a directory: the daemon sends packets. */
export const DirSendDefinition = {
  ...GeneratedFileSend,
  methods: {
    diffCopy: { ...GeneratedFileSend.methods.diffCopy, requestType: packetCodec, responseType: packetCodec },
  },
} as const;

/** Go's query escaping: everything but letters, digits and `-_.~`, blanks as plus. */
function queryEscape(text: string): string {
  return encodeURIComponent(text)
    .replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`)
    .replaceAll('%20', '+');
}

function queryUnescape(text: string): string {
  try {
    return decodeURIComponent(text.replaceAll('+', ' '));
  } catch {
    return '';
  }
}

/** Values as headers can carry them, and whether they were escaped for it (FEATURES C6). */
export function encodeHeaderValues(values: readonly string[]): { values: string[]; encoded: boolean } {
  const encoded = values.some((v) => [...v].some((c) => (c.codePointAt(0) as number) > 0x7f));
  return { values: encoded ? values.map(queryEscape) : [...values], encoded };
}

export function decodeHeaderValues(values: readonly string[], marker: string | undefined): string[] {
  const encoded = marker !== undefined && ['1', 't', 'T', 'true', 'TRUE', 'True'].includes(marker);
  return encoded ? values.map(queryUnescape) : [...values];
}
