import { readFileSync } from 'node:fs';
import { availableParallelism, cpus, totalmem } from 'node:os';
import { TheiaError } from '../errors.js';
import { addon, addonPath } from '../native/load.js';
import { cudaDevices, resolveDevice } from '../tensor/device.js';
import type { CudaDevice } from '../tensor/device.js';
import type { Verb } from './verb.js';

/** What the first line of a file of the system says; undefined where there is none. */
function firstLine(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8').split('\n')[0]!.trim();
  } catch {
    return undefined;
  }
}

function packageVersion(): string {
  return (JSON.parse(readFileSync(new URL('../../../package.json', import.meta.url), 'utf8')) as { version: string }).version;
}

/** The addon as found, or why it was not. */
type AddonReport =
  | {
      loaded: true;
      path: string;
      compiler: string;
      instructionSets: string[];
      instructionSet: string;
      threads: number;
      defaultThreads: number;
    }
  | { loaded: false; code: string; message: string; hint?: string | undefined };

/** What `theia doctor --json` prints. */
export interface DoctorReport {
  package: string;
  runtime: { name: 'node' | 'bun'; version: string; napi: string; platform: string };
  cpu: { model: string; logical: number; available: number; quota: number | null };
  memory_bytes: number;
  addon: AddonReport;
  devices: string[];
  /** what the addon's CUDA half sees: trouble says why no GPU can be used; driver is the kernel module's own word */
  cuda: { built: boolean; versions: string | null; driver: string | null; trouble: string | null; devices: CudaDevice[] };
  simt: { usable: boolean; trouble: string | null };
  sharp: { version: string; libvips: string } | { error: string };
  auto: { device: string; why: string } | null;
}

function describeAddon(): AddonReport {
  try {
    const { instructionSets, instructionSet, threads, defaultThreads, compiler } = addon().machine();
    return {
      loaded: true,
      path: addonPath()!,
      compiler: compiler ?? 'unknown',
      instructionSets,
      instructionSet,
      threads,
      defaultThreads,
    };
  } catch (error) {
    if (!(error instanceof TheiaError)) throw error;
    return { loaded: false, code: error.code, message: error.message, hint: error.hint };
  }
}

/** CPUs' worth of time that the control group allows; null without a limit. */
function quota(): number | null {
  const [limit, period] = (firstLine('/sys/fs/cgroup/cpu.max') ?? 'max').split(' ').map(Number) as [number, number];
  return limit > 0 && period > 0 ? limit / period : null;
}

async function describeSharp(): Promise<DoctorReport['sharp']> {
  try {
    const { default: sharp } = await import('sharp');
    return { version: sharp.versions.sharp ?? 'unknown', libvips: sharp.versions.vips };
  } catch (error) {
    return { error: (error as Error).message.trim().split('\n')[0]! };
  }
}

function describeCuda(loaded: boolean): DoctorReport['cuda'] {
  const driver = firstLine('/proc/driver/nvidia/version') ?? null;
  if (!loaded) return { built: false, versions: null, driver, trouble: 'the addon is not loaded', devices: [] };
  const { built, versions, trouble, devices } = cudaDevices();
  return { built, versions: versions ?? null, driver, trouble: trouble ?? null, devices };
}

function describeSimt(loaded: boolean): DoctorReport['simt'] {
  const trouble = loaded ? addon().probe('simt').trouble : 'the addon is not loaded';
  return { usable: trouble === undefined, trouble: trouble ?? null };
}

/** What to do about a GPU that cannot be used. */
function mend(cuda: DoctorReport['cuda']): string | undefined {
  if (!cuda.built) return 'to build the GPU kernels: CUDA toolkit 13 (nvcc on PATH), then npm run build:native';
  if (/no NVIDIA driver/.test(cuda.trouble ?? ''))
    return cuda.driver === null
      ? 'install NVIDIA’s driver; in a container, start it with GPU access (--gpus all)'
      : 'the kernel module is loaded, but libcuda.so.1 is not found: in a container, start it with GPU access (--gpus all)';
  if (/supports CUDA/.test(cuda.trouble ?? '')) return 'install a newer NVIDIA driver (580 or later for CUDA 13)';
  if (cuda.devices.some((d) => /compute capability/.test(d.trouble ?? '')))
    return 'build for it: npm run build:native -- --CDTHEIA_CUDA_ARCHS=<its capability>-real';
  return undefined;
}

/** Looks at this machine and this installation; never throws for what is missing. */
export async function examine(): Promise<DoctorReport> {
  const found = describeAddon();
  let why = '';
  const auto = found.loaded ? { device: resolveDevice('auto', (line) => (why = line)), why } : null;
  const cuda = describeCuda(found.loaded);
  const simt = describeSimt(found.loaded);
  const bun = process.versions['bun'];
  const processors = cpus();
  return {
    package: packageVersion(),
    runtime: {
      name: bun === undefined ? 'node' : 'bun',
      version: bun ?? process.versions.node,
      napi: process.versions['napi'] ?? 'unknown',
      platform: `${process.platform}-${process.arch}`,
    },
    cpu: { model: processors[0]?.model.trim() ?? 'unknown', logical: processors.length, available: availableParallelism(), quota: quota() },
    memory_bytes: totalmem(),
    addon: found,
    devices: found.loaded
      ? ['cpu', ...cuda.devices.filter((d) => d.trouble === undefined).map((d) => d.device), ...(simt.usable ? ['simt'] : [])]
      : [],
    cuda,
    simt,
    sharp: await describeSharp(),
    auto,
  };
}

/** The report as one block of lines. */
export function formatReport(r: DoctorReport): string {
  const rows: [string, string][] = [
    ['theia-native', r.package],
    ['runtime', `${r.runtime.name} ${r.runtime.version}, Node-API ${r.runtime.napi}, ${r.runtime.platform}`],
    ['cpu', r.cpu.model],
  ];
  const limits = `${r.cpu.logical} processors, ${r.cpu.available} for this process, ${
    r.cpu.quota === null ? 'no quota' : `quota of ${r.cpu.quota.toFixed(1)}`
  }`;
  const a = r.addon;
  if (a.loaded) {
    rows.push(['instruction sets', `${a.instructionSets.join(', ')}; in use: ${a.instructionSet}`]);
    rows.push(['threads', `${a.threads} (default ${a.defaultThreads}: ${limits})`]);
  } else rows.push(['threads', limits]);
  rows.push(['memory', `${(r.memory_bytes / 2 ** 30).toFixed(1)} GiB`]);
  if (a.loaded) rows.push(['addon', a.path], ['', `built by ${/clang/i.test(a.compiler) ? '' : 'g++ '}${a.compiler}`]);
  else rows.push(['addon', `${a.code}: ${a.message}`], ...(a.hint === undefined ? [] : ([['', `hint: ${a.hint}`]] as [string, string][])));
  rows.push(['devices', r.devices.join(', ') || 'none: the addon is not loaded']);
  if (a.loaded) {
    const { built, versions, trouble, devices, driver } = r.cuda;
    rows.push(['cuda', built ? (versions ?? '') : 'this addon was built without CUDA']);
    for (const d of devices)
      rows.push(['', `${d.device}: ${d.name}, ${d.capability}, ${d.trouble ?? `${(d.memory / 2 ** 30).toFixed(0)} GiB`}`]);
    if (built && trouble !== null) rows.push(['', `no GPU can be used: ${trouble}`]);
    if (driver !== null) rows.push(['', `driver: ${driver}`]);
    const hint = mend(r.cuda);
    if (hint !== undefined) rows.push(['', `hint: ${hint}`]);
  }
  rows.push(['sharp', 'error' in r.sharp ? `not usable: ${r.sharp.error}` : `${r.sharp.version}, libvips ${r.sharp.libvips}`]);
  rows.push(['auto', r.auto?.why.replace(/^device auto: /, '') ?? 'nothing: no device can be used']);
  return rows.map(([name, value]) => `${name.padEnd(18)}${value}\n`).join('');
}

export const verb: Verb = {
  name: 'doctor',
  summary: 'prints what this machine and this installation offer',
  options: { json: { type: 'boolean', help: 'prints it as JSON' } },
  async run(args) {
    const report = await examine();
    process.stdout.write(args.flag('json') ? `${JSON.stringify(report, null, 2)}\n` : formatReport(report));
    return report.addon.loaded ? 0 : 1;
  },
};
