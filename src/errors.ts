/** The stable codes of every error this package throws (see README, "Errors"). */
export const ERROR_CODES = [
  'ERR_ARGS',
  'ERR_CONFIG',
  'ERR_FILE',
  'ERR_CORRUPT',
  'ERR_DISK',
  'ERR_SHAPE',
  'ERR_DTYPE',
  'ERR_DEVICE',
  'ERR_UNSUPPORTED',
  'ERR_DISPOSED',
  'ERR_ABORTED',
  'ERR_PLAN',
  'ERR_AUTOGRAD',
  'ERR_NONFINITE',
  'ERR_OOM',
  'ERR_CUDA',
  'ERR_NATIVE_LOAD',
  'ERR_INTERNAL',
] as const;

export type ErrorCode = (typeof ERROR_CODES)[number];

/**
 * An error with a stable `code`. The message says what was expected, what came and where;
 * `hint`, if there is one, says what to do about it.
 */
export class TheiaError extends Error {
  readonly code: ErrorCode;
  readonly hint: string | undefined;

  constructor(code: ErrorCode, message: string, options: { hint?: string; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'TheiaError';
    this.code = code;
    this.hint = options.hint;
  }
}

/**
 * Turns what the operating system said about a file into a TheiaError: a full or failing disk is ERR_DISK, the rest ERR_FILE.
 * @param error what was thrown by node:fs; a TheiaError passes unchanged
 */
export function fileError(error: unknown, path: string, doing: string): TheiaError {
  if (error instanceof TheiaError) return error;
  const e = error as NodeJS.ErrnoException;
  const disk = e.code === 'ENOSPC' || e.code === 'EIO' || e.code === 'EDQUOT' || e.code === 'EROFS';
  return new TheiaError(disk ? 'ERR_DISK' : 'ERR_FILE', `${doing} ${path}: ${e.message}`, { cause: error });
}
