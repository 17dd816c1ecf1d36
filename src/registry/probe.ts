import { connect } from 'node:net';

/** What answers nothing for so long is asked over TLS, as it should be. */
const PROBE_TIMEOUT_MS = 1000;
const RANDOM_BYTES = 32;
const H = 0x48;

/**
 * Whether a server speaks HTTP where TLS was to be expected, at the cost of a connection. It is greeted as TLS
 * begins (RFC 8446 section 4.1.2), with line ends among the random bytes: then a server that waits for a line of HTTP
 * says at once that this is none. Finding out by a real handshake that fails takes ten times as long.
 */
export function speaksPlainHttp(url: URL): Promise<boolean> {
  return new Promise((resolve) => {
    const host = url.hostname.replace(/^\[|\]$/g, '');
    const socket = connect({ host, port: Number(url.port || 443), noDelay: true });
    const end = (plain: boolean): void => {
      socket.destroy();
      resolve(plain);
    };
    const give = (): void => end(false);
    socket.setTimeout(PROBE_TIMEOUT_MS, give);
    socket.on('error', give).on('close', give);
    socket.once('data', (data) => end(data[0] === H));
    socket.once('connect', () => socket.write(clientHello()));
  });
}

/** TLS 1.2, one cipher, no extensions. */
function clientHello(): Buffer {
  const random = Buffer.alloc(RANDOM_BYTES, '\r\n');
  const body = Buffer.concat([
    Buffer.from('0303', 'hex'),
    random,
    Buffer.from('00' + '0002c02f' + '0100', 'hex'),
  ]);
  const handshake = Buffer.concat([Buffer.from([1, 0, 0, body.length]), body]);
  return Buffer.concat([Buffer.from([22, 3, 1, 0, handshake.length]), handshake]);
}
