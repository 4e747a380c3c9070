/**
 * Has `runtime: tensorflow` run on TensorFlow.js' CPU backend while the tests of the surrounding `describe` go on:
 * native TensorFlow is installed on few machines.
 */
export function tensorflowOnCpu(): void {
  before(() => {
    process.env.RXRAY_TENSORFLOW = 'cpu';
  });
  after(() => {
    delete process.env.RXRAY_TENSORFLOW;
  });
}
