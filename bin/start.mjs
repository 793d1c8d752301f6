import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** Runs the built program, or says how to build it. */
export async function start(argv) {
  const program = new URL('../dist/src/cli/main.js', import.meta.url);
  if (!existsSync(program)) {
    process.stderr.write(
      `theia: ERR_NATIVE_LOAD: expected the built program at ${fileURLToPath(program)}, got none\nhint: run npm run build\n`,
    );
    process.exitCode = 1;
    return;
  }
  await (await import(program.href)).program(argv);
}
