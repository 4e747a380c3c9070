import { useSignal } from '@preact/signals';
import { micromark } from 'micromark';
import { gfm, gfmHtml } from 'micromark-extension-gfm';
import { useEffect } from 'preact/hooks';
import * as api from './api.js';
import { Chart } from './chart.js';
import { Shadows } from './shadow.js';
import { status } from './state.js';

const LEVELS: Readonly<Record<api.Drift['level'], string>> = {
  'too few films': 'Too few films to compare.',
  stable: 'The films are similar to those that the model was evaluated on.',
  moderate: 'The films differ slightly from those that the model was evaluated on.',
  shifted: 'The films differ from those that the model was evaluated on: its figures may not apply.',
};

/** The model cards, and whether recent films differ from those that the models were evaluated on. */
export function ModelsView() {
  const models = useSignal<readonly api.ShownModel[]>([]);
  const drifts = useSignal<readonly api.Drift[]>([]);
  const fault = useSignal('');
  const graph = status.value?.graph;
  useEffect(() => {
    Promise.all([api.models(), api.drift()]).then(
      ([cards, drift]) => {
        models.value = cards;
        drifts.value = drift;
      },
      (error: unknown) => {
        fault.value = error instanceof Error ? error.message : String(error);
      },
    );
  }, [graph]);
  return (
    <article class="models">
      <h2>Models</h2>
      <p role="alert">{fault}</p>
      {models.value.map((model) => (
        <section key={model.stage} class="panel">
          <h3>
            {model.stage} <small>{model.bundle.name}</small>
          </h3>
          {model.bundle.kind !== 'segmenter' && model.bundle.kind !== 'detector' && (
            <p>{model.calibration}</p>
          )}
          {drifts.value
            .filter(({ stage }) => stage === model.stage)
            .map((drift) => (
              <DriftPanel key={drift.of} drift={drift} />
            ))}
          <details>
            <summary>Model card</summary>
            {/* HTML in a card is shown as text: micromark escapes it. */}
            <div
              class="card"
              dangerouslySetInnerHTML={{
                __html: micromark(model.card, { extensions: [gfm()], htmlExtensions: [gfmHtml()] }),
              }}
            />
          </details>
        </section>
      ))}
      <Shadows />
    </article>
  );
}

function DriftPanel({ drift }: { readonly drift: api.Drift }) {
  const { of, films, psi, level, bins, reference, recent } = drift;
  const names = bins.map((bin) => (typeof bin === 'number' ? bin.toPrecision(3) : bin));
  return (
    <section class={`drift ${level.replaceAll(' ', '-')}`}>
      <h4>Drift of {of === 'label' ? 'the labels' : 'the anomaly score'}</h4>
      <p>
        {LEVELS[level]} {psi !== null && <>Population stability index {psi.toFixed(2)}, </>}
        {films} {films === 1 ? 'film' : 'films'}.
      </p>
      <Chart
        kind="bars"
        x={bins.map((_, i) => i)}
        ticks={names}
        series={[
          { label: 'reference', values: reference },
          { label: 'the last films', values: recent },
        ]}
        label={`Shares by ${of}: ${names.map((name, i) => `${name} ${share(reference[i])} of the reference, ${share(recent[i])} of the last films`).join('; ')}`}
      />
    </section>
  );
}

function share(value = 0): string {
  return `${(value * 100).toFixed(0)} percent`;
}
