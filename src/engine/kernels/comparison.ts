import { ONNX_TYPE } from '../onnx.js';
import { dtypeOf } from '../tracer.js';
import { asFloat, constant } from './arithmetic.js';
import { input, kernel, type KernelDefinition } from './registry.js';

const COMPARE: Record<string, string> = {
  Equal: 'Equal',
  Greater: 'Greater',
  GreaterEqual: 'GreaterOrEqual',
  Less: 'Less',
  LessEqual: 'LessOrEqual',
  LogicalAnd: 'And',
  LogicalOr: 'Or',
};

/** Comparisons, logic, selection and type conversion. */
export const comparison: readonly KernelDefinition[] = [
  ...Object.entries(COMPARE).map(([name, onnx]) =>
    kernel(name, onnx, (call) => call.tracer.elementwise(onnx, [input(call, 'a'), input(call, 'b')], 'bool')),
  ),
  kernel('NotEqual', 'Equal, Not', (call) =>
    call.tracer.elementwise(
      'Not',
      [call.tracer.elementwise('Equal', [input(call, 'a'), input(call, 'b')], 'bool')],
      'bool',
    ),
  ),
  kernel('LogicalNot', 'Not', (call) => call.tracer.elementwise('Not', [input(call, 'x')], 'bool')),
  kernel('Select', 'Where', (call) => {
    const condition = input(call, 'condition');
    const t = input(call, 't');
    const missing = t.shape.length - condition.shape.length;
    const aligned =
      missing <= 0
        ? condition
        : call.tracer.result(
            call.graph.add('Reshape', [
              call.tracer.name(condition),
              call.graph.dimensions([...condition.shape, ...Array.from({ length: missing }, () => 1)]),
            ]),
            [...condition.shape, ...Array.from({ length: missing }, () => 1)],
            'bool',
          );
    const e = input(call, 'e');
    if (t.dtype !== 'bool') return call.tracer.elementwise('Where', [aligned, t, e], dtypeOf(t));
    // ONNX Runtime has no Where of booleans.
    const [numberT, numberE] = [asFloat(call, t), asFloat(call, e)];
    const chosen = call.tracer.elementwise('Where', [aligned, numberT, numberE], 'float32');
    return call.tracer.elementwise('Cast', [chosen], 'bool', { to: ONNX_TYPE.bool });
  }),
  kernel('Step', 'Greater, Cast (+ Mul, Add)', (call) => {
    const slope = (call.attrs['alpha'] as number | undefined) ?? 0;
    const above = call.tracer.elementwise(
      'Greater',
      [input(call, 'x'), constant(call, 0, dtypeOf(input(call, 'x')))],
      'bool',
    );
    const to = dtypeOf(input(call, 'x'));
    if (slope === 0 || to !== 'float32')
      return call.tracer.elementwise('Cast', [above], to, { to: ONNX_TYPE[to] });
    const step = call.tracer.elementwise('Cast', [above], 'float32', { to: ONNX_TYPE.float32 });
    const scaled = call.tracer.elementwise('Mul', [step, constant(call, 1 - slope)], 'float32');
    return call.tracer.elementwise('Add', [scaled, constant(call, slope)], 'float32');
  }),
  kernel('Cast', 'Cast', (call) => {
    const x = input(call, 'x');
    const to = dtypeOf(call.attrs as { dtype: string });
    if (dtypeOf(x) === to) return call.tracer.alias(call.tracer.value(x));
    return call.tracer.elementwise('Cast', [x], to, { to: ONNX_TYPE[to] });
  }),
];
