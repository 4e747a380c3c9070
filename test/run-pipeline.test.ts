import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { firstValueFrom, lastValueFrom, toArray } from 'rxjs';
import { PipelineError, runPipeline } from '../src/index.js';
import { film } from './support/films.js';

const GRAPH = `
version: 1
sources: [{ use: watch, with: { path: ./inbox, settleMs: 50, scanMs: 200 } }]
stages: [{ use: decode }]
sinks: [{ use: csv, with: { path: ./out.csv, columns: [file] } }]
`;

describe('runPipeline', () => {
  let baseDir: string;
  beforeEach(async () => {
    baseDir = await mkdtemp(join(tmpdir(), 'rxray-programmatic-'));
    await mkdir(join(baseDir, 'inbox'));
    await writeFile(join(baseDir, 'inbox', 'a.png'), await film().png().toBuffer());
    await writeFile(join(baseDir, 'inbox', 'b.png'), 'no film');
  });
  afterEach(() => rm(baseDir, { recursive: true }));

  it('emits every film as it settles, and completes', async () => {
    const films = await lastValueFrom(runPipeline(GRAPH, { baseDir, once: true }).pipe(toArray()));
    const said = films.map(({ name, outcome, frame, failure }) => [
      name,
      outcome,
      frame?.meta.format,
      failure?.component,
    ]);
    expect(said.sort()).to.deep.equal([
      ['a.png', 'done', 'png', undefined],
      ['b.png', 'failed', undefined, 'decode'],
    ]);
    expect(await readFile(join(baseDir, 'out.csv'), 'utf8')).to.contain('a.png');
  });

  it('does nothing before the subscription, and closes everything after it', async () => {
    const films$ = runPipeline(GRAPH, { baseDir });
    await firstValueFrom(films$);
    // The journal of the run that was left is free when its films have reached their sinks.
    await new Promise<void>((resolve, reject) => {
      const attempt = (left: number): void => {
        lastValueFrom(runPipeline(GRAPH, { baseDir, once: true }), { defaultValue: null }).then(
          () => {
            resolve();
          },
          (error: unknown) => {
            if (left === 0) reject(new Error('the journal is still held', { cause: error }));
            else setTimeout(attempt, 100, left - 1);
          },
        );
      };
      attempt(50);
    });
  });

  it('errors with all problems of the text', async () => {
    const faulty$ = runPipeline(GRAPH.replace('decode', 'decod'), { baseDir });
    const error = await lastValueFrom(faulty$).then(
      () => null,
      (thrown: unknown) => thrown as PipelineError,
    );
    expect(error).to.be.instanceOf(PipelineError);
    expect(error?.issues.map(({ code }) => code)).to.deep.equal(['CONFIG_UNKNOWN_PLUGIN']);
  });
});
