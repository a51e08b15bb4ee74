"""Numbers both ends of the links agree on. docs/protocol.md gives the reasons."""

HEARTBEAT_INTERVAL = 1.0
"""Seconds between heartbeats; any message counts as one."""
HEARTBEATS_MISSED = 3
"""A peer silent for this many intervals is gone."""
MAX_FRAME_BYTES = 1024 * 1024
"""ZMQ_MAXMSGSIZE: libzmq drops a peer that announces more."""
MAX_PARTS = 1
"""Wire frames of a message, the routing id apart."""
UPLOAD_PIECE_BYTES = 256 * 1024
"""Most content of one UploadPiece."""
LIVE_PACKET_BYTES = 64 * 1024
"""Most content of one AudioPacket."""
LIVE_WINDOW_SECONDS = 30
"""Audio of a live session that may be on its way to an engine which has not heard it yet."""
LIVE_RATE_STEP = 25
"""Sample rates of live sessions are multiples of this, in Hz, as all in use are (11,025 too)."""
QUEUE_MARK = 1000
"""ZMQ high-water mark, a tripwire: credits and capacity keep real queues far below it."""
SAMPLE_RATE = 16_000
"""Samples a second of every position in the protocol."""
