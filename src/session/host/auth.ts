import { sign } from 'node:crypto';
import { BuildError, Code } from '../../base/errors.ts';
import { AuthDefinition } from '../../pb/auth.ts';
import { type RegisteredService, service } from '../../rpc/server.ts';
import type { CredentialSource } from './docker-config.ts';
import { fetchRegistryToken, isRefused, type RegistryToken } from './token.ts';
import { authorityKey, rawPublicKey, TokenSeeds } from './token-seed.ts';

export interface AuthServiceOptions {
  readonly config: CredentialSource;
  /** Lets the daemon fetch tokens itself (BUILDKIT_NO_CLIENT_TOKEN). */
  readonly noClientToken?: boolean;
  /** Told once of each use of credentials, as a line for the progress display. */
  readonly onUse?: (line: string) => void;
}

/** Lends registry credentials and fetches tokens (FEATURES C15-C17). */
export function authService({ config, noClientToken, onUse }: AuthServiceOptions): RegisteredService {
  const seeds = new TokenSeeds(config.dir);
  const told = new Set<string>();
  const tell = (line: string): void => {
    if (told.has(line)) return;
    told.add(line);
    onUse?.(line);
  };
  const credentials = async (host: string): Promise<{ Username: string; Secret: string }> => {
    const auth = await config.get(host);
    return auth.identityToken === ''
      ? { Username: auth.username, Secret: auth.password }
      : { Username: '', Secret: auth.identityToken };
  };
  const authority = async (host: string, salt: Uint8Array) => {
    if (noClientToken) throw new BuildError('client side tokens disabled', { code: Code.unavailable });
    const { Secret } = await credentials(host);
    const seed = await seeds.get(host);
    return authorityKey(salt, Secret === '' ? undefined : seed);
  };
  return service(AuthDefinition, {
    credentials: async ({ Host }) => {
      const found = await credentials(Host);
      if (found.Secret !== '') tell(`[auth] sharing credentials for ${Host}`);
      return found;
    },
    fetchToken: async (request, call) => {
      const { registryToken } = await config.get(request.Host);
      if (registryToken !== '') return { Token: registryToken, ExpiresIn: 60n, IssuedAt: 0n };
      const login = await credentials(request.Host);
      if (login.Secret !== '') {
        const scopes = request.Scopes.map((s) => s.replace(/^repository:/, '')).join(' ');
        tell(`[auth] ${scopes} token for ${request.Host}`);
      }
      const fetchWith = ({ Username, Secret }: typeof login) => {
        const { Realm: realm, Service: service, Scopes: scopes } = request;
        return fetchRegistryToken(
          { realm, service, scopes, username: Username, secret: Secret },
          call.signal,
        );
      };
      let token: RegistryToken;
      try {
        token = await fetchWith(login);
      } catch (error) {
        // A helper may have newer ones than those that were kept.
        if (!isRefused(error)) throw error;
        config.forget?.(request.Host);
        const newer = await credentials(request.Host);
        if (newer.Username === login.Username && newer.Secret === login.Secret) throw error;
        token = await fetchWith(newer);
      }
      return { Token: token.token, ExpiresIn: BigInt(token.expiresIn), IssuedAt: BigInt(token.issuedAt) };
    },
    getTokenAuthority: async ({ Host, Salt }) => ({ PublicKey: rawPublicKey(await authority(Host, Salt)) }),
    verifyTokenAuthority: async ({ Host, Payload, Salt }) => {
      const signature = sign(null, Payload, await authority(Host, Salt));
      return { Signed: Buffer.concat([signature, Payload]) };
    },
  });
}
