import { invalidArgument } from '../base/errors.ts';
import type { WorkerRecord } from '../pb/worker.ts';

/** Workers that one of the filters matches (FEATURES B32): `id==X`, `labels."k"==v`, `labels.k~=regex`, presence. */
export function matchWorkers(workers: readonly WorkerRecord[], filters: readonly string[]): WorkerRecord[] {
  if (filters.length === 0) return [...workers];
  const parsed = filters.map(parseFilter);
  return workers.filter((worker) => parsed.some((tests) => tests.every((test) => test(worker))));
}

type Test = (worker: WorkerRecord) => boolean;
const TERM =
  /^\s*(id|labels\.(?:"(?<quoted>[^"]*)"|(?<plain>[\w.-]+?)))\s*(?:(?<op>==|!=|~=)\s*(?:"(?<text>(?:[^"\\]|\\.)*)"|(?<word>[^,"]*)))?\s*$/;

function parseFilter(filter: string): Test[] {
  return splitTerms(filter).map((term) => {
    const match = TERM.exec(term);
    if (!match?.groups) throw invalidArgument(`invalid worker filter: ${JSON.stringify(filter)}`);
    const { quoted, plain, op, text, word } = match.groups;
    const label = quoted ?? plain;
    const read = (w: WorkerRecord): string | undefined => (label === undefined ? w.ID : w.Labels[label]);
    const wanted = text?.replace(/\\(.)/g, '$1') ?? word ?? '';
    switch (op) {
      case '==':
        return (w) => read(w) === wanted;
      case '!=':
        return (w) => read(w) !== wanted;
      case '~=': {
        const pattern = new RegExp(wanted);
        return (w) => pattern.test(read(w) ?? '');
      }
      default:
        return (w) => read(w) !== undefined;
    }
  });
}

function splitTerms(filter: string): string[] {
  return filter.match(/(?:"(?:[^"\\]|\\.)*"|[^,])+/g) ?? [];
}
