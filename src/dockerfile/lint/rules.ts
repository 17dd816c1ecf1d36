/** A rule that a Dockerfile may break without being wrong (FEATURES H58-H79). */
export interface Rule {
  readonly name: string;
  readonly description: string;
  /** Where it is explained, '' for nowhere. */
  readonly url: string;
  /** Only checked when asked for. */
  readonly experimental: boolean;
}

/** A rule with the wording for one place that breaks it. */
export interface Finding {
  readonly rule: Rule;
  readonly message: string;
}

const URL_BASE = 'https://docs.docker.com/go/dockerfile/rule/';

/** `JSONArgsRecommended` is `json-args-recommended`. */
function kebab(name: string): string {
  return name.replace(/([a-z])([A-Z])|([A-Z])([A-Z][a-z])/g, '$1$3-$2$4').toLowerCase();
}

/** A rule as a function from what the place says to the finding. */
function rule<A extends readonly string[]>(
  name: string,
  description: string,
  message: (...args: A) => string,
  special: { readonly experimental?: boolean; readonly undocumented?: boolean } = {},
): (...args: A) => Finding {
  const made: Rule = {
    name,
    description,
    url: special.undocumented ? '' : `${URL_BASE}${kebab(name)}/`,
    experimental: special.experimental ?? false,
  };
  return (...args) => ({ rule: made, message: message(...args) });
}

const orElse = (prefix: string, hint: string): string =>
  hint === '' ? '' : ` (did you mean ${prefix}${hint}?)`;

/** Findings by rule. Arguments that are shown in quotes come quoted. */
export const rules = {
  stageNameCasing: rule(
    'StageNameCasing',
    'Stage names should be lowercase',
    (name: string) => `Stage name '${name}' should be lowercase`,
  ),
  fromAsCasing: rule(
    'FromAsCasing',
    "The 'as' keyword should match the case of the 'from' keyword",
    (from: string, as: string) => `'${as}' and '${from}' keywords' casing do not match`,
  ),
  noEmptyContinuation: rule(
    'NoEmptyContinuation',
    'Empty continuation lines will become errors in a future release',
    () => 'Empty continuation line',
  ),
  consistentInstructionCasing: rule(
    'ConsistentInstructionCasing',
    'All commands within the Dockerfile should use the same casing (either upper or lower)',
    (word: string, casing: string) =>
      `Command '${word}' should match the case of the command majority (${casing})`,
  ),
  duplicateStageName: rule(
    'DuplicateStageName',
    'Stage names should be unique',
    (quoted: string) => `Duplicate stage name ${quoted}, stage names should be unique`,
  ),
  reservedStageName: rule(
    'ReservedStageName',
    'Reserved words should not be used as stage names',
    (quoted: string) => `Stage name should not use the same name as reserved stage ${quoted}`,
  ),
  jsonArgsRecommended: rule(
    'JSONArgsRecommended',
    'JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals',
    (word: string) =>
      `JSON arguments recommended for ${word} to prevent unintended behavior related to OS signals`,
  ),
  maintainerDeprecated: rule(
    'MaintainerDeprecated',
    'The MAINTAINER instruction is deprecated, use a label instead to define an image author',
    () => 'Maintainer instruction is deprecated in favor of using label',
  ),
  undefinedArgInFrom: rule(
    'UndefinedArgInFrom',
    'FROM command must use declared ARGs',
    (name: string, hint: string) => `FROM argument '${name}' is not declared${orElse('', hint)}`,
  ),
  workdirRelativePath: rule(
    'WorkdirRelativePath',
    'Relative workdir without an absolute workdir declared within the build can have unexpected results if the base image changes',
    (quoted: string) => `Relative workdir ${quoted} can have unexpected results if the base image changes`,
  ),
  undefinedVar: rule(
    'UndefinedVar',
    'Variables should be defined before their use',
    (name: string, hint: string) => `Usage of undefined variable '$${name}'${orElse('$', hint)}`,
  ),
  multipleInstructionsDisallowed: rule(
    'MultipleInstructionsDisallowed',
    'Multiple instructions of the same type should not be used in the same stage',
    (word: string) =>
      `Multiple ${word} instructions should not be used in the same stage because only the last one will be used`,
  ),
  legacyKeyValueFormat: rule(
    'LegacyKeyValueFormat',
    'Legacy key/value format with whitespace separator should not be used',
    (word: string) => `"${word} key=value" should be used instead of legacy "${word} key value" format`,
  ),
  invalidBaseImagePlatform: rule(
    'InvalidBaseImagePlatform',
    'Base image platform does not match expected target platform',
    (image: string, expected: string, actual: string) =>
      `Base image ${image} was pulled with platform ${actual}, expected ${expected} for current build`,
    { undocumented: true },
  ),
  redundantTargetPlatform: rule(
    'RedundantTargetPlatform',
    'Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior',
    (written: string) =>
      `Setting platform to predefined ${written} in FROM is redundant as this is the default behavior`,
  ),
  secretsUsedInArgOrEnv: rule(
    'SecretsUsedInArgOrEnv',
    'Sensitive data should not be used in the ARG or ENV commands',
    (word: string, quoted: string) =>
      `Do not use ARG or ENV instructions for sensitive data (${word} ${quoted})`,
  ),
  invalidDefaultArgInFrom: rule(
    'InvalidDefaultArgInFrom',
    'Default value for global ARG results in an empty or invalid base image name',
    (base: string) => `Default value for ARG ${base} results in empty or invalid base image name`,
  ),
  fromPlatformFlagConstDisallowed: rule(
    'FromPlatformFlagConstDisallowed',
    'FROM --platform flag should not use a constant value',
    (quoted: string) => `FROM --platform flag should not use constant value ${quoted}`,
  ),
  copyIgnoredFile: rule(
    'CopyIgnoredFile',
    'Attempting to Copy file that is excluded by .dockerignore',
    (verb: string, quoted: string) =>
      `Attempting to ${verb} file ${quoted} that is excluded by .dockerignore`,
  ),
  invalidDefinitionDescription: rule(
    'InvalidDefinitionDescription',
    'Comment for build stage or argument should follow the format: `# <arg/stage name> <description>`. If this is not intended to be a description comment, add an empty line or comment between the instruction and the comment.',
    (word: string, name: string) =>
      `Comment for ${word} should follow the format: \`# ${name} <description>\``,
    { experimental: true },
  ),
  exposeProtoCasing: rule(
    'ExposeProtoCasing',
    'Protocol in EXPOSE instruction should be lowercase',
    (port: string) => `Defined protocol '${port}' in EXPOSE instruction should be lowercase`,
  ),
  exposeInvalidFormat: rule(
    'ExposeInvalidFormat',
    'IP address and host-port mapping should not be used in EXPOSE instruction. This will become an error in a future release',
    (port: string) =>
      `EXPOSE instruction should not define an IP address or host-port mapping, found '${port}'`,
  ),
};
