import { activeTape } from '../autograd/tape.js';
import { Tensor, dispatch, sumsOf } from '../tensor/index.js';

export interface DistillTarget {
  /** [B,P,C] raw features of the teacher: bfloat16, float16 or float32 */
  features: Tensor;
  /** [C] per channel, with std or not at all: the features are normalised while they are read */
  mean?: Tensor | undefined;
  std?: Tensor | undefined;
}

/**
 * The three loss terms of one teacher in one pass over prediction and raw target (kernels/distill_loss; model.md, "Loss"):
 * cosine of flattened samples, smooth-L1 with beta 1, MSE. Normalised targets are never stored.
 * @param p [B,P,C] prediction, or [B,C] of a `_cls` target
 * @param weights [3] d loss / d {cos, l1, mse}, read by backward: the loss that is minimised is their sum
 * @returns [3] cos, l1, mse
 */
export function distillLoss(p: Tensor, target: DistillTarget, weights: Tensor): Tensor {
  const terms = Tensor.empty([3], sumsOf(p.dtype), p.device);
  const maps = (t: Tensor): Tensor => (t.rank === 3 ? t : t.reshape([t.shape[0]!, 1, t.shape[1]!]));
  const stats = Tensor.empty([p.shape[0]!, 3], 'float64', p.device);
  const { features, mean, std } = target;
  dispatch('distill_loss', { p: maps(p), t: maps(features), mean, std, terms, stats });
  const tape = activeTape();
  if (!tape?.reaches(p)) return terms;
  tape.record(
    [terms],
    [p, features, mean, std, stats, weights],
    (gradients, [p_, t_, mean_, std_, stats_, weights_]) => {
      // The prediction has no reader left: its gradient takes its place.
      dispatch('distill_loss_grad', {
        p: maps(p_!),
        t: maps(t_!),
        mean: mean_,
        std: std_,
        stats: stats_!,
        weights: weights_!,
        dp: maps(p_!),
      });
      gradients.add(p, p_!);
    },
    true,
  );
  return terms;
}
