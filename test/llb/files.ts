import {
  chain,
  copy,
  type FileAction,
  image,
  local,
  mkdir,
  mkfile,
  type MkfileOptions,
  rm,
  scratch,
  symlink,
} from '../../src/llb/index.ts';
import type { Graphs } from './graph.ts';

const base = image('busybox');
const context = local('context');
const createdTime = 1_700_000_000_000_000_005n;

const on = (action: FileAction) => () => base.file(action);
const owned = (options: MkfileOptions) => on(mkfile('/f', '', { mode: 0o600, ...options }));

const makes: Graphs = {
  mkdir: on(mkdir('/d')),
  'mkdir-all': () =>
    base
      .dir('/w')
      .file(mkdir('d/e', { mode: 0o1700, parents: true, owner: { user: 1, group: 2 }, createdTime })),
  mkfile: () => scratch().file(mkfile('/f', 'hello')),
  'mkfile-owner': on(
    mkfile('f', new Uint8Array([0, 1, 255]), { mode: 0o600, owner: 'joe:grp', createdTime }),
  ),
  'mkfile-owner-id': owned({ owner: '1000' }),
  'mkfile-owner-mixed': () => scratch().file(mkfile('/f', '', { mode: 0o600, owner: 'root:users' })),
  'mkfile-owner-name': owned({ owner: { group: '1000' } }),
  symlink: () => base.dir('/w').file(symlink('old', 'new')),
  'symlink-all': on(symlink('/old', '/new', { owner: { user: 5, group: 6 }, createdTime })),
  rm: on(rm('/f')),
  'rm-all': () => base.dir('/w').file(rm('*.o', { allowNotFound: true, allowWildcard: true })),
};

const copies: Graphs = {
  copy: on(copy(context, '/src', '/dest')),
  'copy-all': on(
    copy(context.dir('/in'), 'src/../x', 'dest/', {
      mode: 0o640,
      followSymlinks: true,
      dirContentsOnly: true,
      includePatterns: ['a'],
      excludePatterns: ['b', 'c'],
      requiredPaths: ['r'],
      attemptUnpack: true,
      createDestPath: true,
      allowWildcard: true,
      allowEmptyWildcard: true,
      alwaysReplaceExistingDestPaths: true,
      createdTime,
      owner: { user: 7 },
    }),
  ),
  'copy-mode-text': on(copy(context, 'y', '/q/.', { mode: 'u+x,g=r' })),
  'copy-to-root': () =>
    scratch()
      .file(copy(context, '.', '/.'))
      .file(copy(context, '/', './')),
  'copy-exclude': () => scratch().file(copy(context, '/', '/', { excludePatterns: ['*.md'] })),
  'copy-from-scratch': on(copy(scratch(), '/', '/x')),
  'copy-from-self': on(copy(base, '/a', '/b')),
  'copy-from-run': () => scratch().file(copy(base.run('make'), '/out', '/', { owner: 'me' })),
  actions: () =>
    base
      .dir('/w')
      .file([mkdir('a'), mkfile('a/f', 'x'), copy(context, 's', 'a/'), symlink('f', 'a/l'), rm('b')], {
        customName: 'files',
      }),
  'copy-chain': () => {
    const made = chain(scratch().dir('/ced'), [
      mkdir('./foo', { mode: 0o700 }),
      mkfile('foo/x', '', { mode: 0o600 }),
    ]);
    return base.dir('/abc').file([mkdir('./bar'), copy(made, './foo', './baz')]);
  },
  'copy-chain-twice': () => {
    const made = chain(context.dir('/c'), mkfile('n', 'n'));
    return base.file([copy(made, 'n', '/one'), copy(made, 'n', '/two'), copy(context, 'm', '/three')]);
  },
  'copy-chain-chain': () =>
    scratch().file(copy(chain(context, copy(chain(base, mkdir('/q')), '/q', '/r')), '/r', '/s')),
  'file-options': () =>
    base.file(mkdir('/d'), {
      ignoreCache: true,
      platform: 'linux/arm64',
      workerFilters: ['f'],
      progressGroup: { id: 'i', name: 'n' },
    }),
  'file-then-run': () => base.dir('/w').file(mkdir('d')).run('ls'),
};

export const files: Graphs = { ...makes, ...copies };
