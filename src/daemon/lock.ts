import { closeSync, ftruncateSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { BuildError, Code } from '../base/errors.ts';
import { makeDirs } from '../base/make-dirs.ts';
import { tryFlock } from '../sys/file.ts';

/** Exclusive hold on a state root (FEATURES A9); disposing gives it back and removes the file. */
export interface RootLock extends Disposable {
  readonly root: string;
}

/** @throws BuildError when another daemon holds the root. */
export function lockRoot(root: string, owner: string): RootLock {
  const dir = resolve(root);
  try {
    makeDirs(dir, 0o700);
  } catch (error) {
    throw BuildError.wrap(error, `could not make the state directory ${dir}`);
  }
  const path = join(dir, 'buildkitd.lock');
  const fd = openSync(path, 'a+', 0o600);
  if (!tryFlock(fd, 'exclusive')) {
    const holder = readFileSync(path, 'utf8').trim();
    closeSync(fd);
    throw new BuildError(`could not lock ${path}, another instance running?`, {
      code: Code.failedPrecondition,
      hint: `${holder === '' ? 'another daemon' : holder} uses ${dir}; stop it or give --root another folder`,
    });
  }
  ftruncateSync(fd);
  writeSync(fd, `${owner}\n`);
  return {
    root: dir,
    [Symbol.dispose]: () => {
      rmSync(path, { force: true });
      closeSync(fd);
    },
  };
}
