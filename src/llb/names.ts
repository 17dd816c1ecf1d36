import { BuildError } from '../base/errors.ts';
import type { FileAction, Op } from './ops.ts';

/** Names of inputs are cut in the names made of them, which would double with every level otherwise. */
const MAX_PART = 1024;

/** What a vertex is called when nobody named it (FEATURES D25). `inputs` are the names of its inputs. */
export function opName(op: Op, inputs: readonly string[]): string {
  const body = op.op;
  switch (body?.$case) {
    case 'source':
      return body.value.identifier;
    case 'exec':
      return (body.value.meta?.args ?? []).join(' ');
    case 'file':
      return body.value.actions.map(actionName).join(', ');
    case 'build':
      return 'build';
    case 'merge':
      return `merge (${inputs.map(cut).join(', ')})`;
    case 'diff':
      return `diff ${sideName(body.value.lower?.input, inputs)} -> ${sideName(body.value.upper?.input, inputs)}`;
    case 'passthrough':
      return `passthrough ${body.value.id}`;
    default:
      return 'unknown';
  }
}

function actionName({ action }: FileAction): string {
  switch (action?.$case) {
    case 'mkdir':
      return `mkdir ${action.value.path}`;
    case 'mkfile':
      return `mkfile ${action.value.path}`;
    case 'symlink':
      return `symlink ${action.value.newpath} -> ${action.value.oldpath}`;
    case 'rm':
      return `rm ${action.value.path}`;
    case 'copy':
      return `copy ${action.value.src} ${action.value.dest}`;
    default:
      return '';
  }
}

function sideName(input: bigint | undefined, inputs: readonly string[]): string {
  if (input === -1n) return 'scratch';
  const name = inputs[Number(input)];
  if (name === undefined) throw new BuildError(`invalid diff input index ${input}`);
  return `(${cut(name)})`;
}

function cut(name: string): string {
  return name.length > MAX_PART ? `${name.slice(0, MAX_PART)}…` : name;
}
