import { cp, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import sharp from 'sharp';
import type { Browser } from 'playwright-core';
import { launchBrowser } from '../support/browser.js';
import { Lab } from '../support/lab.js';

const MODELS = fileURLToPath(new URL('../../models', import.meta.url));
const SAMPLES = fileURLToPath(new URL('../../samples', import.meta.url));
const PICTURES = fileURLToPath(new URL('../../docs/images', import.meta.url));
const WANTED = process.env['RXRAY_SCREENSHOTS'] !== undefined;
/** As `npm start` puts them into an empty inbox. */
const FILMS = 6;

/** Draws the pictures of the docs; puts them there on request: `RXRAY_SCREENSHOTS=1 npx mocha --exit test/page/screenshots.test.ts`. */
describe('the page, with the shipped models on the films that the package brings', function () {
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
    const demo = await readFile(new URL('../../pipeline.yaml', import.meta.url), 'utf8');
    lab = await Lab.open(demo.replaceAll('./models', MODELS));
    await cp(SAMPLES, lab.path('inbox'), { recursive: true, filter: (path) => !path.endsWith('.md') });
  });
  after(async () => {
    await (browser as Browser | undefined)?.close();
    await (lab as Lab | undefined)?.close();
  });

  it('shows its films as after npm start, one of them with its evidence, and its graph', async () => {
    const home = await lab.start(['--page', '127.0.0.1:0']).said(/the page is at (http:\S+)/);
    const page = await browser.newPage({ viewport: { width: 1280, height: 800 } });
    const shoot = async (name: string): Promise<void> => {
      await page.waitForLoadState('networkidle', { timeout: 5000 }).catch(() => undefined);
      const picture = sharp(await page.screenshot()).png({ palette: true, quality: 90 });
      await picture.toFile(WANTED ? join(PICTURES, `${name}.png`) : lab.path(`${name}.png`));
    };
    await page.goto(home);
    await page.getByText(`${FILMS} done`).waitFor({ timeout: 120_000 });
    await page
      .locator('.row img')
      .nth(FILMS - 1)
      .waitFor();
    await shoot('page-films');
    await page.getByRole('link', { name: 'sample-3-opacity.jpg' }).click();
    await page.getByLabel('Overlay').selectOption('Grad-CAM of classes');
    await page.getByText('evidence for').waitFor();
    await page.getByText('being drawn…').waitFor({ state: 'detached' });
    await shoot('page-film');
    await page.emulateMedia({ colorScheme: 'dark' });
    await page.getByRole('link', { name: 'Graph', exact: true }).click();
    await page.locator('svg .box').first().waitFor();
    await shoot('page-graph');
  });
});
