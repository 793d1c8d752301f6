/**
 * Runs fn with only this tile of kernels/gemm/device/tiles.cuh; a product that cannot take it chooses from the others as usual. The launcher
 * reads the environment at every product, also when a plan is captured.
 */
export function withTile<T>(tile: number, fn: () => T): T {
  process.env['THEIA_GEMM_TILE'] = String(tile);
  try {
    return fn();
  } finally {
    delete process.env['THEIA_GEMM_TILE'];
  }
}
