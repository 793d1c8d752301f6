/**
 * The addon as TypeScript sees it: buffers by handle, ops by number, plans by number. Nothing above src/tensor and src/native calls it.
 */
export interface Addon {
  setErrorClass(errorClass: unknown): void;
  /** number of a device of this environment: cpu is 0 */
  openDevice(name: string): number;
  /** what there is of a kind of device (cuda, simt), without using it */
  probe(kind: string): DeviceProbe;
  /** true if GPU code for these architectures (as CMake lists them) runs on a compute capability like 9.0 */
  covers(archs: string, capability: string): boolean;
  setOption(kind: string, option: string, value: string): void;
  /** what a kind of device counted under a name since the last call for it */
  count(kind: string, what: string): number;
  /** waits for all work of a device */
  synchronize(device: number): void;
  allocate(bytes: number, device?: number): number;
  release(handle: number): void;
  write(handle: number, byteOffset: number, data: ArrayBufferView): void;
  read(handle: number, byteOffset: number, into: ArrayBufferView): void;
  transfer(from: number, fromOffset: number, to: number, toOffset: number, bytes: number): void;
  /** memory for writeLater and readLater of a device */
  pinned(bytes: number, device: number): ArrayBuffer;
  /** makes an array's whole pages such memory until `unlock`, and gives the byte of the array that they start at; the caller keeps it alive */
  lock(array: ArrayBufferView, device: number): number;
  /** of an array that starts where the pages do; waits for copies under way */
  unlock(array: ArrayBufferView): void;
  /** like write and read (shared memory may be written from, too), but an array of pinned memory is in use until `reach` has returned for the ticket */
  writeLater(handle: number, byteOffset: number, data: ArrayBufferView): number;
  readLater(handle: number, byteOffset: number, into: ArrayBufferView): number;
  reach(device: number, ticket: number): void;
  /** sets bytes to zero */
  clear(handle: number, byteOffset: number, bytes: number): void;
  dispatch(op: number, area: Float64Array): void;
  cost(op: number, area: Float64Array): { flops: number; bytes: number; workspace: number };
  beginRecording(): void;
  endRecording(): number;
  dropRecording(): void;
  replay(plan: number): void;
  releasePlan(plan: number): void;
  planCalls(plan: number): number;
  memory(device?: number): MemoryUse;
  resetPeak(): void;
  trim(): void;
  threads(n?: number): number;
  instructionSet(name?: string): string;
  cosine(x: number): number;
  power(x: number, y: number): number;
  machine(): Machine;
  /** GFLOP/s that this many threads reach with the instruction set in use, measured now (20 ms) */
  peak(threads?: number): number;
  /** the same for the register tile of the matrix product with its operands in L1 (20 ms) */
  tilePeak(threads?: number): number;
  /** GB/s, read plus written, of a large copy on all threads, measured now */
  copyBandwidth(): number;
}

/** The devices of a kind; `trouble` says why there is none. */
export interface DeviceProbe {
  built: boolean;
  versions?: string;
  trouble?: string;
  devices: { name: string; capability: string; multiprocessors: number; memory: number; trouble?: string }[];
}

/** Bytes and counts of this environment's native memory on one device. */
export interface MemoryUse {
  /** bytes held by live tensors and plans */
  live: number;
  /** bytes of workspace that ops share, kept from call to call */
  scratch: number;
  /** largest `live + scratch` since the start or the last `resetPeakMemory()` */
  peak: number;
  /** bytes kept for reuse */
  cached: number;
  /** live buffers, on all devices */
  buffers: number;
  /** live plans */
  plans: number;
  /** bytes of host memory that `pinShared` pinned and `unpin` did not let go of (what `pinnedArray` gave goes when the collector takes it) */
  pinned: number;
}

export interface Machine {
  /** what this machine and build can run, the slowest first */
  instructionSets: string[];
  /** the one in use */
  instructionSet: string;
  threads: number;
  defaultThreads: number;
  compiler?: string;
}
