import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect } from 'chai';
import { live } from './life.js';
import { buildProgram, type Program } from './program.js';
import { Ward } from './trial.js';

const execute = promisify(execFile);
const works = (command: string, ...args: string[]): Promise<boolean> =>
  execute(command, args).then(
    () => true,
    () => false,
  );

describe('a pipeline on a machine in trouble', function () {
  this.timeout(300_000);
  let program: Program;
  const ENDS: unknown[] = [0, 1, 3];

  before(async () => {
    program = await buildProgram();
  });
  after(() => program.remove());

  /** Lets the program work in peace, and accounts for every film. */
  async function settle(ward: Ward): Promise<void> {
    const { lost, double } = await ward.finish(program.main);
    expect([...lost, ...double]).to.deep.equal([]);
  }

  it('loses nothing on a full disk, and goes on when there is room again', async function () {
    const disk = await mkdtemp(join(tmpdir(), 'rxray-small-disk-'));
    if (!(await works('mount', '-t', 'tmpfs', '-o', 'size=12m', 'tmpfs', disk))) {
      await rm(disk, { recursive: true });
      this.test!.title += ' (skipped: nobody may mount a small disk here)';
      this.skip();
    }
    try {
      const ward = await Ward.open(0, 60, { parent: disk, limits: { minFreeBytes: 0 } });
      await ward.drop(60);
      const ballast = join(disk, 'ballast');
      await writeFile(ballast, Buffer.alloc(16 << 20)).catch(() => undefined);
      const life = await live(program.main, ward.folder, undefined);
      expect(ENDS, life.stderr).to.include(life.code);
      expect(life.settled.size).to.be.lessThan(60);
      await rm(ballast);
      await settle(ward);
      await ward.close();
    } finally {
      await execute('umount', ['-l', disk]);
      await rm(disk, { recursive: true });
    }
  });

  it('loses nothing when it may open only a few files', async function () {
    if (!(await works('prlimit', '--nofile=64', 'true'))) {
      this.test!.title += ' (skipped: no prlimit)';
      this.skip();
    }
    const ward = await Ward.open(0, 60);
    await ward.drop(60);
    const life = await live(program.main, ward.folder, undefined, { under: ['prlimit', '--nofile=40'] });
    expect(ENDS, life.stderr).to.include(life.code);
    await settle(ward);
    await ward.close();
  });

  it('takes new films on a system without inotify', async function () {
    const within = ['unshare', '-Ur', 'sh', '-c'];
    const none = 'echo 0 > /proc/sys/user/max_inotify_instances';
    if (!(await works(within[0]!, ...within.slice(1), none))) {
      this.test!.title += ' (skipped: no user namespaces)';
      this.skip();
    }
    const ward = await Ward.open(0, 60);
    await ward.drop(30);
    const running = live(
      program.main,
      ward.folder,
      { films: 60, afterMs: 0, signal: 'SIGINT' },
      { under: [...within, `${none}; exec "$0" "$@"`] },
    );
    await ward.drop(60);
    const life = await running;
    expect(life.code, life.stderr).to.be.oneOf([0, 1]);
    expect(life.settled.size).to.equal(60);
    await settle(ward);
    await ward.close();
  });

  it('is not affected by a clock that is set back', async () => {
    const ward = await Ward.open(0, 80);
    await ward.drop(80);
    const clock = new URL('./clock.mjs', import.meta.url).href;
    const first = await live(program.main, ward.folder, { films: 40, afterMs: 0 }, { preload: [clock] });
    expect(first.code).to.equal(null);
    const second = await live(program.main, ward.folder, undefined, { preload: [clock] });
    expect(second.code, second.stderr).to.equal(1);
    await settle(ward);
    await ward.close();
  });

  it('loses nothing when the disk fails to sync now and then', async function () {
    if (!(await works('strace', '-f', 'true'))) {
      this.test!.title += ' (skipped: no strace)';
      this.skip();
    }
    const ward = await Ward.open(0, 60);
    await ward.drop(60);
    const life = await live(program.main, ward.folder, undefined, {
      under: [
        ...['strace', '-f', '--seccomp-bpf', '-qq', '-o', '/dev/null', '-e', 'trace=fdatasync,fsync'],
        ...['-e', 'inject=fdatasync,fsync:error=EIO:when=12+9'],
      ],
    });
    expect(ENDS, life.stderr).to.include(life.code);
    await settle(ward);
    await ward.close();
  });
});
