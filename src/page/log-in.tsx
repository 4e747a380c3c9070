import { useSignal } from '@preact/signals';
import { logIn } from './api.js';
import { connect, connection } from './state.js';

/** The form for the token that the process printed at its start. */
export function LogIn() {
  const fault = useSignal('');
  const submit = async (event: SubmitEvent): Promise<void> => {
    event.preventDefault();
    const token = new FormData(event.currentTarget as HTMLFormElement).get('token');
    try {
      await logIn(typeof token === 'string' ? token : '');
      connection.value = 'connecting';
      await connect();
    } catch (error) {
      fault.value = error instanceof Error ? error.message : String(error);
    }
  };
  return (
    <form class="log-in" onSubmit={(event) => void submit(event)}>
      <h2>Sign in</h2>
      <label>
        The token that rxray printed at its start
        <input name="token" type="password" autocomplete="current-password" required />
      </label>
      <button>Log in</button>
      <p role="alert">{fault}</p>
    </form>
  );
}
