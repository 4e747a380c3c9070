import { useSignal } from '@preact/signals';
import { replay } from './api.js';

/** Replays a failed film through the current graph. */
export function ReplayButton({ id }: { readonly id: string }) {
  const said = useSignal('Replay');
  const busy = useSignal(false);
  const act = async (): Promise<void> => {
    busy.value = true;
    try {
      await replay(id);
      said.value = 'Sent again';
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
