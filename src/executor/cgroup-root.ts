import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Logger } from '../base/log.ts';
import { isCgroupV2 } from './cgroup.ts';

const ROOT = '/sys/fs/cgroup';
/** Where the processes of the root go: a cgroup with processes of its own may not hand out controllers. */
const INIT = 'init';

/**
 * Makes the root of the unified hierarchy ready for the cgroups of steps, when the daemon is the first process
 * of a container (FEATURES G25): its processes move aside, and all controllers are handed out. What fails is
 * a warning; steps then run without the limits that need it.
 */
export function handOutControllers(log: Logger, root = ROOT): void {
  if (root === ROOT && !isCgroupV2()) return;
  try {
    mkdirSync(join(root, INIT), { recursive: true, mode: 0o755 });
    for (const pid of readFileSync(join(root, 'cgroup.procs'), 'utf8').split('\n').filter(Boolean))
      writeFileSync(join(root, INIT, 'cgroup.procs'), pid);
  } catch (error) {
    log.warn('failed to prepare cgroup controllers', { error });
    return;
  }
  const controllers = readFileSync(join(root, 'cgroup.controllers'), 'utf8')
    .trim()
    .split(' ')
    .filter(Boolean);
  for (const controller of controllers) {
    try {
      writeFileSync(join(root, 'cgroup.subtree_control'), `+${controller}`);
    } catch (error) {
      log.warn(`failed to enable cgroup controller ${JSON.stringify(controller)}`, { error });
    }
  }
}
