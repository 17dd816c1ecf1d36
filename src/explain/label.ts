/** The name of a step in its parts: `[linux/arm64 build 2/5] COPY . .` */
export interface StepLabel {
  /** '' when the build is for one platform only. */
  readonly platform: string;
  /** '' when it has no name. */
  readonly stage: string;
  /** 0 when the name has none. */
  readonly position: number;
  readonly total: number;
  /** The instruction. */
  readonly text: string;
}

const COUNTED = /^\[(?:(\S+\/\S+) +)?(?:(\S+) +)?(\d+)\/(\d+)\] ([\s\S]*)$/;

/** @param code the instruction as it stands in the file, which variables do not change */
export function labelOf(name: string, code: string | undefined): StepLabel {
  const found = COUNTED.exec(name);
  if (!found) return { platform: '', stage: '', position: 0, total: 0, text: code ?? name };
  const [, platform = '', shown = '', position, total, text = ''] = found;
  // A stage without a name is shown by its number, if there are others.
  const stage = shown.replace(/^stage-\d+$/, '');
  return { platform, stage, position: Number(position), total: Number(total), text: code ?? text };
}

/** First word of an instruction. */
export function verbOf({ text }: StepLabel): string {
  return (/^\S+/.exec(text)?.[0] ?? '').toUpperCase();
}
