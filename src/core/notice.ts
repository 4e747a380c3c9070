/** Shown with all results. */
export const NOTICE = 'Not a medical device: for research, never for diagnosis.';
