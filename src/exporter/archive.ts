import { BuildError, Code, hasCode } from '../base/errors.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import { normalizeReference } from '../oci/reference.ts';
import type { LeaseStore } from '../store/lease.ts';
import type { Digest } from '../base/digest.ts';
import { together } from '../cache/together.ts';
import { archiveEntries, archiveStream } from './archive-entries.ts';
import { ArrivingBlobs } from './arriving-blobs.ts';
import { type Attrs, epochOf, flagAttr, type ImageAttrs, parseImageAttrs, withMetadata } from './attrs.ts';
import {
  type ExportContext,
  type Exporter,
  type ExportResult,
  type ExportSource,
  type ExportTarget,
  oneOff,
} from './exporter.ts';
import { commitOptions, createdAnnotation, imageName, imageResponse } from './image.ts';
import { ImageWriter, type ImageWriterServices } from './image-writer.ts';
import { allRefs, isMultiRef } from './platforms.ts';
import { readTree } from './push.ts';

export interface ArchiveExporterServices extends ImageWriterServices {
  readonly leases: Pick<LeaseStore, 'hold'>;
}

/** Images as a tar for the client, or as blobs in its content store (FEATURES J21, J22). */
export class ArchiveExporter implements Exporter {
  readonly type: 'oci' | 'docker';
  readonly name: string;
  readonly attrs: Attrs;
  readonly #parsed: ImageAttrs;
  readonly #tar: boolean;
  readonly #services: ArchiveExporterServices;
  readonly #target: ExportTarget;

  /** @throws for attributes that have a bad value */
  constructor(type: 'oci' | 'docker', attrs: Attrs, services: ArchiveExporterServices, target: ExportTarget) {
    this.type = type;
    this.name = `exporting to ${type} image format`;
    this.attrs = attrs;
    this.#parsed = parseImageAttrs(attrs);
    this.#tar = flagAttr(attrs, 'tar', true);
    this.#services = services;
    this.#target = target;
  }

  async export(given: ExportSource, context: ExportContext): Promise<ExportResult> {
    const source = withMetadata(given, this.#parsed);
    if (this.type === 'docker' && isMultiRef(source))
      throw new BuildError('docker exporter does not currently support exporting manifest lists');
    const lease = this.#services.leases.hold();
    try {
      const name = imageName(this.#parsed.name, source);
      const more = { type: this.type, attestationInline: false, lease: lease.id };
      const options = commitOptions(this.#parsed, name, more, source, context);
      const image = await new ImageWriter(this.#services).commit(source, options, context);
      const names = normalizedNames(name);
      const epoch = epochOf(this.#parsed.epoch, source, undefined);
      const created = epoch ? new Date(Number(epoch.ns / 1_000_000n)) : new Date();
      const { response, descriptor } = imageResponse(image, names.join(','), createdAnnotation(created));
      const blobs = new ArrivingBlobs(allRefs(source));
      if (this.#tar) {
        const send = (signal: AbortSignal): Promise<void> =>
          this.#sendTar(descriptor, names, response, blobs, { ...context, signal });
        // What is there is sent while the rest still comes.
        await together([(signal) => blobs.bring(signal), send], context.signal);
      } else {
        await blobs.bring(context.signal);
        await this.#sendBlobs(descriptor, context);
      }
      return { response, descriptor, release: () => lease[Symbol.dispose]() };
    } catch (error) {
      lease[Symbol.dispose]();
      throw error;
    }
  }

  /** A client that has the archive already says so, and that is success. */
  async #sendTar(
    descriptor: Descriptor,
    names: readonly string[],
    metadata: Readonly<Record<string, string>>,
    blobs: ArrivingBlobs,
    context: ExportContext,
  ): Promise<void> {
    const { signal } = context;
    const there = (digest: Digest): Promise<void> => blobs.there(digest);
    const options = { names, docker: this.type === 'docker', there, signal };
    const entries = await archiveEntries(this.#services.content, descriptor, options);
    // A file that the client has is not given up for layers that do not come.
    await blobs.begun();
    await using sink = await this.#target.openFile({ metadata, signal });
    await oneOff(context.progress, 'sending tarball', async () => {
      try {
        for await (const chunk of archiveStream(entries, signal)) await sink.write(chunk);
        await sink.close();
      } catch (error) {
        if (!hasCode(error, Code.alreadyExists)) throw error;
      }
    });
  }

  async #sendBlobs(descriptor: Descriptor, context: ExportContext): Promise<void> {
    const { signal } = context;
    const store = await this.#target.contentStore(signal);
    const { content } = this.#services;
    const tree = await readTree(content, descriptor.digest, signal);
    // Parents after children: what the client has is whole at any time.
    for (const blob of [...tree.blobs, ...tree.manifests.toReversed()])
      await store.put(blob, content.read(blob.digest, { signal }), { signal });
  }
}

function normalizedNames(name: string): string[] {
  if (name === '') return [];
  return name.split(',').map((one) => {
    try {
      return normalizeReference(one);
    } catch (error) {
      throw BuildError.wrap(error, `failed to parse ${one}`);
    }
  });
}
