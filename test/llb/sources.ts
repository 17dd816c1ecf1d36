import {
  git,
  http,
  type ImageResolver,
  image,
  imageBlob,
  local,
  ociLayout,
  ociLayoutBlob,
  scratch,
} from '../../src/llb/index.ts';
import { COMMIT, type Graphs, SUM } from './graph.ts';

const REPO = 'https://github.com/moby/buildkit.git';

const resolver: ImageResolver = (_, { platform, resolveMode }) => {
  const [os, architecture] = platform.split('/');
  const config = { Env: ['PATH=/img/bin', `FROM=${resolveMode}`, 'EMPTY'], WorkingDir: '/img' };
  return { digest: SUM, config: JSON.stringify({ os, architecture, config }) };
};

const images: Graphs = {
  image: () => image('alpine'),
  'image-tag': () => image('busybox:1.36'),
  'image-digest': () => image(`alpine@${SUM}`),
  'image-tag-digest': () => image(`library/alpine:3.20@${SUM}`),
  'image-registry': () => image('localhost:5000/team/app'),
  'image-mode-default': () => image('alpine', { resolveMode: 'default' }),
  'image-mode-pull': () => image('alpine', { resolveMode: 'pull' }),
  'image-mode-local': () => image('alpine', { resolveMode: 'local' }),
  'image-internal': () => image('alpine', { recordType: 'internal' }),
  'image-layers': () => image('alpine', { layerLimit: 2 }),
  'image-checksum': () => image('alpine', { checksum: SUM }),
  'image-arm64': () => image('alpine', { platform: 'linux/arm64' }),
  'image-armel': () => image('alpine', { platform: 'linux/arm/v6' }).run(['true']),
  'image-windows': () =>
    image('mcr.microsoft.com/windows/nanoserver', {
      platform: { os: 'windows', architecture: 'amd64', osVersion: '10.0.17763', osFeatures: ['win32k'] },
    }),
  'image-resolver': () => image('alpine', { resolver }).run(['true']).root,
  'image-resolver-digest': () =>
    image('alpine:3', { resolver, resolveDigest: true, resolveMode: 'pull' }).dir('sub').run(['true']),
  'image-resolver-pinned': () => [
    image(`alpine@${SUM}`, { resolver, resolveDigest: true }).env('A', '1').run(['true']),
    { platform: 'linux/arm64' },
  ],
  'image-resolver-platform': () => image('alpine', { resolver, platform: 'linux/s390x' }).run(['true']),
  scratch: () => scratch(),
};

const repositories: Graphs = {
  git: () => git(REPO),
  'git-ref': () => git(REPO, { ref: 'v0.20.0' }),
  'git-fragment': () => git(REPO, { ref: 'v0.20.0', subdir: 'cmd/buildctl' }),
  'git-subdir': () => git(REPO, { subdir: 'cmd' }),
  'git-no-scheme': () => git('github.com/moby/buildkit', { ref: 'master' }),
  'git-port': () => git('https://git.example:8443/a/b.git', { ref: 'main' }),
  'git-protocol': () => git('git://git.example/a/b.git', { ref: 'main' }),
  'git-scp': () =>
    git('git@github.com:moby/buildkit.git', {
      ref: 'main',
      knownSshHosts: 'github.com ssh-ed25519 AAAA',
      mountSshSock: 'key',
    }),
  'git-ssh': () =>
    git('ssh://git@git.example:2222/a/b.git', { ref: 'main', knownSshHosts: ['one\n', 'two'] }),
  'git-keep': () => git(REPO, { keepGitDir: true }),
  'git-token': () => git(REPO, { authTokenSecret: 'tok' }),
  'git-header': () => git(REPO, { authHeaderSecret: 'head' }),
  'git-checksum': () => git(REPO, { ref: 'v1', checksum: COMMIT }),
  'git-skip-submodules': () => git(REPO, { skipSubmodules: true }),
  'git-mtime': () => git(REPO, { mtime: 'commit' }),
  'git-fetch-by-commit': () => git(REPO, { ref: 'main', checksum: COMMIT, fetchByCommit: true }),
  'git-bundle': () => {
    const bundle = { locator: `oci-layout+blob://store@${SUM}`, sessionId: 'sess', storeId: 'store2' };
    return git(REPO, { ref: 'main', checksum: COMMIT, bundle });
  },
  'git-bundle-image': () =>
    git(REPO, {
      ref: 'main',
      checksum: COMMIT,
      bundle: { locator: `docker-image+blob://reg.example/b@${SUM}` },
    }),
  'git-checkout-bundle': () => git(REPO, { ref: 'main', checkoutBundle: true }),
};

const others: Graphs = {
  http: () => http('https://example.com/a.tar'),
  'http-all': () =>
    http('http://example.com/a.tar', {
      checksum: SUM,
      filename: 'f',
      perm: 0o4755,
      uid: 1,
      gid: 2,
      authHeaderSecret: 'sec',
      header: { accept: 'x/y', userAgent: 'me' },
    }),
  'http-header': () => http('https://example.com/', { header: { accept: 'x' } }),
  'http-signature': () => http('https://example.com/', { signature: { pubKey: 'KEY', signature: 'SIG' } }),
  'http-gid': () => http('https://example.com/', { uid: 0, gid: 5, customName: 'get it' }),
  local: () => local('context'),
  'local-all': () =>
    local('context', {
      includePatterns: ['a<b', 'c&d'],
      excludePatterns: ['*.go', 'ü'],
      followPaths: ['p'],
      sharedKeyHint: 'hint',
      differ: { type: 'none', required: true },
      customName: 'load',
    }),
  'local-session': () => local('context', { sessionId: 'sid', differ: { type: 'metadata' } }),
  'local-metadata': () => local('context', { metadataOnly: {} }),
  'local-metadata-except': () => local('context', { metadataOnly: { exceptions: ['x', 'y'] } }),
  'local-own-id': () => local('context', { localUniqueId: 'mine' }),
  'oci-layout': () => ociLayout(`store@${SUM}`),
  'oci-layout-all': () =>
    ociLayout(`not/real:tag@${SUM}`, {
      sessionId: 'sess',
      storeId: 'id',
      layerLimit: 3,
      platform: 'linux/arm64',
    }),
  'image-blob': () => imageBlob(`alpine@${SUM}`),
  'image-blob-all': () => imageBlob(`reg.example/a@${SUM}`, { filename: 'f', perm: 0o4640, uid: 3, gid: 4 }),
  'oci-blob': () => ociLayoutBlob(`a/b@${SUM}`, { sessionId: 'sess', storeId: 'id', filename: 'f' }),
};

export const sources: Graphs = { ...images, ...repositories, ...others };
