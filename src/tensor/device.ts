import { TheiaError } from '../errors.js';

/** Where tensors live and ops run. */
export type Device = 'cpu';

/**
 * Turns what a user asked for into a device.
 * @param wanted auto, cpu, cuda, cuda:N or simt
 * @param notice told why `auto` chose what it chose
 * @throws TheiaError ERR_UNSUPPORTED for a device this build lacks, ERR_DEVICE for a name that is none
 */
export function resolveDevice(wanted: string, notice?: (line: string) => void): Device {
  if (wanted === 'cpu') return 'cpu';
  if (wanted === 'auto') {
    notice?.('device auto: cpu (this build has no CUDA kernels)');
    return 'cpu';
  }
  if (/^cuda(:\d+)?$/.test(wanted) || wanted === 'simt') {
    throw new TheiaError('ERR_UNSUPPORTED', `device ${wanted} is not in this build; expected cpu or auto`, { hint: 'use --device cpu' });
  }
  throw new TheiaError('ERR_DEVICE', `expected a device of auto, cpu, cuda, cuda:N or simt, got ${JSON.stringify(wanted)}`);
}
