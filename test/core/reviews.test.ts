import { appendFile, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { parse } from 'csv-parse/sync';
import { manifestOf } from '../../src/cli/reviews.js';
import { Reviews, type Review } from '../../src/core/reviews.js';

const review = (id: string, answer: Review['answer'], label: string | null = null): Review => ({
  ...{ id, file: `${id}.png`, path: `/films/${id}.png`, sha256: '00', answer, class: label },
  ...{ by: 'ada', at: '2026-01-01T08:00:00.000Z' },
});

describe('Reviews', () => {
  let dir: string;
  beforeEach(async () => (dir = await mkdtemp(join(tmpdir(), 'rxray-reviews-'))));
  afterEach(() => rm(dir, { recursive: true }));

  it('keeps every decision, and the last about a film counts', async () => {
    const reviews = new Reviews(dir);
    await Promise.all([reviews.add(review('a', 'right', 'normal')), reviews.add(review('b', 'unusable'))]);
    await reviews.add(review('a', 'wrong', 'viral'));
    for (const each of [reviews, new Reviews(dir)]) {
      const latest = await each.latest();
      expect([...latest.keys()].sort()).to.deep.equal(['a', 'b']);
      expect(latest.get('a')).to.deep.include({ answer: 'wrong', class: 'viral', by: 'ada' });
    }
    const lines = (await readFile(join(dir, 'reviews.jsonl'), 'utf8')).trimEnd().split('\n');
    expect(lines).to.have.length(3);
  });

  it('loses nothing by a line that a crash has left incomplete', async () => {
    await new Reviews(dir).add(review('a', 'reviewed'));
    await appendFile(join(dir, 'reviews.jsonl'), '{"id":"torn');
    await new Reviews(dir).add(review('b', 'reviewed'));
    expect([...(await new Reviews(dir).latest()).keys()]).to.deep.equal(['a', 'b']);
  });

  it('are exported as a manifest: films with a class, by paths relative to it', () => {
    const all = [review('a', 'right', 'normal'), review('b', 'unusable', 'viral'), review('c', 'reviewed')];
    const { text, films } = manifestOf(all, '/films/lists/reviews.csv');
    expect(films).to.equal(1);
    expect(parse(text, { columns: true })).to.deep.equal([
      { path: '../a.png', class: 'normal', by: 'ada', at: '2026-01-01T08:00:00.000Z' },
    ]);
  });
});
