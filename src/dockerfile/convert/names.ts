import { normalizePlatform } from '../../oci/platform.ts';
import type { Platform } from '../../oci/platform.ts';
import { type ExpandOptions, expand, type Variables } from '../expand.ts';
import { formatPlatformFull, parsePlatform } from '../../oci/platform.ts';
import { cut, upper } from '../text.ts';
import type { StageState } from './stage.ts';

/**
 * The name of a vertex: `[<platform> <stage> <n>/<total>] <text>` (FEATURES H34, H54). Counts the
 * command.
 */
export function vertexName(
  stage: StageState,
  text: string,
  platform: Platform | undefined,
  variables: Variables,
): string {
  if (stage.commandTotal === 0) return text;
  stage.commandIndex++;
  const total = String(stage.commandTotal);
  const parts = [
    ...(platform ? [formatPlatformFull(platform) + targetSuffix(platform, declaredTarget(variables))] : []),
    ...(stage.displayName === '' ? [] : [stage.displayName]),
    `${String(stage.commandIndex).padStart(total.length)}/${total}`,
  ];
  return `[${parts.join(' ')}] ${stage.inTrigger ? 'ONBUILD ' : ''}${text}`;
}

/** Text of an instruction with its variables filled in and its first word in upper case. */
export function instructionText(code: string, variables: Variables, options: ExpandOptions): string {
  const [word, rest] = cut(expandedOrSame(code, variables, options), ' ');
  return rest === undefined ? upper(word) : `${upper(word)} ${rest}`;
}

function expandedOrSame(code: string, variables: Variables, options: ExpandOptions): string {
  try {
    return expand(code, variables, options).text;
  } catch {
    return code; // only a name: the instruction itself reports its errors
  }
}

/** `->arch` when a stage builds for another platform than it runs on. */
function targetSuffix(base: Platform, target: Partial<Platform> | undefined): string {
  if (!target) return '';
  const { os, architecture, variant } = normalizePlatform({
    ...target,
    os: target.os || base.os,
    architecture: target.architecture || base.architecture,
  });
  const short = { os, architecture, ...(variant === undefined ? {} : { variant }) };
  if (os !== base.os) return `->${formatPlatformFull({ ...target, ...short })}`;
  if (architecture === base.architecture) return '';
  return `->${architecture}${variant ? `/${variant}` : ''}`;
}

/** The platform that the TARGET* variables in scope tell. */
function declaredTarget(variables: Variables): Partial<Platform> | undefined {
  const found: { os?: string; architecture?: string; variant?: string } = {};
  for (const name of variables.keys()) {
    const value = variables.get(name) ?? '';
    if (name === 'TARGETPLATFORM') {
      const parsed = tryParse(value);
      if (parsed) return parsed;
    } else if (name === 'TARGETOS') found.os = value;
    else if (name === 'TARGETARCH') found.architecture = value;
    else if (name === 'TARGETVARIANT') found.variant = value;
  }
  return Object.keys(found).length === 0 ? undefined : found;
}

function tryParse(value: string): Platform | undefined {
  try {
    return parsePlatform(value);
  } catch {
    return undefined; // the variable belongs to the user and may hold anything
  }
}
