export type StopSignal = 'SIGINT' | 'SIGTERM';

/** The exit code of a program that ended because of a signal. */
export function signalExitCode(signal: StopSignal): number {
  return signal === 'SIGINT' ? 130 : 143;
}

let onFirst: ((signal: StopSignal) => void) | undefined;

/**
 * Lets a verb finish in its own way: the first signal calls `handler`, and the verb then returns signalExitCode; a second one ends the
 * program at once. Without a handler the first does. A verb has to give the event loop a turn now and then, or no signal arrives.
 * @returns takes the handler away again
 */
export function onStop(handler: (signal: StopSignal) => void): () => void {
  onFirst = handler;
  return () => {
    if (onFirst === handler) onFirst = undefined;
  };
}

/** Installs the two handlers of the process. Called once, by the program and by nothing in the library. */
export function installSignals(exit: (code: number) => void): void {
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.on(signal, () => {
      const handler = onFirst;
      onFirst = undefined;
      if (handler === undefined) exit(signalExitCode(signal));
      else handler(signal);
    });
  }
}
