import type { APICap } from '../pb/caps.ts';

/** Capabilities as the wire lists them, sorted by id (FEATURES D41). */
export function toApiCaps(ids: readonly string[]): APICap[] {
  return [...ids].sort().map((ID) => ({
    ID,
    Enabled: true,
    Deprecated: false,
    DisabledReason: '',
    DisabledReasonMsg: '',
    DisabledAlternative: '',
  }));
}
