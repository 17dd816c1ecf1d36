import type { CommandSpec, FlagSpec } from '../base/flags.ts';
import { VERSION } from '../base/version.ts';

/** The command line of buildctl (FEATURES L1, L3, L15-L19), as data: it is parsed before anything else is loaded. */
const flag = (
  kind: FlagSpec['kind'],
  name: string,
  usage: string,
  more: Partial<FlagSpec> = {},
): FlagSpec => ({
  name,
  kind,
  usage,
  ...more,
});

const FORMAT = flag('string', 'format', "Format the output using the given Go template, e.g, '{{json .}}'");
const FILTER = flag('strings', 'filter', 'Filter records', { aliases: ['f'] });
const VERBOSE = flag('bool', 'verbose', 'Verbose output', { aliases: ['v'] });

const BUILD: CommandSpec = {
  name: 'build',
  aliases: ['b'],
  usage: 'build',
  argsUsage: '[FOLDER | ADDRESS]',
  usageText: `buildctl build [options] [FOLDER | ADDRESS]

   Build the Dockerfile of a folder into an image archive:
     $ buildctl build --output type=oci,dest=image.tar .

   The same of a Git repository:
     $ buildctl build --output type=oci,dest=image.tar https://github.com/user/repository.git#main:folder

   The same, and push it, with everything said:
     $ buildctl build --frontend dockerfile.v0 --opt target=foo --opt build-arg:foo=bar --local context=. --local dockerfile=. --output type=image,name=docker.io/username/image,push=true

   Without --addr, BUILDKIT_HOST and a daemon at the default address, root's build runs a daemon of its own.`,
  flags: [
    flag(
      'strings',
      'output',
      'Define exports for build result, e.g. --output type=image,name=docker.io/username/image,push=true',
      {
        aliases: ['o'],
      },
    ),
    flag(
      'string',
      'progress',
      'Set type of progress (auto, plain, tty, quiet, rawjson). Use plain to show container output',
      {
        value: 'auto',
      },
    ),
    flag('string', 'trace', 'Path to trace file. Defaults to no tracing.'),
    flag('strings', 'local', 'Allow build access to the local directory'),
    flag('strings', 'oci-layout', 'Allow build access to the local OCI layout'),
    flag('string', 'frontend', 'Define frontend used for build'),
    flag(
      'strings',
      'opt',
      'Define custom options for frontend, e.g. --opt target=foo --opt build-arg:foo=bar',
    ),
    flag('bool', 'no-cache', 'Disable cache for all the vertices'),
    flag(
      'int',
      'compatibility-version',
      'Make images with the digests of an earlier version: 10, 20 or 30 (default: current)',
    ),
    flag('int', 'max-parallelism', 'Limit the number of steps of this build that run at once'),
    flag(
      'strings',
      'export-cache',
      'Export build cache, e.g. --export-cache type=registry,ref=example.com/foo/bar',
    ),
    flag(
      'strings',
      'import-cache',
      'Import build cache, e.g. --import-cache type=registry,ref=example.com/foo/bar',
    ),
    flag('strings', 'secret', 'Secret value exposed to the build. Format id=secretname,src=filepath'),
    flag(
      'strings',
      'allow',
      'Allow extra privileged entitlement, e.g. network.host, security.insecure, device',
    ),
    flag(
      'strings',
      'ssh',
      'Allow forwarding SSH agent or a raw Unix socket to the builder. Format default|<id>[=<socket>[,raw=false]|<key>[,<key>]]',
    ),
    flag('string', 'metadata-file', 'Output build metadata (e.g., image digest) to a file as JSON'),
    flag('bool', 'explain', 'Say at the end why steps were not taken from the cache'),
    flag('string', 'explain-format', 'Format of that: plain, or json on the standard output', {
      value: 'plain',
    }),
    flag('bool', 'debug-shell', 'Open a shell in what a step that fails has left, before the build ends'),
    flag('string', 'debug-shell-program', "Program to run there (default the step's own shell, or /bin/sh)"),
    flag('string', 'source-policy-file', 'Read source policy file from a JSON file'),
    flag('bool', 'proxy-network', 'Run build with proxy network enforcement'),
    flag('string', 'ref-file', 'Write build ref to a file'),
    flag(
      'strings',
      'registry-auth-tlscontext',
      'Overwrite TLS configuration when authenticating with registries, e.g. --registry-auth-tlscontext host=https://myserver:2376,insecure=false,ca=/path/to/my/ca.crt,cert=/path/to/my/cert.crt,key=/path/to/my/key.crt',
    ),
    flag(
      'string',
      'debug-json-cache-metrics',
      "Where to output json cache metrics, use 'stdout' or 'stderr' for standard (error) output.",
    ),
    flag('string', 'root', 'State directory of the private daemon, when one is started', {
      env: ['BUILDKIT_ROOT'],
    }),
  ],
};

const PRUNE: CommandSpec = {
  name: 'prune',
  usage: 'clean up build cache',
  flags: [
    flag('duration', 'keep-duration', 'Keep data newer than this limit'),
    flag('float', 'keep-storage', 'Keep data below this limit (in MB)'),
    flag('float', 'keep-storage-min', 'Always allow data above this limit (in MB)'),
    flag('float', 'free-storage', 'Keep free data below this limit (in MB)'),
    FILTER,
    flag('bool', 'all', 'Include internal/frontend references'),
    VERBOSE,
    FORMAT,
  ],
};

const DEBUG: CommandSpec = {
  name: 'debug',
  usage: 'debug utilities',
  commands: [
    {
      name: 'shell',
      usage: 'build, and open a shell in what a step that fails has left',
      argsUsage: '[FOLDER | ADDRESS]',
      flags: BUILD.flags ?? [],
    },
    {
      name: 'dump-llb',
      usage:
        'dump LLB in human-readable format. LLB can be also passed via stdin. This command does not require the daemon to be running.',
      argsUsage: '<llbfile>',
      flags: [flag('bool', 'dot', 'Output dot format')],
    },
    {
      name: 'dump-metadata',
      usage: 'dump the meta in human-readable format. This command requires the daemon NOT to be running.',
      flags: [flag('string', 'root', 'path to state directory', { value: '/var/lib/buildkit' })],
    },
    {
      name: 'fsck',
      usage: 'check the store of a daemon, and repair it',
      flags: [
        flag('bool', 'repair', 'Repair what is found'),
        flag('bool', 'deep', 'Read every blob and compare it with its digest'),
        flag('string', 'root', 'Check the state directory of a daemon that does not run'),
        FORMAT,
      ],
    },
    { name: 'workers', usage: 'list workers', flags: [FILTER, VERBOSE, FORMAT] },
    { name: 'info', usage: 'display internal information', flags: [FORMAT] },
    {
      name: 'monitor',
      usage: 'display build events',
      flags: [
        flag('bool', 'completed', 'show completed builds'),
        flag('string', 'ref', 'show events for a specific build'),
      ],
    },
    {
      name: 'logs',
      usage: 'display build logs',
      argsUsage: '<ref>',
      flags: [
        flag('string', 'progress', 'progress output type', { value: 'auto' }),
        flag('bool', 'trace', 'show opentelemetry trace'),
      ],
    },
    {
      name: 'ctl',
      usage: 'control build records',
      argsUsage: '<ref>',
      flags: [
        flag('bool', 'pin', 'Pin build so it will not be garbage collected'),
        flag('bool', 'unpin', 'Unpin build so it will be garbage collected'),
        flag('bool', 'delete', 'Delete build record'),
      ],
    },
    { name: 'get', usage: 'retrieve a blob from contentstore', argsUsage: '<digest>' },
    {
      name: 'explain',
      usage: 'say why the steps of a build were not taken from the cache',
      argsUsage: '<ref>',
      flags: [flag('string', 'format', 'plain or json', { value: 'plain' })],
    },
    { name: 'histories', usage: 'list build records', flags: [FORMAT] },
  ],
};

/** @param address default of `--addr` (`BUILDKIT_HOST`, else the platform's). */
export function buildctl(address: string): CommandSpec {
  return {
    name: 'buildctl',
    usage: 'build utility',
    version: VERSION,
    flags: [
      flag('bool', 'debug', 'enable debug output in logs'),
      flag('string', 'addr', 'buildkitd address', { value: address }),
      flag('string', 'log-format', 'log formatter: json or text', { value: 'text' }),
      flag('string', 'tlsservername', 'buildkitd server name for certificate validation'),
      flag('string', 'tlscacert', 'CA certificate for validation'),
      flag('string', 'tlscert', 'client certificate'),
      flag('string', 'tlskey', 'client key'),
      flag(
        'string',
        'tlsdir',
        'directory containing CA certificate, client certificate, and client key. Supported file names are (ca.pem, cert.pem, key.pem) or (ca.crt, tls.crt, tls.key)',
      ),
      flag('int', 'timeout', 'timeout backend connection after value seconds', { value: '5' }),
      flag('bool', 'wait', 'block RPCs until the connection becomes available'),
    ],
    commands: [
      { name: 'du', usage: 'disk usage', flags: [FILTER, VERBOSE, FORMAT] },
      PRUNE,
      { name: 'prune-histories', usage: 'clean up build histories', flags: [FORMAT] },
      BUILD,
      DEBUG,
      {
        name: 'dial-stdio',
        usage: 'Proxy the stdio stream to the daemon connection. Should not be invoked manually.',
        hidden: true,
      },
    ],
  };
}
