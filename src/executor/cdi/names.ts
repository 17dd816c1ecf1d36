import { BuildError } from '../../base/errors.ts';

/** Vendor and class of `vendor/class`; no vendor when the text is not of that form. */
export function splitKind(kind: string): { readonly vendor: string; readonly class: string } {
  const slash = kind.indexOf('/');
  if (slash <= 0 || slash === kind.length - 1) return { vendor: '', class: kind };
  return { vendor: kind.slice(0, slash), class: kind.slice(slash + 1) };
}

/** The part of a device's name before the first `=`, and the part behind it. */
export function splitDevice(name: string): { readonly kind: string; readonly device: string } {
  const at = name.indexOf('=');
  return at < 0 ? { kind: name, device: '' } : { kind: name.slice(0, at), device: name.slice(at + 1) };
}

export function checkKind(kind: string): void {
  const parts = splitKind(kind);
  for (const part of ['vendor', 'class'] as const) {
    if (!/^[A-Za-z]([\w.-]*[A-Za-z0-9])?$/.test(parts[part]))
      throw new BuildError(`invalid ${part} ${JSON.stringify(parts[part])} in kind ${JSON.stringify(kind)}`);
  }
}

export function checkDeviceName(name: string): void {
  if (!/^[A-Za-z0-9]([\w.:-]*[A-Za-z0-9])?$/.test(name))
    throw new BuildError(`invalid device name ${JSON.stringify(name)}`);
}
