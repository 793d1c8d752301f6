import { TheiaError } from '../errors.js';
import { resolveDevice } from '../tensor/device.js';
import type { Device } from '../tensor/device.js';
import type { Args, Options } from './args.js';

/** The flags of verbs that run a model; what is not built is not listed. */
export const DEVICE_OPTIONS = {
  device: { type: 'string', value: 'NAME', help: 'auto, cpu, cuda, cuda:N or simt; default auto' },
  dtype: { type: 'string', value: 'NAME', help: 'float32 (default) or bfloat16 (cuda, simt)' },
} as const satisfies Options;

const PLANNED = ['int8'];

/** The device of --device; says on stderr what `auto` chose. @throws ERR_UNSUPPORTED, ERR_DEVICE */
export function deviceOf(args: Args): Device {
  return resolveDevice(args.string('device') ?? 'auto', (line) => void process.stderr.write(`${line}\n`));
}

/** The dtype of --dtype on a device. @throws ERR_UNSUPPORTED for one that cannot be computed in there, ERR_ARGS for one that is none */
export function dtypeOf(args: Args, device: Device): 'float32' | 'bfloat16' {
  const dtype = args.string('dtype') ?? 'float32';
  if (dtype === 'float32' || (dtype === 'bfloat16' && device !== 'cpu')) return dtype;
  const hint = { hint: 'use --dtype float32' };
  if (dtype === 'bfloat16')
    throw new TheiaError('ERR_UNSUPPORTED', '--dtype: bfloat16 needs device cuda or simt; expected float32 on the CPU', hint);
  if (PLANNED.includes(dtype))
    throw new TheiaError('ERR_UNSUPPORTED', `--dtype: ${dtype} is not in this build; expected float32 or bfloat16`, hint);
  throw new TheiaError('ERR_ARGS', `--dtype: expected one of float32, bfloat16, ${PLANNED.join(', ')}, got ${JSON.stringify(dtype)}`);
}
