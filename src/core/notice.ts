/** Said wherever results are shown. */
export const NOTICE = 'Not a medical device: for research, never for diagnosis.';
