import { expect } from 'chai';
import { Command, CommanderError } from 'commander';
import { train } from '../../src/cli/train.js';

describe('the options of rxray train', () => {
  /** What is said about them; nothing is trained, since there are no films. */
  async function refusal(...args: string[]): Promise<string> {
    const program = new Command().exitOverride().configureOutput({ writeErr: () => undefined });
    train(program);
    try {
      await program.parseAsync(['train', ...args, '--data', '/nowhere', '--out', '/nowhere'], {
        from: 'user',
      });
    } catch (error) {
      if (error instanceof CommanderError) return error.message;
      throw error;
    }
    return expect.fail(`${args.join(' ')} was accepted`);
  }

  it('takes the optimizers that there are', async () => {
    expect(await refusal('resnet', '--optimizer', 'rmsprop')).to.contain('Allowed choices are sgd, adam');
  });

  for (const [model, option, value] of [
    ['resnet', '--validation', '7'],
    ['resnet', '--label-smoothing', '2'],
    ['anogan', '--lambda', '3'],
    ['anogan', '--lambda', '-1'],
    ['anogan', '--validation', 'half'],
  ] as const) {
    it(`refuses ${option} ${value}, which is no share`, async () => {
      expect(await refusal(model, option, value))
        .to.contain(`'${value}'`)
        .and.contain('from 0 to 1');
    });
  }
});
