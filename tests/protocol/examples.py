"""One message of each type, for the golden files; see golden_files.py for how to change one."""

from protocol.control import (
    EngineFinishedWork,
    EngineState,
    EngineStatus,
    Heartbeat,
    Introduce,
    Refused,
    StartEngine,
    StopEngine,
    SupervisorHello,
    Welcome,
)
from protocol.failures import FailureCode
from protocol.transcription import (
    Cancel,
    ChunkDone,
    Failed,
    Final,
    Hello,
    Progress,
    PullUpload,
    Stage,
    Transcribe,
    UploadPiece,
)

EXAMPLES: dict[str, object] = {
    type(message).__name__: message
    for message in (
        Heartbeat(),
        Introduce(
            gateway_id="5f3a9c0d12e4b678",
            probe_file="5f3a9c0d12e4b678/probe",
            probe_text="c0ffee",
        ),
        Welcome(),
        Refused(code="worker_id_taken", message="another worker has this WORKER_ID: set another"),
        SupervisorHello(worker_id="gpu-1", instance="9b1d0c44", model_id="Qwen/Qwen3-ASR-1.7B"),
        StartEngine(),
        StopEngine(epoch=3),
        EngineFinishedWork(epoch=3),
        EngineStatus(
            state=EngineState.STARTING,
            epoch=3,
            stage="download",
            done_bytes=1_500_000_000,
            total_bytes=4_000_000_000,
            failure="the engine process ended with signal 9",
            retry_after=None,
            resident_bytes=250_000_000,
        ),
        Hello(
            worker_id="gpu-1",
            epoch=3,
            model_id="Qwen/Qwen3-ASR-1.7B",
            capacity=16,
            sees_spool=True,
        ),
        Transcribe(
            request_id="req_0123456789abcdef",
            attempt=2,
            spool_file="5f3a9c0d12e4b678/0a1b2c3d",
            upload_bytes=25_000_000,
            language="German",
            prompt="Besprechung am Dienstag",
            keywords=("Qwen", "Höhenmeter"),
            temperature=0.5,
            runs_alone=False,
            done_chunks=2,
            done_samples=960_000,
        ),
        Cancel(request_id="req_0123456789abcdef"),
        PullUpload(request_id="req_0123456789abcdef", offset=262_144, pieces=4),
        UploadPiece(
            request_id="req_0123456789abcdef", offset=262_144, content=b"RIFF\x00\xff", is_last=True
        ),
        Progress(
            request_id="req_0123456789abcdef",
            attempt=2,
            stage=Stage.DECODING,
            decoded_seconds=61.25,
            total_seconds=None,
        ),
        ChunkDone(
            request_id="req_0123456789abcdef",
            attempt=2,
            index=1,
            start=478_112,
            end=951_000,
            language="Chinese",
            text="你好，世界",
            prompt_tokens=412,
            audio_tokens=390,
            output_tokens=9,
        ),
        Final(request_id="req_0123456789abcdef", attempt=2, chunks=2, audio_seconds=59.4375),
        Failed(
            request_id="req_0123456789abcdef",
            attempt=2,
            code=FailureCode.AUDIO_UNDECODABLE,
            message="The file holds no audio that can be decoded.",
        ),
    )
}
