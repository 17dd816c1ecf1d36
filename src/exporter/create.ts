import { BuildError } from '../base/errors.ts';
import { ArchiveExporter } from './archive.ts';
import type { Attrs } from './attrs.ts';
import type { Exporter, ExportTarget } from './exporter.ts';
import { ImageExporter, type ImageExporterServices } from './image.ts';
import { LocalExporter } from './local.ts';
import { TarExporter } from './tar.ts';

export type ExporterServices = ImageExporterServices;

/** The exporter of a request (FEATURES J1). @throws for an unknown type or bad attributes */
export function createExporter(
  type: string,
  attrs: Attrs,
  services: ExporterServices,
  target: ExportTarget,
): Exporter {
  switch (type) {
    case 'image':
      return new ImageExporter(attrs, services, target);
    case 'oci':
    case 'docker':
      return new ArchiveExporter(type, attrs, services, target);
    case 'local':
      return new LocalExporter(attrs, services, target);
    case 'tar':
      return new TarExporter(attrs, services, target);
    default:
      throw new BuildError(`exporter ${JSON.stringify(type)} could not be found`);
  }
}
