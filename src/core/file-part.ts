/** One of several films that a file holds: a frame of a multi-frame DICOM file. */
export interface FilePart {
  /** The name of the file inside its source. */
  readonly file: string;
  /** Counted from 1. */
  readonly number: number;
  readonly of: number;
}

/** The name of such a film: `ct.dcm#3of12`. Journal, dead letter and sinks know the film by it. */
export function partName({ file, number, of }: FilePart): string {
  return `${file}#${String(number)}of${String(of)}`;
}

/** What {@link partName} was made of; undefined for a film that is a file of its own, whatever its name. */
export function partOf({
  name,
  path,
}: {
  readonly name: string;
  readonly path: string;
}): FilePart | undefined {
  const [, file, suffix = '', number, of] = /^(.+)(#(\d+)of(\d+))$/s.exec(name) ?? [];
  if (file === undefined || path.endsWith(suffix)) return undefined;
  return { file, number: Number(number), of: Number(of) };
}

/** The file itself, as its source offers it. */
export function wholeFile<T extends { readonly name: string; readonly path: string }>(film: T): T {
  const part = partOf(film);
  return part === undefined ? film : { ...film, name: part.file };
}
