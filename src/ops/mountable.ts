import type { Mount } from '../oci/mount.ts';

/** Something a step can see in its file system. */
export interface Mountable {
  /** Mounts to make, with what must be called once they are gone. */
  mount(readonly: boolean): Promise<MountView>;
}

export interface MountView {
  readonly mounts: readonly Mount[];
  release(): Promise<void>;
}
