import type { Tensor } from './tensor.js';

const scopes: Set<Tensor>[] = [];

/** Notes a new tensor for the innermost scope. Called by Tensor alone. */
export function track(tensor: Tensor): void {
  scopes[scopes.length - 1]?.add(tensor);
}

/**
 * Runs fn and disposes of every tensor made meanwhile, except those it returns (alone, or inside arrays, Maps and plain objects),
 * which pass to the surrounding scope. Also when fn throws.
 * fn must be synchronous: what an async function makes after its first await would belong to somebody else's scope.
 */
export function tidy<T>(fn: () => T): T {
  const scope = new Set<Tensor>();
  scopes.push(scope);
  let kept: Set<Tensor> | undefined;
  try {
    const result = fn();
    kept = new Set<Tensor>();
    collect(result, kept);
    return result;
  } finally {
    scopes.pop();
    for (const t of scope) {
      if (kept?.has(t)) track(t);
      else t.dispose();
    }
  }
}

/** Takes a tensor out of its scope: the caller disposes of it. */
export function keep<T extends Tensor>(tensor: T): T {
  for (const scope of scopes) scope.delete(tensor);
  return tensor;
}

function collect(value: unknown, into: Set<Tensor>): void {
  if (typeof value !== 'object' || value === null || ArrayBuffer.isView(value)) return;
  if (value instanceof Map) for (const v of value.values()) collect(v, into);
  else if (Array.isArray(value)) for (const v of value) collect(v, into);
  else if ('strides' in value && 'dispose' in value)
    into.add(value as Tensor); // by shape, not by class: the class imports this file
  else if (Object.getPrototypeOf(value) === Object.prototype) for (const v of Object.values(value)) collect(v, into);
}
