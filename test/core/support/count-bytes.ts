import { defineStage, z } from 'rxray';

/** A stage of somebody else's, for worker threads: counts the bytes of a file; throws for files that begin with "bad". */
export default defineStage({
  name: 'count-bytes',
  summary: 'Counts bytes.',
  options: z.strictObject({ refuse: z.boolean().default(false) }),
  create(settings, { id, log, signal }) {
    if (settings.refuse) throw new Error('told to refuse');
    return {
      columns: [{ name: 'bytes', path: ['value'] }],
      process(frame) {
        log.debug({}, 'counting');
        if (signal.aborted) throw new Error('disposed of while the graph was running');
        const text = new TextDecoder().decode(Uint8Array.from(frame.encoded ?? []));
        if (text.startsWith('bad')) throw new Error(`cannot do "${text}"`);
        if (text === 'late') {
          setTimeout(() => {
            throw new Error('nobody catches this');
          });
        }
        const results = { ...frame.results, [id]: { kind: 'count', value: text.length } };
        return {
          ...frame,
          results,
          image: { width: 1, height: 1, channels: 1, data: new Uint8Array([text.length]) },
        };
      },
    };
  },
});
