import { TheiaError } from '../errors.js';
import { addon } from '../native/load.js';

/** Where tensors live and ops run. `cuda` is the first GPU, which is never called cuda:0 here; simt runs the GPU kernels on the CPU. */
export type Device = 'cpu' | 'cuda' | `cuda:${number}` | 'simt';

const numbers = new Map<string, number>();

/**
 * The number by which the addon knows a device; opens it at its first use.
 * @throws ERR_DEVICE for a name that is none, or a device that this build or machine lacks, with the reason; ERR_CUDA
 */
export function deviceNumber(device: Device): number {
  let number = numbers.get(device);
  if (number === undefined) {
    number = addon().openDevice(device);
    numbers.set(device, number);
  }
  return number;
}

/** One name for one device: cuda:0 is cuda. */
export function canonicalDevice(device: Device): Device {
  return device === 'cuda:0' ? 'cuda' : device;
}

/** The devices opened so far. */
export function openDevices(): Device[] {
  return [...numbers.keys()] as Device[];
}

/** Which GPUs this process could use, and why the others cannot be. `trouble` is set if there is none at all. */
export function cudaDevices(): { devices: CudaDevice[]; built: boolean; versions?: string | undefined; trouble?: string | undefined } {
  const { devices, built, versions, trouble } = addon().probe('cuda');
  return { devices: devices.map((d, i) => ({ device: i === 0 ? 'cuda' : `cuda:${i}`, ...d })), built, versions, trouble };
}

export interface CudaDevice {
  device: Device;
  name: string;
  /** compute capability: 9.0 */
  capability: string;
  multiprocessors: number;
  /** bytes */
  memory: number;
  /** why it cannot be used */
  trouble?: string;
}

/** What `auto` takes: the first GPU that can be used, else the CPU. */
function automatic(): { device: Device; why: string } {
  const { devices, trouble } = cudaDevices();
  const found = devices.find((d) => d.trouble === undefined);
  if (found) return { device: found.device, why: `${found.device} (${found.name}, compute capability ${found.capability})` };
  return { device: 'cpu', why: `cpu (${trouble ?? devices.map((d) => `${d.device}: ${d.trouble}`).join('; ')})` };
}

/**
 * Turns what a user asked for into a device that can be used. Only `auto` falls back, and says so.
 * @param wanted auto, cpu, cuda, cuda:N or simt
 * @param notice told why `auto` chose what it chose
 * @throws TheiaError ERR_DEVICE for a name that is none, and for a device that this build or machine lacks, with the reason
 */
export function resolveDevice(wanted: string, notice?: (line: string) => void): Device {
  if (wanted === 'cpu') return 'cpu';
  if (wanted === 'auto') {
    const { device, why } = automatic();
    notice?.(`device auto: ${why}`);
    return device;
  }
  const device = parse(wanted);
  try {
    deviceNumber(device);
  } catch (error) {
    if (!(error instanceof TheiaError) || error.code !== 'ERR_DEVICE') throw error;
    throw new TheiaError('ERR_DEVICE', error.message, { hint: 'use --device cpu or auto; theia doctor tells what this machine has' });
  }
  return device;
}

function parse(wanted: string): Device {
  const cuda = /^cuda(?::(0|[1-9]\d{0,3}))?$/.exec(wanted);
  if (cuda) return cuda[1] === undefined || cuda[1] === '0' ? 'cuda' : `cuda:${Number(cuda[1])}`;
  if (wanted === 'simt') return wanted;
  throw new TheiaError('ERR_DEVICE', `expected a device of auto, cpu, cuda, cuda:N or simt, got ${JSON.stringify(wanted)}`);
}
