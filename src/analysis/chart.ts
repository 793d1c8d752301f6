import { html, type Html } from './html.js';

/** A line of a chart; points in order of x. */
export interface Series {
  name: string;
  x: ArrayLike<number>;
  y: ArrayLike<number>;
  /** thin and pale: the raw values behind a smoothed line */
  faint?: boolean;
  /** dots on the line, for few points */
  dots?: boolean;
  /** which of the page's series colours, from 0; default the series' place */
  colour?: number;
}

export interface ChartOptions {
  title: string;
  /** what the x axis counts */
  xLabel: string;
  /** a logarithmic y axis, where all values are above 0 */
  log?: boolean;
}

const WIDTH = 520;
const HEIGHT = 270;
const LEFT = 62;
const RIGHT = 16;
const TOP = 40;
const BOTTOM = 40;
/** More points than twice the plot's pixels show nothing more. */
const COLUMNS = 400;

/** The CSS that charts need; colours come from the page's variables --ink, --quiet, --grid and --s0 to --s5. */
export const CHART_STYLE = `
.chart{display:block;width:100%;height:auto}
.chart text{font:11px system-ui,sans-serif;fill:var(--quiet)}
.chart .title{font-size:13px;font-weight:600;fill:var(--ink)}
.chart .grid{stroke:var(--grid);stroke-width:1}
.chart .line{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}
.chart .faint{stroke-width:1;opacity:.32}
${[0, 1, 2, 3, 4, 5].map((i) => `.chart .c${i}{stroke:var(--s${i})}.chart .d${i}{fill:var(--s${i})}`).join('\n')}
`;

/** Round steps that cut a range into about `count` parts. @returns the marks inside the range */
export function ticks(low: number, high: number, count: number): number[] {
  const rough = (high - low) / count;
  if (!(rough > 0) || !Number.isFinite(rough)) return [low];
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5, 10].find((m) => m * power >= rough * 0.999) ?? 10);
  const marks: number[] = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9 && marks.length < 50; k++) marks.push(k * step);
  return marks;
}

/** A number as an axis or a table shows it: four digits at most, no 0.30000000000000004. */
export function shortNumber(value: number): string {
  if (!Number.isFinite(value)) return String(value);
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6))
    return value
      .toExponential(2)
      .replace(/\.?0+e/, 'e')
      .replace('e+', 'e');
  return String(Number(value.toPrecision(4)));
}

function extent(series: readonly Series[], of: 'x' | 'y'): [number, number] {
  let [low, high] = [Infinity, -Infinity];
  for (const s of series)
    for (let i = 0; i < s.x.length; i++) {
      const v = s[of][i]!;
      if (!Number.isFinite(v)) continue;
      low = Math.min(low, v);
      high = Math.max(high, v);
    }
  return low <= high ? [low, high] : [0, 1];
}

/** The points worth drawing: of every pixel column the first, lowest, highest and last. */
function thinned(s: Series, left: number, right: number): number[] {
  const n = s.x.length;
  if (n <= COLUMNS * 2) return Array.from({ length: n }, (_, i) => i);
  const picked = new Set<number>();
  for (let i = 0; i < n;) {
    const column = Math.floor(((s.x[i]! - left) / (right - left || 1)) * COLUMNS);
    let [lowest, highest, end] = [i, i, i];
    for (; end < n && Math.floor(((s.x[end]! - left) / (right - left || 1)) * COLUMNS) <= column; end++) {
      if (s.y[end]! < s.y[lowest]!) lowest = end;
      if (s.y[end]! > s.y[highest]!) highest = end;
    }
    for (const k of [i, lowest, highest, Math.max(i, end - 1)].sort((a, b) => a - b)) picked.add(k);
    i = Math.max(end, i + 1);
  }
  return [...picked];
}

/** A line chart as inline SVG. Values that are not finite are gaps. */
export function lineChart(series: readonly Series[], { title, xLabel, log = false }: ChartOptions): Html {
  const [x0, xEnd] = extent(series, 'x');
  const x1 = xEnd > x0 ? xEnd : x0 + 1;
  let [low, high] = extent(series, 'y');
  const useLog = log && low > 0;
  const scale = (v: number): number => (useLog ? Math.log10(v) : v);
  if (useLog) [low, high] = [scale(low), scale(high)];
  const margin = high > low ? (high - low) * 0.06 : Math.abs(high) * 0.1 || 0.5;
  [low, high] = [low - margin, high + margin];
  const px = (x: number): number => LEFT + ((x - x0) / (x1 - x0)) * (WIDTH - LEFT - RIGHT);
  const py = (y: number): number => HEIGHT - BOTTOM - ((scale(y) - low) / (high - low)) * (HEIGHT - TOP - BOTTOM);
  const at = (v: number): string => v.toFixed(1);

  const yMarks = useLog ? logTicks(low, high) : ticks(low, high, 5);
  const grid = yMarks.map(
    (v) =>
      html`<line class="grid" x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${at(py(v))}" y2="${at(py(v))}" /><text
          x="${LEFT - 7}"
          y="${at(py(v) + 3.5)}"
          text-anchor="end"
          >${shortNumber(v)}</text
        >`,
  );
  const xMarks = ticks(x0, x1, 6).map(
    (v) => html`<text x="${at(px(v))}" y="${HEIGHT - BOTTOM + 17}" text-anchor="middle">${shortNumber(v)}</text>`,
  );
  const lines = series.map((s, i) => {
    const colour = (s.colour ?? i) % 6;
    const shown = thinned(s, x0, x1);
    let path = '';
    let pen = 'M';
    for (const k of shown) {
      const y = s.y[k]!;
      if (!Number.isFinite(y) || (useLog && y <= 0)) {
        pen = 'M';
        continue;
      }
      path += `${pen}${at(px(s.x[k]!))} ${at(py(y))}`;
      pen = 'L';
    }
    const dots = s.dots
      ? shown
          .filter((k) => Number.isFinite(s.y[k]!))
          .map((k) => html`<circle class="d${colour}" cx="${at(px(s.x[k]!))}" cy="${at(py(s.y[k]!))}" r="3" />`)
      : [];
    return html`<path class="line c${colour}${s.faint ? ' faint' : ''}" d="${path}" />${dots}`;
  });
  return html`<svg class="chart" viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${title}">
    <text class="title" x="${LEFT}" y="18">${title}</text>
    ${grid}${xMarks}
    <text x="${WIDTH - RIGHT}" y="${HEIGHT - 6}" text-anchor="end">${xLabel}</text>
    ${lines} ${legend(series.map((s, i) => ({ ...s, colour: (s.colour ?? i) % 6 })).filter((s) => !s.faint))}
  </svg>`;
}

function logTicks(low: number, high: number): number[] {
  const marks: number[] = [];
  for (let p = Math.floor(low); p <= Math.ceil(high); p++)
    for (const m of high - low < 1.5 ? [1, 2, 5] : [1]) if (p + Math.log10(m) >= low && p + Math.log10(m) <= high) marks.push(m * 10 ** p);
  return marks;
}

/** Names of the lines at the right of the title line; long ones are cut, since SVG text does not wrap. */
function legend(series: readonly (Series & { colour: number })[]): Html[] {
  if (series.length < 2) return [];
  const shown = series.slice(0, 6).map((s) => ({ ...s, name: s.name.length > 24 ? `${s.name.slice(0, 23)}…` : s.name }));
  let x = WIDTH - RIGHT;
  return shown
    .reverse()
    .map((s) => {
      x -= 6.2 * s.name.length + 26;
      return html`<line class="line c${s.colour}" x1="${x.toFixed(1)}" x2="${(x + 14).toFixed(1)}" y1="14" y2="14" /><text
          x="${(x + 18).toFixed(1)}"
          y="18"
          >${s.name}</text
        >`;
    })
    .reverse();
}
