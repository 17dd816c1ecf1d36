import { BuildError } from '../../base/errors.ts';

/** A scope that a token opens: a branch, as `refs/heads/main`. */
export interface CacheScope {
  readonly name: string;
  readonly writable: boolean;
}

const WRITE_BIT = 2;

/**
 * The scopes of a token of GitHub's cache service, in its order: claim `ac` of a JSON web token (RFC 7519), which is
 * not verified here. Errors do not hold the token. @throws BuildError for a token that cannot be used (any more)
 */
export function tokenScopes(token: string, now: number): readonly CacheScope[] {
  const claims = claimsOf(token);
  const { ac } = claims;
  if (ac === undefined) throw new BuildError('invalid token without access controls');
  if (typeof ac !== 'string') throw new BuildError(`invalid token with access controls of type ${typeof ac}`);
  const expires = timeIn(claims.exp, 'expiration time');
  if (now > expires) throw new BuildError(`cache token expired at ${new Date(expires).toISOString()}`);
  const begins = timeIn(claims.nbf, 'time of its beginning');
  if (now < begins)
    throw new BuildError(`invalid token with future issue time ${new Date(begins).toISOString()}`);
  return scopesIn(ac);
}

function claimsOf(token: string): Record<string, unknown> {
  const parts = token.split('.');
  if (parts.length !== 3)
    throw new BuildError('token is malformed: token contains an invalid number of segments');
  const claims = parsed(Buffer.from(parts[1]!, 'base64url').toString());
  if (typeof claims !== 'object' || claims === null || Array.isArray(claims))
    throw new BuildError('token is malformed: its claims are no JSON object');
  return claims as Record<string, unknown>;
}

function scopesIn(text: string): CacheScope[] {
  const list = parsed(text);
  if (!Array.isArray(list)) throw new BuildError('failed to parse token access controls: no JSON list');
  return list.map((entry: unknown) => {
    const fields = Object.entries(entry ?? {}).map(([key, value]) => [key.toLowerCase(), value] as const);
    const { scope, permission } = Object.fromEntries(fields) as Record<string, unknown>;
    if (typeof scope !== 'string' || typeof permission !== 'number')
      throw new BuildError('failed to parse token access controls: no scope and permission');
    return { name: scope, writable: (permission & WRITE_BIT) !== 0 };
  });
}

/** Milliseconds. */
function timeIn(claim: unknown, what: string): number {
  if (typeof claim !== 'number' || !Number.isFinite(claim) || Math.abs(claim) > 8.64e12)
    throw new BuildError(`invalid token without ${what}`);
  return claim * 1000;
}

/** undefined for what is no JSON: a parser's error would show a part of it. */
function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
