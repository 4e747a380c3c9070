import { useSignal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import { review as send, type ReviewAnswer, type FilmDetails, type Review } from './api.js';

/** The answers and their keys. */
const ANSWERS: readonly { readonly answer: ReviewAnswer; readonly key: string; readonly name: string }[] = [
  { answer: 'right', key: 'r', name: 'Right' },
  { answer: 'wrong', key: 'w', name: 'Wrong' },
  { answer: 'unusable', key: 'u', name: 'Unusable' },
  { answer: 'reviewed', key: 'v', name: 'Reviewed' },
];
const NAME = 'rxray reviewer';

/** A person's decision about the film; earlier decisions are kept. */
export function ReviewPanel({ film }: { readonly film: FilmDetails }) {
  const said = useSignal<Review | null>(film.review ?? null);
  const fault = useSignal('');
  const choosing = useSignal(false);
  const by = useSignal(localStorage.getItem(NAME) ?? '');
  const labels = [...new Set(film.models.flatMap((model) => model.labels))];
  const classes = labels.length > 0 ? labels : ['healthy', 'abnormal'];

  const decide = async (answer: ReviewAnswer, label?: string): Promise<void> => {
    choosing.value = answer === 'wrong' && label === undefined;
    if (choosing.value) return;
    try {
      const name = by.value.trim();
      said.value = await send(film.id, {
        answer,
        ...(label !== undefined && { class: label }),
        ...(name !== '' && { by: name }),
      });
      fault.value = '';
    } catch (error) {
      fault.value = error instanceof Error ? error.message : String(error);
    }
  };
  useEffect(() => {
    const press = (event: KeyboardEvent): void => {
      if (isTyping(event)) return;
      const found = ANSWERS.find(({ key }) => key === event.key);
      if (found !== undefined) void decide(found.answer);
      const label = choosing.value ? classes[Number(event.key) - 1] : undefined;
      if (label !== undefined) void decide('wrong', label);
    };
    addEventListener('keydown', press);
    return () => {
      removeEventListener('keydown', press);
    };
  }, [film.id]);

  return (
    <section class="panel review" aria-label="Review">
      <h3>Is the result right?</h3>
      <p class="answers">
        {ANSWERS.map(({ answer, key, name }) => (
          <button
            key={answer}
            type="button"
            aria-pressed={said.value?.answer === answer}
            onClick={() => void decide(answer)}
          >
            {name} <kbd>{key.toUpperCase()}</kbd>
          </button>
        ))}
      </p>
      {choosing.value && (
        <p class="answers" role="group" aria-label="Correct class">
          {classes.map((label, i) => (
            <button key={label} type="button" onClick={() => void decide('wrong', label)}>
              {label} {i < 9 && <kbd>{i + 1}</kbd>}
            </button>
          ))}
        </p>
      )}
      <p role="status">{said.value !== null && textOf(said.value)}</p>
      <p role="alert">{fault}</p>
      <label>
        Your name{' '}
        <input
          value={by.value}
          placeholder="the machine's user"
          maxLength={100}
          onInput={({ currentTarget }) => {
            by.value = currentTarget.value;
            localStorage.setItem(NAME, by.value);
          }}
        />
      </label>
    </section>
  );
}

function textOf({ answer, class: label, by, at }: Review): string {
  const what = label === null ? answer : `${answer}: ${label}`;
  return `${what}, by ${by}, ${new Date(at).toLocaleString()}`;
}

/** Whether a key is for an input field or for the browser. */
export function isTyping(event: KeyboardEvent): boolean {
  if (event.ctrlKey || event.metaKey || event.altKey) return true;
  return (
    event.target instanceof HTMLElement &&
    event.target.matches('input:not([type=checkbox], [type=range]), select, textarea')
  );
}
