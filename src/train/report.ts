import { readFileSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { fileError } from '../errors.js';
import { CHART_STYLE, lineChart, shortNumber, type Series } from '../analysis/chart.js';
import { html, page, pngUri, type Html } from '../analysis/html.js';
import { writeFileWhole } from '../formats/file.js';
import { encodePng } from '../data/image.js';
import { REPORT_STYLE } from './report-style.js';
import { readHistory, smoothed, type Curve, type History, type RunHistory } from './metrics-history.js';
import type { TeacherPictures } from './report-pictures.js';

/** A way to predict the teacher, and how well it did on held-out images. */
export interface ComparisonRow {
  name: string;
  cosine: number;
  explained: number;
  /** the one that the others are compared with */
  main?: boolean;
}

/** The student beside simpler answers. */
export interface Comparison {
  title: string;
  text: string;
  rows: readonly ComparisonRow[];
  verdict: { ok: boolean; text: string };
}

/** What a report shows besides the run's own files. */
export interface ReportExtras {
  /** default `Training of <folder>` */
  title?: string;
  comparison?: Comparison;
  pictures?: readonly TeacherPictures[];
}

/**
 * Writes report.html into a run folder: one page that loads nothing, with the curves of metrics.jsonl, the last numbers, the
 * configuration, and what `extras` adds.
 * @returns the page's path
 * @throws ERR_FILE if the run's files cannot be read; ERR_DISK
 */
export async function writeReport(runDir: string, extras: ReportExtras = {}): Promise<string> {
  const path = join(runDir, 'report.html');
  const history = readHistory(join(runDir, 'metrics.jsonl'));
  let config: string | undefined;
  try {
    config = readFileSync(join(runDir, 'config.toml'), 'utf8');
  } catch (error) {
    const failed = fileError(error, join(runDir, 'config.toml'), 'reading the run’s configuration');
    if (failed.code !== 'ERR_FILE') throw failed;
  }
  const title = extras.title ?? `Training of ${basename(resolve(runDir))}`;
  const sections = [
    extras.comparison ? comparisonSection(extras.comparison) : [],
    ...(await Promise.all((extras.pictures ?? []).map(picturesSection))),
    curvesSection(history),
    numbersSection(history),
    config === undefined
      ? []
      : html`<section>
          <h2>Configuration</h2>
          <details>
            <summary>config.toml, as resolved</summary>
            <pre>${config}</pre>
          </details>
        </section>`,
  ];
  const text = page(
    title,
    REPORT_STYLE + CHART_STYLE,
    html`<header>
        <h1>${title}</h1>
        ${summary(history)}
      </header>
      <main>${sections}</main>`,
  );
  writeFileWhole(path, (write) => write(Buffer.from(text)));
  return path;
}

function last(values: readonly number[]): number {
  for (let i = values.length - 1; i >= 0; i--) if (Number.isFinite(values[i]!)) return values[i]!;
  return NaN;
}

function shown(value: number, digits = 4): string {
  return Number.isFinite(value) ? value.toFixed(digits).replace('-', '−') : '–';
}

function summary({ train, evaluations }: RunHistory): Html {
  if (train.length === 0 && evaluations.size === 0) return html`<p class="lead">No step was recorded.</p>`;
  const seconds = last(train.column('wall_s'));
  const parts = [`${last(train.step)} steps`, ...(Number.isFinite(seconds) ? [`${duration(seconds)} of training`] : [])];
  const rate = median(train.column('images_per_s'));
  if (Number.isFinite(rate)) parts.push(`${shortNumber(Number(rate.toPrecision(3)))} images/s`);
  return html`<p class="lead">${parts.join(' · ')}</p>`;
}

function duration(seconds: number): string {
  if (seconds < 120) return `${seconds.toFixed(0)} s`;
  if (seconds < 7200) return `${(seconds / 60).toFixed(1)} minutes`;
  return `${(seconds / 3600).toFixed(1)} hours`;
}

function median(values: readonly number[]): number {
  const sorted = values.filter(Number.isFinite).sort((a, b) => a - b);
  return sorted.length === 0 ? NaN : sorted[Math.floor(sorted.length / 2)]!;
}

function comparisonSection({ title, text, rows, verdict }: Comparison): Html {
  const largest = Math.max(...rows.map((r) => r.explained), 1e-9);
  const lines = rows.map((r) => {
    const width = Math.max(0, Math.min(1, r.explained / largest)) * 100;
    return html`<tr${r.main ? html` class="main"` : ''}><th scope="row">${r.name}</th><td>${shown(r.cosine)}</td><td>${shown(r.explained)}</td><td class="bar"><svg viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true"><rect class="${r.main ? 'd0' : 'dq'}" width="${width.toFixed(2)}" height="10" rx="1"/></svg></td></tr>`;
  });
  return html`<section>
    <h2>${title}</h2>
    <p>${text}</p>
    <div class="scroll">
      <table class="numbers wide">
        <thead>
          <tr>
            <th scope="col"></th>
            <th scope="col">cosine</th>
            <th scope="col">variance explained</th>
            <th scope="col" class="bar"></th>
          </tr>
        </thead>
        <tbody>
          ${lines}
        </tbody>
      </table>
    </div>
    <p class="verdict ${verdict.ok ? 'good' : 'bad'}">${verdict.text}</p>
  </section>`;
}

async function picturesSection({ teacher, shares, norms, photos }: TeacherPictures): Promise<Html> {
  const picture = async (p: (typeof photos)[number]['photo'], alt: string): Promise<Html> =>
    html`<td><img src="${pngUri(await encodePng(p))}" width="${p.width}" height="${p.height}" alt="${alt}" /></td>`;
  const rows: Html[] = [];
  for (const p of photos)
    rows.push(
      html`<tr>
        ${[
          await picture(p.photo, `image ${p.key}`),
          await picture(p.teacher, 'features of the teacher'),
          await picture(p.student, 'features predicted by the student'),
          await picture(p.norms, 'norms of the student’s tokens'),
        ]}
        <th scope="row"><span class="key">${p.key}</span><br />cosine ${shown(p.cosine, 3)}<br />explained ${shown(p.explained, 3)}</th>
      </tr>`,
    );
  const percent = shares.map((s) => `${(s * 100).toFixed(0)} %`).join(', ');
  return html`<section>
    <h2>Held-out images: ${teacher}</h2>
    <p>
      Colours are the first three principal components of the teacher’s normalised features over these images (${percent} of their variance)
      as red, green and blue. Teacher and student share this basis and one scale, from the teacher’s 1st to its 99th percentile: where the
      colours agree, the features do. Token norms run from ${norms.low.toPrecision(4)} (dark) to ${norms.high.toPrecision(4)} (light).
    </p>
    <div class="scroll">
      <table class="pictures">
        <thead>
          <tr>
            <th scope="col">image</th>
            <th scope="col">teacher</th>
            <th scope="col">student</th>
            <th scope="col">token norms</th>
            <th></th>
          </tr>
        </thead>
        <tbody>
          ${rows}
        </tbody>
      </table>
    </div>
  </section>`;
}

const CHARTS: readonly { curve: Curve; title: string; log?: boolean }[] = [
  { curve: 'loss', title: 'Loss' },
  { curve: 'cos', title: 'Cosine term (1 − cosine)' },
  { curve: 'l1', title: 'Smooth-L1 term' },
  { curve: 'mse', title: 'Mean squared error' },
  { curve: 'lr', title: 'Learning rate' },
  { curve: 'grad_norm', title: 'Gradient norm, before clipping', log: true },
];

/** Fewer points than this are drawn as they are. */
const SMOOTH_FROM = 40;

function trainSeries(train: History, values: number[]): Series[] {
  if (train.length < SMOOTH_FROM) return [{ name: 'train', x: train.step, y: values, colour: 0 }];
  return [
    { name: 'train', x: train.step, y: values, faint: true, colour: 0 },
    { name: 'train', x: train.step, y: smoothed(values), colour: 0 },
  ];
}

function curvesSection({ train, evaluations }: RunHistory): Html {
  const charts: Html[] = [];
  for (const { curve, title, log } of CHARTS) {
    const values = train.column(curve);
    const series: Series[] = values.some(Number.isFinite)
      ? curve === 'lr'
        ? [{ name: 'lr', x: train.step, y: values, colour: 0 }]
        : trainSeries(train, values)
      : [];
    if (curve !== 'lr' && curve !== 'grad_norm')
      [...evaluations].forEach(([split, h], i) =>
        series.push({ name: split, x: h.step, y: h.column(curve), dots: h.length <= 60, colour: 1 + i }),
      );
    if (series.length > 0) charts.push(lineChart(series, { title, xLabel: 'step', ...(log ? { log } : {}) }));
  }
  const teachers = [...train.teachers];
  if (teachers.length > 1)
    for (const term of ['cos', 'l1', 'mse'] as const) {
      const series = teachers.slice(0, 6).map(([name, own]): Series => ({ name, x: train.step, y: smoothed(own[term]) }));
      charts.push(lineChart(series, { title: `${term} by teacher`, xLabel: 'step' }));
    }
  if (charts.length === 0) return html``;
  return html`<section>
    <h2>Curves</h2>
    <div class="charts">${charts.map((c) => html`<figure>${c}</figure>`)}</div>
  </section>`;
}

function numbersSection({ train, evaluations }: RunHistory): Html {
  const rows: Html[] = [];
  const row = (name: string, h: History, at: number): void => {
    const cell = (curve: Curve): Html => html`<td>${shown(h.column(curve)[at] ?? NaN)}</td>`;
    rows.push(
      html`<tr class="main">
        <th scope="row">${name}</th>
        <td>${h.step[at]!}</td>
        ${(['loss', 'cos', 'l1', 'mse'] as const).map(cell)}
      </tr>`,
    );
    if (h.teachers.size > 1)
      for (const [teacher, own] of h.teachers)
        rows.push(
          html`<tr>
            <th scope="row" class="inner">${teacher}</th>
            <td></td>
            <td></td>
            ${(['cos', 'l1', 'mse'] as const).map((t) => html`<td>${shown(own[t][at] ?? NaN)}</td>`)}
          </tr>`,
        );
  };
  if (train.length > 0) {
    row('train, first step', train, 0);
    if (train.length > 1) row('train, last step', train, train.length - 1);
  }
  for (const [split, h] of evaluations) {
    const losses = h.column('loss');
    let best = 0;
    losses.forEach((v, i) => (best = v < losses[best]! ? i : best));
    row(`${split}, last`, h, h.length - 1);
    if (best !== h.length - 1) row(`${split}, lowest loss`, h, best);
  }
  if (rows.length === 0) return html``;
  return html`<section>
    <h2>Numbers</h2>
    <div class="scroll">
      <table class="numbers">
        <thead>
          <tr>
            <th></th>
            <th scope="col">step</th>
            <th scope="col">loss</th>
            <th scope="col">cos</th>
            <th scope="col">l1</th>
            <th scope="col">mse</th>
          </tr>
        </thead>
        <tbody>
          ${rows}
        </tbody>
      </table>
    </div>
  </section>`;
}
