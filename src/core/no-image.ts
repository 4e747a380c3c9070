/** Names that programs leave in folders: hidden files, thumbnails, what a Mac puts into archives. `name`: without its folder. */
export function isClutter(name: string): boolean {
  return /^(?:\..*|__MACOSX|Thumbs\.db|desktop\.ini)$/i.test(name);
}

/** Files beside films on discs and shares: the index of a DICOM disc, its viewer, notes and tables. */
const NO_IMAGE =
  /^(?:DICOMDIR|.*\.(?:txt|log|md|rtf|csv|tsv|xlsx?|ods|docx?|odt|pdf|html?|css|js|xml|xsl|json|jsonl|ya?ml|ini|inf|cfg|db|sqlite3?|exe|dll|jar|bat|cmd|sh|ps1|lnk|url))$/i;

/** Whether a file is known not to be an image by its name (a path with forward slashes). */
export function isNoImage(path: string): boolean {
  const name = path.slice(path.lastIndexOf('/') + 1);
  return isClutter(name) || NO_IMAGE.test(name);
}
