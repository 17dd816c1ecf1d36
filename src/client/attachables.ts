import { homedir } from 'node:os';
import { join } from 'node:path';
import { digestOf } from '../base/digest.ts';
import { parseBool } from '../base/flags.ts';
import type { RegisteredService } from '../rpc/server.ts';
import { authService } from '../session/host/auth.ts';
import { DockerConfig } from '../session/host/docker-config.ts';
import { newSessionId } from '../session/host/host.ts';
import type { SolveRequest } from './solve-types.ts';
import { nowNanos } from './progress/tree.ts';

/** Registry credentials and ssh agents, which the daemon asks for while it builds. */
export async function lendingServices(request: SolveRequest): Promise<RegisteredService[]> {
  const services: RegisteredService[] = [
    authService({
      config: request.credentials ?? credentialsIn(),
      noClientToken: parseBool(process.env.BUILDKIT_NO_CLIENT_TOKEN ?? '') === true,
      onUse: (line) => announce(request, line),
    }),
  ];
  if (request.ssh?.length) {
    const { sshService } = await import('../session/host/ssh.ts');
    services.push(sshService(request.ssh, process.env.SSH_AUTH_SOCK));
  }
  if (request.uploads) services.push(request.uploads.service());
  return services;
}

/** What `docker login` keeps in a folder; default the user's. */
export function credentialsIn(dir = process.env.DOCKER_CONFIG || join(homedir(), '.docker')): DockerConfig {
  return new DockerConfig(dir, process.env);
}

/** A step of the client's own in the progress. */
function announce(request: SolveRequest, name: string): void {
  const now = nowNanos();
  const vertex = {
    digest: digestOf(newSessionId()),
    inputs: [],
    name,
    cached: false,
    error: '',
    started: now,
  };
  request.onStatus?.({
    vertexes: [{ ...vertex, completed: now }],
    statuses: [],
    logs: [],
    warnings: [],
  });
}
