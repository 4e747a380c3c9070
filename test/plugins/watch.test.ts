import { execSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { renameSync, writeFileSync } from 'node:fs';
import {
  appendFile,
  copyFile,
  link,
  lstat,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  symlink,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'chai';
import sinon from 'sinon';
import { filter, firstValueFrom, lastValueFrom, ReplaySubject, take, timeout, toArray } from 'rxjs';
import type { Candidate, SourceInstance, SourceServices } from '../../src/core/plugin.js';
import watch from '../../src/plugins/watch.js';
import { ownerTag } from '../../src/plugins/watch/put-away.js';
import { sourceContract, testServices, type TestServices } from '../../src/testing.js';

const sha256 = (bytes: string | Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

const QUICK = { settleMs: 60, scanMs: 150 };

sourceContract('watch', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'rxray-watch-'));
  const inbox = join(folder, 'inbox');
  await mkdir(inbox);
  return {
    plugin: watch,
    with: { path: inbox, settleMs: 200, scanMs: 150 },
    refused: [{ path: inbox, onDone: 'move' }, { path: inbox, moveTo: 'x' }, { path: '' }],
    async put(name, bytes) {
      await writeFile(join(folder, 'arriving'), bytes);
      await rename(join(folder, 'arriving'), join(inbox, name));
    },
    async begin(name) {
      const path = join(inbox, name);
      await writeFile(path, '');
      return { append: (bytes) => appendFile(path, bytes), close: async () => {} };
    },
    dispose: () => rm(folder, { recursive: true, force: true }),
  };
});

describe('watch', () => {
  let folder: string;
  let services: TestServices;
  let opened: { end(): Promise<void> }[];

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'rxray-watch-'));
    await mkdir(join(folder, 'inbox'));
    opened = [];
  });
  afterEach(async () => {
    for (const source of opened) await source.end();
    services.cleanup();
    await rm(folder, { recursive: true, force: true });
  });

  const inbox = (name = ''): string => join(folder, 'inbox', name);

  /** Creates the source and listens to it; `offered` waits for a file of that name, and size if given. */
  async function open(settings: object = {}, more: Partial<SourceServices> = {}) {
    services = testServices({ baseDir: folder, ...more });
    const options = watch.options.parse({ path: 'inbox', ...QUICK, ...settings });
    const source: SourceInstance = await watch.create(options, services);
    const all = new ReplaySubject<Candidate>();
    const subscription = source.candidates$.subscribe(all);
    const end = async (): Promise<void> => {
      subscription.unsubscribe();
      await source.dispose?.();
    };
    opened.push({ end });
    const offered = (name: string, size?: number): Promise<Candidate> =>
      firstValueFrom(
        all.pipe(
          filter((file) => file.name === name && (size === undefined || file.size === size)),
          timeout(5000),
        ),
      );
    return { source, all, offered, end };
  }

  /** Everything offered in a run that ends by itself. */
  async function names(settings: object = {}): Promise<string[]> {
    const { all } = await open(settings, { once: true });
    const files = await lastValueFrom(all.pipe(timeout(5000), toArray()));
    return files.map(({ name }) => name).sort();
  }

  /** A file that nobody has touched for a minute. */
  async function putOld(name: string, text = 'x'): Promise<void> {
    await mkdir(join(inbox(name), '..'), { recursive: true });
    await writeFile(inbox(name), text);
    const then = new Date(Date.now() - 60_000);
    await utimes(inbox(name), then, then);
  }

  it('takes subfolders, and leaves dot files and half-downloaded files alone', async () => {
    for (const name of [
      'a.png',
      'ward 3/b',
      'ward 3/x/c.dcm',
      '.hidden.png',
      '.dot/d.png',
      'e.png.part',
      'F.TMP',
    ])
      await putOld(name);
    expect(await names()).to.deep.equal(['a.png', 'ward 3/b', 'ward 3/x/c.dcm']);
  });

  it('takes the files of the globs, and only the top folder without `recursive`', async () => {
    for (const name of ['a.png', 'b.JPG', 'c.dat', 'old/d.png']) await putOld(name);
    expect(await names({ include: ['**/*.{png,jpg}'], exclude: ['old/**'] })).to.deep.equal([
      'a.png',
      'b.JPG',
    ]);
    expect(await names({ recursive: false })).to.deep.equal(['a.png', 'b.JPG', 'c.dat']);
  });

  it('offers files at once that were unchanged before the start', async () => {
    await putOld('old.png');
    const { offered } = await open({ settleMs: 60_000 });
    await offered('old.png');
  });

  it('waits until a file from the future is unchanged twice', async () => {
    await putOld('future.png');
    const later = new Date(Date.now() + 3_600_000);
    await utimes(inbox('future.png'), later, later);
    expect(await names()).to.deep.equal(['future.png']);
  });

  it('with `once`, waits for a file that is still being written', async () => {
    await putOld('done.png');
    await writeFile(inbox('growing.png'), 'x');
    const { all } = await open({ settleMs: 150 }, { once: true });
    const files = lastValueFrom(all.pipe(toArray()));
    for (let i = 0; i < 10; i++) {
      await sleep(20);
      await appendFile(inbox('growing.png'), 'x');
    }
    expect((await files).map(({ name, size }) => [name, size])).to.have.deep.members([
      ['done.png', 1],
      ['growing.png', 11],
    ]);
  });

  it('offers a file anew when it is overwritten, and only then', async () => {
    const { all, offered } = await open();
    await writeFile(inbox('a.png'), 'x');
    await offered('a.png', 1);
    await writeFile(inbox('a.png'), 'xx');
    await offered('a.png', 2);
    await writeFile(inbox('b.png'), 'x');
    await offered('b.png');
    const three = await firstValueFrom(all.pipe(take(3), toArray()));
    expect(three.map(({ name }) => name)).to.deep.equal(['a.png', 'a.png', 'b.png']);
  });

  it('finds files by scanning that were not announced', async () => {
    const { source, offered } = await open();
    expect(source).to.have.property('candidates$');
    // A folder renamed in whole: only its own name is announced.
    await mkdir(join(folder, 'elsewhere'));
    await writeFile(join(folder, 'elsewhere/a.png'), 'x');
    await rename(join(folder, 'elsewhere'), inbox('ward'));
    await offered('ward/a.png');
  });

  it('takes announced files without waiting for the scan, also by polling', async () => {
    for (const polling of [false, true]) {
      const { offered, end } = await open({ scanMs: 600_000, polling });
      await writeFile(inbox(`late-${String(polling)}.png`), 'x');
      await offered(`late-${String(polling)}.png`);
      // The first may have been seen by the look that follows the start; these were announced.
      for (const name of [`later-${String(polling)}.png`, `latest-${String(polling)}.png`]) {
        await writeFile(inbox(name), 'x');
        await offered(name);
      }
      await end();
    }
  });

  it('does not offer what the journal has settled', async () => {
    await putOld('old.png');
    await putOld('new.png');
    const unsettled = async (files: readonly Candidate[]) => files.filter(({ name }) => name !== 'old.png');
    const { all } = await open({}, { once: true, unsettled });
    expect((await lastValueFrom(all.pipe(toArray()))).map(({ name }) => name)).to.deep.equal(['new.png']);
  });

  it('refuses links out of the folder and links to nowhere, each with its reason', async () => {
    await writeFile(join(folder, 'secret.png'), 'x');
    await mkdir(join(folder, 'elsewhere'));
    await symlink(join(folder, 'secret.png'), inbox('out.png'));
    await symlink(join(folder, 'elsewhere'), inbox('out-dir'));
    await symlink(inbox('missing.png'), inbox('broken.png'));
    await putOld('real.png', 'xyz');
    await symlink(inbox('real.png'), inbox('inside.png'));
    await symlink(inbox(), inbox('circle'));
    const { all } = await open({}, { once: true });
    const files = await lastValueFrom(all.pipe(toArray()));
    expect(Object.fromEntries(files.map(({ name, error }) => [name, error?.code]))).to.deep.equal({
      'out.png': 'FRAME_OUTSIDE',
      'out-dir': 'FRAME_OUTSIDE',
      'broken.png': 'FRAME_UNREADABLE',
      'real.png': undefined,
      'inside.png': undefined,
    });
    expect(files.find(({ name }) => name === 'inside.png')?.size).to.equal(3);
  });

  it('takes the files in a folder that is named like an image', async () => {
    await putOld('film.png/inner.png');
    expect(await names()).to.deep.equal(['film.png/inner.png']);
  });

  it('waits for a folder that is missing at the start, and says so', async () => {
    await rm(inbox(), { recursive: true });
    const { offered } = await open();
    expect(services.logged.join()).to.contain('does not exist yet');
    await mkdir(inbox());
    await writeFile(inbox('a.png'), 'x');
    await offered('a.png');
  });

  it('refuses a missing folder in a run that ends, and a file in place of a folder', async () => {
    const code = (settings: object, once: boolean): Promise<unknown> =>
      open(settings, { once }).then(
        () => 'created',
        (error: unknown) => (error as { code: string }).code,
      );
    expect(await code({ path: 'missing' }, true)).to.equal('CONFIG_CREATE');
    await putOld('file');
    expect(await code({ path: 'inbox/file' }, false)).to.equal('CONFIG_CREATE');
  });

  it('continues when its folder is deleted and created again', async () => {
    const { offered } = await open();
    await writeFile(inbox('a.png'), 'x');
    await offered('a.png');
    await rm(inbox(), { recursive: true });
    while (!services.logged.join().includes('the folder is gone')) await sleep(10);
    await mkdir(inbox());
    await writeFile(inbox('b.png'), 'x');
    await offered('b.png');
    while (!services.logged.join().includes('"reason":null')) await sleep(10);
    const outages = services.logged.filter((line) => line.includes('"outage"'));
    expect(outages.map((line) => (JSON.parse(line) as { reason: string | null }).reason)).to.deep.equal([
      'the folder is gone',
      null,
    ]);
  });

  it('drops a file that disappears before it is complete', async () => {
    const { all, offered, end } = await open({ settleMs: 100 });
    await writeFile(inbox('gone.png'), 'x');
    await rm(inbox('gone.png'));
    await writeFile(inbox('stays.png'), 'x');
    await offered('stays.png');
    await end();
    all.complete();
    expect((await lastValueFrom(all.pipe(toArray()))).map(({ name }) => name)).to.deep.equal(['stays.png']);
  });

  for (const [what, make] of Object.entries({
    'a folder': 'mkdir a.png',
    'a pipe': 'mkfifo a.png',
    'a link to a folder': 'mkdir b.png; ln -s b.png a.png',
  })) {
    it(`does not wait for a file that has become ${what}`, async () => {
      await putOld('old.png');
      await writeFile(inbox('a.png'), 'x');
      const { offered } = await open({ settleMs: 200, scanMs: 600_000 });
      await offered('old.png');
      execSync(`rm a.png; ${make}`, { cwd: inbox() });
      await writeFile(inbox('late.png'), 'x');
      await offered('late.png');
      const timers = sinon.spy(globalThis, 'setTimeout');
      try {
        await writeFile(inbox('later.png'), 'x');
        await offered('later.png');
        expect(timers.callCount).to.be.below(30);
      } finally {
        timers.restore();
      }
    });
  }

  it('names no file and no folder above debug', async () => {
    await putOld('Doe, Jane/a.png');
    execSync('chmod 755 .. && chmod 0 "Doe, Jane"', { cwd: inbox() });
    // Nothing is forbidden to root.
    const isRoot = process.geteuid?.() === 0;
    if (isRoot) process.seteuid?.('nobody');
    try {
      expect(await names()).to.deep.equal([]);
    } finally {
      if (isRoot) process.seteuid?.(0);
      execSync('chmod 755 "Doe, Jane"', { cwd: inbox() });
    }
    const [warned, more] = services.logged;
    expect(warned).to.contain('"warn"').and.contain('EACCES').and.not.contain('Doe');
    expect(more).to.contain('"debug"').and.contain('Doe, Jane');
    expect(services.logged[2]).to.contain('"unread"').and.contain('Doe, Jane').and.contain('EACCES');
  });

  it('reports files and folders whose names are not UTF-8', async function () {
    if (process.platform !== 'linux') this.skip();
    for (const name of ['f\xfcr.png', 'M\xfcller']) {
      const path = Buffer.concat([Buffer.from(inbox('/')), Buffer.from(name, 'latin1')]);
      if (name.endsWith('.png')) await writeFile(path, 'x');
      else await mkdir(path);
    }
    await putOld('\ufffd.png');
    expect(await names()).to.deep.equal(['\ufffd.png']);
    const unread = services.logged
      .filter((line) => line.includes('"unread"'))
      .map((line) => JSON.parse(line) as object);
    expect(unread).to.deep.include.members([
      { level: 'unread', name: 'f\ufffdr.png', reason: 'a file has a name that is not UTF-8: rename it' },
      { level: 'unread', name: 'M\ufffdller', reason: 'a folder has a name that is not UTF-8: rename it' },
    ]);
    expect(unread).to.have.lengthOf(2);
  });

  it('with `once`, gives up a file that keeps changing, and names it', async () => {
    await putOld('a.png');
    const growing = setInterval(() => void appendFile(inbox('growing'), 'x'), 10);
    await sleep(50);
    expect(await names({ giveUpAfterMs: 300 })).to.deep.equal(['a.png']);
    clearInterval(growing);
    expect(services.logged.join()).to.contain('"name":"growing","reason":"the file keeps changing"');
  });

  it('takes thousands of files that are renamed into it at once, each once, while the thread is held up', async function () {
    this.timeout(60_000);
    const count = 3000;
    await mkdir(join(folder, 'elsewhere'));
    for (let i = 0; i < count; i++) writeFileSync(join(folder, 'elsewhere', `${i}.png`), 'x');
    const { all } = await open({ settleMs: 100, scanMs: 500 });
    const offers: string[] = [];
    all.subscribe(({ name }) => void offers.push(name));
    for (let i = 0; i < count; i++) {
      renameSync(join(folder, 'elsewhere', `${i}.png`), inbox(`${i}.png`));
      if (i % 1000 === 999) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 300);
    }
    await firstValueFrom(all.pipe(take(count), toArray(), timeout(50_000)));
    expect(new Set(offers).size).to.equal(count);
    // A file of after that is offered, and nothing a second time before it.
    await writeFile(inbox('last.png'), 'x');
    await firstValueFrom(all.pipe(filter(({ name }) => name === 'last.png')));
    expect(offers).to.have.lengthOf(count + 1);
  });

  it('finds every file by scanning when the system cannot announce more, with a warning', async function () {
    this.timeout(60_000);
    // A namespace of its own has limits of its own; where that is not allowed nothing can be tried.
    const unshare = 'unshare';
    const args = ['--user', '--map-root-user', 'bash', '-c'];
    const limit = 'echo 1 > /proc/sys/user/max_inotify_watches';
    if (spawnSync(unshare, [...args, limit]).status !== 0) return this.skip();
    for (const name of ['a/1.png', 'b/2.png', 'c/3.png']) await putOld(name);
    const script = `
      const { default: watch } = await import(${JSON.stringify(import.meta.resolve('../../src/plugins/watch.js'))});
      const { testServices } = await import(${JSON.stringify(import.meta.resolve('../../src/testing.js'))});
      const services = testServices();
      const settings = watch.options.parse({ path: ${JSON.stringify(inbox())}, settleMs: 50, scanMs: 100 });
      const source = await watch.create(settings, services);
      const names = new Set();
      source.candidates$.subscribe(({ name }) => {
        names.add(name);
        if (names.size === 3) fs.writeFileSync(${JSON.stringify(inbox('c/4.png'))}, 'x');
        if (names.size < 4) return;
        services.cleanup();
        console.log(JSON.stringify({ names: [...names].sort(), logged: services.logged }));
        process.exit();
      });`;
    const { stdout, stderr } = spawnSync(
      unshare,
      [
        ...args,
        `${limit}; exec "$0" --input-type=module -e "$1"`,
        process.execPath,
        `import fs from 'node:fs'; ${script}`,
      ],
      { encoding: 'utf8', timeout: 50_000 },
    );
    const { names, logged } = JSON.parse(stdout || `"${stderr}"`) as { names: string[]; logged: string[] };
    expect(names).to.deep.equal(['a/1.png', 'b/2.png', 'c/3.png', 'c/4.png']);
    expect(logged.filter((line) => line.includes('"warn"')).join()).to.match(
      /limit on watched folders.*max_user_watches.*only found by scans, every 100 ms/,
    );
  });

  it('keeps the thread free with 30,000 files', async function () {
    this.timeout(60_000);
    execSync('seq 30000 | xargs touch', { cwd: inbox() });
    const delay = monitorEventLoopDelay({ resolution: 5 });
    const { all, offered } = await open({ scanMs: 600_000 });
    delay.enable();
    const offers = await lastValueFrom(all.pipe(take(30_000), timeout(50_000), toArray()));
    // With that many files in sight, new ones are still announced.
    await writeFile(inbox('late'), '');
    await offered('late');
    delay.disable();
    expect(new Set(offers.map(({ name }) => name)).size).to.equal(30_000);
    if (process.env.RXRAY_PRINT !== undefined) console.log(`longest block: ${String(delay.max / 1e6)} ms`);
  });

  describe('when a file is done', () => {
    const settle = async (
      settings: object,
      name: string,
      outcome: 'done' | 'failed' = 'done',
    ): Promise<void> => {
      const { source, offered } = await open(settings);
      const file = await offered(name);
      await source.settle?.(file, outcome, sha256(await readFile(file.path)));
    };
    const exists = (path: string): Promise<boolean> =>
      stat(join(folder, path)).then(
        () => true,
        () => false,
      );

    it('is offered all files of a folder while those before them are deleted', async () => {
      const films = 1200;
      for (let i = 0; i < films; i++) await putOld(`${String(i)}.png`);
      const { source, all } = await open({ onDone: 'delete' }, { once: true });
      const settling: Promise<void>[] = [];
      all.subscribe((file) => {
        const settled = sleep(5 + Math.random() * 30).then(() => source.settle?.(file, 'done', sha256('x')));
        settling.push(settled);
      });
      expect(await lastValueFrom(all.pipe(toArray()))).to.have.length(films);
      await Promise.all(settling);
      expect(await readdir(inbox())).to.deep.equal([]);
    }).timeout(60_000);

    it('keeps it by default', async () => {
      await putOld('a.png');
      await settle({}, 'a.png');
      expect(await exists('inbox/a.png')).to.equal(true);
    });

    it('deletes it, unless it has failed', async () => {
      await putOld('a.png');
      await settle({ onDone: 'delete' }, 'a.png', 'failed');
      expect(await exists('inbox/a.png')).to.equal(true);
      await settle({ onDone: 'delete' }, 'a.png');
      expect(await exists('inbox/a.png')).to.equal(false);
    });

    it('moves it with its subfolder and overwrites nothing', async () => {
      const move = { onDone: 'move', moveTo: 'archive' };
      for (const text of ['first', 'second', 'third']) {
        await putOld('ward/a.png', text);
        await settle(move, 'ward/a.png');
      }
      expect(await exists('inbox/ward/a.png')).to.equal(false);
      for (const [name, text] of [
        ['a.png', 'first'],
        ['a-1.png', 'second'],
        ['a-2.png', 'third'],
      ] as const) {
        expect(await readFile(join(folder, 'archive/ward', name), 'utf8')).to.equal(text);
      }
    });

    it('finishes a move that was cut short, without a second copy', async () => {
      const move = { onDone: 'move', moveTo: 'archive' };
      for (const put of [link, copyFile]) {
        await putOld('a.png', 'first');
        await mkdir(join(folder, 'archive'), { recursive: true });
        await put(join(folder, 'inbox/a.png'), join(folder, 'archive/a.png'));
        await settle(move, 'a.png');
        expect(await exists('inbox/a.png')).to.equal(false);
        expect(await readdir(join(folder, 'archive'))).to.deep.equal(['a.png']);
        await rm(join(folder, 'archive/a.png'));
      }
    });

    it('does not take files again from an archive inside the folder', async () => {
      await putOld('a.png');
      await settle({ onDone: 'move', moveTo: 'inbox/archive' }, 'a.png');
      expect(await exists('inbox/archive/a.png')).to.equal(true);
      expect(await names({ onDone: 'move', moveTo: 'inbox/archive' })).to.deep.equal([]);
    });

    it('refuses to move files into the watched folder, under any path', async () => {
      await symlink(inbox(), join(folder, 'way'));
      for (const moveTo of ['inbox', 'inbox/', 'way', 'inbox/../inbox']) {
        const settings = watch.options.parse({ path: 'inbox', onDone: 'move', moveTo });
        const [fault, ...more] = (await watch.lint?.(settings, { baseDir: folder, preceding: [] })) ?? [];
        expect(more).to.deep.equal([]);
        expect(fault).to.deep.include({ severity: 'error', option: ['moveTo'] });
        const refusal = await open({ onDone: 'move', moveTo }).catch((error: unknown) => error);
        expect(refusal).to.include({ code: 'CONFIG_CREATE', message: fault?.message });
      }
    });

    it('ignores an archive inside the folder, under any path', async () => {
      await putOld('archive/a.png');
      await symlink(inbox(), join(folder, 'way'));
      expect(await names({ onDone: 'move', moveTo: 'way/archive' })).to.deep.equal([]);
      expect(await names({ path: 'way', onDone: 'move', moveTo: 'inbox/archive' })).to.deep.equal([]);
    });

    it('moves to another disk, and overwrites nothing there', async function () {
      const other = await mkdtemp('/dev/shm/rxray-watch-').catch(() => undefined);
      if (other === undefined || (await stat(other)).dev === (await stat(folder)).dev) return this.skip();
      try {
        for (const text of ['first', 'second']) {
          await putOld('ward/a.png', text);
          await settle({ onDone: 'move', moveTo: other }, 'ward/a.png');
        }
        expect(await exists('inbox/ward/a.png')).to.equal(false);
        expect(await readFile(join(other, 'ward/a.png'), 'utf8')).to.equal('first');
        expect(await readFile(join(other, 'ward/a-1.png'), 'utf8')).to.equal('second');
      } finally {
        await rm(other, { recursive: true });
      }
    });

    describe('and a link', () => {
      const move = { onDone: 'move', moveTo: 'archive' };
      beforeEach(async () => {
        await putOld('films/a.png', 'pixels');
        await symlink('films/a.png', inbox('link.png'));
      });

      it('moves the target under the name of the link, and leaves the film itself in place', async () => {
        await settle(move, 'link.png');
        expect((await lstat(join(folder, 'archive/link.png'))).isFile()).to.equal(true);
        expect(await readFile(join(folder, 'archive/link.png'), 'utf8')).to.equal('pixels');
        expect(await exists('inbox/link.png')).to.equal(false);
        await settle(move, 'films/a.png');
        expect(await readFile(join(folder, 'archive/films/a.png'), 'utf8')).to.equal('pixels');
        expect(await exists('inbox/films/a.png')).to.equal(false);
      });

      it('deletes the link alone', async () => {
        await settle({ onDone: 'delete' }, 'link.png');
        expect(await exists('inbox/link.png')).to.equal(false);
        expect(await exists('inbox/films/a.png')).to.equal(true);
      });

      it('deletes a link whose film was moved before it', async () => {
        const { source, offered } = await open(move);
        const [link, film] = await Promise.all([offered('link.png'), offered('films/a.png')]);
        const hash = sha256(await readFile(film.path));
        await source.settle?.(film, 'done', hash);
        await source.settle?.(link, 'done', hash);
        expect(await lstat(inbox('link.png')).catch(() => undefined)).to.equal(undefined);
      });
    });

    it('leaves it alone when it has changed meanwhile', async () => {
      await putOld('a.png');
      const { source, offered } = await open({ onDone: 'delete' });
      const file = await offered('a.png');
      await appendFile(inbox('a.png'), 'more');
      await source.settle?.(file, 'done', sha256(await readFile(inbox('a.png'))));
      expect(await exists('inbox/a.png')).to.equal(true);
    });

    for (const settings of [{ onDone: 'delete' }, { onDone: 'move', moveTo: 'archive' }]) {
      it(`does not touch a file with other bytes, whatever else is the same (${settings.onDone})`, async () => {
        await putOld('a.png', 'first');
        const { source, offered } = await open(settings);
        const file = await offered('a.png');
        await source.settle?.(file, 'done', sha256('other'));
        expect(await readFile(inbox('a.png'), 'utf8')).to.equal('first');
        expect(await readdir(inbox())).to.deep.equal(['a.png']);
        expect(await exists('archive/a.png')).to.equal(false);
      });

      it(`destroys no film that replaces it at any moment (${settings.onDone})`, async () => {
        await mkdir(join(folder, 'archive'));
        const { source, all } = await open({ ...settings, settleMs: 0 });
        const taken = new Set<string>();
        const settled: Promise<void>[] = [];
        all.subscribe((file) => {
          // As the host does it: what is read is what is put away.
          const read = readFile(file.path).then(
            async (bytes) => {
              taken.add(String(bytes));
              await source.settle?.(file, 'done', sha256(bytes));
            },
            () => undefined,
          );
          settled.push(read);
        });
        const sent = Array.from({ length: 60 }, (_, i) => `film ${String(100 + i)}`);
        for (const text of sent) {
          await writeFile(join(folder, 'arriving'), text);
          await rename(join(folder, 'arriving'), inbox('latest.png'));
          // The next one comes while this one is being put away.
          while (!taken.has(text)) await sleep(1);
        }
        await Promise.all(settled);
        expect([...taken]).to.deep.equal(sent);
      });
    }

    it('puts a file back once after a crash during the move back', async () => {
      const own = { once: true, id: 'films', stateDir: join(folder, 'state') };
      await putOld('a.png', 'one');
      const aside = inbox(`.rxray-${ownerTag(own.stateDir, own.id)}-000000000000`);
      await mkdir(aside);
      await link(inbox('a.png'), join(aside, 'a.png'));
      const files = await lastValueFrom((await open({}, own)).all.pipe(timeout(5000), toArray()));
      expect(new Set(files.map(({ name }) => name))).to.deep.equal(new Set(['a.png']));
      expect(await readdir(inbox())).to.deep.equal(['a.png']);
    });

    it('puts files back that a crash has left aside, under their name or beside it', async () => {
      const own = { once: true, id: 'films', stateDir: join(folder, 'state') };
      const tag = ownerTag(own.stateDir, own.id);
      await putOld('ward/.rxray-01234567-000000000000/a.png', 'of another process');
      for (const [n, text] of ['one', 'two'].entries()) {
        await putOld(`.rxray-${tag}-00000000000${String(n)}/a.png`, text);
      }
      const files = await lastValueFrom((await open({}, own)).all.pipe(timeout(5000), toArray()));
      expect(files.map(({ name }) => name).sort()).to.deep.equal(['a-1.png', 'a.png']);
      expect((await readdir(inbox())).sort()).to.deep.equal(['a-1.png', 'a.png', 'ward']);
    });
  });

  it('offers a film that replaces another one of the same size and time', async () => {
    await putOld('a.bmp', 'one');
    // A whole second: of fractions, utimes keeps less than stat shows.
    const mtime = new Date(1_700_000_000_000);
    await utimes(inbox('a.bmp'), mtime, mtime);
    const { all, offered } = await open();
    await offered('a.bmp');
    await writeFile(join(folder, 'new'), 'two');
    await utimes(join(folder, 'new'), mtime, mtime);
    await rename(join(folder, 'new'), inbox('a.bmp'));
    const both = await firstValueFrom(all.pipe(take(2), toArray(), timeout(5000)));
    expect(both.map(({ size, mtimeMs }) => ({ size, mtimeMs }))[1]).to.deep.equal({
      size: 3,
      mtimeMs: +mtime,
    });
    expect(both[0]?.ino).not.to.equal(both[1]?.ino);
  });

  it('offers a file again that the host could not read as it was offered', async () => {
    await putOld('a.png');
    const { source, all, offered } = await open({ scanMs: 60_000 });
    const file = await offered('a.png');
    await rename(inbox(), join(folder, 'away'));
    source.lost?.(file);
    await sleep(50);
    await rename(join(folder, 'away'), inbox());
    source.lost?.(file);
    await firstValueFrom(all.pipe(take(2), toArray(), timeout(5000)));
  });
});
