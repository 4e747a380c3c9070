import type { Frame } from '../core/frame.js';
import type { SinkInstance } from '../core/plugin.js';
import type { CommittedFile, Row } from './committed-file.js';
import { oneByOne } from './one-by-one.js';
import { writeError } from './trouble.js';

interface RowSink {
  /** The plugin's name. */
  readonly name: string;
  /** The id of the entry in the graph. */
  readonly id: string;
  /** As the user wrote it. */
  readonly path: string;
  readonly file: CommittedFile;
  /** A frame's row, with its line end. */
  readonly rowOf: (frame: Frame) => string;
}

/** A sink that writes one row per frame, each once, a group of frames in one append. */
export function rowSink({ name, id, path, file, rowOf }: RowSink): SinkInstance {
  async function append(frames: readonly Frame[]): Promise<void> {
    const rows = new Map<string, Row>();
    for (const frame of frames) {
      if (!file.has(frame.id)) rows.set(frame.id, { id: frame.id, text: rowOf(frame) });
    }
    if (rows.size === 0) return;
    try {
      await file.append([...rows.values()]);
    } catch (cause) {
      throw writeError(path, id, cause);
    }
  }
  return oneByOne(name, append, () => file.close());
}
