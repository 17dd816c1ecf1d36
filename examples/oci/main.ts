// Copies, checks and shows images in registries and layout folders, without a daemon:
//
//   node examples/oci/main.ts copy alpine:3.20 oci:images:3.20
//   node examples/oci/main.ts check oci:images:3.20
//   node examples/oci/main.ts show --platform linux/arm64 ghcr.io/org/app:1
import { parseArgs } from 'node:util';
import {
  copyImage,
  dockerLogins,
  type ImageLocation,
  Layout,
  readImage,
  RegistryClient,
  validateImage,
} from 'buildkit-ts/oci';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    platform: { type: 'string' },
    /** Registries that speak plain HTTP. */
    http: { type: 'string', multiple: true, default: [] },
  },
});
const [command, first, second] = positionals;
const registries = Object.fromEntries(values.http.map((host) => [host, { http: true }]));
const client = new RegistryClient({
  login: dockerLogins(),
  registries,
  log: (line) => process.stderr.write(line),
});
const platform = values.platform === undefined ? {} : { platform: values.platform };

/** `oci:FOLDER[:TAG]`, else a reference. */
function imageOf(text: string | undefined): ImageLocation {
  if (text === undefined) usage();
  const [, folder, tag] = /^oci:([^:]+)(?::(.*))?$/.exec(text) ?? [];
  return folder === undefined ? client.image(text) : new Layout(folder).image(tag);
}

function usage(): never {
  process.stderr.write('main.ts [--platform P] [--http HOST] copy FROM TO | check IMAGE | show IMAGE\n');
  process.exit(2);
}

if (command === 'copy') {
  const { root, sent, sentBytes } = await copyImage(imageOf(first), imageOf(second), {
    ...platform,
    onCopied: ({ digest }, how) => console.log(`${how} ${digest}`),
  });
  console.log(`${root.digest}: ${sent} blobs sent, ${sentBytes} bytes`);
} else if (command === 'check') {
  const image = imageOf(first);
  const root = await image.resolve();
  const { problems, digests } = await validateImage(root, { read: (blob) => image.read(blob) });
  for (const problem of problems) console.log(problem);
  console.log(`${root.digest}: ${digests.size} blobs, ${problems.length} problems`);
  process.exitCode = problems.length === 0 ? 0 : 1;
} else if (command === 'show') {
  const { descriptor, manifest, config } = await readImage(imageOf(first), platform);
  console.log(descriptor.digest, `${config.os}/${config.architecture}`);
  for (const layer of manifest.layers) console.log(layer.digest, layer.size, layer.mediaType);
  console.log(JSON.stringify(config.config ?? {}, undefined, 2));
} else usage();
await client.close();
