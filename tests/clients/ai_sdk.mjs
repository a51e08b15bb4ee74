// Runs beside the node_modules of the AI SDK and its provider for OpenAI: see drivers.py.
import fs from 'node:fs';
import { createOpenAI } from '@ai-sdk/openai';
import {
  APICallError,
  NoTranscriptGeneratedError,
  RetryError,
  experimental_transcribe as transcribe,
} from 'ai';
import { answerCalls, notingFetch } from './calls.mjs';

globalThis.AI_SDK_LOG_WARNINGS = false; // would be printed between the answers

async function ask(call, attempts) {
  const { model, ...options } = call.fields;
  const openai = createOpenAI({
    baseURL: call.server.url,
    apiKey: call.server.key,
    fetch: notingFetch(attempts),
  });
  const result = await transcribe({
    model: openai.transcription(model),
    audio: await fs.promises.readFile(call.file),
    providerOptions: { openai: options },
    maxRetries: call.server.max_retries,
  });
  const { text, segments, language, durationInSeconds, warnings, providerMetadata } = result;
  const diarized = providerMetadata?.openai?.segments;
  return { value: { text, segments, language, durationInSeconds, warnings, diarized } };
}

function told(error) {
  if (NoTranscriptGeneratedError.isInstance(error)) return { class: error.name };
  const last = RetryError.isInstance(error) ? error.lastError : error;
  if (!APICallError.isInstance(last)) throw error;
  const { message, statusCode: status, isRetryable, data } = last;
  return { class: error.name, message, status, isRetryable, ...data?.error };
}

await answerCalls(ask, told);
