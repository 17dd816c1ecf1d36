import { isIP } from 'node:net';

/** The spelling that steps are keyed by; undefined for what is no address. */
export function shortestIp(ip: string): string | undefined {
  const version = isIP(ip);
  if (version === 0 || ip.includes('%')) return undefined;
  if (version === 4) return ip;
  const short = new URL(`http://[${ip}]`).hostname.slice(1, -1);
  const mapped = /^::ffff:([0-9a-f]+):([0-9a-f]+)$/.exec(short);
  if (!mapped) return short;
  const words = [mapped[1]!, mapped[2]!].map((word) => Number.parseInt(word, 16));
  return words.flatMap((word) => [word >> 8, word & 0xff]).join('.');
}
