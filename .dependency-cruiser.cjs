// The arrows of the layout: who may import whom. Everything else of ours is refused.
const ALLOWED = {
  core: ['core'],
  engine: ['engine'],
  imaging: ['imaging', 'core/frame', 'core/image-memory'],
  // The DICOM format and its network protocol.
  dicom: ['dicom', 'core'],
  models: ['models', 'engine'],
  plugins: ['plugins', 'core', 'dicom', 'engine', 'models', 'imaging'],
  sinks: ['sinks', 'core', 'dicom', 'engine', 'models', 'imaging'],
  // What is served of a running process: its page shows model cards and pictures.
  control: ['control', 'core', 'engine', 'models', 'imaging'],
  training: ['training', 'core', 'engine', 'models', 'imaging'],
  cluster: ['cluster', 'core'],
  host: ['host', 'core', 'engine', 'models', 'imaging', 'plugins', 'sinks', 'control', 'training'],
  // Runs in a browser: of the process it knows the shapes of its answers.
  page: ['page', 'control', 'core/frame', 'imaging/heat', 'imaging/outline'],
};

// Inside core, in the order of a film's way: a folder may import itself and these. Files directly in core are shared,
// but for run.ts and container.ts, which put a run together.
const INSIDE_CORE = {
  plugins: [],
  config: ['plugins'],
  journal: [],
  workers: ['plugins'],
  flow: [],
  monitor: ['flow', 'workers', 'config'],
  outlets: ['journal', 'monitor', 'config'],
  graph: ['flow', 'outlets', 'monitor', 'workers', 'config'],
  intake: ['flow', 'journal', 'monitor', 'workers', 'config'],
  run: ['intake', 'graph', 'outlets', 'flow', 'journal', 'monitor', 'workers', 'config'],
};
const SHARED = '^src/core/(?!run[.]|container[.])[^/]+$';

module.exports = {
  forbidden: [
    // Types are gone when the program runs: they make no cycle.
    {
      name: 'no-cycles',
      severity: 'error',
      from: {},
      to: { circular: true, viaOnly: { dependencyTypesNot: ['type-only'] } },
    },
    { name: 'resolvable', severity: 'error', from: {}, to: { couldNotResolve: true } },
    ...Object.entries(ALLOWED).map(([folder, may]) => ({
      name: `${folder}-imports`,
      comment: `src/${folder} may import ${may.join(', ')}`,
      severity: 'error',
      from: { path: `^src/${folder}/` },
      to: { path: '^src/', pathNot: may.map((name) => `^src/${name}[/.]`) },
    })),
    ...Object.entries(INSIDE_CORE).map(([folder, may]) => ({
      name: `core-${folder}-imports`,
      comment: `src/core/${folder} may import ${['the shared files of src/core', ...may].join(', ')}`,
      severity: 'error',
      from: { path: `^src/core/${folder}/` },
      to: { path: '^src/core/', pathNot: [SHARED, ...[folder, ...may].map((name) => `^src/core/${name}/`)] },
    })),
    {
      name: 'core-shared-imports',
      comment: 'a shared file of src/core builds on no part of a run',
      severity: 'error',
      from: { path: SHARED },
      to: { path: '^src/core/(run|intake|graph|outlets|monitor|journal)[/.]' },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: { exportsFields: ['exports'], conditionNames: ['import', 'node', 'types'] },
  },
};
