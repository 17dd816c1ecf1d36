import { BuildError } from '../base/errors.ts';

/** The command whose stdio reaches the daemon behind an address of a helper scheme (FEATURES L2). */
export function helperCommand(address: string): readonly string[] {
  let url: URL;
  try {
    url = new URL(address);
  } catch (error) {
    throw new BuildError(`invalid address ${address}`, { cause: error });
  }
  const scheme = url.protocol.slice(0, -1);
  const name = decodeURIComponent(url.hostname || url.host);
  const query = (key: string): string => plain(url.searchParams.get(key) ?? '', address);
  const option = (flag: string, value: string): string[] => (value === '' ? [] : [`${flag}${value}`]);
  const stdio = ['buildctl', 'dial-stdio'];
  plain(name, address);
  switch (scheme) {
    case 'docker-container':
      return ['docker', ...option('--context=', query('context')), 'exec', '-i', name, ...stdio];
    case 'podman-container':
      return ['podman', 'exec', '-i', name, ...stdio];
    case 'nerdctl-container':
      return ['nerdctl', ...option('--namespace=', query('namespace')), 'exec', '-i', name, ...stdio];
    case 'kube-pod':
      return [
        'kubectl',
        ...option('--context=', query('context')),
        ...option('--namespace=', query('namespace')),
        'exec',
        ...option('--container=', query('container')),
        '-i',
        name,
        '--',
        ...stdio,
      ];
    case 'ssh':
      return sshCommand(url, address);
    default:
      throw new BuildError(`unsupported address scheme ${scheme}:// in ${address}`);
  }
}

function sshCommand(url: URL, address: string): string[] {
  if (url.password !== '') throw new BuildError(`plain-text password is not supported in ${address}`);
  if (url.hostname === '') throw new BuildError(`no host in ${address}`);
  if (url.search !== '' || url.hash !== '') throw new BuildError(`extra parts after the path in ${address}`);
  const user = decodeURIComponent(url.username);
  const socket = url.pathname === '' || url.pathname === '/' ? '' : decodeURIComponent(url.pathname);
  if (/[^\w./@+:-]/.test(socket))
    throw new BuildError(`the socket path in ${address} has unusual characters`);
  return [
    'ssh',
    ...(user === '' ? [] : ['-l', plain(user, address)]),
    ...(url.port === '' ? [] : ['-p', url.port]),
    '--',
    plain(url.hostname, address),
    'buildctl',
    ...(socket === '' ? [] : ['--addr', `unix://${socket}`]),
    'dial-stdio',
  ];
}

/** A name that the command cannot take for an option. */
function plain(text: string, address: string): string {
  if (text.startsWith('-')) throw new BuildError(`invalid name ${JSON.stringify(text)} in ${address}`);
  return text;
}
