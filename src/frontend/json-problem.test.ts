import assert from 'node:assert/strict';
import { test } from 'node:test';
import { jsonProblem } from './json-problem.ts';

test('a text that is no JSON is described as BuildKit does', () => {
  const cases: readonly (readonly [string, string])[] = [
    ['', 'unexpected end of JSON input'],
    ['[{', 'unexpected end of JSON input'],
    ['"a', 'unexpected end of JSON input'],
    ['tru', "invalid character ' ' in literal true (expecting 'e')"],
    ['1.', "invalid character ' ' after decimal point in numeric literal"],
    ['-x', "invalid character 'x' in numeric literal"],
    ['2e+', "invalid character ' ' in exponent of numeric literal"],
    ["'", "invalid character '\\'' looking for beginning of value"],
    ['[1,]', "invalid character ']' looking for beginning of value"],
    ['[1 2]', "invalid character '2' after array element"],
    ['{a}', "invalid character 'a' looking for beginning of object key string"],
    ['{"a",', "invalid character ',' after object key"],
    ['{"a":1]', "invalid character ']' after object key:value pair"],
    ['[]\u0001', "invalid character '\\x01' after top-level value"],
    ['"\t"', "invalid character '\\t' in string literal"],
    ['"\\x"', "invalid character 'x' in string escape code"],
    ['"\\u12g"', "invalid character 'g' in \\u hexadecimal character escape"],
    ['\u00e9', "invalid character '\u00c3' looking for beginning of value"],
  ];
  for (const [text, problem] of cases) assert.equal(jsonProblem(text), problem, text);
});

test('what is JSON has no problem, however deep', () => {
  const deep = '['.repeat(50_000) + ']'.repeat(50_000);
  for (const text of ['null', ' [] ', '{"a":[1,-0.5e-3,"\\u00e9\\n",{}],"b":true}', '""', deep])
    assert.equal(jsonProblem(text), undefined, text.slice(0, 40));
});
