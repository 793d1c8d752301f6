import type { Image } from '../data/image.js';
import type { ResizeFilter } from '../ops/preprocess.js';

/** One sample that features are wanted of. */
export interface TeacherSample {
  /** of the sample, views included */
  key: string;
  /** as `Teacher.input` asks for it; absent for a teacher that looks at no pixels */
  image?: Image;
}

/** Something that gives spatial features of images. */
export interface Teacher {
  /** as the model uses it */
  readonly name: string;
  /** Stands for everything the features depend on; shards made with another one are stale. */
  readonly identity: string;
  /** [C,H,W] of every sample's features */
  readonly shape: readonly [number, number, number];
  /** The square it wants images resized to; null: it goes by keys alone. */
  readonly input: { readonly size: number; readonly filter: ResizeFilter } | null;
  /** Why there are no features of a sample with this key, or undefined. Asked before any are computed. */
  missing(key: string): string | undefined;
  /**
   * Features of a batch, channel-last: [B,H*W,C] in one array.
   * @throws ERR_CORRUPT, ERR_SHAPE, ERR_DTYPE, ERR_FILE naming the sample or file
   */
  features(samples: readonly TeacherSample[]): Promise<Float32Array>;
  dispose(): void;
}
