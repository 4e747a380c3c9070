/** Smaller images are left to the garbage collector, which costs less. */
const LEAST_BYTES = 64 * 1024;
/** How much memory a thread keeps for its next film. */
const KEEP_BYTES = 48 * 1024 ** 2;

/** The memory of the work in progress; undefined if there is none. */
let lent: ArrayBuffer[] | undefined;
/** Memory for the next work, the largest last. */
let spare: ArrayBuffer[] = [];

/**
 * Runs `work`, whose calls of {@link copyOf} share memory with those of the work before and after it in this thread:
 * new memory for every image costs more than a film's other copies. What `work` resolves with must not hold any of
 * these images. An image that is held nevertheless becomes empty, and never gets the pixels of another film. One at a time.
 */
export async function reusingImageMemory<T>(work: () => Promise<T>): Promise<T> {
  if (lent !== undefined) throw new Error('the memory for images is in use');
  lent = [];
  try {
    return await work();
  } finally {
    // The memory moves to another object, so that the images of `work` become empty.
    const left = lent.filter(({ byteLength }) => byteLength > 0);
    spare.push(...left.map((buffer) => structuredClone(buffer, { transfer: [buffer] })));
    lent = undefined;
    spare.sort((a, b) => a.byteLength - b.byteLength);
    let bytes = 0;
    spare = spare.filter((buffer) => (bytes += buffer.byteLength) <= KEEP_BYTES);
  }
}

/** A copy of the samples: inside {@link reusingImageMemory} in memory that ends with the work, and may be part of a larger buffer. */
export function copyOf<T extends Uint8Array | Uint16Array>(samples: T): T {
  const { byteLength, length } = samples;
  if (lent === undefined || byteLength < LEAST_BYTES) return samples.slice() as T;
  const fitting = spare.findIndex((buffer) => buffer.byteLength >= byteLength);
  const isClose = fitting >= 0 && (spare[fitting]?.byteLength ?? 0) <= 2 * byteLength;
  const [buffer = new ArrayBuffer(byteLength)] = isClose ? spare.splice(fitting, 1) : [];
  lent.push(buffer);
  const copy = new (samples.constructor as new (buffer: ArrayBuffer, at: number, length: number) => T)(
    buffer,
    0,
    length,
  );
  copy.set(samples);
  return copy;
}
