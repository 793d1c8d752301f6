import * as assert from 'uvu/assert';
import { TheiaError, type ErrorCode } from '../../src/errors.js';

/** Asserts that `fn` throws a TheiaError with this code whose message contains every part. Returns it. */
export function throwsCode(fn: () => unknown, code: ErrorCode, ...parts: string[]): TheiaError {
  let result: unknown;
  try {
    result = fn();
  } catch (error) {
    if (!(error instanceof TheiaError)) throw error;
    assert.is(error.code, code, error.message);
    for (const part of parts) assert.ok(error.message.includes(part), `expected ${JSON.stringify(part)} in: ${error.message}`);
    return error;
  }
  assert.unreachable(`expected ${code}, came no error but ${String(result).slice(0, 200)}`);
  throw new Error('unreachable');
}
