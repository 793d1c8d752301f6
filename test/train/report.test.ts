import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { escapeHtml, html } from '../../src/analysis/html.js';
import { lineChart, shortNumber, ticks } from '../../src/analysis/chart.js';
import { decodeImage } from '../../src/data/image.js';
import { metricsLine, type MetricsRow } from '../../src/train/metrics.js';
import { readHistory, smoothed } from '../../src/train/metrics-history.js';
import { writeReport } from '../../src/train/report.js';
import type { TeacherPictures } from '../../src/train/report-pictures.js';
import { rejects, temporaryFolder } from '../data/fixtures.js';

const HOSTILE = `<script>alert(1)</script>"'><img src=http://evil.example/x onerror=alert(2)>&\u202e\u0001`;

function row(step: number, split?: string, teacher = 'resnet50'): MetricsRow {
  const terms = { cos: 1 / step, l1: 0.5 / step, mse: 2 / step };
  const name = split === undefined ? {} : { split };
  return {
    step,
    epoch: 0,
    lr: 1e-3,
    loss: 0.9 / step,
    ...terms,
    grad_norm: split === undefined ? 0.1 * step : null,
    teachers: new Map([
      [teacher, terms],
      ['other', terms],
    ]),
    images_per_s: 20,
    wall_s: step * 0.5,
    ...name,
  };
}

function run(steps: number, teacher?: string, split = 'val'): string {
  const folder = join(temporaryFolder(), 'run');
  mkdirSync(folder);
  const lines: string[] = [];
  for (let step = 1; step <= steps; step++) {
    lines.push(metricsLine(row(step, undefined, teacher)));
    if (step % 10 === 0) lines.push(metricsLine(row(step, split, teacher)));
  }
  writeFileSync(join(folder, 'metrics.jsonl'), `${lines.join('\n')}\n`);
  writeFileSync(join(folder, 'config.toml'), `seed = 0\noutput = ${JSON.stringify(HOSTILE)}\n`);
  return folder;
}

function pictures(key: string): TeacherPictures[] {
  const picture = { data: new Uint8Array(8 * 8 * 3).fill(77), width: 8, height: 8 };
  const photo = { key, cosine: 0.5, explained: -0.25, photo: picture, teacher: picture, student: picture, norms: picture };
  return [{ teacher: HOSTILE, shares: [0.5, 0.25, 0.125], norms: { low: 1, high: 2 }, photos: [photo, photo] }];
}

/** Every tag of a page, with nothing but whitespace and text between. Throws on a `<` that starts no tag. */
function tags(text: string): { name: string; close: boolean; attributes: Map<string, string> }[] {
  const body = text.replace(/<style>[^<]*<\/style>/, '').replace('<!doctype html>', '');
  const found: { name: string; close: boolean; attributes: Map<string, string> }[] = [];
  const pattern = /<(\/?)([a-z][a-z0-9]*)((?:\s+[a-zA-Z][a-zA-Z0-9-]*(?:="[^"<>]*")?)*)\s*\/?>/g;
  const rest = body.replace(pattern, (_, close: string, name: string, attributes: string) => {
    const map = new Map([...attributes.matchAll(/([a-zA-Z][a-zA-Z0-9-]*)(?:="([^"]*)")?/g)].map((m) => [m[1]!, m[2] ?? '']));
    found.push({ name, close: close !== '', attributes: map });
    return '';
  });
  assert.not.match(rest, /[<>]/);
  return found;
}

test('a page with hostile names everywhere: escaped, self-contained, well formed, with its policy', async () => {
  const folder = run(60, HOSTILE.replace(/[\u0000-\u001f]/g, ''), HOSTILE);
  const path = await writeReport(folder, {
    title: HOSTILE,
    pictures: pictures(HOSTILE),
    comparison: {
      title: HOSTILE,
      text: HOSTILE,
      rows: [
        { name: HOSTILE, cosine: 0.5, explained: 0.25, main: true },
        { name: 'other', cosine: -0.5, explained: -1 },
      ],
      verdict: { ok: true, text: HOSTILE },
    },
  });
  assert.is(path, join(folder, 'report.html'));
  const text = readFileSync(path, 'utf8');
  const found = tags(text);
  const names = new Set(found.map((t) => t.name));
  for (const bad of ['script', 'iframe', 'link', 'object', 'embed', 'form', 'base', 'a', 'use', 'image'])
    assert.not.ok(names.has(bad), bad);
  // Nothing is loaded, no handler, no inline style that a name could have closed.
  for (const { name, attributes } of found)
    for (const [key, value] of attributes) {
      assert.not.ok(/^on|^style$|^href$|^srcset$|^xlink/.test(key), `${name} ${key}`);
      if (key === 'src') assert.match(value, /^data:image\/png;base64,[A-Za-z0-9+/=]+$/);
    }
  assert.not.match(text, /url\(|@import/);
  // What stands in the text for an address is text: no bare tag survived.
  assert.not.ok(text.includes('<img src=http'));
  assert.not.ok(text.includes('\u202e') || text.includes('\u0001'));
  const policy = found.find((t) => t.attributes.get('http-equiv') === 'Content-Security-Policy');
  assert.match(policy!.attributes.get('content')!, /^default-src 'none'; img-src data:; style-src 'unsafe-inline'/);
  // The policy stands before anything that it governs.
  assert.ok(text.indexOf('Content-Security-Policy') < text.indexOf('<title>'));
  // Tags close in the order they opened.
  const open: string[] = [];
  const empty = new Set(['meta', 'img', 'br', 'line', 'rect', 'path', 'circle']);
  for (const { name, close } of found)
    if (close) assert.is(open.pop(), name);
    else if (!empty.has(name)) open.push(name);
  assert.equal(open, []);
  assert.is(found.filter((t) => t.name === 'img').length, 8);
});

test('pictures are PNG of the size that was given; every term has its chart, the table its numbers', async () => {
  const text = readFileSync(await writeReport(run(60), { pictures: pictures('p1') }), 'utf8');
  const sources = [...text.matchAll(/src="data:image\/png;base64,([^"]+)"/g)].map((m) => Buffer.from(m[1]!, 'base64'));
  for (const source of sources) {
    const { width, height, data } = await decodeImage(source);
    assert.equal([width, height, data[0]], [8, 8, 77]);
  }
  for (const title of ['Loss', 'Cosine term', 'Smooth-L1 term', 'Mean squared error', 'Learning rate', 'Gradient norm', 'cos by teacher'])
    assert.ok(text.includes(`aria-label="${title}`), title);
  assert.match(text, /60 steps · 30 s of training · 20 images\/s/);
  // The formatter of the sources sets white space between tags.
  assert.match(text.replace(/\s*(<[^>]*>)\s*/g, '$1'), /val, last<\/th><td>60<\/td><td>0\.0150<\/td>/);
  assert.match(text, /explained −0\.250/);
});

test('a run without a step, and damaged lines', async () => {
  const folder = temporaryFolder();
  writeFileSync(join(folder, 'metrics.jsonl'), '');
  assert.match(readFileSync(await writeReport(folder), 'utf8'), /No step was recorded/);
  const lines = [
    '{"step":1,"loss":0.5}',
    'nonsense',
    '[1]',
    '{"loss":3}',
    '{"step":2,"loss":"x","teachers":{"a":{"cos":0.25},"b":7}}',
    '{"step":3,"lo',
  ];
  writeFileSync(join(folder, 'metrics.jsonl'), lines.join('\n'));
  const { train, evaluations } = readHistory(join(folder, 'metrics.jsonl'));
  assert.equal(train.step, [1, 2]);
  assert.equal(train.column('loss'), [0.5, NaN]);
  assert.equal(train.teachers.get('a')!.cos, [NaN, 0.25]);
  assert.is(evaluations.size, 0);
  tags(readFileSync(await writeReport(folder), 'utf8'));
  await rejects(() => writeReport(join(folder, 'absent')), 'ERR_FILE', /metrics/);
});

test('charts: marks, numbers, gaps, constant and many values', () => {
  assert.equal(ticks(0, 10, 5), [0, 2, 4, 6, 8, 10]);
  assert.equal(ticks(3, 3, 5), [3]);
  assert.equal(ticks(0.11, 0.34, 5).map(shortNumber), ['0.15', '0.2', '0.25', '0.3']);
  assert.equal([0, 0.1 + 0.2, 1e-5, 1234567, NaN].map(shortNumber), ['0', '0.3', '1e-5', '1.23e6', 'NaN']);
  const path = (y: number[]): string =>
    /<path[^>]* d="([^"]*)"/.exec(lineChart([{ name: 'a', x: y.map((_, i) => i), y }], { title: 't', xLabel: 'x' }).text)![1]!;
  assert.is(path([1, NaN, 2, 3]).match(/M/g)!.length, 2);
  assert.not.match(path([5, 5, 5]), /NaN|Infinity/);
  const many = Array.from({ length: 50_000 }, (_, i) => (i === 31_337 ? 9 : Math.sin(i)));
  const drawn = path(many);
  assert.ok(drawn.length < 40_000, `${drawn.length} characters`);
  // The one large value is not lost in thinning.
  assert.is(Math.min(...[...drawn.matchAll(/[ML][\d.]+ ([\d.]+)/g)].map((m) => Number(m[1]))) < 60, true);
  assert.equal(smoothed([1, 2, 3]), [1.5, 2, 2.5]);
});

test('the template escapes what is no HTML', () => {
  assert.is(html`<b title="${'"<'}">${['&', html`<i>${1}</i>`]}</b>`.text, '<b title="&#34;&#60;">&#38;<i>1</i></b>');
  assert.is(escapeHtml('a\tb\nc\0`'), 'a\tb\nc\\u0000&#96;');
});

test.run();
