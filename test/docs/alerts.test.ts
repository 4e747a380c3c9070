import { readFile } from 'node:fs/promises';
import { expect } from 'chai';
import { parse } from 'yaml';
import webhook from '../../src/sinks/webhook.js';
import { makeFrame, testServices } from '../../src/testing.js';
import { Receiver } from '../sinks/receiver.js';

interface Recipe {
  readonly id: string;
  readonly with: { readonly url: string; readonly fields: Record<string, string> };
}

/** The recipes as they stand in the docs, sent to a web server of our own. */
describe('the alerts of the docs', () => {
  let receiver: Receiver;
  before(async () => (receiver = await Receiver.listen()));
  after(() => receiver.close());

  async function sent(id: string): Promise<Record<string, unknown>> {
    receiver.requests.length = 0;
    const blocks = (await readFile('docs/alerts.md', 'utf8')).match(/(?<=```yaml\n)sinks:[^`]+/g) ?? [];
    const recipes = blocks.flatMap((block) => (parse(block) as { sinks: Recipe[] }).sinks);
    const recipe = recipes.find((each) => each.id === id) ?? expect.fail(`no recipe ${id}`);
    const services = testServices();
    const sink = await webhook.create(webhook.options.parse({ ...recipe.with, url: receiver.url }), services);
    const results = {
      classes: { kind: 'judgement', abnormal: true, suspicion: 0.97, score: 0.9, threshold: 0.4 },
    };
    await sink.write([makeFrame({ name: 'Mustermann.png', results })]);
    await sink.dispose?.();
    services.cleanup();
    expect(receiver.requests).to.have.length(1);
    return JSON.parse(receiver.requests[0]?.body ?? '') as Record<string, unknown>;
  }

  it('give Slack a text', async () => {
    const { text: message, id } = await sent('slack');
    expect(message).to.equal(
      `Suspicious film ${String(id)}: suspicion 0.97 (classes). Not a medical device.`,
    );
  });

  it('give Teams an adaptive card', async () => {
    const { type, attachments } = await sent('teams');
    expect(type).to.equal('message');
    const [{ contentType, content }] = attachments as [
      { contentType: string; content: { type: string; body: [{ type: string; text: string }] } },
    ];
    expect(contentType).to.equal('application/vnd.microsoft.card.adaptive');
    expect(content.type).to.equal('AdaptiveCard');
    expect(content.body[0].text).to.match(/^Suspicious film [0-9a-f]{32}: suspicion 0\.97 \(classes\)/);
  });

  it('never send the name of a file', async () => {
    for (const id of ['slack', 'teams']) expect(JSON.stringify(await sent(id))).to.not.contain('Mustermann');
  });
});
