import { render } from 'preact';
import { App } from './app.js';
import { connect } from './state.js';
import 'uplot/dist/uPlot.min.css';
import './style.css';

const root = document.querySelector('#app');
if (root !== null) render(<App />, root);
void connect();
