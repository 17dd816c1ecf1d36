import { BuildError } from '../../base/errors.ts';
import type { Node } from '../ast.ts';
import { chompHeredoc, heredocWord } from '../heredoc.ts';
import { parseFlags } from './flags.ts';
import { baseOf, wordsOf } from './request.ts';
import type { AddInstruction, CopyInstruction, InlineFile, SourcesAndDest } from './types.ts';

export function parseAdd(node: Node): AddInstruction {
  requireDestination(node, 'ADD');
  const flags = parseFlags(node.flags, {
    chown: 'string',
    chmod: 'string',
    link: 'bool',
    'keep-git-dir': 'bool',
    checksum: 'string',
    unpack: 'bool',
    exclude: 'strings',
  });
  const keepGitDir = flags['keep-git-dir'];
  return {
    kind: 'add',
    ...baseOf(node),
    ...sourcesAndDest(node, 'ADD'),
    chown: flags.chown ?? '',
    chmod: flags.chmod ?? '',
    link: flags.link ?? false,
    exclude: flags.exclude ?? [],
    checksum: flags.checksum ?? '',
    ...(keepGitDir === undefined ? {} : { keepGitDir }),
    ...(flags.unpack === undefined ? {} : { unpack: flags.unpack }),
  };
}

export function parseCopy(node: Node): CopyInstruction {
  requireDestination(node, 'COPY');
  const flags = parseFlags(node.flags, {
    chown: 'string',
    from: 'string',
    chmod: 'string',
    link: 'bool',
    exclude: 'strings',
    parents: 'bool',
  });
  return {
    kind: 'copy',
    ...baseOf(node),
    ...sourcesAndDest(node, 'COPY'),
    from: flags.from ?? '',
    chown: flags.chown ?? '',
    chmod: flags.chmod ?? '',
    link: flags.link ?? false,
    exclude: flags.exclude ?? [],
    parents: flags.parents ?? false,
  };
}

function requireDestination(node: Node, instruction: string): void {
  if (wordsOf(node).length < 2)
    throw new BuildError(
      `${instruction} requires at least two arguments, but only one was provided. Destination could not be determined`,
    );
}

function sourcesAndDest(node: Node, instruction: string): SourcesAndDest {
  const words = wordsOf(node);
  const dest = words.at(-1)!;
  if (heredocWord(dest)) throw new BuildError(`${instruction} cannot accept a heredoc as a destination`);
  const bodies = new Map(node.heredocs.map((heredoc) => [heredoc.name, heredoc.content]));
  const sources: string[] = [];
  const files: InlineFile[] = [];
  for (const word of words.slice(0, -1)) {
    const heredoc = heredocWord(word);
    if (!heredoc) {
      sources.push(word);
      continue;
    }
    const body = bodies.get(heredoc.name) ?? '';
    files.push({
      name: heredoc.name,
      data: heredoc.chomp ? chompHeredoc(body) : body,
      expand: heredoc.expand,
    });
  }
  return { dest, sources, files };
}
