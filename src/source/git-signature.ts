import { BuildError } from '../base/errors.ts';
import { type GitObject, objectName, parseGitObject } from './git-object.ts';
import { verifyPgpSignature } from './sign/pgp-signature.ts';
import { verifySshSignature } from './sign/ssh-signature.ts';

/** Whose signature a commit or tag has to have (FEATURES D32). */
export interface GitSignaturePolicy {
  /** Armored keys of OpenPGP, or a line of an authorized_keys file. */
  readonly publicKey: string;
  readonly rejectExpired: boolean;
  readonly requireSignedTag: boolean;
  /** The commit counts, whatever its tag says. */
  readonly ignoreSignedTag: boolean;
}

export interface SignedObjects {
  /** Name of what the ref points to. */
  readonly checksum: string;
  /** Commit of an annotated tag, or ''. */
  readonly commitChecksum: string;
  readonly commitObject?: Uint8Array;
  readonly tagObject?: Uint8Array;
}

const NAMESPACE = 'git';

/** undefined when no signature is asked for. */
export function signaturePolicy(attrs: Readonly<Record<string, string>>): GitSignaturePolicy | undefined {
  if (!Object.keys(attrs).some((key) => key.startsWith('git.sig.'))) return undefined;
  const isTrue = (key: string): boolean => attrs[key] === 'true';
  return {
    publicKey: attrs['git.sig.pubkey'] ?? '',
    rejectExpired: isTrue('git.sig.rejectexpired'),
    requireSignedTag: isTrue('git.sig.requiresignedtag'),
    ignoreSignedTag: isTrue('git.sig.ignoresignedtag'),
  };
}

/** @throws BuildError unless the tag, or else the commit, is what it says and is signed by the key */
export function verifyGitSignature(objects: SignedObjects, policy: GitSignaturePolicy): void {
  const { checksum, commitChecksum, commitObject, tagObject } = objects;
  const tagError = policy.ignoreSignedTag ? undefined : tryTag(tagObject, checksum, policy);
  if (tagError === 'right') return;
  if (policy.requireSignedTag)
    throw tagError ?? new BuildError('signed tag required but no signed tag found');
  const commit = checked('commit', commitObject ?? new Uint8Array(), commitChecksum || checksum);
  verifySignature(commit, policy);
}

/** 'right', what is wrong with the tag's signature, or undefined without a tag. */
function tryTag(
  tagObject: Uint8Array | undefined,
  checksum: string,
  policy: GitSignaturePolicy,
): 'right' | BuildError | undefined {
  if (!tagObject) return undefined;
  const tag = checked('tag', tagObject, checksum);
  try {
    verifySignature(tag, policy);
    return 'right';
  } catch (error) {
    return BuildError.from(error);
  }
}

/** The object, when it has the name that was resolved: a signature of another one says nothing. */
function checked(type: GitObject['type'], raw: Uint8Array, name: string): GitObject {
  let object: GitObject;
  try {
    object = parseGitObject(raw);
  } catch (error) {
    throw BuildError.wrap(error, `failed to parse git ${type} object`);
  }
  const found = objectName(object, name);
  if (object.type !== type || found !== name)
    throw new BuildError(
      `${type} object checksum verification failed: checksum mismatch: expected ${name}, got ${found}`,
    );
  return object;
}

function verifySignature({ signature, signedData }: GitObject, policy: GitSignaturePolicy): void {
  if (signature === '') throw new BuildError('git object is not signed');
  const { publicKey, rejectExpired } = policy;
  if (signature.startsWith('-----BEGIN PGP SIGNATURE-----'))
    verifyPgpSignature(signedData, signature, publicKey, { rejectExpired });
  else if (signature.startsWith('-----BEGIN SSH SIGNATURE-----'))
    verifySshSignature(signedData, signature, publicKey, NAMESPACE);
  else throw new BuildError('invalid signature format');
}
