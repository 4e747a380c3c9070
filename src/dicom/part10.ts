import { IMPLEMENTATION_NAME, IMPLEMENTATION_UID } from './pdu.js';
import { bytesOf } from './write.js';

/** The contents of a file's meta header. */
export interface Identity {
  readonly sopClass: string;
  readonly instance: string;
  readonly syntax: string;
}

/** Preamble and meta header of a DICOM file (PS3.10, 7.1): the same for the same object, whichever peer sent it. */
export function metaHeader({ sopClass, instance, syntax }: Identity): Buffer {
  const rest = bytesOf([
    [0x00020001, 'OB', Buffer.of(0, 1)],
    [0x00020002, 'UI', sopClass],
    [0x00020003, 'UI', instance],
    [0x00020010, 'UI', syntax],
    [0x00020012, 'UI', IMPLEMENTATION_UID],
    [0x00020013, 'SH', IMPLEMENTATION_NAME],
  ]);
  const length = bytesOf([[0x00020000, 'UL', rest.length]]);
  return Buffer.concat([Buffer.alloc(128), Buffer.from('DICM'), length, rest]);
}
