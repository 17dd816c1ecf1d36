import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BuildError } from '../base/errors.ts';
import { type ExpandOptions, expand, expandWords, variablesOf } from './expand.ts';

const ENV = variablesOf(['A=alpha', 'EMPTY=', 'P=/usr/local/bin', 'F=a.tar.gz', 'S=two words', 'N=x\ny']);
const text = (source: string, options: Partial<ExpandOptions> = {}): string =>
  expand(source, ENV, { escape: '\\', ...options }).text;

/** Not the time of day: the machine may be busy. */
const cpuMs = (): number => process.cpuUsage().user / 1000;

test('references and quotes', () => {
  const cases: [string, string][] = [
    ['$A', 'alpha'],
    ['${A}b', 'alphab'],
    ['$Ab', ''],
    ['$UNSET', ''],
    ['\\$A', '$A'],
    ["'$A'", '$A'],
    ['"$A"', 'alpha'],
    ['"\\$A \\" \\x"', '$A " \\x'],
    ["'a\\'", 'a\\'],
    ['a\\ b', 'a b'],
    ['$', '$'],
    ['$ A', '$ A'],
    ['$1a', 'a'],
    ['a\\', 'a'],
    ['\ufeff$A\ufeff', 'alpha\ufeff'],
    ['"\'$A\'"', "'alpha'"],
  ];
  for (const [source, expected] of cases) assert.equal(text(source), expected, source);
});

test('operators', () => {
  const cases: [string, string][] = [
    ['${UNSET-d}', 'd'],
    ['${EMPTY-d}', ''],
    ['${EMPTY:-d}', 'd'],
    ['${A:-d}', 'alpha'],
    ['${A+x}', 'x'],
    ['${EMPTY+x}', 'x'],
    ['${EMPTY:+x}', ''],
    ['${UNSET+x}', ''],
    ['${UNSET:-${A:+${P}}}', '/usr/local/bin'],
    ['${A?msg}', 'alpha'],
    ['${P#/*/}', 'local/bin'],
    ['${P##/*/}', 'bin'],
    ['${F%.*}', 'a.tar'],
    ['${F%%.*}', 'a'],
    ['${F%?gz}', 'a.tar'],
    ['${A#b}', 'alpha'],
    ['${A/a/X}', 'Xlpha'],
    ['${A//a/X}', 'XlphX'],
    ['${A//[a]/X}', 'alpha'],
    ['${P/\\//_}', '_usr/local/bin'],
    ['${A//a*/X}', 'X'],
    ['${A//\\*/X}', 'alpha'],
    ['${N#*y}', 'x\ny'],
    ['${A//a/\\$0}', '\\alph\\a'],
  ];
  for (const [source, expected] of cases) assert.equal(text(source), expected, source);
});

test('errors name the text and the problem', () => {
  const cases: [string, string][] = [
    ['${UNSET?}', 'UNSET: is not allowed to be unset'],
    ['${EMPTY:?}', 'EMPTY: is not allowed to be empty'],
    ['${UNSET:?must be set}', 'UNSET: must be set'],
    ['${', "syntax error: missing '}'"],
    ['${}', 'syntax error: bad substitution'],
    ['${:x}', 'syntax error: bad substitution'],
    ['${A:-b', "syntax error: missing '}'"],
    ['${A:#b}', 'unsupported modifier (:#) in substitution'],
    ['${A!b}', 'unsupported modifier (!) in substitution'],
    ['${A/b}', "syntax error: missing '/' in ${}"],
    ['${A#\\q}', "invalid pattern (\\q) in substitution: invalid escape '\\q'"],
    ["'a", 'unexpected end of statement while looking for matching single-quote'],
    ['"a', 'unexpected end of statement while looking for matching double-quote'],
  ];
  for (const [source, problem] of cases) {
    assert.throws(
      () => text(source),
      (error: BuildError) =>
        error.message.endsWith(`: ${problem}`) && error.message.startsWith('failed to process "'),
      source,
    );
  }
});

test('options keep quotes, escapes and unset references', () => {
  assert.equal(text('"$A" \'b\'', { rawQuotes: true }), '"alpha" \'b\'');
  assert.equal(text('$UNSET ${UNSET} ${UNSET:-x}', { keepUnset: true }), '$UNSET ${UNSET} ${UNSET:-x}');
  assert.equal(text('a\\b', { rawEscapes: true }), 'a\\b');
  assert.equal(text('"$A\'', { ignoreQuotes: true }), '"alpha\'');
  assert.equal(text('`$A C:\\x', { escape: '`' }), '$A C:\\x');
});

test('words are split after substitution, outside quotes', () => {
  const words = (source: string) => expandWords(source, ENV, { escape: '\\' });
  assert.deepEqual(words('a $S "$S" b\\ c'), ['a', 'two', 'words', 'two words', 'b c']);
  assert.deepEqual(words('  $EMPTY "" x '), ['x']);
  assert.deepEqual(words('cat << EOF'), ['cat', '<< EOF']);
});

test('used and missing names are told', () => {
  const { used, missing } = expand('$A ${NOPE:-$P} $NOPE2', ENV, { escape: '\\' });
  assert.deepEqual([...used].sort(), ['A', 'P']);
  assert.deepEqual([...missing].sort(), ['NOPE', 'NOPE2']);
});

test('hostile patterns and nesting end quickly', () => {
  const long = variablesOf([`L=${'a'.repeat(5000)}`]);
  const started = cpuMs();
  assert.equal(expand(`\${L##${'*a'.repeat(50)}b}`, long, { escape: '\\' }).text.length, 5000);
  assert.throws(() => text('${A+'.repeat(20_000)), BuildError);
  const huge = variablesOf([`H=${'x'.repeat(3 << 20)}`]);
  assert.throws(() => expand('$H"$H$H"', huge, { escape: '\\' }), /longer than/);
  assert.ok(cpuMs() - started < 2000);
});

test('random text never crashes and is deterministic', () => {
  const parts = '$ { } : - + ? # % / * a A EMPTY \\ ` \' " < << \n \t é ${A ${P## //'.split(' ');
  let seed = 20260701;
  const random = (below: number) => {
    seed = (Math.imul(seed, 1103515245) + 12345) & 0x7fffffff;
    return (seed >> 8) % below;
  };
  for (let round = 0; round < 5000; round++) {
    const source = Array.from({ length: 1 + random(12) }, () => parts[random(parts.length)]).join('');
    const options = {
      escape: random(2) ? '\\' : '`',
      rawQuotes: random(2) === 0,
      keepUnset: random(2) === 0,
      rawEscapes: random(2) === 0,
    };
    const run = () => {
      try {
        return expand(source, ENV, options).text;
      } catch (error) {
        assert.ok(error instanceof BuildError, `${JSON.stringify(source)}: ${String(error)}`);
        return error.message;
      }
    };
    assert.equal(run(), run());
  }
});
