// Graphs that make no sense are refused by the types: every line below a `@ts-expect-error` must be an error.
import {
  bind,
  cache,
  chain,
  copy,
  type Definition,
  git,
  image,
  local,
  merge,
  mkdir,
  type Mount,
  type Mounts,
  scratch,
  type State,
  tmpfs,
} from 'buildkit-ts/llb';

const base = image('alpine');
const source = local('context');
const sum = `sha256:${'0'.repeat(64)}`;

/** What must be right. */
export function right(writable: boolean, path: string): State[] {
  const run = base.run('make', {
    mounts: {
      '/out': bind(scratch()),
      '/src': bind(source, { readonly: true }),
      '/cache': cache('id'),
      '/tmp': tmpfs({ sizeBytes: 1024 }),
      '/drop': bind(source, { noOutput: true }),
      '/perhaps': bind(source, { readonly: !writable }),
    },
  });
  const computed = base.run('make', {
    mounts: { [path]: bind(source, { readonly: true }), '/out': bind(scratch()) },
  });
  const many: Record<string, Mount<true>> = { [path]: bind(source) };
  const mounts: Mounts = { [path]: bind(source) };
  return [
    run,
    run.root,
    run.run('again'),
    run.output('/out'),
    computed.output('/out'),
    base.run('make', { mounts: many }).output(path),
    base.run('make', { mounts }),
    base.run('make', { readonlyRoot: true, mounts: { '/out': bind(scratch()) } }).output('/out'),
    git('host/a', { checkoutBundle: true, ref: 'main' }),
    git('host/a', { checksum: sum, fetchByCommit: true, subdir: 'a' }),
  ];
}

/** What must be wrong. */
export function wrong(path: string, definition: Definition): unknown[] {
  const run = base.run('make', {
    mounts: {
      '/out': bind(scratch()),
      '/src': bind(source, { readonly: true }),
      '/cache': cache('id'),
      '/tmp': tmpfs(),
      '/drop': bind(source, { noOutput: true }),
      '/perhaps': bind(source, { readonly: path === '' }),
    },
  });
  return [
    // @ts-expect-error nothing is mounted there
    run.output('/other'),
    // @ts-expect-error read-only mounts give no output
    run.output('/src'),
    // @ts-expect-error cache mounts give no output
    run.output('/cache'),
    // @ts-expect-error mounts in memory give no output
    run.output('/tmp'),
    // @ts-expect-error it was said that nothing is kept
    run.output('/drop'),
    // @ts-expect-error nobody knows whether it is read-only
    run.output('/perhaps'),
    // @ts-expect-error nothing is known of the destination
    run.output(path),
    // @ts-expect-error nothing is mounted at all
    base.run('make').output('/out'),
    // @ts-expect-error a state is no run
    run.root.output('/out'),
    // @ts-expect-error there is no root that the run could have changed
    base.run('make', { readonlyRoot: true }).root,
    // @ts-expect-error a run without a root is no state
    merge([base.run('make', { readonlyRoot: true })]),
    // @ts-expect-error the root is the state that runs
    base.run('make', { mounts: { '/': bind(source) } }),
    // @ts-expect-error a state is no mount
    base.run('make', { mounts: { '/out': scratch() } }),
    // @ts-expect-error a mount is made by a function
    base.run('make', { mounts: { '/out': { givesOutput: true } } }),
    // @ts-expect-error neither a file nor a variable
    base.run('make', { secrets: [{ id: 'token' }] }),
    // @ts-expect-error a variable has no mode
    base.run('make', { secrets: [{ id: 'token', env: 'TOKEN', mode: 0o400 }] }),
    // @ts-expect-error misspelt
    base.run('make', { network: 'hots' }),
    // @ts-expect-error misspelt
    base.run('make', { ignorecache: true }),
    // @ts-expect-error no such limit
    base.ulimit('files', 1, 2),
    // @ts-expect-error a command is words
    base.run(5),
    // @ts-expect-error memory has no tree below
    tmpfs({ from: source }),
    // @ts-expect-error no such sharing
    cache('id', { sharing: 'mine' }),
    // @ts-expect-error a bundle has neither folder nor history
    git('host/a', { checkoutBundle: true, subdir: 'a' }),
    // @ts-expect-error a bundle has neither folder nor history
    git('host/a', { checkoutBundle: true, keepGitDir: true }),
    // @ts-expect-error which commit?
    git('host/a', { fetchByCommit: true }),
    // @ts-expect-error which commit?
    git('host/a', { bundle: { locator: `docker-image+blob://host/a@${sum}` } }),
    // @ts-expect-error a path is no state
    copy('/src', '/a', '/b'),
    // @ts-expect-error actions are not states
    merge([mkdir('/a')]),
    // @ts-expect-error chains are not states
    merge([chain(scratch(), mkdir('/a'))]),
    // @ts-expect-error a definition becomes a state by `fromDefinition`
    merge([definition]),
    // @ts-expect-error states become actions by `copy`
    scratch().file(source),
    // @ts-expect-error states are made by functions
    merge([{}]),
  ];
}
