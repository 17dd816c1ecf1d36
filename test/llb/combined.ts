import {
  diff,
  fromDefinition,
  image,
  local,
  merge,
  mkdir,
  passthrough,
  scratch,
  sourceMap,
  type State,
} from '../../src/llb/index.ts';
import type { Graphs } from './graph.ts';

const a = image('alpine');
const b = image('busybox');
const context = local('context');
const build = { filename: 'build.ts', language: 'TypeScript', data: 'one\ntwo\nthree\n' };

/** Goes through the bytes. */
async function again(state: State, platform: string): Promise<State> {
  const definition = await state.marshal({ platform, localUniqueId: 'unique' });
  return fromDefinition(definition.toBytes());
}

const trees: Graphs = {
  merge: () => merge([a.env('A', '1').dir('/a'), b]).run(['x']),
  'merge-scratch': () => merge([scratch(), a, scratch(), b], { customName: 'm' }),
  'merge-one': () => merge([scratch(), a]),
  'merge-none': () => merge([scratch(), scratch()]),
  'merge-same': () => merge([a, b, a]),
  diff: () => diff(a, a.run(['x'])),
  'diff-lower-scratch': () => diff(scratch(), a.run(['x'])),
  'diff-upper-scratch': () => diff(a, scratch(), { ignoreCache: true }),
  'diff-merge': () => merge([a, diff(a, a.run('one')), diff(a, a.run('two'))], { platform: 'linux/arm64' }),
  requires: () => a.env('A', '1').requires('id', [b, context]).run(['x']),
  'requires-none': () => a.requires('id', []),
  passthrough: () => {
    const inputs = [{ state: b }, { state: scratch() }, { state: a, output: true }];
    return passthrough('id', inputs, { customName: 'p' })[0]!;
  },
  'passthrough-two': () => {
    const [one, two] = passthrough('two', [
      { state: a, output: true },
      { state: context },
      { state: b, output: true },
    ]);
    return merge([two!, one!]);
  },
};

const definitions: Graphs = {
  build: () => a.build(),
  'build-file': () => a.env('A', '1').build({ filename: 'dir/x.llb', platform: 'linux/arm64' }).run(['x']),
  definition: () => again(merge([a.run(['x'], { customName: 'named' }), b]), 'linux/arm64'),
  'definition-further': async () => {
    const before = await again(merge([a.run(['x'], { customName: 'named' }), b]), 'linux/arm64');
    return before.dir('/d').run(['x']);
  },
  'source-definition': async () => {
    const from = await context.marshal({ platform: 'linux/amd64', localUniqueId: 'unique' });
    return a.run(['x'], { locations: [sourceMap({ ...build, from }).at(2)] });
  },
  'definition-sources': async () => {
    const map = sourceMap({ ...build, from: context });
    return (await again(a.run(['x'], { locations: [map.at(2)] }), 'linux/amd64')).run(['x']);
  },
  'source-map': () => {
    const one = sourceMap({ ...build, from: context });
    const two = sourceMap({ filename: 'other', data: 'x' });
    const same = sourceMap({ filename: 'other', data: new TextEncoder().encode('x') });
    const at = (startLine: number, startAt: number, endLine: number, endAt: number) => ({
      start: { line: startLine, character: startAt },
      end: { line: endLine, character: endAt },
    });
    return image('alpine', { locations: [one.at(1)] })
      .file(mkdir('/d'), { locations: [two.at(at(1, 2, 3, 4), at(5, 6, 7, 8))] })
      .run(['x'], { locations: [one.at(2, 3), same.at(9)] });
  },
};

export const combined: Graphs = { ...trees, ...definitions };
