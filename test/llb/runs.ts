import {
  bind,
  cache,
  defer,
  image,
  local,
  merge,
  type RunOptions,
  scratch,
  shell,
  type StepOptions,
  tmpfs,
} from '../../src/llb/index.ts';
import { ENABLED_CAPS, UNSERVED_CAPS } from '../../src/llb/caps.ts';
import type { Graphs, Graph } from './graph.ts';

const base = image('busybox');
const context = local('context');
/** `x` in an image. */
const run = (options: RunOptions & { readonly readonlyRoot?: false }) => base.run(['x'], options);

const settings: Graphs = {
  run: () => base.run(shell('echo <hi> & done')),
  'run-words': () => base.run('apk add  --no-cache\tg++'),
  'run-quotes': () => base.run(`a 'b c'"d \\"e"\\ f '' "" g#h \\#i # comment\nnext 'x"y' "z\\n"`),
  'run-settings': () =>
    base
      .env('PATH', '/bin')
      .env({ A: '1', B: '' })
      .env('A', '3')
      .dir('/w')
      .dir('sub/../x')
      .user('me:grp')
      .hostname('h')
      .run(['x']),
  'run-network-host': () => base.network('host').run(['x']),
  'run-network-none': () => run({ network: 'none' }).run(['x']),
  'run-security': () => run({ security: 'insecure' }),
  'run-hosts': () =>
    base.extraHost('one', '1.2.3.4').run(['x'], {
      extraHosts: [
        { host: 'six', ip: '2001:0db8:0:0:0:0:0:1' },
        { host: 'mapped', ip: '::ffff:10.0.0.1' },
      ],
    }),
  'run-ulimits': () =>
    base.ulimit('nofile', 10, 20n).run(['x'], { ulimits: [{ name: 'core', soft: -1, hard: -1 }] }),
  'run-cgroup': () => base.cgroupParent('cg').run(['x']).run(['x'], { cgroupParent: 'other' }),
  'run-exit-codes': () => run({ validExitCodes: [0, 3, 137] }),
  'run-proxy': () =>
    run({ proxy: { httpProxy: 'http://p', httpsProxy: 's', ftpProxy: 'f', noProxy: 'n', allProxy: 'a' } }),
  'run-proxy-empty': () => run({ proxy: {} }),
  'run-devices': () =>
    run({ devices: [{ name: 'vendor.com/d=1', optional: true }, { name: 'vendor.com/d=2' }] }),
  'run-only-here': () => run({ env: { A: '1', B: '2' }, dir: '/d', user: 'u', hostname: 'hn' }).run(['x']),
  'run-chain': () => base.run('a').run('b').run('c').root,
  'run-scratch': () => scratch().run(['x'], { mounts: { '/bin': bind(base, { readonly: true }) } }),
  'run-platform': () => run({ platform: 'linux/arm64' }).run(['x']),
  'run-state-platform': () =>
    base.platform({ os: 'linux', architecture: 'aarch64', variant: 'v8' }).run(['x']),
  'run-image-config': () =>
    base
      .withImageConfig({
        os: 'linux',
        architecture: 'arm',
        variant: 'v7',
        config: { Env: ['A=b=c', '=no', 'X'], WorkingDir: '/wd' },
      })
      .run(['x']),
  'run-longer': () =>
    base
      .run('echo hello world')
      .run("sh -c 'cat /etc/passwd | wc -l > /out/n'", { mounts: { '/out': bind(scratch()) }, dir: '/tmp' })
      .output('/out'),
};

const mounts: Graphs = {
  'mount-output': () => base.run(['x'], { mounts: { '/out': bind(scratch()) } }).output('/out'),
  'mount-output-settings': () =>
    base
      .run(['x'], { mounts: { '/out': bind(image('alpine').env('A', '1').dir('/d')) } })
      .output('/out')
      .run(['x']),
  'mount-several': () => {
    const ran = base.run(['x'], {
      mounts: {
        '/b': bind(context),
        '/ro': bind(context, { readonly: true }),
        '/c': bind(image('alpine').env('Q', '1')),
        '/a': bind(scratch()),
      },
    });
    return merge([ran.output('/b'), ran.output('/c'), ran.output('/a'), ran.root]);
  },
  'mount-selector': () => run({ mounts: { '/m': bind(context, { selector: '/sel', readonly: true }) } }),
  'mount-no-output': () => run({ mounts: { '/m': bind(context, { noOutput: true }), '/n': bind(context) } }),
  'mount-content-on': () => run({ mounts: { '/m': bind(context, { contentCache: 'on', readonly: true }) } }),
  'mount-content-off': () => run({ mounts: { '/m': bind(context, { contentCache: 'off' }) } }),
  'mount-same-tree': () => run({ mounts: { '/n': bind(image('busybox')), '/m': bind(base) } }),
  'cache-shared': () => run({ mounts: { '/c': cache('id') } }),
  'cache-private': () => run({ mounts: { '/c': cache('id', { sharing: 'private' }) } }),
  'cache-locked': () => run({ mounts: { '/c': cache('id', { sharing: 'locked' }) } }),
  'cache-from': () =>
    run({
      mounts: { '/c': cache('id', { from: context, selector: 's', readonly: true, contentCache: 'off' }) },
    }),
  tmpfs: () => run({ mounts: { '/t': tmpfs() } }),
  'tmpfs-size': () => run({ mounts: { '/t': tmpfs({ sizeBytes: 1 << 20 }) } }),
  'readonly-root': () =>
    base.run(['x'], { readonlyRoot: true, mounts: { '/out': bind(scratch()) } }).output('/out'),
  secret: () => run({ secrets: [{ id: '/run/secrets/x', target: '/run/secrets/x' }] }),
  'secret-id': () =>
    run({ secrets: [{ id: 'id', target: '/s', optional: true, uid: 1, gid: 2, mode: 0o440 }] }),
  'secret-dest': () => run({ secrets: [{ id: 'id', target: '/run/secrets/y' }] }),
  'secret-env': () => run({ secrets: [{ id: 'tok', env: 'TOKEN', optional: true }] }),
  'secret-both': () => run({ secrets: [{ id: 'id', target: '/s', env: 'S' }] }),
  'secret-env-name': () => run({ secrets: [{ id: 'id', env: 'S' }] }),
  'secret-several': () =>
    run({
      secrets: [
        { id: '/z', target: '/z' },
        { id: '/a', target: '/a' },
      ],
      mounts: { '/m': bind(scratch()) },
      ssh: [{}],
    }),
  ssh: () => run({ ssh: [{}] }),
  'ssh-several': () =>
    run({
      ssh: [
        { id: 'default' },
        { id: 'two', target: '/sock', optional: true },
        { target: '/s3', uid: 3, gid: 4, mode: 0o777 },
        {},
      ],
    }),
  'ssh-env': () => base.env('SSH_AUTH_SOCK', '/mine').run(['x'], { ssh: [{}] }),
};

const step = (options: StepOptions) => () => base.run(['x'], options);
const all = [...ENABLED_CAPS, ...UNSERVED_CAPS];

const options: Graphs = {
  'step-ignore-cache': step({ ignoreCache: true }),
  'step-name': step({ customName: 'it', description: { b: '2', a: '1' } }),
  'step-export': step({ exportCache: true }),
  'step-no-export': step({ exportCache: false }),
  'step-group': step({ progressGroup: { id: 'id', name: 'name', weak: true } }),
  'step-filters': step({ workerFilters: ['worker.label==x', 'id==y'] }),
  'step-resources': step({
    resources: {
      memory: 100,
      memorySwap: -1,
      cpuShares: 3,
      cpuPeriod: 4n,
      cpuQuota: 5,
      cpusetCpus: '0-2',
      cpusetMems: '0',
    },
  }),
  'step-memory': step({ resources: { memory: 2 ** 40 } }),
  'step-same-twice': () =>
    merge([
      run({ customName: 'one' }),
      image('busybox', { description: { k: 'v' } }).run(['x'], {
        ignoreCache: true,
        description: { d: 'e' },
      }),
    ]),
  'caps-all': () => [run({}), { caps: all }],
  'caps-none': () => [run({}), { caps: [] }],
  'caps-none-path': () => [base.env('PATH', '/p').run(['x']), { caps: [] }],
  'caps-none-windows': (): Graph => {
    const platform = 'windows/amd64';
    return [image('w', { platform }).run(['x']), { caps: [], platform }];
  },
  'marshal-platform': () => [run({}), { platform: 'linux/ppc64le' }],
  'marshal-filters': () => [run({ workerFilters: ['b'] }), { workerFilters: ['a'] }],
  'marshal-metadata': () => [
    run({}),
    {
      ignoreCache: true,
      customName: 'all',
      exportCache: true,
      progressGroup: { id: 'g', name: 'group' },
      resources: { memory: 5 },
    },
  ],
  'marshal-defaults': () => run({}).withMarshalDefaults({ platform: 'linux/arm64' }),
  'marshal-defaults-over': () => [
    run({}).withMarshalDefaults({ platform: 'linux/arm64' }),
    { platform: 'linux/riscv64' },
  ],
};

const lazy: Graphs = {
  reset: () =>
    run({}).dir('/d').env('X', '1').reset(scratch().env('A', '1').dir('/other').user('u')).run(['x']),
  'reset-platform': () =>
    image('busybox', { platform: 'linux/arm64' })
      .reset(scratch().env('A', '1').dir('/other').platform('linux/s390x'))
      .run(['x']),
  async: () => [
    base
      .async(async (state, { platform }) => state.env('P', platform.architecture))
      .dir('rel')
      .run(['x'], {
        mounts: {
          '/m': bind(
            defer(() => image('alpine')),
            { readonly: true },
          ),
        },
      }),
    { platform: 'linux/arm64' },
  ],
};

export const runs: Graphs = { ...settings, ...mounts, ...options, ...lazy };
