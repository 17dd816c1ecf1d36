import type { Digest } from '../base/digest.ts';
import { BuildError, invalidArgument } from '../base/errors.ts';
import { isCommitSha } from '../giturl/git-url.ts';
import { parseObjectReference } from '../oci/object-reference.ts';
import { wrongChecksum } from './git-checksum.ts';
import { type LayoutPlace, layoutPlace } from './oci-layout.ts';

/** Commits packed into one blob, of a registry or of a client's layout, instead of a server. */
export interface GitBundle {
  /** What stands behind the scheme: `REPO@DIGEST`. */
  readonly reference: string;
  readonly digest: Digest;
  /** undefined for a registry's. */
  readonly place?: LayoutPlace;
}

interface BundleContext {
  readonly ref: string;
  readonly subdir: string;
  readonly checksum: string;
  readonly keepGitDir: boolean;
}

const REGISTRY = 'docker-image+blob';
const LAYOUT = 'oci-layout+blob';

/** @throws BuildError for attributes that do not go together */
export function bundleOf(
  attrs: Readonly<Record<string, string>>,
  { ref, checksum }: BundleContext,
): GitBundle | undefined {
  const locator = attrs['git.bundle'] ?? '';
  if (locator === '') return undefined;
  const bundle = parseLocator(locator, attrs);
  if (checksum === '') throw invalidArgument('git.bundle requires git.checksum to be set');
  if (isCommitSha(ref) && !ref.startsWith(checksum)) throw wrongChecksum(checksum, [ref]);
  if (ref === '' && !isCommitSha(checksum))
    throw invalidArgument(`git.bundle without a ref requires a full commit SHA in git.checksum`);
  return bundle;
}

/** Whether the result is to be a bundle. @throws BuildError */
export function wantsBundle(attrs: Readonly<Record<string, string>>, context: BundleContext): boolean {
  if (attrs['git.checkoutbundle'] !== 'true') return false;
  if (context.keepGitDir) throw invalidArgument('git.checkoutbundle is incompatible with git.keepgitdir');
  if (context.subdir !== '') throw invalidArgument('git.checkoutbundle is incompatible with git.subdir');
  return true;
}

function parseLocator(locator: string, attrs: Readonly<Record<string, string>>): GitBundle {
  const shown = JSON.stringify(locator);
  const end = locator.indexOf('://');
  if (end < 0) throw invalidArgument(`failed to parse git.bundle locator ${shown}: missing scheme`);
  const scheme = locator.slice(0, end);
  if (scheme !== REGISTRY && scheme !== LAYOUT)
    throw invalidArgument(
      `git.bundle locator scheme ${JSON.stringify(scheme)} is not supported; expected "${REGISTRY}" or "${LAYOUT}"`,
    );
  const reference = locator.slice(end + 3);
  const digest = digestOfReference(reference, shown);
  if (scheme === REGISTRY) return { reference, digest };
  const { sessionId, storeId } = layoutPlace(attrs);
  return { reference, digest, place: { sessionId, storeId: storeId || reference.replace(/@.*$/s, '') } };
}

function digestOfReference(reference: string, shown: string): Digest {
  let digest: Digest | undefined;
  try {
    ({ digest } = parseObjectReference(reference));
  } catch (error) {
    throw BuildError.wrap(error, `failed to parse git.bundle locator ${shown}`);
  }
  if (digest === undefined)
    throw invalidArgument(
      `failed to parse git.bundle locator ${shown}: invalid digest: invalid checksum digest format`,
    );
  const [algorithm] = digest.split(':');
  if (algorithm !== 'sha256')
    throw invalidArgument(
      `git.bundle locator ${shown}: digest algorithm "${algorithm}" not supported, expected "sha256"`,
    );
  return digest;
}
