// The arrows of the layout: who may import whom. Everything else of ours is refused.
const ALLOWED = {
  core: ['core'],
  engine: ['engine'],
  imaging: ['imaging', 'core/frame'],
  models: ['models', 'engine'],
  plugins: ['plugins', 'core', 'engine', 'models', 'imaging'],
  sinks: ['sinks', 'core', 'engine', 'models', 'imaging'],
  // What is served of a running process: its page shows model cards and pictures.
  control: ['control', 'core', 'engine', 'models', 'imaging'],
  training: ['training', 'core', 'engine', 'models', 'imaging'],
  host: ['host', 'core', 'engine', 'models', 'imaging', 'plugins', 'sinks', 'control', 'training'],
  // Runs in a browser: of the process it knows the shapes of its answers.
  page: ['page', 'control', 'core/frame'],
};

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
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: { exportsFields: ['exports'], conditionNames: ['import', 'node', 'types'] },
  },
};
