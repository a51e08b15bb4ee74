"""The page at `/`: what this server is, which model it serves and how it is doing. Static HTML."""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>qwen3-asr-server</title>
<style>body {{ font: 1rem/1.5 sans-serif; max-width: 40rem; margin: 3rem auto; padding: 0 1rem }}
code {{ background: #8882; padding: .1em .3em }}</style>
</head>
<body>
<h1>qwen3-asr-server {version}</h1>
<p>This server turns speech into text. It serves the model <code>{model}</code>.</p>
{note}<p>{condition}</p>
<p>Send a recording to <code>POST /v1/audio/transcriptions</code>, as to OpenAI's API:</p>
<pre><code>curl -F file=@recording.mp3 http://HOST:PORT/v1/audio/transcriptions</code></pre>
<p>The whole API: <a href="docs">/docs</a>, for programs
<a href="openapi.json">/openapi.json</a>.</p>
<p>State for programs: <code>/health</code>, <code>/livez</code>, <code>/readyz</code>.</p>
</body>
</html>
"""


def page(*, model: str, note: str | None, state: str, reason: str | None, version: str) -> str:
    """The page; `reason` says why requests would fail now, None where they would not."""
    return PAGE.format(
        version=_escaped(version),
        model=_escaped(model),
        note=f"<p><strong>{_escaped(note)}</strong></p>\n" if note else "",
        condition=_escaped(_condition(state, reason)),
    )


def _condition(state: str, reason: str | None) -> str:
    if reason is not None:
        return f"It cannot transcribe now: {reason.rstrip('.')}."
    if state == "ready":
        return "The model is loaded."
    return f"It is ready; the model is loaded with the next request (worker: {state})."


def _escaped(text: str) -> str:
    """Text for HTML; html.escape would load half a megabyte of entity names."""
    for character, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;")):
        text = text.replace(character, entity)
    return text
