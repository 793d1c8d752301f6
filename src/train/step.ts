import { Tape } from '../autograd/index.js';
import { TheiaError } from '../errors.js';
import type { Theia } from '../models/theia.js';
import { distillLoss } from '../ops/distill_loss.js';
import type { AdamW } from '../optim/adamw.js';
import { Plan, Tensor, tidy, valuesLater, writeLater } from '../tensor/index.js';
import type { DType, Transfer } from '../tensor/index.js';
import { termWeights } from './loss.js';
import type { LossOptions } from './loss.js';
import type { LossTerms } from './metrics.js';

/** A teacher's features of one batch, as they lie on disk. */
export interface TargetBatch {
  /** float32, or the bits of bfloat16 or float16 */
  data: Float32Array | Uint16Array;
  dtype: 'float32' | 'bfloat16' | 'float16';
  /** [b, positions, channels] */
  shape: readonly [number, number, number];
}

/** Per-channel statistics that targets are normalised with. */
export interface TargetStatistics {
  mean: Float32Array;
  std: Float32Array;
}

/** One micro-batch. */
export interface StepBatch {
  /** uint8 [b,H,W,3] of the model's size, all images behind each other */
  images: Uint8Array;
  size: number;
  targets: ReadonlyMap<string, TargetBatch>;
}

interface Inputs {
  images: Tensor;
  targets: Map<string, Tensor>;
}

/** A recorded micro-step: forward, loss and backward of one signature. */
interface MicroPlan {
  inputs: Inputs;
  plan: Plan<Map<string, Tensor>>;
  /** names of the parameters that got a gradient */
  touched: ReadonlySet<string>;
}

/** How many signatures keep their recorded plan (batch sizes, sets of teachers, frozen parts). */
const MOST_PLANS = 8;

/**
 * Forward, loss, backward and update of one optimiser step. Each signature (shapes, dtypes, teachers, first or further micro-batch,
 * frozen parts) is recorded when it comes first and replayed from then on: one call a micro-step, and no allocation.
 */
export class TrainStep {
  private readonly plans = new Map<string, MicroPlan>();
  private updatePlan: Plan<void> | undefined;
  private readonly weights = new Map<string, Tensor>();
  /** what `weights` hold: they seldom change from step to step */
  private readonly written = new Map<string, Float32Array>();
  private readonly statistics = new Map<string, { mean: Tensor; std: Tensor }>();
  private touched = new Set<string>();
  private micro = 0;
  /** copies of this step's batches to the device: an array of pinned memory may be changed when they are done */
  uploads: Transfer[] = [];

  constructor(
    private readonly model: Theia,
    private readonly optimizer: AdamW,
    private readonly loss: LossOptions,
    statistics: ReadonlyMap<string, TargetStatistics> = new Map(),
  ) {
    for (const [name, s] of statistics) this.statistics.set(name, { mean: this.constant(s.mean), std: this.constant(s.std) });
  }

  /** Starts an optimiser step. */
  begin(): void {
    this.model.arena.refresh(); // outside the plans: behind a load, not in every replay
    this.model.arena.beginGradients();
    this.touched = new Set();
    this.micro = 0;
    this.uploads = [];
  }

  /**
   * One micro-batch: adds its gradients.
   * @param teachers the teachers trained in this step
   * @param share what part of the step's gradient this micro-batch is: 1 / number of micro-batches
   * @returns gives the loss terms by teacher. On the CPU they are there; elsewhere the call waits for what was under way before it
   */
  accumulate(batch: StepBatch, teachers: readonly string[], share = 1): () => Map<string, LossTerms> {
    const signature = this.signature(batch, teachers);
    for (const name of teachers) this.setWeights(name, teachers.length, share);
    let micro = this.plans.get(signature);
    if (micro) {
      this.plans.delete(signature); // most recently used last
      this.plans.set(signature, micro);
      this.uploads.push(...this.fill(micro.inputs, batch, teachers));
      micro.plan.replay();
    } else {
      micro = this.record(batch, teachers);
      this.plans.set(signature, micro);
      if (this.plans.size > MOST_PLANS) this.forget(this.plans.keys().next().value!);
    }
    for (const name of micro.touched) {
      this.touched.add(name);
      this.model.arena.parameters.get(name)!.markWritten();
    }
    this.micro += 1;
    return termsLater(micro.plan.result);
  }

  /**
   * Clips and updates.
   * @returns gives the gradient norm before clipping. It throws ERR_NONFINITE if that is not finite; no weight was changed then
   */
  update(lr: number, clip = 0): () => number {
    if (this.micro === 0) throw new TheiaError('ERR_AUTOGRAD', 'update without a micro-batch since begin()');
    this.optimizer.prepare(lr, (s) => this.touched.has(s.parameter.name), clip);
    if (this.updatePlan) this.updatePlan.replay();
    else this.updatePlan = Plan.record(() => this.optimizer.run());
    return this.optimizer.finish();
  }

  /** Loss terms of a batch without gradients. */
  evaluate(batch: StepBatch, teachers: readonly string[]): Map<string, LossTerms> {
    return tidy(() => {
      const inputs = this.inputs(batch, teachers);
      this.fill(inputs, batch, teachers);
      for (const name of teachers) this.setWeights(name, teachers.length, 1);
      const terms = this.forward(inputs, teachers);
      return termsLater(terms)();
    });
  }

  dispose(): void {
    for (const signature of [...this.plans.keys()]) this.forget(signature);
    this.updatePlan?.dispose();
    for (const t of this.weights.values()) t.dispose();
    for (const s of this.statistics.values()) {
      s.mean.dispose();
      s.std.dispose();
    }
  }

  private constant(values: Float32Array): Tensor {
    return Tensor.from(values, [values.length], 'float32', this.model.device).retainOnly();
  }

  private signature(batch: StepBatch, teachers: readonly string[]): string {
    const { parameters } = this.model.arena;
    let frozen = '';
    for (const p of parameters.values()) if (!p.trainable) frozen += `${p.name};`;
    const targets = teachers.map((name) => {
      const t = this.target(batch, name);
      return [name, t.dtype, ...t.shape].join(':');
    });
    return [batch.size, this.micro === 0 ? 'write' : 'add', ...targets, frozen].join('|');
  }

  private target(batch: StepBatch, teacher: string): TargetBatch {
    const t = batch.targets.get(teacher);
    if (!t)
      throw new TheiaError(
        'ERR_ARGS',
        `expected features of ${teacher} in the batch, got ${[...batch.targets.keys()].join(', ') || 'none'}`,
      );
    if (t.shape[0] !== batch.size)
      throw new TheiaError('ERR_SHAPE', `${teacher}: expected features of ${batch.size} samples, got ${t.shape[0]}`);
    return t;
  }

  private setWeights(teacher: string, count: number, share: number): void {
    let t = this.weights.get(teacher);
    if (!t) {
      t = Tensor.zeros([3], 'float32', this.model.device).retainOnly();
      this.weights.set(teacher, t);
    }
    const values = Float32Array.from(termWeights(teacher, count, this.loss), (w) => w * share);
    if (this.written.get(teacher)?.join() === values.join()) return;
    writeLater(t, values);
    this.written.set(teacher, values);
  }

  private inputs(batch: StepBatch, teachers: readonly string[]): Inputs {
    const side = this.model.config.image;
    const { device } = this.model;
    const images = Tensor.empty([batch.size, side, side, 3], 'uint8', device);
    const targets = new Map(
      teachers.map((name) => [name, Tensor.empty(this.target(batch, name).shape, this.target(batch, name).dtype as DType, device)]),
    );
    return { images, targets };
  }

  private fill(inputs: Inputs, batch: StepBatch, teachers: readonly string[]): Transfer[] {
    const targets = teachers.map((name) => writeLater(inputs.targets.get(name)!, this.target(batch, name).data));
    return [writeLater(inputs.images, batch.images), ...targets];
  }

  private forward(inputs: Inputs, teachers: readonly string[]): Map<string, Tensor> {
    return tidy(() => {
      const { tokens } = this.model.encode(inputs.images);
      const predictions = this.model.predict(tokens, teachers);
      return new Map(
        teachers.map((name) => {
          const p = predictions.get(name)!;
          const features = inputs.targets.get(name)!;
          const s = this.statistics.get(name);
          return [name, distillLoss(p, { features, mean: s?.mean, std: s?.std }, this.weights.get(name)!)];
        }),
      );
    });
  }

  private record(batch: StepBatch, teachers: readonly string[]): MicroPlan {
    const { arena } = this.model;
    const made = this.inputs(batch, teachers);
    const inputs: Inputs = { images: made.images.retainOnly(), targets: new Map([...made.targets].map(([n, t]) => [n, t.retainOnly()])) };
    this.uploads.push(...this.fill(inputs, batch, teachers));
    const before = new Set([...arena.parameters.values()].filter((p) => p.touched));
    const plan = Plan.record(() => {
      const tape = new Tape();
      const terms = tape.run(() => this.forward(inputs, teachers));
      tape.backward();
      return new Map([...terms].map(([name, t]) => [name, t.retainOnly()]));
    });
    const touched = new Set([...arena.parameters.values()].filter((p) => p.touched).map((p) => p.name));
    // A further micro-batch of other teachers than the first one's writes where the first one did not: such a plan holds for this pair only.
    if (before.size > 0 && [...touched].some((name) => ![...before].some((p) => p.name === name)))
      throw new TheiaError('ERR_INTERNAL', 'the micro-batches of a step must train the same parameters');
    return { inputs, plan, touched };
  }

  private forget(signature: string): void {
    const micro = this.plans.get(signature)!;
    this.plans.delete(signature);
    micro.plan.dispose();
    for (const t of micro.plan.result.values()) t.dispose();
    micro.inputs.images.dispose();
    for (const t of micro.inputs.targets.values()) t.dispose();
  }
}

function termsLater(terms: ReadonlyMap<string, Tensor>): () => Map<string, LossTerms> {
  const reads = [...terms].map(([name, t]) => [name, valuesLater(t)] as const);
  return () =>
    new Map(
      reads.map(([name, read]) => {
        const [cos, l1, mse] = read() as Float32Array;
        return [name, { cos: cos!, l1: l1!, mse: mse! }];
      }),
    );
}
