import type { Random } from './random.ts';

/** Pieces that mean something to a Dockerfile's readers. */
export const TOKENS: readonly string[] = [
  ...'FROM AS ARG ENV RUN COPY ADD CMD ENTRYPOINT LABEL EXPOSE USER WORKDIR VOLUME ONBUILD SHELL'.split(' '),
  ...'HEALTHCHECK STOPSIGNAL MAINTAINER NONE scratch context alpine # // #! syntax escape check'.split(' '),
  ...'skip= experimental= error= all = == \\ \\\\ ` `` \' " \'\' "" $ $$ ${ } ${} ${A ${A} $A $1 ${1}'.split(
    ' ',
  ),
  ...':- - :+ + :? ? # ## % %% / // , ; : [ ] [] ["a"] {"syntax":"x"} << <<- <<EOF <<"EOF" 3<<EOF EOF'.split(
    ' ',
  ),
  ...'-- --a --a=b --= --from=a --from=0 --link --link=x --mount= --mount=type=cache --platform='.split(' '),
  ...'--chown=1:2 --chmod=755 --exclude=* --parents --checksum=sha256: --keep-git-dir --interval=1s'.split(
    ' ',
  ),
  ...'type=bind,from=a,target=/b type=secret,id=x,env=Y size=1e999 1e999 1.5GiB 64m 9223372036854775808'.split(
    ' ',
  ),
  ...'/ /./ /../ ../ ./ * ** ? ! !! [a-z] [^a] **/ /** a|b {1,3} \\* \\/ é ß ſ İ Σ 𝒳 👍 \ufeff \u200b'.split(
    ' ',
  ),
  ...'\u0085 \u00a0 \u2028 \u0130 0 -1 65535/tcp 1-70000 1h2m 1ns 0x10 SIGKILL RTMIN+3 https://e.x/a.tar'.split(
    ' ',
  ),
  ...'git@github.com:a/b.git#c:d constructor __proto__ toString hasOwnProperty sha256: @sha256:'.split(' '),
  ...['\n', '\r\n', '\r', '\t', ' ', '  ', '\v', '\f', '\0', '\\\n', '`\n', '\\ \n', '\n\n', '\x7f', '\x1b'],
];

const NAMES = ['A', 'B', 'C', 'VERSION', 'PATH', 'HOME', 'TARGETPLATFORM', 'SOURCE_DATE_EPOCH', 'a_1', 'é'];
const BASES = ['alpine', 'alpine', 'alpine', 'scratch', 'scratch', 'a', 'b', '${A:-alpine}', 'x/y:1'];
/** Mostly refused. */
const ODD_BASES = ['0', '$A', 'x/y:1@sha256:ab', 'context', 'é', 'A/B', ''];

export class Grammar {
  readonly #random: Random;

  constructor(random: Random) {
    this.#random = random;
  }

  file(): string {
    const { list, pick, once } = this.#bound();
    const head = once(3) ? list(3, () => this.directive()) : [];
    const body = list(14, () => this.instruction());
    if (!once(8)) body.unshift(once(3) ? `ARG ${this.pair()}` : '', `FROM ${this.from()}`);
    const end = pick(['\n', '\n', '\n', '\r\n']);
    return [...head, ...body].join(end) + (once(4) ? '' : end);
  }

  directive(): string {
    const { pick, once } = this.#bound();
    const start = pick(['# ', '#', '// ', '#!', '']);
    const name = pick(['syntax', 'escape', 'check', 'SYNTAX', 'other']);
    const value = pick([
      '`',
      '\\',
      'skip=all',
      'error=true',
      'skip=JSONArgsRecommended;error=x',
      'docker/x:1',
    ]);
    return once(9) ? '{"syntax":"a b"}' : `${start}${name}${pick(['=', ' = ', '\t=', ''])}${value}`;
  }

  instruction(): string {
    const { pick, once } = this.#bound();
    const made = pick(this.#instructions)();
    const cased = once(9) ? made.toLowerCase() : made;
    const wrapped = once(6)
      ? cased.replace(' ', pick([' \\\n', '\\\n ', ' \\\n# c\n', ' \\\n\n', ' `\n']))
      : cased;
    return once(7) ? `# ${pick(NAMES)} ${this.word()}\n${wrapped}` : wrapped;
  }

  readonly #instructions: readonly (() => string)[] = [
    () => `FROM ${this.from()}`,
    () => `ARG ${this.words(3, () => this.pair())}`,
    () => `ENV ${this.words(3, () => this.pair())}`,
    () => `ENV ${this.#random.pick(NAMES)} ${this.word()}`,
    () => `LABEL ${this.words(3, () => this.pair())}`,
    () => `RUN ${this.flags('run')}${this.command()}`,
    () => `RUN ${this.flags('run')}${this.heredoc('')}`,
    () => `COPY ${this.flags('copy')}${this.paths()}`,
    () => `COPY ${this.flags('copy')}${this.heredoc(' /dest')}`,
    () => `ADD ${this.flags('add')}${this.paths()}`,
    () => `CMD ${this.command()}`,
    () => `ENTRYPOINT ${this.command()}`,
    () => `SHELL ${this.json()}`,
    () => `EXPOSE ${this.words(3, () => this.port())}`,
    () => `USER ${this.word()}`,
    () => `WORKDIR ${this.#random.pick(['/', '', 'C:\\', '../'])}${this.word()}`,
    () => `VOLUME ${this.#random.once(2) ? this.json() : this.words(3)}`,
    () => `STOPSIGNAL ${this.#random.pick(['9', 'SIGTERM', 'RTMAX-3', '$A', '0', 'x'])}`,
    () =>
      `HEALTHCHECK ${this.flags('health')}${this.#random.pick(['CMD ', 'NONE', 'NONE x', ''])}${this.command()}`,
    () => `ONBUILD ${this.instruction()}`,
    () => `MAINTAINER ${this.word()}`,
    () => (this.#random.once(6) ? this.words(4) : `RUN ${this.words(4)}`),
  ];

  from(): string {
    const { pick, once } = this.#bound();
    const platform = once(5)
      ? `--platform=${pick(['linux/amd64', '$BUILDPLATFORM', 'linux', 'linux/arm/v7'])} `
      : '';
    return `${platform}${pick(once(12) ? ODD_BASES : BASES)}${once(2) ? ` AS ${pick(['a', 'b', 'c', 'd', 'A', ...(once(9) ? ['0x', 'scratch', 'é'] : [])])}` : ''}`;
  }

  pair(): string {
    const { pick, once } = this.#bound();
    return once(20) ? this.word() : `${pick(NAMES)}=${this.word()}`;
  }

  words(limit: number, make: () => string = () => this.word()): string {
    return this.#random.list(limit, make).join(this.#random.pick([' ', ' ', ' ', '\t', '  ']));
  }

  word(): string {
    const { pick, once, below } = this.#bound();
    switch (below(9)) {
      case 0:
        return `"${this.expression()}"`;
      case 1:
        return `'${this.expression()}'`;
      case 2:
        return this.expression();
      case 3:
        return once(3) ? pick(TOKENS) : this.expression();
      case 4:
        return `${this.word()}${once(2) ? this.word() : ''}`;
      default:
        return pick([
          'a',
          'b1',
          '/etc/x',
          'x y',
          '1000:1000',
          'apt-get',
          '&&',
          'a=b',
          'é',
          'a\\ b',
          '*',
          '.',
        ]);
    }
  }

  /** Shell expansion, nested. */
  expression(depth = 0): string {
    const { pick, once, below } = this.#bound();
    const inner = (): string =>
      depth > 4 || once(3) ? pick(['a', '*', 'b/c', '', '\\*', '\\}']) : this.expression(depth + 1);
    const name = pick(NAMES);
    switch (below(7)) {
      case 0:
        return `$${name}`;
      case 1:
        return `\${${name}}`;
      case 2:
        return `\${${name}${pick([':-', ':+', '-', '+', '#', '##', '%', '%%', ...(once(9) ? [':', ':#', '?', ':?'] : [])])}${inner()}}`;
      case 3:
        return `\${${name}${pick(['/', '//'])}${inner()}/${inner()}}`;
      case 4:
        return inner() + inner();
      default:
        if (once(8)) return pick(['$', '${', "'", '"', '$@', '<<', '${}', '${A', '${A:z}']);
        return pick(['plain', 'a b', 'c', "'q'", '"q"', '\\$A', '$$', '', 'x=y', 'é']);
    }
  }

  command(): string {
    const { once } = this.#bound();
    return once(3) ? this.json() : this.words(5);
  }

  json(): string {
    const { pick, once } = this.#bound();
    const members = this.#random.list(3, () =>
      once(12) ? pick(['1', 'null', '1e999', '{}']) : JSON.stringify(this.word()),
    );
    return `[${members.join(', ')}${once(12) ? '' : ']'}`;
  }

  paths(): string {
    const { pick } = this.#bound();
    const path = (): string =>
      pick(['.', 'a', '/b/', '../c', '*', 'https://e.x/f.tar', 'a/./b/', '<<EOF', this.word()]);
    return `${this.words(3, path)} ${path()}`;
  }

  port(): string {
    return this.#random.pick([
      '80',
      '80/tcp',
      '1-3/udp',
      '$A',
      '8000:80',
      '70000',
      '127.0.0.1::80',
      '[::1]:1:2',
      '',
    ]);
  }

  heredoc(tail: string): string {
    const { pick, once } = this.#bound();
    const name = pick(['EOF', 'E O', 'x', '\u00e9', '1']);
    const quoted = pick([name, name, `"${name}"`, `'${name}'`, `"${name}`]);
    const body = this.#random.list(4, () => `${pick(['', '\t', '\t\t'])}${this.word()}\n`).join('');
    const close = once(8) ? '' : `${once(5) ? '\t' : ''}${name}`;
    return `${pick(['', '', '3', '0'])}<<${pick(['', '-', ' '])}${quoted}${tail}\n${body}${close}`;
  }

  flags(of: 'run' | 'copy' | 'add' | 'health'): string {
    const list = this.#random.list(2, () => `${this.#flag(of)} `);
    return list.join('');
  }

  #flag(of: 'run' | 'copy' | 'add' | 'health'): string {
    const { pick, once } = this.#bound();
    if (once(9)) return pick(['--', '--x', '--mount', `--${this.word()}`, '--="', "--a='"]);
    if (of === 'run')
      return once(3) ? pick(['--network=none', '--security=insecure', '--device=a']) : this.mount();
    if (of === 'health')
      return `--${pick(['interval', 'timeout', 'retries', 'start-period'])}=${pick(['1s', '1h1m', '0', '3', '-1s', '1e3s', '$A'])}`;
    const common = [
      '--chown=1:2',
      '--chown=$A',
      '--chmod=0755',
      '--chmod=u+x,g=',
      '--link',
      '--link=false',
      `--exclude=${this.word()}`,
    ];
    const own =
      of === 'add'
        ? ['--checksum=sha256:ab', '--keep-git-dir=true', '--unpack']
        : ['--from=a', '--from=0', '--from=$A', '--parents'];
    return pick([...common, ...own]);
  }

  mount(): string {
    const { pick, once } = this.#bound();
    const field = (): string => {
      const key = pick([
        'from',
        'source',
        'target',
        'id',
        'sharing',
        'mode',
        'uid',
        'size',
        'env',
        'ro',
        'rw',
        'required',
      ]);
      return `${key}${pick(['=', '=', '', '=true'])}${pick(['a', '/x', '0', '1e999', '64m', 'shared', '0755', '$A', '"q,r"', 'true'])}`;
    };
    const simple = pick([
      'bind,target=/b',
      'cache,target=/c',
      'secret,id=s',
      'ssh',
      'tmpfs,target=/t,size=1m',
    ]);
    if (once(2)) return `--mount=type=${simple}`;
    const fields = [
      `type=${pick(['bind', 'cache', 'tmpfs', 'secret', 'ssh', 'x'])}`,
      ...this.#random.list(4, field),
    ];
    return `--mount=${fields.join(',')}`;
  }

  /** Lines of an ignore file. */
  ignore(): string {
    const { pick, once } = this.#bound();
    const part = (): string =>
      pick([
        '*',
        '**',
        '?',
        'a',
        'b.txt',
        '[a-c]',
        '[^x]',
        '\\*',
        '.',
        '..',
        'a*b',
        '{',
        '|',
        '(',
        this.word(),
      ]);
    const line = (): string =>
      `${once(4) ? '!' : ''}${once(6) ? '/' : ''}${this.#random.list(5, part).join(pick(['/', '/', '']))}`;
    return this.#random.list(8, () => (once(8) ? `#${line()}` : line())).join('\n');
  }

  #bound() {
    const random = this.#random;
    return {
      list: <T>(limit: number, make: () => T): T[] => random.list(limit, make),
      pick: <T>(from: readonly T[]): T => random.pick(from),
      once: (n: number): boolean => random.once(n),
      below: (n: number): number => random.below(n),
    };
  }
}
