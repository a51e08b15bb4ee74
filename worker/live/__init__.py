"""Live sessions in the engine process: packets in, events out.

listener.py hears (a thread of its own), sessions.py recognises (in the engine's main thread); what
passes between them is in news.py.
"""
