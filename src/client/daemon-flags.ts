/**
 * Flags that Node runs the daemon with; they cannot be set later. Buffers count as heap, and the heap is small: without
 * this the garbage would be collected at every few megabytes that pass through, which took a third of the time of
 * sending an archive. `bin/buildkitd` has them, too.
 */
export const DAEMON_NODE_FLAGS: readonly string[] = ['--initial-old-space-size=128'];
