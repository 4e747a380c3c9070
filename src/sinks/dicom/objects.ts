import { z } from 'zod';
import type { Frame } from '../../core/frame.js';
import type { SinkServices } from '../../core/plugin.js';
import type { ObjectToSend } from '../../dicom/scu.js';
import { algorithmsOf, VERSION } from './algorithms.js';
import { captureOf, pictureOf } from './capture.js';
import { reportOf } from './report.js';
import { presentationOf } from './presentation.js';
import { segmentationsOf } from './segmentation.js';
import { readSourceFilm } from './source-film.js';

/** Options of both sinks for DICOM objects. */
export const objectOptions = {
  report: z
    .boolean()
    .default(true)
    .describe('Send the measurements as an Enhanced SR (a measurement report by TID 1500).'),
  picture: z
    .boolean()
    .default(false)
    .describe(
      'Send a Secondary Capture, too: the film with its label, scores, boxes and anomaly map. Films that wait in the journal for the sink then include their pixels.',
    ),
  segmentation: z
    .boolean()
    .default(false)
    .describe(
      'Send a DICOM Segmentation of the lungs, too, for each stage that has found a mask (`unet`): a segment for each lung.',
    ),
  presentation: z
    .boolean()
    .default(false)
    .describe(
      'Send a Softcopy Presentation State, too (Grayscale, or Color for colour films): boxes and measurements, drawn over the film by the viewer.',
    ),
  size: z
    .int()
    .min(64)
    .max(8192)
    .default(1024)
    .describe('Longer side of the film in the Secondary Capture, in pixels.'),
};

interface ObjectSettings {
  readonly report: boolean;
  readonly picture: boolean;
  readonly segmentation: boolean;
  readonly presentation: boolean;
  readonly size: number;
}

/** How workers of a cluster make the pictures of both sinks. */
export const pictureRendering = {
  render: pictureOf,
  rendering: ({ picture, size }: ObjectSettings): { size: number } | undefined =>
    picture ? { size } : undefined,
};

/** Makes the objects to send for a frame. Rejects with FRAME_SINK if its film is not a DICOM object of a study. */
export async function objectMaker(
  { report, picture, segmentation, presentation, size }: ObjectSettings,
  services: SinkServices,
): Promise<(frame: Frame) => Promise<ObjectToSend[]>> {
  const algorithms = await algorithmsOf(services);
  return async (frame) => {
    const film = await readSourceFilm(frame, services.id);
    return [
      ...(report ? [reportOf(frame, film, { algorithms, version: VERSION })] : []),
      ...(picture ? [await captureOf(frame, film, { size, version: VERSION })] : []),
      ...(presentation ? [await presentationOf(frame, film)] : []),
      ...(segmentation ? segmentationsOf(frame, film, { algorithms }) : []),
    ];
  };
}
