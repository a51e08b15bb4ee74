// Runs beside the node_modules of an openai package of any major version: see drivers.py.
import fs from 'node:fs';
import path from 'node:path';
import OpenAI, { APIError, toFile } from 'openai';
import { answerCalls, notingFetch } from './calls.mjs';

async function ask(call, attempts) {
  const openai = new OpenAI({
    baseURL: call.server.url,
    apiKey: call.server.key,
    maxRetries: call.server.max_retries,
    timeout: 100_000,
    fetch: notingFetch(attempts),
  });
  if (call.do === 'models') return { value: await collected(openai.models.list()) };
  if (call.do === 'model') return { value: await openai.models.retrieve(call.fields.id) };
  const { audio } = openai;
  const resource = call.do === 'translate' ? audio.translations : audio.transcriptions;
  const answer = await resource.create({ file: await content(call), ...call.fields });
  if (call.fields.stream) return { events: await collected(answer, call.started) };
  return { value: answer, class: typeof answer, request_id: answer._request_id };
}

async function content(call) {
  if (call.as === 'stream') return fs.createReadStream(call.file);
  return toFile(await fs.promises.readFile(call.file), path.basename(call.file));
}

// All of them. A file `started` is made when the first is there.
async function collected(iterable, started) {
  const items = [];
  for await (const item of iterable) {
    if (started && !items.length) fs.writeFileSync(started, '');
    items.push(item);
  }
  return items;
}

function told(error) {
  if (!(error instanceof APIError)) throw error;
  const { message, status, requestID: request_id, code, param, type } = error;
  return { class: error.constructor.name, message, status, request_id, code, param, type };
}

await answerCalls(ask, told);
