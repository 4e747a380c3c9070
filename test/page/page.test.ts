import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { setTimeout } from 'node:timers/promises';
import { expect } from 'chai';
import sharp from 'sharp';
import type { Browser, Page } from 'playwright-core';
import { toyAnogan, toyClassifier } from '../support/bundles.js';
import { launchBrowser } from '../support/browser.js';
import { film } from '../support/films.js';
import { Lab, rxray } from '../support/lab.js';

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

const GRAPH = `
version: 1
name: ward
sources:
  - use: watch
    with: { path: ./inbox, settleMs: 100, scanMs: 500 }
stages:
  - use: decode
    with: { maxPixels: 20000 }
  - id: small
    use: resize
    with: { width: 32, height: 32 }
  - id: classes
    use: resnet
    with: { bundle: ./classifier }
  - id: trial
    use: resnet
    shadow: true
    with: { bundle: ./classifier }
  - id: anogan_size
    from: decode
    use: resize
    with: { width: 64, height: 64 }
  - id: anomaly
    use: anogan
    with: { bundle: ./anogan }
  - use: join
    from: [classes, trial, anomaly]
sinks:
  - use: csv
    with: { path: ./out.csv, columns: [file] }
`;

/** What axe says of a page, as far as it is looked at. */
interface Found {
  readonly violations: readonly { id: string; impact: string; nodes: { html: string }[] }[];
}

/** The canvas' samples, RGBA. */
const PIXELS = `[...document.querySelector('canvas').getContext('2d')
  .getImageData(0, 0, document.querySelector('canvas').width, document.querySelector('canvas').height).data]`;

const IN_COLOUR = `${PIXELS}.some((value, i, all) => i % 4 === 0 && value !== all[i + 2])`;

/** One browser, one process: they take longer to start than everything that is asked of them. */
describe('the page', function () {
  this.timeout(120_000);
  let lab: Lab;
  let browser: Browser;
  let page: Page;
  let home: string;
  /** Whatever it asked of others, and complained about. */
  const foreign: string[] = [];
  const complaints: string[] = [];

  before(async function () {
    const found = await launchBrowser();
    if (found === undefined) {
      console.log('      no Chromium here: apt install chromium, or set CHROMIUM');
      this.skip();
    }
    browser = found;
    lab = await Lab.open(GRAPH);
    await toyClassifier(lab.path('classifier'));
    await toyAnogan(lab.path('anogan'));
    const running = lab.start(['--page', '127.0.0.1:0', '--watch-config']);
    home = await running.said(/the page is at (http:\S+)/);
    page = await browser.newPage({ viewport: { width: 1280, height: 800 } });
    page.on('request', (request) => {
      const url = request.url();
      if (!url.startsWith(home) && !url.startsWith('data:') && !url.startsWith('blob:')) foreign.push(url);
    });
    page.on('console', (message) => {
      if (message.type() === 'error') complaints.push(message.text());
    });
    page.on('pageerror', (error) => void complaints.push(error.message));
    await page.goto(home);
  });
  after(async () => {
    await (browser as Browser | undefined)?.close();
    await (lab as Lab | undefined)?.close();
  });

  /** Waits until an expression is true in the page. */
  async function until(expression: string): Promise<void> {
    while (!(await page.evaluate(`Boolean(${expression})`))) await setTimeout(50);
  }

  /** What axe finds, without the slight. */
  async function faults(): Promise<string[]> {
    // Evaluated by the browser's debugger: the page itself may not run what it has not brought along.
    await page.evaluate(AXE);
    const { violations } = await page.evaluate<Found>('axe.run(document, { resultTypes: ["violations"] })');
    return violations
      .filter(({ impact }) => impact === 'serious' || impact === 'critical')
      .map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(' ')}`);
  }

  it('says that there are no films yet, and what it is not', async () => {
    await page.getByText('drop one into the watched folder ./inbox').waitFor();
    await page.getByText('Not a medical device').waitFor();
  });

  it('shows a new film, with the results of the models', async () => {
    await lab.write('inbox/first.png', await film().png().toBuffer());
    const row = page.getByRole('row').filter({ hasText: 'first.png' });
    await row.getByRole('meter').first().waitFor();
    await row.locator('img').waitFor();
    expect(await row.getByRole('meter').count()).to.be.greaterThan(1);
    expect(await row.locator('.percentile').count(), 'a percentile, or its score').to.be.lessThan(2);
  });

  it('shows why a film failed', async () => {
    await lab.write('inbox/bad.png', 'not a film');
    const row = page.getByRole('row').filter({ hasText: 'bad.png' });
    await row
      .getByText(/expected/i)
      .or(row.locator('.verdict.bad'))
      .first()
      .waitFor();
    await row.getByRole('link').click();
    await page.getByText('FRAME_NOT_AN_IMAGE').first().waitFor();
    await page.getByRole('link', { name: 'all films' }).click();
  });

  it('filters and searches', async () => {
    await page.getByLabel('Show').selectOption('failed');
    await page.getByRole('link', { name: 'first.png' }).waitFor({ state: 'detached' });
    await page.getByRole('link', { name: 'bad.png' }).waitFor();
    await page.getByLabel('Show').selectOption('all');
    await page.getByLabel('Search').fill('first');
    await page.getByRole('link', { name: 'bad.png' }).waitFor({ state: 'detached' });
    await page.getByLabel('Search').fill('no such film');
    await page.getByText('No films match.').waitFor();
    await page.getByLabel('Search').fill('');
    await page.getByRole('link', { name: 'first.png' }).waitFor();
  });

  it('shows a film: window by keys, overlays, every stage, JSON; with no name in the address', async () => {
    await page.getByRole('link', { name: 'first.png' }).click();
    const canvas = page.locator('canvas');
    await until('document.querySelector("canvas")?.width === 96');
    const SUM = `${PIXELS}.reduce((total, value) => total + value, 0)`;
    const before = await page.evaluate<number>(SUM);
    await canvas.focus();
    await canvas.press('ArrowUp');
    // A higher level is darker.
    await until(`${SUM} < ${before}`);
    await page.getByRole('button', { name: 'Reset' }).click();
    await until(`${SUM} === ${before}`);
    for (const overlay of ['Grad-CAM of classes', 'residual of anomaly']) {
      await page.getByLabel('Overlay').selectOption('none');
      await until(`!${IN_COLOUR}`);
      await page.getByLabel('Overlay').selectOption(overlay);
      await until(IN_COLOUR);
    }
    await page.getByRole('img', { name: 'The film after small' }).scrollIntoViewIfNeeded();
    await until('document.querySelector("[alt=\'The film after small\']").naturalWidth === 32');
    await page.getByText('Everything, as JSON').click();
    await page.getByText('"sha256"').waitFor();
    expect(page.url()).to.match(/#films\/[0-9a-f]{32}$/);
  });

  it('shows another stage beside the film: both zoom and move together, and go into one PNG each', async () => {
    await page.getByRole('button', { name: 'Show small beside' }).click();
    await until('document.querySelectorAll("canvas").length === 2');
    expect(page.url()).to.match(/\?beside=[0-9a-f]{32}&besideStage=small$/);
    const SCENES = '[...document.querySelectorAll(".scene")].map((scene) => scene.style.transform)';
    await page.locator('canvas').first().focus();
    await page.keyboard.press('+');
    await page.keyboard.press('Shift+ArrowRight');
    const [first, second] = await page.evaluate<string[]>(SCENES);
    expect(first).to.equal(second).and.contain('scale(1.25)');
    const download = page.waitForEvent('download');
    await page.getByRole('button', { name: 'PNG' }).first().click();
    const saved = await sharp(await (await download).path()).metadata();
    expect([saved.format, saved.width]).to.deep.equal(['png', 1024]);
    await page.getByRole('button', { name: 'Reset' }).click();
    await page.getByRole('button', { name: 'Close' }).click();
    await until('document.querySelectorAll("canvas").length === 1');
    await page.getByLabel('Overlay').selectOption('residual of anomaly');
    await page.getByLabel('Outline').check();
    await page.locator('.scene path').waitFor({ state: 'attached' });
    expect(await page.evaluate(IN_COLOUR)).to.equal(false);
  });

  it('zooms and moves both pictures by two fingers on one', async () => {
    await page.getByRole('button', { name: 'Show small beside' }).click();
    await until('document.querySelectorAll("canvas").length === 2');
    const lens = page.locator('.lens').first();
    await lens.scrollIntoViewIfNeeded();
    const { x, y, width, height } = (await lens.boundingBox()) ?? expect.fail('no picture');
    const touch = await page.context().newCDPSession(page);
    /** Places of the fingers across the picture, as shares of it. */
    const fingers = (type: 'touchStart' | 'touchMove' | 'touchEnd', ...across: number[]): Promise<unknown> =>
      touch.send('Input.dispatchTouchEvent', {
        type,
        touchPoints: across.map((share, id) => ({ id, x: x + share * width, y: y + height / 2 })),
      });
    await fingers('touchStart', 0.4, 0.6);
    await fingers('touchMove', 0.3, 0.7);
    await fingers('touchMove', 0.2, 0.6);
    await fingers('touchEnd');
    const SCENES = '[...document.querySelectorAll(".scene")].map((scene) => scene.style.transform)';
    const [first = '', second] = await page.evaluate<string[]>(SCENES);
    expect(second).to.equal(first);
    // Twice as far apart, then a tenth of the picture to the left.
    const [across, down, scale] = [...first.matchAll(/-?[\d.]+(?:e-\d+)?/g)].map(Number);
    expect(scale).to.be.closeTo(2, 0.02);
    expect(across).to.be.closeTo(-10, 0.5);
    expect(down).to.be.closeTo(0, 0.5);
    await touch.detach();
    await page.getByRole('button', { name: 'Reset' }).click();
    await page.getByRole('button', { name: 'Close' }).click();
    await until('document.querySelectorAll("canvas").length === 1');
  });

  it('takes a review by keys, records the reviewer and the time, and exports it as a manifest', async () => {
    await page.locator('h2').click();
    await page.keyboard.press('w');
    await page.getByRole('group', { name: 'Correct class' }).waitFor();
    await page.keyboard.press('1');
    await page.getByText(/^wrong: \w+, by \w+/).waitFor();
    const manifest = lab.path('reviews.csv');
    const { code, stdout, stderr } = await rxray(
      'reviews',
      'export',
      lab.path('pipeline.yaml'),
      '--out',
      manifest,
    );
    expect(code, stderr).to.equal(0);
    expect(stdout).to.contain('1 film');
    expect(await readFile(manifest, 'utf8')).to.match(/^path,class,by,at\n.*first\.png,\w+,\w+,/);
  });

  it('goes from film to film by keys, and back to the list as it was', async () => {
    await page.getByRole('link', { name: 'Films', exact: true }).click();
    await page.getByLabel('Order').selectOption('file');
    expect(page.url()).to.match(/#films\?sort=file$/);
    await page.getByRole('link', { name: 'bad.png' }).click();
    await page.getByRole('heading', { name: 'bad.png' }).waitFor();
    await page.keyboard.press('j');
    await page.getByRole('heading', { name: 'first.png' }).waitFor();
    await page.keyboard.press('Escape');
    await page.getByRole('link', { name: 'first.png' }).waitFor();
    expect(page.url()).to.match(/#films\?sort=file&at=1$/);
    await page.getByText('wrong:').waitFor();
    await page.getByRole('button', { name: 'Time' }).click();
    expect(page.url()).to.match(/#films$/);
  });

  it('shows how many films settled in the last hour, from the journal', async () => {
    await page.getByRole('link', { name: 'Graph', exact: true }).click();
    await page.getByLabel('Films in the last').selectOption('hour');
    await page.getByText(/^1 done, \d of them suspicious \(\d+ %\), 1 failed, 0 skipped\.$/).waitFor();
  });

  it('shows the graph as it runs, and the models with their cards', async () => {
    await page.getByRole('link', { name: 'Graph', exact: true }).click();
    const table = page.getByRole('table');
    await table.getByRole('row', { name: /^anomaly anogan/ }).waitFor();
    expect(await page.locator('svg .box').count()).to.equal(9);
    expect(
      await table
        .getByRole('row', { name: /^decode/ })
        .getByRole('cell')
        .last()
        .textContent(),
    ).to.equal('1');
    await page.getByRole('link', { name: 'Models' }).click();
    await page.getByText('Model card').first().click();
    await page.getByText('toy').first().waitFor();
    await page
      .getByRole('region', { name: 'Shadow stage trial' })
      .getByText(/^\d+ % \(\d+ %–\d+ %\)$/)
      .first()
      .waitFor();
    await page
      .getByText(/Too few films/)
      .first()
      .waitFor();
  });

  for (const colorScheme of ['light', 'dark'] as const) {
    it(`has no serious fault of accessibility (${colorScheme})`, async () => {
      await page.emulateMedia({ colorScheme });
      const found: string[] = [];
      for (const view of ['Films', 'Graph', 'Models']) {
        await page.getByRole('link', { name: view, exact: true }).click();
        found.push(...(await faults()));
      }
      await page.getByRole('link', { name: 'Films', exact: true }).click();
      await page.getByRole('link', { name: 'first.png' }).click();
      await until('document.querySelector("canvas")?.width === 96');
      found.push(...(await faults()));
      expect(found).to.deep.equal([]);
    });
  }

  it('fits a phone', async () => {
    await page.setViewportSize({ width: 390, height: 800 });
    await page.getByRole('link', { name: 'Films', exact: true }).click();
    await page.getByRole('link', { name: 'first.png' }).waitFor();
    expect(await page.evaluate('document.documentElement.scrollWidth')).to.be.at.most(390);
    await page.setViewportSize({ width: 1280, height: 800 });
  });

  it('shows the new graph when the pipeline file has changed, and replays what the old one refused', async () => {
    await page.getByRole('link', { name: 'Films', exact: true }).click();
    await lab.write('inbox/large.png', await film(200, 200).png().toBuffer());
    const row = page.getByRole('row').filter({ hasText: 'large.png' });
    await row.locator('.verdict.bad').waitFor();

    await page.getByRole('link', { name: 'Graph', exact: true }).click();
    await page.getByRole('table').getByRole('row', { name: /^csv/ }).waitFor();
    await lab.write('pipeline.yaml', `${GRAPH.replace('20000', '50000')}  - id: screen\n    use: console\n`);
    await page
      .getByRole('table')
      .getByRole('row', { name: /^screen console/ })
      .waitFor();
    expect(await page.locator('svg .box').count()).to.equal(10);

    await page.getByRole('link', { name: 'Films', exact: true }).click();
    await row.getByRole('link').click();
    await page.getByText('FRAME_TOO_LARGE').first().waitFor();
    await page.getByRole('link', { name: '2 failed' }).waitFor();
    await page.getByRole('button', { name: 'Replay' }).click();
    await page.getByText('Sent again').waitFor();
    await page.getByRole('link', { name: 'all films' }).click();
    await row.getByRole('meter').first().waitFor();
    await page.getByRole('link', { name: '1 failed' }).waitFor();
  });

  it('counts a failed film once, and no more when it is discarded', async () => {
    await page.getByRole('link', { name: '1 failed' }).click();
    const row = page.getByRole('row').filter({ hasText: 'bad.png' });
    await row.getByRole('button', { name: 'Replay' }).click();
    await row.getByText('Sent again').waitFor();
    // It fails again: one film all the same.
    await row.getByRole('button', { name: 'Replay' }).waitFor();
    await page.getByRole('link', { name: '1 failed' }).waitFor();
    await row.getByRole('link').click();
    await page.getByRole('button', { name: 'Discard' }).click();
    await page.getByRole('button', { name: 'Discarded' }).waitFor();
    await page.getByRole('link', { name: /\d failed/ }).waitFor({ state: 'detached' });
    await page.getByRole('link', { name: 'all films' }).click();
    await page.getByText('No films match.').waitFor();
    await page.getByLabel('Show').selectOption('all');
    await row.getByText('discarded: ').waitFor();
    expect(await row.getByRole('button').count()).to.equal(0);
    expect([...(await lab.letters()).keys()]).to.deep.equal([]);
    expect((await readFile(lab.path('inbox/bad.png'))).toString()).to.equal('not a film');
  });

  it('requests nothing from other servers, and logs no errors', () => {
    expect(foreign).to.deep.equal([]);
    // The stages that a film does not come by are asked for, and refused.
    expect(complaints.filter((text) => !text.includes('404'))).to.deep.equal([]);
  });
});

describe('the page, with 10,000 films', function () {
  this.timeout(120_000);
  const FILMS = 10_000;
  let lab: Lab;
  let browser: Browser;
  let home: string;

  before(async function () {
    const found = await launchBrowser();
    if (found === undefined) this.skip();
    browser = found;
    const films = Array.from({ length: FILMS }, (_, i) => {
      const at = new Date(1.8e12 + i * 1000).toISOString();
      return JSON.stringify({
        id: i.toString(16).padStart(32, '0'),
        source: 'watch',
        file: `film-${i}.png`,
        outcome: 'failed',
        receivedAt: at,
        settledAt: at,
        meta: {},
        results: {},
        failure: { code: 'FRAME_DAMAGED', stage: 'decode', message: 'it is truncated' },
        suspicion: null,
        path: '/nowhere',
        size: 1,
        mtimeMs: 1,
        sha256: '',
        graph: '',
        timings: [],
        images: [],
      });
    });
    lab = await Lab.open(
      'version: 1\nsources: [{ use: watch, with: { path: ./inbox } }]\nsinks: [{ use: console }]\n',
      { '.rxray/worklist.jsonl': `${films.join('\n')}\n` },
    );
    home = await lab.start(['--page', '127.0.0.1:0']).said(/the page is at (http:\S+)/);
  });
  after(async () => {
    await (browser as Browser | undefined)?.close();
    await (lab as Lab | undefined)?.close();
  });

  it('shows no number of films before it has read the list; the header counts since the start', async () => {
    const page = await browser.newPage();
    await page.addInitScript(`
      window.shown = new Set();
      new MutationObserver(() => {
        for (const { textContent } of document.querySelectorAll('h2, .empty, .fresh')) window.shown.add(textContent);
      }).observe(document, { subtree: true, childList: true, characterData: true });
    `);
    await page.goto(home);
    await page.getByText('film-9999.png').waitFor();
    expect(await page.evaluate('[...window.shown]')).to.deep.equal(['Films ', 'Films 10,000']);
    await page.getByText('0 done since the start').waitFor();
    await page.close();
  });

  it('scrolls from the newest to the oldest with only the visible rows in the document', async () => {
    const page = await browser.newPage({ viewport: { width: 1280, height: 800 } });
    await page.goto(home);
    await page.getByText('film-9999.png').waitFor();
    expect(await page.getByRole('table').getAttribute('aria-rowcount')).to.equal(String(FILMS + 1));
    const rows = page.getByRole('row');
    const scrollTo = (share: number): Promise<unknown> =>
      page.evaluate(
        `{ const list = document.querySelector('.scroller'); list.scrollTop = list.scrollHeight * ${share}; }`,
      );
    for (const share of [0.3, 0.6, 0.9]) {
      await scrollTo(share);
      await page.getByText(`film-${FILMS - 1 - Math.round(share * FILMS)}.png`).waitFor();
      expect(await rows.count()).to.be.lessThan(60);
    }
    await scrollTo(1);
    await page.getByRole('link', { name: 'film-0.png' }).waitFor();
    await page.getByRole('link', { name: 'film-1.png' }).focus();
    await page.keyboard.press('ArrowDown');
    expect(await page.evaluate('document.activeElement.textContent')).to.equal('film-0.png');
  });
});
