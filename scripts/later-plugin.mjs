/**
 * Functions of these are looked up when they are called: loading the modules takes a short program longer than
 * all that it does.
 */
const LATER = ['node:crypto', 'node:fs/promises', 'node:child_process'];

export const later = {
  name: 'later',
  setup(bundler) {
    bundler.onResolve({ filter: /^node:/ }, ({ path }) =>
      LATER.includes(path) ? { path, namespace: 'later' } : undefined,
    );
    bundler.onLoad({ filter: /^/, namespace: 'later' }, async ({ path }) => {
      const module = await import(path);
      const names = Object.keys(module).filter(
        (name) => name !== 'default' && typeof module[name] === 'function',
      );
      const one = (name) =>
        `export function ${name}(...args) { return process.getBuiltinModule('${path}').${name}(...args); }`;
      return { contents: names.map(one).join('\n'), loader: 'js' };
    });
  },
};
