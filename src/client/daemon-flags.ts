/**
 * Flags that Node runs the daemon with; they cannot be set later. Buffers count as heap, and the heap is small: without
 * this the garbage would be collected at every few megabytes that pass through, which took a third of the time of
 * sending an archive. `bin/buildkitd` has them, too.
 */
export const DAEMON_NODE_FLAGS: readonly string[] = ['--initial-old-space-size=128'];

/**
 * Further flags where the version of Node is ours: one that a later version does not know would keep the daemon from
 * starting. Functions are compiled well when they have been called 1500 times, in place of 400: a daemon that had just
 * started spent a fifth of its processor time on compiling what was not called much more. `bin/buildkitd` has them.
 */
export const PINNED_NODE_FLAGS: readonly string[] = [
  ...DAEMON_NODE_FLAGS,
  '--invocation-count-for-maglev=1500',
];

/**
 * Setting of the C library for the daemon's buffers, which cannot be made later either: memory for them comes in
 * pages of 2 MiB where the kernel has such. Bytes that pass through touch fresh memory all the time, and in a virtual
 * machine each page of it is a trap: a fifth of the time of a pull or an export. `bin/buildkitd` has it, too.
 */
export const MALLOC_TUNABLES = 'glibc.malloc.hugetlb=1';

/** Environment of a daemon that is started from here; what the user has set in the same variable stays and counts. */
export function daemonEnvironment(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const { GLIBC_TUNABLES: given } = env;
  return { ...env, GLIBC_TUNABLES: given ? `${MALLOC_TUNABLES}:${given}` : MALLOC_TUNABLES };
}
