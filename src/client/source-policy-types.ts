/** Rules on sources, as in the file of `--source-policy-file` (FEATURES I23). */
export interface SourcePolicy {
  readonly rules: readonly SourceRule[];
}

/** One rule on sources. */
export interface SourceRule {
  /** The last rule that allows or denies a source decides. A conversion starts the rules again. */
  readonly action: 'ALLOW' | 'DENY' | 'CONVERT';
  readonly selector: {
    readonly identifier: string;
    /** WILDCARD when absent. */
    readonly match_type?: 'WILDCARD' | 'EXACT' | 'REGEX';
    readonly constraints?: readonly {
      readonly key: string;
      readonly value: string;
      /** EQUAL when absent. */
      readonly condition?: 'EQUAL' | 'NOTEQUAL' | 'MATCHES';
    }[];
  };
  /** What CONVERT makes of the source; `$1` is what the first `*`, or group, stood for. */
  readonly updates?: { readonly identifier?: string; readonly attrs?: Readonly<Record<string, string>> };
}
