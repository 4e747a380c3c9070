// Loaded into the program under test with `--import`, on its main thread and in every worker thread: says
// on file descriptor 3 what the program does, and kills it at the step that it is told to die at. It knows
// the program only by the channel of its durable steps and by the files that it opens.
import { subscribe } from 'node:diagnostics_channel';
import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';

const { CHAOS_INBOX: inbox, CHAOS_DIE_AT: dieAt = '' } = process.env;
const [deadlyStep, deadlyTime = ''] = dieAt.split('#');
const reported = new Set();
let times = 0;

const say = (line) => fs.writeSync(3, `${line}\n`);

subscribe('rxray:durable', ({ step, phase }) => {
  const moment = `${step} ${phase}`;
  if (!reported.has(moment)) {
    reported.add(moment);
    say(`step ${moment}`);
  }
  if (moment === deadlyStep && ++times === Number(deadlyTime)) {
    say(`dies ${moment}`);
    process.kill(process.pid, 'SIGKILL');
  }
});

const { openSync } = fs;
fs.openSync = (path, ...rest) => {
  if (typeof path === 'string' && path.startsWith(inbox)) say(`reads ${path.slice(inbox.length)}`);
  return openSync(path, ...rest);
};
syncBuiltinESMExports();
