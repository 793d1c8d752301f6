import { TheiaError } from '../errors.js';
import { resolveModelDevice } from '../tensor/device.js';
import type { Device } from '../tensor/device.js';
import type { Args, Options } from './args.js';

/** The flags of verbs that run a model; what is not built is not listed. */
export const DEVICE_OPTIONS = {
  device: { type: 'string', value: 'NAME', help: 'auto or cpu; default auto' },
  dtype: { type: 'string', value: 'NAME', help: 'float32, the default' },
} as const satisfies Options;

const PLANNED = ['bfloat16', 'int8'];

/** The device of --device; says on stderr what `auto` chose. @throws ERR_UNSUPPORTED, ERR_DEVICE */
export function deviceOf(args: Args): Device {
  return resolveModelDevice(args.string('device') ?? 'auto', (line) => void process.stderr.write(`${line}\n`));
}

/** The dtype of --dtype. @throws ERR_UNSUPPORTED for one that this build cannot compute in, ERR_ARGS for one that is none */
export function checkDType(args: Args): 'float32' {
  const dtype = args.string('dtype') ?? 'float32';
  if (dtype === 'float32') return dtype;
  if (PLANNED.includes(dtype))
    throw new TheiaError('ERR_UNSUPPORTED', `--dtype: ${dtype} is not in this build; expected float32`, { hint: 'use --dtype float32' });
  throw new TheiaError('ERR_ARGS', `--dtype: expected one of float32, ${PLANNED.join(', ')}, got ${JSON.stringify(dtype)}`);
}
