import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import sharp from 'sharp';
import type { Browser } from 'playwright-core';
import { launchBrowser } from '../support/browser.js';
import { Lab, rxray } from '../support/lab.js';

const MODELS = fileURLToPath(new URL('../../models', import.meta.url));
const PICTURES = fileURLToPath(new URL('../../docs/images', import.meta.url));
const WANTED = process.env['RXRAY_SCREENSHOTS'] !== undefined;
const FILMS = 15;

const GRAPH = `
version: 1
name: chest-xray
sources: [{ use: watch, with: { path: ./inbox } }]
stages:
  - use: decode
  - use: clahe
  - { id: large, use: resize, with: { width: 128, height: 128 } }
  - { id: classes, use: resnet, with: { bundle: ${MODELS}/chest-resnet } }
  - { id: small, from: clahe, use: resize, with: { width: 64, height: 64 } }
  - { id: anomaly, use: anogan, with: { bundle: ${MODELS}/chest-anogan } }
  - { use: join, from: [classes, anomaly] }
sinks: [{ use: csv, with: { path: ./out.csv } }]
`;

/** Draws the pictures of the docs; puts them there on request: `RXRAY_SCREENSHOTS=1 npx mocha --exit test/page/screenshots.test.ts`. */
describe('the page, with the shipped models on films of their generator', function () {
  this.timeout(180_000);
  let lab: Lab;
  let browser: Browser;

  before(async function () {
    const found = await launchBrowser();
    if (found === undefined) {
      console.log('      no Chromium here: apt install chromium, or set CHROMIUM');
      this.skip();
    }
    browser = found;
    lab = await Lab.open(GRAPH);
    const inbox = lab.path('inbox');
    const drawn = await rxray(
      'sample',
      join(MODELS, 'chest-anogan'),
      '-n',
      String(FILMS),
      '--opacities',
      '--out',
      inbox,
    );
    expect(drawn.code, drawn.stderr).to.equal(0);
    await lab.write('inbox/scan-of-a-letter.png', 'not a film');
  });
  after(async () => {
    await (browser as Browser | undefined)?.close();
    await (lab as Lab | undefined)?.close();
  });

  it('shows its films with their pictures, and its graph', async () => {
    const home = await lab.start(['--page', '127.0.0.1:0']).said(/the page is at (http:\S+)/);
    const page = await browser.newPage({ viewport: { width: 1280, height: 800 } });
    const shoot = async (name: string): Promise<void> => {
      const picture = sharp(await page.screenshot()).png({ palette: true, quality: 90 });
      await picture.toFile(WANTED ? join(PICTURES, `${name}.png`) : lab.path(`${name}.png`));
    };
    await page.goto(home);
    await page.getByText(`${FILMS} done`).waitFor({ timeout: 120_000 });
    await page.getByLabel('Order').selectOption('suspicious');
    await page.locator('.row img').nth(6).waitFor();
    await page.waitForLoadState('networkidle', { timeout: 5000 }).catch(() => undefined);
    await shoot('page-films');
    await page.emulateMedia({ colorScheme: 'dark' });
    await page.getByRole('link', { name: 'Graph', exact: true }).click();
    await page.locator('svg .box').first().waitFor();
    await page.waitForTimeout(2000);
    await shoot('page-graph');
  });
});
