import { useSignal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import { film as fetchFilm, type FilmDetails } from './api.js';
import { save } from './drawing.js';
import { grey, inverted, MAX_ZOOM, PRESETS, reset, show, shown, tool, zoom, zoomTo } from './light-box.js';
import { Check, Pane, windowText } from './pane.js';
import { isTyping } from './review.js';

/** The film, and beside it another stage or another film; window, zoom and place are the same for both. */
export function Viewer({ film }: { readonly film: FilmDetails }) {
  const { stage, beside, besideStage } = shown();
  const other = useSignal<FilmDetails | null>(null);
  const fault = useSignal('');
  const second = beside === film.id ? film : other.value?.id === beside ? other.value : null;
  useEffect(() => {
    if (beside === null) reset();
  }, [film.id]);
  useEffect(() => {
    if (beside === null || beside === film.id) return;
    fetchFilm(beside).then(
      (found) => {
        other.value = found;
        fault.value = '';
      },
      (error: unknown) => {
        fault.value = error instanceof Error ? error.message : String(error);
      },
    );
  }, [beside, film.id]);
  const compare = (): void => {
    show(beside === null ? { beside: film.id, besideStage: stage } : { beside: null, besideStage: null });
  };
  useEffect(() => {
    const press = (event: KeyboardEvent): void => {
      if (!isTyping(event) && event.key === 'c') compare();
    };
    addEventListener('keydown', press);
    return () => {
      removeEventListener('keydown', press);
    };
  }, [film.id, stage, beside]);
  return (
    <section class="viewer" aria-label="Pictures">
      <div class={second === null ? 'panes' : 'panes two'}>
        <div>
          {second !== null && <h3>{film.file}</h3>}
          <Pane
            film={film}
            stage={stage}
            choose={(next) => {
              show({ stage: next });
            }}
          />
        </div>
        {second !== null && (
          <div>
            <h3>{second.id === film.id ? film.file : <a href={`#films/${second.id}`}>{second.file}</a>}</h3>
            <Pane
              key={second.id}
              film={second}
              stage={besideStage}
              choose={(next) => {
                show({ besideStage: next });
              }}
              close={compare}
            />
          </div>
        )}
      </div>
      <p role="alert">{fault}</p>
      <Controls film={film} compare={compare} isComparing={beside !== null} />
    </section>
  );
}

interface ControlsProps {
  readonly film: FilmDetails;
  readonly compare: () => void;
  readonly isComparing: boolean;
}

/** For all pictures at once. */
function Controls({ film, compare, isComparing }: ControlsProps) {
  return (
    <div class="controls">
      <span>{windowText()}</span>
      <label>
        Window{' '}
        <select
          value=""
          onChange={({ currentTarget }) => {
            grey.value = PRESETS[currentTarget.value] ?? grey.value;
            currentTarget.value = '';
          }}
        >
          <option value="">choose…</option>
          {Object.keys(PRESETS).map((name) => (
            <option key={name}>{name}</option>
          ))}
        </select>
      </label>
      <label>
        Drag{' '}
        <select
          value={tool.value}
          onChange={({ currentTarget }) => {
            tool.value = currentTarget.value === 'pan' ? 'pan' : 'window';
          }}
        >
          <option value="window">changes level and window</option>
          <option value="pan">moves the film</option>
        </select>
      </label>
      <label>
        Zoom{' '}
        <input
          type="range"
          min="1"
          max={MAX_ZOOM}
          step="0.1"
          value={zoom.value}
          onInput={({ currentTarget }) => {
            zoomTo(currentTarget.valueAsNumber);
          }}
        />
      </label>
      <Check name="Invert" checked={inverted.value} set={(value) => (inverted.value = value)} />
      <button type="button" onClick={reset}>
        Reset
      </button>
      <button type="button" aria-pressed={isComparing} onClick={compare}>
        Compare <kbd>C</kbd>
      </button>
      <button
        type="button"
        onClick={() => {
          const json = JSON.stringify(film, null, 2);
          save(new Blob([json], { type: 'application/json' }), `${film.id}.json`);
        }}
      >
        JSON
      </button>
      <small>
        {isComparing
          ? 'The second picture stays while J and K go to other films. Choose a stage under each picture.'
          : 'Click into the picture: then the wheel zooms, Shift and drag moves it, a double click resets. Two fingers zoom and move it, too.'}
      </small>
    </div>
  );
}
