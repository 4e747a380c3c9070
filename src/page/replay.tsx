import { useSignal } from '@preact/signals';
import { discard, replay } from './api.js';
import { refresh } from './state.js';

/** Replays a failed film through the current graph. */
export function ReplayButton({ id }: { readonly id: string }) {
  return <Once name="Replay" done="Sent again" act={() => replay(id)} />;
}

/** Deletes the copy and the reason of a failed film; its file stays. */
export function DiscardButton({ id }: { readonly id: string }) {
  return <Once name="Discard" done="Discarded" act={() => discard(id).then(refresh)} />;
}

interface OnceProps {
  readonly name: string;
  readonly done: string;
  readonly act: () => Promise<unknown>;
}

/** A button for a request that is made once, unless it fails. */
function Once({ name, done, act: request }: OnceProps) {
  const said = useSignal(name);
  const busy = useSignal(false);
  const act = async (): Promise<void> => {
    busy.value = true;
    try {
      await request();
      said.value = done;
    } catch (error) {
      said.value = error instanceof Error ? error.message : String(error);
      busy.value = false;
    }
  };
  return (
    <button type="button" disabled={busy} onClick={() => void act()}>
      {said}
    </button>
  );
}
