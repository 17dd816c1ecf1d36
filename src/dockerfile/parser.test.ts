import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BuildError, type ErrorDetail } from '../base/errors.ts';
import type { Node } from './ast.ts';
import { decodeText } from './bytes.ts';
import { findDirective, findSyntax } from './directives.ts';
import { LocatedError, withSources } from './errors.ts';
import { parseStages } from './instructions/parse.ts';
import { parseDockerfile } from './parser.ts';

const nodes = (text: string): readonly Node[] => parseDockerfile(text).nodes;
const shape = (text: string) => nodes(text).map((node) => [node.original, node.startLine, node.endLine]);

test('continuations join lines; comments and empty lines do not end them', () => {
  assert.deepEqual(shape('FROM a\nRUN x \\\n  # no\n\n  y \\  \n z\nCMD q'), [
    ['FROM a', 1, 1],
    ['RUN x   y  z', 2, 6],
    ['CMD q', 7, 7],
  ]);
  assert.deepEqual(shape('RUN a \\\\\nRUN b'), [
    ['RUN a \\\\', 1, 1],
    ['RUN b', 2, 2],
  ]);
  assert.deepEqual(shape('\ufeff  FROM a\r\nRUN b \\\r\n c\r\n'), [
    ['FROM a', 1, 1],
    ['RUN b  c', 2, 3],
  ]);
  const [warning] = parseDockerfile('RUN a \\\n\n b').emptyContinuations;
  assert.equal(warning?.line, 3);
});

test('the escape directive changes the continuation character', () => {
  assert.deepEqual(shape('# escape=`\nRUN a `\n b\\\nCMD x'), [
    ['RUN a  b\\', 2, 3],
    ['CMD x', 4, 4],
  ]);
  assert.deepEqual(shape('# hi\n# escape=`\nRUN a `\nCMD x').length, 2);
});

test('comments above an instruction stay with it, directives do not', () => {
  const [from, run] = nodes('# syntax=x\n# one\n#\n# two\n\n# three\nFROM a\nRUN b');
  assert.deepEqual(from?.comments, ['two', 'three']);
  assert.deepEqual(run?.comments, []);
});

test('heredocs', () => {
  const [run, copy, json, onbuild] = nodes(
    'RUN cat <<A 3<<-"B"\n$x\nA\n\ty\n\tB\nCOPY <<E /x\nE\nRUN ["<<A"]\nONBUILD COPY <<F /\nf\nF\n',
  );
  assert.deepEqual(run?.heredocs, [
    { name: 'A', fd: 0, expand: true, chomp: false, content: '$x\n' },
    { name: 'B', fd: 3, expand: false, chomp: true, content: '\ty\n' },
  ]);
  assert.equal(copy?.heredocs[0]?.content, '');
  assert.deepEqual(json?.heredocs, []);
  assert.equal(onbuild?.heredocs[0]?.content, 'f\n');
  assert.equal(onbuild?.endLine, 11);
});

test('errors carry the lines they come from', () => {
  const cases: [string, string, number[]][] = [
    ['', 'file with no instructions', [0]],
    ['\ufeff', 'file with no instructions', [1]],
    ['# x\n\n', 'file with no instructions', [2]],
    ['FROM a\nRUN <<E\nx', 'unterminated heredoc', [2, 3]],
    ['# escape=x\nFROM a', "invalid escape token 'x' does not match ` or \\", [0]],
    ['# escape=`\n# escape=`\n', 'only one escape parser directive can be used', [1]],
    ['FROM a\nENV x', 'ENV must have two arguments', [2]],
    ['CMD ["a", 1]', 'when using JSON array syntax, arrays must be comprised of strings only', [1]],
    [`FROM a\nRUN ${'x'.repeat(65536)}`, 'dockerfile line greater than max allowed size of 65535', [1]],
    [`FROM a\nRUN \\\n${'x'.repeat(70000)}`, 'dockerfile line greater than max allowed size of 65535', [3]],
    [`FROM a\nRUN \\\nENV ${'x'.repeat(70000)} y=z`, 'ENV must have two arguments', [3]],
    [`FROM a\nRUN <<E\n${'x'.repeat(70000)}\nE\n`, 'unterminated heredoc', [2]],
    [`# ${'x'.repeat(65536)}\nFROM a\n`, 'file with no instructions', [0]],
    [`\ufeffRUN ${'x'.repeat(65529)}\n`, 'file with no instructions', [0]],
    [`FROM a\nRUN ${'\u00e9'.repeat(32767)}`, 'dockerfile line greater than max allowed size of 65535', [1]],
  ];
  for (const [text, message, lines] of cases) {
    assert.throws(
      () => nodes(text),
      (error: LocatedError) => {
        assert.equal(error.message, message);
        assert.deepEqual(
          error.locations.flatMap((ranges) => ranges.map((range) => range.start.line)),
          lines,
        );
        return true;
      },
      text.slice(0, 40),
    );
  }
  assert.equal(nodes(`RUN ${'x'.repeat(65531)}\n`).length, 1);
  assert.equal(nodes(`\ufeffRUN ${'x'.repeat(65528)}\n`).length, 1);
  assert.equal(nodes(`RUN ${'\u00e9'.repeat(32765)}\n`).length, 1);
  assert.equal(nodes(decodeText(Buffer.from(`RUN ${'\xe9'.repeat(65531)}\n`, 'latin1'))).length, 1);
});

test('a located error becomes source details', () => {
  const file = 'FROM a\nBOGUS x \\\n y\n';
  const error = (() => {
    try {
      return parseStages(nodes(file));
    } catch (cause) {
      return withSources(cause, { filename: 'Dockerfile', data: Buffer.from(file), language: 'Dockerfile' });
    }
  })();
  assert.ok(error instanceof BuildError);
  assert.equal(error.message, 'dockerfile parse error on line 2: unknown instruction: BOGUS');
  const expected: ErrorDetail = {
    type: 'errdefs.Source',
    value: {
      info: { filename: 'Dockerfile', data: Buffer.from(file).toString('base64'), language: 'Dockerfile' },
      ranges: [
        { start: { line: 2 }, end: { line: 2 } },
        { start: { line: 3 }, end: { line: 3 } },
      ],
    },
  };
  assert.deepEqual(error.details, [expected]);
});

test('syntax directives in all forms', () => {
  const value = (text: string) => findSyntax(text)?.value;
  assert.equal(value('# syntax=a/b:c opt\nFROM x'), 'a/b:c');
  assert.equal(findSyntax('# syntax=a/b:c opt\nFROM x')?.whole, 'a/b:c opt');
  assert.equal(value('#!/bin/sh\n#SYNTAX = q \nFROM x'), 'q');
  assert.equal(value('// syntax=z'), 'z');
  assert.equal(value('{"syntax": "j", "x": 1}'), 'j');
  assert.equal(value('# other\n# syntax=no'), undefined);
  assert.equal(value('\n# syntax=no'), undefined);
  assert.equal(findDirective('# escape=`\n# check=skip=all', 'check')?.value, 'skip=all');
});

test('random files never crash and keep their lines in order', () => {
  const pieces = [
    'FROM a',
    'RUN x \\',
    'RUN <<E',
    'E',
    'COPY <<-A <<B /x',
    '\tA',
    'B',
    'ENV a=b "c=d',
    'LABEL a b',
    'CMD ["x"',
    'CMD ["x"]',
    '# escape=`',
    '#',
    '',
    '\\',
    'ONBUILD ONBUILD RUN <<E',
    'HEALTHCHECK --x CMD',
    '\ufeff',
    '\0',
    'COPY --a="b c" -- x',
  ];
  let seed = 7;
  const random = (below: number) => {
    seed = (Math.imul(seed, 1103515245) + 12345) & 0x7fffffff;
    return (seed >> 8) % below;
  };
  for (let round = 0; round < 3000; round++) {
    const text = Array.from({ length: random(8) }, () => pieces[random(pieces.length)]).join('\n');
    try {
      const found = nodes(text);
      found.forEach((node, i) => {
        assert.ok(node.startLine > (found[i - 1]?.endLine ?? 0) && node.endLine >= node.startLine, text);
      });
      parseStages(found);
    } catch (error) {
      assert.ok(error instanceof LocatedError, `${JSON.stringify(text)}: ${String(error)}`);
    }
  }
});

test('the type of a health check ends at the first byte that is a blank', () => {
  const args = (text: string) => parseDockerfile(text).nodes[0]?.args;
  assert.deepEqual(args('HEALTHCHECK CMD  a b'), { kind: 'words', words: ['CMD', 'a b'] });
  assert.deepEqual(args('HEALTHCHECK CMD ["a"]'), { kind: 'json', words: ['CMD', 'a'] });
  // The last byte but one of the fraction is a blank of Latin-1.
  assert.deepEqual(args('HEALTHCHECK x\u2155y z'), { kind: 'words', words: ['x\udce2', '\udc95y z'] });
});

test('no directive is longer than a line may be', () => {
  const value = (length: number) => findDirective(`#check=${'x'.repeat(length)}\n`, 'check')?.value.length;
  assert.deepEqual([value(65_528), value(65_529)], [65_528, undefined]);
});
