import { homedir } from 'node:os';
import { join } from 'node:path';
import { DockerConfig } from '../session/host/docker-config.ts';
import type { LoginProvider } from './registry-client.ts';

/**
 * What `docker login` knows: `config.json` and its credential helpers.
 * @param dir default the variable DOCKER_CONFIG, else `~/.docker`
 */
export function dockerLogins(dir?: string): LoginProvider {
  const config = new DockerConfig(
    dir ?? (process.env.DOCKER_CONFIG || join(homedir(), '.docker')),
    process.env,
  );
  return async (host) => {
    const { username, password, identityToken } = await config.get(host);
    if (identityToken !== '') return { username: '', secret: identityToken };
    return password === '' ? undefined : { username, secret: password };
  };
}
