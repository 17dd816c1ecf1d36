/**
 * Dockerfiles without a daemon: read them, check them, turn them into the build graph (LLB) of BuildKit.
 *
 *     import { convert, lint, parse } from 'buildkit-ts/dockerfile';
 *
 *     for (const node of parse(text).nodes) console.log(node.startLine, node.name);
 *     for (const { rule, message } of (await lint(text)).warnings) console.log(rule, message);
 *     const { definition } = await convert(text, { resolveImage: async (reference) => ({ config: … }) });
 *
 * What is exported here keeps its meaning within a major version. docs/dockerfile-library.md tells more.
 */
export { convert, lint } from './api/convert.ts';
export { DockerfileError } from './api/error.ts';
export { parse, parseInstructions } from './api/parse.ts';
export type {
  Conversion,
  ConvertOptions,
  ImageResolver,
  LintOptions,
  LintResult,
  LintWarning,
  Outline,
  OutlineArg,
  OutlineMount,
  ResolvedImage,
  ResolveOptions,
  Ulimit,
} from './api/types.ts';
export type { Heredoc, KeyValue, Node, NodeArgs, ParsedFile, ParsedLine, ParseWarning } from './ast.ts';
export { nodeLocation } from './ast.ts';
export type {
  AddInstruction,
  ArgPair,
  CommandLine,
  CopyInstruction,
  Healthcheck,
  InlineFile,
  Instruction,
  InstructionBase,
  InstructionOf,
  RunDevice,
  RunInstruction,
  ShellHeredoc,
  SourcesAndDest,
  Stage,
  StagedFile,
} from './instructions/types.ts';
export type { Location, Position, Range } from './location.ts';
