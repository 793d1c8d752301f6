import { Worker } from 'node:worker_threads';
import { ERROR_CODES, TheiaError } from '../errors.js';
import type { BatchJob, BatchParts } from './batch.js';

/** What a worker answers. Errors cross the thread as their fields: a class does not survive the copy. */
export type WorkerReply = { parts: BatchParts } | { error: { code: string; message: string; hint: string | undefined } };

interface Waiting {
  job: BatchJob;
  resolve: (parts: BatchParts) => void;
  reject: (error: TheiaError) => void;
}

interface Hand {
  thread: Worker;
  work: Waiting | null;
}

/**
 * Threads that build batches, each one batch at a time, in whatever order they get done; the caller keeps the order.
 * A thread that dies fails its batch and all that wait, and every later one: it never leaves somebody waiting.
 */
export class WorkerPool {
  readonly #hands: Hand[];
  #waiting: Waiting[] = [];
  #broken: TheiaError | null = null;

  constructor(count: number, entry: URL = new URL('./worker.js', import.meta.url)) {
    this.#hands = Array.from({ length: count }, () => this.#start(entry));
  }

  #start(entry: URL): Hand {
    const hand: Hand = { thread: new Worker(entry), work: null };
    hand.thread.on('message', (reply: WorkerReply) => {
      const work = hand.work;
      hand.work = null;
      if ('parts' in reply) work?.resolve(reply.parts);
      else work?.reject(revive(reply.error));
      this.#assign(hand);
    });
    hand.thread.on('error', (error) => this.#break(`a data worker failed: ${String((error as Error)?.message ?? error)}`, error));
    hand.thread.on('messageerror', (error) => this.#break(`a data worker's answer could not be read: ${error.message}`, error));
    hand.thread.on('exit', (code) => this.#break(`a data worker ended with exit code ${code}`));
    return hand;
  }

  /** Builds a batch on the next free thread. @throws what buildBatch threw; ERR_INTERNAL if a thread died, ERR_ABORTED after `close` */
  run(job: BatchJob): Promise<BatchParts> {
    if (this.#broken) return Promise.reject(this.#broken);
    return new Promise((resolve, reject) => {
      this.#waiting.push({ job, resolve, reject });
      const free = this.#hands.find((hand) => hand.work === null);
      if (free) this.#assign(free);
    });
  }

  #assign(hand: Hand): void {
    const work = this.#waiting.shift();
    if (work === undefined) return;
    hand.work = work;
    hand.thread.postMessage(work.job);
  }

  #break(message: string, cause?: unknown): void {
    this.#fail(new TheiaError('ERR_INTERNAL', message, { cause }));
  }

  /** The first reason stays: a thread that failed also exits. */
  #fail(error: TheiaError): void {
    this.#broken ??= error;
    for (const hand of this.#hands) {
      hand.work?.reject(this.#broken);
      hand.work = null;
    }
    for (const work of this.#waiting.splice(0)) work.reject(this.#broken);
  }

  /** Ends all threads; whoever still waits gets ERR_ABORTED. May be called twice. */
  async close(): Promise<void> {
    this.#fail(new TheiaError('ERR_ABORTED', 'the loader was closed'));
    await Promise.all(this.#hands.map(({ thread }) => thread.terminate()));
  }
}

function revive({ code, message, hint }: { code: string; message: string; hint: string | undefined }): TheiaError {
  return new TheiaError(ERROR_CODES.find((known) => known === code) ?? 'ERR_INTERNAL', message, { hint });
}
