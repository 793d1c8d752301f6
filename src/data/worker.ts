import { parentPort } from 'node:worker_threads';
import { batchError, buildBatch, type BatchJob } from './batch.js';
import { ShardFiles } from './sample.js';
import type { WorkerReply } from './worker-pool.js';

/* The entry of a data worker: a job comes in, a batch goes out. Runs only as a thread of WorkerPool. */

const port = parentPort;
if (port !== null) {
  const files = new ShardFiles();
  port.on('message', (job: BatchJob) => {
    buildBatch(job, files).then(
      (parts) => {
        // The large arrays change hands instead of being copied; those in the job's block are shared and stay where they are.
        const buffers = [parts.pixels, ...parts.features.flatMap(([, { data, cls }]) => (cls === null ? [data] : [data, cls.data]))];
        port.postMessage(
          { parts } satisfies WorkerReply,
          buffers.map(({ buffer }) => buffer).filter((buffer) => buffer instanceof ArrayBuffer),
        );
      },
      (thrown: unknown) => {
        const { code, message, hint } = batchError(thrown);
        port.postMessage({ error: { code, message, hint } } satisfies WorkerReply);
      },
    );
  });
}
