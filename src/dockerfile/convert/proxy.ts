import type { ProxyEnv } from '../../llb/ops.ts';

const FIELDS: Readonly<Record<string, keyof ProxyEnv>> = {
  http_proxy: 'httpProxy',
  https_proxy: 'httpsProxy',
  ftp_proxy: 'ftpProxy',
  no_proxy: 'noProxy',
  all_proxy: 'allProxy',
};

/** Proxy settings among the build arguments, in any case (FEATURES H33). They are no part of the cache. */
export function proxyOf(buildArgs: ReadonlyMap<string, string>): ProxyEnv | undefined {
  const proxy: ProxyEnv = { httpProxy: '', httpsProxy: '', ftpProxy: '', noProxy: '', allProxy: '' };
  let found = false;
  for (const name of [...buildArgs.keys()].sort()) {
    const field = FIELDS[name.toLowerCase()];
    if (field === undefined) continue;
    proxy[field] = buildArgs.get(name)!;
    found = true;
  }
  return found ? proxy : undefined;
}
