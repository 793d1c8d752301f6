/** A table printed row by row, so that a long bench shows what it has. The first column is left-aligned. */
export class Table {
  private readonly widths: number[];

  constructor(
    private readonly columns: readonly string[],
    first = 44,
  ) {
    this.widths = columns.map((title, i) => Math.max(title.length, i === 0 ? first : 7));
  }

  header(title: string): void {
    console.log(`\n${title}`);
    this.row(this.columns);
    console.log(this.widths.map((w) => '-'.repeat(w)).join('  '));
  }

  row(cells: readonly string[]): void {
    const text = cells.map((cell, i) => (i === 0 ? cell.padEnd(this.widths[0]!) : cell.padStart(this.widths[i] ?? 0)));
    console.log(text.join('  ').trimEnd());
  }
}

/** Seconds as µs or ms with three digits. */
export function formatTime(seconds: number): string {
  const [value, unit] = seconds < 1e-3 ? [seconds * 1e6, 'us'] : [seconds * 1e3, 'ms'];
  return `${value.toPrecision(3)} ${unit}`;
}

export function formatShare(share: number): string {
  return `${(share * 100).toFixed(0)} %`;
}
