// The emulator itself: what is right comes out right under every schedule, what is wrong is caught under those that must catch it, and a
// right kernel runs after every failure (the program checks that; it would say `broken`).
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { SCHEDULES, outcomes, program, runProgram } from '../support/emulator.js';
import type { Outcome } from '../support/emulator.js';

const RIGHT = [
  ...['ldmatrix_x1', 'ldmatrix_x2', 'ldmatrix_x4', 'ldmatrix_x1_trans', 'ldmatrix_x2_trans', 'ldmatrix_x4_trans'],
  ...['mma_bf16', 'mma_f16', 'mma_tf32', 'shuffles', 'votes', 'f16', 'bf16', 'tf32', 'exp2', 'functions'],
  ...['gemm', 'bank_conflicts', 'softmax', 'places', 'last_block', 'copies', 'every_block_once', 'large_block', 'threads'],
  ...['boxes', 'wgmma', 'hopper_gemm'],
];

/** Caught under every schedule, with these words. A file's line is that of the planted bug. */
const ALWAYS: Record<string, [Outcome['result'], RegExp]> = {
  gemm_without_first_barrier: ['wrong', /^C\[\d+\] is /],
  missing_barrier: ['wrong', /^x\[\d+\] is /],
  missing_barrier_before_reuse: ['wrong', /^out\[\d+\] is .*, must be 23/],
  warp_synchronous: ['wrong', /^out\[\d+\] is -?nan/],
  two_barriers: ['ERR_CUDA', /bugs\.cpp:\d+: the thread waits at this barrier, but thread \(\d+,0,0\) waits at another, .*bugs\.cpp:\d+/],
  early_exit: ['ERR_CUDA', /thread \(\d+,0,0\).*(left the kernel, but thread .* at a barrier|barrier, but thread \(33,0,0\) has left)/],
  exit_before_shuffle: [
    'ERR_CUDA',
    /left the kernel, but thread .* waits for it in __shfl_xor_sync|names thread \(5,0,0\), which has left/,
  ],
  different_operations: ['ERR_CUDA', /waits in (__shfl_xor_sync|a vote) .*, but thread .* waits for it in (__shfl_xor_sync|a vote)/],
  different_masks: ['ERR_CUDA', /waits in __shfl_xor_sync \(mask (0000ffff|ffffffff)\), but .* \(mask (0000ffff|ffffffff)\)/],
  foreign_mask: ['ERR_CUDA', /the mask 0000ffff of a vote does not name the thread itself, lane \d+/],
  missing_lanes: ['ERR_CUDA', /names lane 24, which the block does not have/],
  lane_outside_mask: ['ERR_CUDA', /reads lane 20 by a shuffle whose mask 0000ffff does not name it/],
  crossed: [
    'ERR_CUDA',
    /waits at a barrier, but thread .* waits for it in a vote|a vote waits for thread \(7,0,0\), which waits at a barrier/,
  ],
  ring: ['ERR_CUDA', /deadlock: the thread waits in a vote \(mask 0000000\d\) for thread \(\d,0,0\)/],
  unfinished_copy: ['ERR_CUDA', /left the kernel with 1 cp\.async on their way/],
  throwing: ['exception', /^from a kernel$/],
  nested: ['ERR_CUDA', /selftest_inner: a kernel cannot launch another one/],
  shared_index: ['ERR_CUDA', /thread \(4,0,0\), kernels\/simt\/selftest\/addresses\.cpp:17: index 32 is outside of 'float \[32\]'/],
  local_index: ['ERR_CUDA', /index 4 is outside of 'float \[4\]'/],
  shared_write: ['ERR_CUDA', /0 bytes past the end of a static array of 128 bytes/],
  dynamic_write: ['ERR_CUDA', /0 bytes past the end of dynamic shared memory of 128 bytes/],
  shared_read: ['wrong', /^x\[31\] is -?nan/],
  float4: ['ERR_CUDA', /'const struct float4' at an address 4 bytes past a multiple of 16/],
  null: ['ERR_CUDA', /load of 'const float' by a null pointer/],
  shift: ['ERR_CUDA', /a shift of 'int' by 32/],
  division: ['ERR_CUDA', /a division of 'int' by 0/],
  ldmatrix_misaligned: ['ERR_CUDA', /the address of ldmatrix must be a multiple of 16 bytes; it is 8 past one/],
  ldmatrix_outside: ['ERR_CUDA', /thread \(7,0,0\).*ldmatrix reads outside of shared memory: 128 bytes/],
  ldmatrix_global: ['ERR_CUDA', /ldmatrix reads outside of shared memory/],
  copy_misaligned_shared: ['ERR_CUDA', /thread \(3,0,0\).*the shared address of a cp\.async of 16 bytes .* 8 past one/],
  copy_misaligned_global: ['ERR_CUDA', /the global address of a cp\.async of 8 bytes .* 4 past one/],
  copy_outside: ['ERR_CUDA', /cp\.async writes outside of shared memory: 64 bytes/],
  copy_valid: ['ERR_CUDA', /cp\.async of 16 bytes cannot have 17 valid ones/],
  too_many_threads: ['ERR_CUDA', /got 1025 x 1 x 1/],
  too_deep_a_block: ['ERR_CUDA', /got 1 x 1 x 65/],
  no_threads: ['ERR_CUDA', /got 32 x 0 x 1/],
  too_large_a_grid: ['ERR_CUDA', /got 1 x 65536 x 1/],
  too_much_dynamic_shared: ['ERR_CUDA', /may have 232448 bytes of shared memory; asked for 232449/],
  too_much_static_shared: ['ERR_CUDA', /no room for 49156 bytes of shared memory/],
  too_much_shared: ['ERR_CUDA', /no room for 8192 bytes of shared memory/],
  too_much_for_the_device: ['ERR_CUDA', /may have 166912 bytes of shared memory; asked for 167936/],
  hopper_without_empty_wait: ['ERR_CUDA', /more arrivals than expected: all 1 are there|deadlock: .* mbarrier's phase/],
  hopper_without_product_wait: ['wrong', /^C\[\d+\] is /],
  hopper_without_an_arrival: ['ERR_CUDA', /hopper\.cpp:\d+: deadlock: .* an mbarrier's phase of parity 1, which lacks 1 of 1 arrivals/],
  hopper_expecting_less: ['ERR_CUDA', /more bytes than expected: copies have brought 128 beyond/],
  hopper_without_fence: ['ERR_CUDA', /a wgmma\.fence must come before/],
  hopper_without_init_fence: ['ERR_CUDA', /no fence came after its initialisation/],
  hopper_without_one_warp: ['ERR_CUDA', /thread \(32,0,0\): the warp has issued 32 wgmma, the first of its warpgroup 0/],
  hopper_two_barrier_counts: ['ERR_CUDA', /barrier 1 is for (128|256) threads here, but another came for (128|256)/],
  mbarrier_not_initialised: ['ERR_CUDA', /hopper\.cpp:\d+: an arrival of an mbarrier that was not initialised/],
  mbarrier_overwritten: ['ERR_CUDA', /an arrival of an mbarrier that something else was written over/],
  mbarrier_arrivals: ['ERR_CUDA', /more arrivals than expected: all 2 are there, and the mbarrier's phase waits for 64 bytes/],
  box_misplaced: ['ERR_CUDA', /must be a multiple of 1024; it is 512 past one/],
  box_outside: ['ERR_CUDA', /a box of 1024 bytes goes outside of shared memory: to 1024 bytes/],
  unfinished_product: ['ERR_CUDA', /left the kernel with 1 wgmma on their way/],
  descriptors_differ: ['ERR_CUDA', /the warps of a warpgroup give wgmma different descriptors/],
  bad_schedule: ['ERR_ARGS', /expected forward, reverse or random:SEED, got "backward"/],
};

/**
 * Caught by some schedules only. Copies that land late hide a missing barrier behind them, copies that land at once a missing wait; which
 * of two blocks comes last is what the order of blocks says; a box that lands at once is not missed. Of five random seeds most must catch it.
 */
const SOMETIMES: Record<string, { caught: readonly string[]; hidden: readonly string[]; seeds: number }> = {
  gemm_without_trailing_barrier: { caught: ['reverse'], hidden: ['forward'], seeds: 4 },
  gemm_without_wait: { caught: ['forward'], hidden: ['reverse'], seeds: 3 },
  hopper_without_full_wait: { caught: ['forward', 'reverse'], hidden: [], seeds: 5 },
  unfinished_box: { caught: ['forward'], hidden: ['reverse'], seeds: 3 },
  blocks_race: { caught: ['reverse'], hidden: ['forward'], seeds: 3 },
};

/** Reads past the end of what it was given, and throws it away: AddressSanitizer's to find (scripts/simt-check.mjs). */
const UNSEEN = ['row_bound'];

if (program() === undefined) {
  test('the emulator', () => console.log('\nSKIP the emulator: this build has no theia_simt_selftest'));
} else {
  const all = outcomes(SCHEDULES);
  const of = (name: string): Outcome[] => all.filter((o) => o.case === name);

  test('every case of the program has its place here', () => {
    const listed = runProgram(['--list']).stdout.trimEnd().split('\n');
    assert.equal([...RIGHT, ...Object.keys(ALWAYS), ...Object.keys(SOMETIMES), ...UNSEEN].sort(), listed.sort());
    for (const name of listed) assert.is(of(name).length, SCHEDULES.length, name);
  });

  test('right kernels come out right under every schedule', () => {
    for (const name of [...RIGHT, ...UNSEEN])
      for (const o of of(name)) assert.is(o.result, 'ok', `${name} under ${o.schedule}: ${o.message}`);
  });

  for (const [name, [result, words]] of Object.entries(ALWAYS))
    test(`caught under every schedule: ${name}`, () => {
      for (const o of of(name)) {
        assert.is(o.result, result, `${o.schedule}: ${o.result} ${o.message}`);
        assert.match(o.message, words);
        if (/thread/.test(o.message) && result === 'ERR_CUDA' && name !== 'nested' && !name.startsWith('too_') && name !== 'no_threads')
          assert.match(
            o.message,
            new RegExp(`^selftest_\\w+: block \\(\\d+,\\d,0\\), thread \\(\\d+,0,0\\).* \\(schedule ${o.schedule}\\)$`),
          );
      }
    });

  for (const [name, { caught, hidden, seeds }] of Object.entries(SOMETIMES))
    test(`caught by the schedules that must: ${name}`, () => {
      const results = new Map(of(name).map((o) => [o.schedule, o.result]));
      for (const schedule of caught) assert.is.not(results.get(schedule), 'ok', schedule);
      // Written down so that the README stays true.
      for (const schedule of hidden) assert.is(results.get(schedule), 'ok', schedule);
      const by = SCHEDULES.filter((s) => s.startsWith('random') && results.get(s) !== 'ok');
      assert.ok(by.length >= seeds, `only ${by.join(', ')}`);
    });

  test('THEIA_SIMT_SCHEDULE chooses the schedule', () => {
    const result = (schedule: string): Outcome =>
      JSON.parse(runProgram(['gemm_without_trailing_barrier'], { THEIA_SIMT_SCHEDULE: schedule }).stdout) as Outcome;
    assert.is(result('forward').result, 'ok');
    assert.is(result('').result, 'ok');
    assert.is(result('reverse').result, 'wrong');
    for (const bad of ['backward', 'random:', 'random:x1', 'random:1x']) {
      const { result: code, message } = JSON.parse(runProgram(['early_exit'], { THEIA_SIMT_SCHEDULE: bad }).stdout) as Outcome;
      // The right kernel that runs afterwards is refused too.
      assert.is(code, 'broken');
      assert.match(message, /THEIA_SIMT_SCHEDULE: expected forward, reverse or random:SEED/);
    }
  });

  test('the same seed runs the same way', () => {
    const twice = [0, 1].map(() => outcomes(['random:11', 'random:12'], ['gemm_without_trailing_barrier', 'gemm_without_wait']));
    assert.equal(twice[0], twice[1]);
  });
}

test.run();
