/** Linux errno numbers (asm-generic) with their names and the text that tools print for them. */
const TABLE: readonly (readonly [number, string, string])[] = [
  [1, 'EPERM', 'operation not permitted'],
  [2, 'ENOENT', 'no such file or directory'],
  [3, 'ESRCH', 'no such process'],
  [4, 'EINTR', 'interrupted system call'],
  [5, 'EIO', 'input/output error'],
  [6, 'ENXIO', 'no such device or address'],
  [7, 'E2BIG', 'argument list too long'],
  [8, 'ENOEXEC', 'exec format error'],
  [9, 'EBADF', 'bad file descriptor'],
  [10, 'ECHILD', 'no child processes'],
  [11, 'EAGAIN', 'resource temporarily unavailable'],
  [12, 'ENOMEM', 'cannot allocate memory'],
  [13, 'EACCES', 'permission denied'],
  [14, 'EFAULT', 'bad address'],
  [15, 'ENOTBLK', 'block device required'],
  [16, 'EBUSY', 'device or resource busy'],
  [17, 'EEXIST', 'file exists'],
  [18, 'EXDEV', 'invalid cross-device link'],
  [19, 'ENODEV', 'no such device'],
  [20, 'ENOTDIR', 'not a directory'],
  [21, 'EISDIR', 'is a directory'],
  [22, 'EINVAL', 'invalid argument'],
  [23, 'ENFILE', 'too many open files in system'],
  [24, 'EMFILE', 'too many open files'],
  [25, 'ENOTTY', 'inappropriate ioctl for device'],
  [26, 'ETXTBSY', 'text file busy'],
  [27, 'EFBIG', 'file too large'],
  [28, 'ENOSPC', 'no space left on device'],
  [29, 'ESPIPE', 'illegal seek'],
  [30, 'EROFS', 'read-only file system'],
  [31, 'EMLINK', 'too many links'],
  [32, 'EPIPE', 'broken pipe'],
  [33, 'EDOM', 'numerical argument out of domain'],
  [34, 'ERANGE', 'numerical result out of range'],
  [35, 'EDEADLK', 'resource deadlock avoided'],
  [36, 'ENAMETOOLONG', 'file name too long'],
  [37, 'ENOLCK', 'no locks available'],
  [38, 'ENOSYS', 'function not implemented'],
  [39, 'ENOTEMPTY', 'directory not empty'],
  [40, 'ELOOP', 'too many levels of symbolic links'],
  [61, 'ENODATA', 'no data available'],
  [62, 'ETIME', 'timer expired'],
  [71, 'EPROTO', 'protocol error'],
  [74, 'EBADMSG', 'bad message'],
  [75, 'EOVERFLOW', 'value too large for defined data type'],
  [84, 'EILSEQ', 'invalid or incomplete multibyte or wide character'],
  [87, 'EUSERS', 'too many users'],
  [95, 'EOPNOTSUPP', 'operation not supported'],
  [98, 'EADDRINUSE', 'address already in use'],
  [99, 'EADDRNOTAVAIL', 'cannot assign requested address'],
  [100, 'ENETDOWN', 'network is down'],
  [101, 'ENETUNREACH', 'network is unreachable'],
  [103, 'ECONNABORTED', 'software caused connection abort'],
  [104, 'ECONNRESET', 'connection reset by peer'],
  [105, 'ENOBUFS', 'no buffer space available'],
  [107, 'ENOTCONN', 'transport endpoint is not connected'],
  [110, 'ETIMEDOUT', 'connection timed out'],
  [111, 'ECONNREFUSED', 'connection refused'],
  [112, 'EHOSTDOWN', 'host is down'],
  [113, 'EHOSTUNREACH', 'no route to host'],
  [116, 'ESTALE', 'stale file handle'],
  [117, 'EUCLEAN', 'structure needs cleaning'],
  [122, 'EDQUOT', 'disk quota exceeded'],
  [125, 'ECANCELED', 'operation canceled'],
  [130, 'EOWNERDEAD', 'owner died'],
];
const BY_NUMBER = new Map(TABLE.map(([number, code]) => [number, code]));
const BY_CODE = new Map(TABLE.map(([number, code, text]) => [code, { number, text }]));

/** `ENOENT` for 2; `E<number>` for one without a name here. */
export function errnoName(number: number): string {
  return BY_NUMBER.get(number) ?? `E${number}`;
}

/** 2 for `ENOENT`; 0 for an unknown name. */
export function errnoNumber(code: string): number {
  return BY_CODE.get(code)?.number ?? 0;
}

/** `no such file or directory` for `ENOENT`: the text of upstream's messages, unlike Node's in places. */
export function errnoText(code: string): string {
  return BY_CODE.get(code)?.text ?? (/^E\d+$/.test(code) ? `errno ${code.slice(1)}` : code);
}

/** A failed system call; has the fields of Node's own, so that code reading `code` serves both. */
export class SystemError extends Error {
  /** `ENOENT`, … */
  readonly code: string;
  /** Negative, as in Node's errors. */
  readonly errno: number;
  readonly syscall: string;
  readonly path: string | undefined;
  readonly dest: string | undefined;

  /** @param errno positive number or name. */
  constructor(errno: number | string, syscall: string, path?: string, dest?: string) {
    const code = typeof errno === 'string' ? errno : errnoName(errno);
    const where = path === undefined ? '' : dest === undefined ? ` ${path}` : ` ${path} ${dest}`;
    super(`${syscall}${where}: ${errnoText(code)}`);
    this.name = 'SystemError';
    this.code = code;
    this.errno = typeof errno === 'string' ? -errnoNumber(errno) : -errno;
    this.syscall = syscall;
    this.path = path;
    this.dest = dest;
  }
}

/** `open /x: no such file or directory` for any system error, Node's or ours; other errors' message as is. */
export function systemErrorText(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (error instanceof SystemError) return error.message;
  const { code, syscall, path, dest } = error as NodeJS.ErrnoException & { dest?: string };
  if (code === undefined || syscall === undefined || !BY_CODE.has(code)) return error.message;
  const where = [syscall, path, dest].filter((part) => part !== undefined).join(' ');
  return `${where}: ${errnoText(code)}`;
}
