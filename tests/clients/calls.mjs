// What drivers in Node have in common: see drivers.py.
import readline from 'node:readline';

// A fetch that notes what was sent and answered.
export function notingFetch(attempts) {
  return async (url, options) => {
    const response = await fetch(url, options);
    attempts.push({
      at: performance.now() / 1000,
      path: new URL(url).pathname,
      sent: Object.fromEntries(new Headers(options.headers)),
      status: response.status,
      headers: Object.fromEntries(response.headers),
    });
    return response;
  };
}

// Answers calls, line by line, until there are no more. `told` turns a client's own error into
// values, and throws again what is none.
export async function answerCalls(ask, told) {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const attempts = [];
    let outcome;
    try {
      outcome = await ask(JSON.parse(line), attempts).catch((error) => ({ error: told(error) }));
    } catch (fault) {
      outcome = { fault: fault.stack };
    }
    console.log(JSON.stringify({ ...outcome, attempts }));
  }
}
