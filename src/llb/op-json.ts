import { field, goStruct, optional } from '../base/gojson.ts';
import {
  buildJson,
  copyJson,
  diffJson,
  execJson,
  mergeJson,
  mkdirJson,
  mkfileJson,
  passthroughJson,
  rmJson,
  sourceJson,
} from './json.ts';
import type {
  FileAction,
  FileOp,
  Input,
  Location,
  Locations,
  Op,
  Platform,
  Position,
  Range,
  WorkerConstraints,
} from './ops.ts';

const inputJson = goStruct<Input>(
  optional('digest', (i) => i.digest),
  optional('index', (i) => i.index),
);

const platformJson = goStruct<Platform>(
  optional('Architecture', (p) => p.Architecture),
  optional('OS', (p) => p.OS),
  optional('Variant', (p) => p.Variant),
  optional('OSVersion', (p) => p.OSVersion),
  optional('OSFeatures', (p) => p.OSFeatures),
);

const constraintsJson = goStruct<WorkerConstraints>(optional('filter', (c) => c.filter));

/** An op in the form in which provenance shows it (FEATURES J36): its kind below `Op`. */
export const opJson = goStruct<Op>(
  optional('inputs', (op) => op.inputs.map(inputJson)),
  field('Op', kindJson),
  optional('platform', (op) => platformJson(op.platform)),
  optional('constraints', (op) => constraintsJson(op.constraints)),
);

function kindJson({ op }: Op): Record<string, unknown> {
  switch (op?.$case) {
    case undefined:
      return {};
    case 'exec':
      return { exec: execJson(op.value) };
    case 'source':
      return { source: sourceJson(op.value) };
    case 'file':
      return { file: fileJson(op.value) };
    case 'build':
      return { build: buildJson(op.value) };
    case 'merge':
      return { merge: mergeJson(op.value) };
    case 'diff':
      return { diff: diffJson(op.value) };
    case 'passthrough':
      return { passthrough: passthroughJson(op.value) };
    default:
      return op satisfies never;
  }
}

const fileJson = goStruct<FileOp>(optional('actions', ({ actions }) => actions.map(actionJson)));

const actionJson = goStruct<FileAction>(
  field('input', (a) => a.input),
  field('secondaryInput', (a) => a.secondaryInput),
  field('output', (a) => a.output),
  field('Action', actionKindJson),
);

/** Links have no form of their own here. */
function actionKindJson({ action }: FileAction): Record<string, unknown> {
  switch (action?.$case) {
    case 'copy':
      return { copy: copyJson(action.value) };
    case 'mkfile':
      return { mkfile: mkfileJson(action.value) };
    case 'mkdir':
      return { mkdir: mkdirJson(action.value) };
    case 'rm':
      return { rm: rmJson(action.value) };
    default:
      return {};
  }
}

const positionJson = goStruct<Position>(
  optional('line', (p) => p.line),
  optional('character', (p) => p.character),
);

const rangeJson = goStruct<Range>(
  optional('start', (r) => positionJson(r.start)),
  optional('end', (r) => positionJson(r.end)),
);

const locationJson = goStruct<Location>(
  optional('sourceIndex', (l) => l.sourceIndex),
  optional('ranges', (l) => l.ranges.map(rangeJson)),
);

/** Where a step stands in the user's files. */
export const locationsJson = goStruct<Locations>(
  optional('locations', ({ locations }) => locations.map(locationJson)),
);
