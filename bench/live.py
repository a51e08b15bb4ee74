"""Live streams, measured through the whole server, over real WebSockets of /ws/transcribe.

    python -m bench.live [--streams 1,4,8,16,32] [--format mulaw] [--json out]
    python -m bench.live --engine [--model 1.7b] [--json out]
    python -m bench.live --memory [--minutes 60] [--pace 10]

Without more: `qwen3-asr serve` with the embedded model, and clients in processes of their own that
send digit strings with pauses in packets of 20 ms, half of them 8 kHz mu-law and half 16 kHz PCM.

* final: from sending the packet in which the end of an utterance is decided (by half a second of
  silence) to its text. first: from sending the packet in which it begins to be loud to its first
  partial text; its first text is asked for once there is half a second of it, padding included.
* partials a s: partial texts for each second in which somebody is loud.
* late: packets that the clients sent more than 20 ms too late; where it is more than a few percent
  the clients are measured.
* CPU of one stream in percent of a core; memory above that of the idle server.

Then the same streams beside a recording of an hour that is in work all the time. --engine measures
the engine alone, see bench/live_engine.py; --memory one long call, see bench/live_memory.py.
"""

from __future__ import annotations

from bench import live_engine, live_memory, live_streams
from bench.options import parser, setting


def main() -> None:
    """Measure and print."""
    arguments = parser(__doc__, rounds=1)
    mode = arguments.add_mutually_exclusive_group()
    mode.add_argument("--engine", action="store_true", help="the engine without the network")
    mode.add_argument("--memory", action="store_true", help="one long call")
    live_streams.add_options(arguments)
    live_engine.add_options(arguments)
    live_memory.add_options(arguments)
    arguments.add_argument("--model-id", default="embedded", help="of the server: its MODEL_ID")
    options = arguments.parse_args()
    if not options.engine:
        options.model = "embedded"  # a server has real weights: those of --model-id
    chosen = setting("live", options)
    if options.engine:
        live_engine.show(chosen, options)
    else:
        chosen.report.note(f"the server's MODEL_ID: {options.model_id}")
        (live_memory if options.memory else live_streams).show(chosen, options)
    chosen.report.close()


if __name__ == "__main__":
    main()
