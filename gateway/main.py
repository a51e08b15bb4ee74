"""Runs one gateway from start to end: lock, spool, links to workers, HTTP, signals."""

import asyncio
import logging
import os
import resource
import secrets
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

import setproctitle

from gateway.app import build_app, build_overloaded_app
from gateway.context import Gateway
from gateway.local_supervisor import LocalSupervisor
from gateway.server import HttpServer
from gateway.settings import Settings, without_effect
from gateway.spool import Spool
from gateway.telemetry import configure_logging, event
from gateway.worker_client.link import WorkerLink
from protocol.sockets import LinkError, lock_links

logger = logging.getLogger(__name__)

GATEWAYS_SECRETS = frozenset(("API_KEYS", "API_KEYS_FILE", "OPENAI_API_KEY"))


class CannotStart(Exception):
    """The gateway cannot start; the message tells the operator what to change."""


def run_gateway(settings: Settings, *, with_supervisor: bool) -> int:
    """Serve until SIGTERM or SIGINT; the exit status. Messages go to the log."""
    setproctitle.setproctitle("qwen3-asr: gateway")
    configure_logging(settings.log_level)
    _say_what_is_set(settings, os.environ)
    _allow_many_files()
    try:
        _take_data_folder(settings)
        return asyncio.run(_serve(settings, with_supervisor=with_supervisor))
    except (LinkError, CannotStart) as error:
        logger.error(str(error))
        return 1


def _take_data_folder(settings: Settings) -> None:
    """Lock it until the process ends; raises LinkError, CannotStart."""
    try:
        lock_links(settings.data_dir)
    except OSError as error:
        raise _unusable(settings, error) from error


def _unusable(settings: Settings, error: OSError) -> CannotStart:
    return CannotStart(
        f"{error.filename or settings.data_dir} cannot be used ({error.strerror}): DATA_DIR must "
        "be a folder that this user may create or write to, with nothing of other users in it"
    )


async def _serve(settings: Settings, *, with_supervisor: bool) -> int:
    signals = _Signals()
    async with AsyncExitStack() as stack:
        try:
            gateway, link = await stack.enter_async_context(_gateway(settings))
        except OSError as error:
            raise _unusable(settings, error) from error
        server = HttpServer(build_app(gateway), settings, overloaded=build_overloaded_app(gateway))
        await _listen(server, settings)
        if with_supervisor:
            environment = worker_environment(settings, os.environ)
            await stack.enter_async_context(
                LocalSupervisor(environment, give_up=signals.give_up, hurry=signals.hurry)
            )
        fields = {"host": settings.host, "port": server.port, "model": settings.served_model}
        logger.info(event("gateway listening", fields))
        if gateway.model_note is not None:
            logger.warning(gateway.model_note)
        await signals.stop.wait()
        logger.info("gateway stopping")
        gateway.is_draining = True
        await server.finish(settings.shutdown_timeout, hurry=signals.hurry, end_work=link.end_all)
    logger.info("gateway stopped")
    return signals.exit_status


async def _listen(server: HttpServer, settings: Settings) -> None:
    try:
        await server.start()
    except OSError as error:
        raise CannotStart(
            f"Cannot listen on HOST {settings.host}, PORT {settings.port}: {error.strerror}"
        ) from error
    except UnicodeError as error:  # of the codec that host names go through
        raise CannotStart(f"HOST {settings.host} is neither an address nor a host name") from error


@asynccontextmanager
async def _gateway(settings: Settings) -> AsyncIterator[tuple[Gateway, WorkerLink]]:
    gateway_id = secrets.token_hex(8)
    spool = Spool(settings.data_dir / "spool", gateway_id)
    if swept := spool.open():
        logger.info(event("spool of an earlier start swept", {"folders": swept}))
    try:
        async with WorkerLink(settings, spool.folder, gateway_id) as link:
            gateway = Gateway(settings, link, spool)
            try:
                yield gateway, link
            finally:
                await gateway.outbound.aclose()
    finally:
        spool.close()


def worker_environment(settings: Settings, environment: Mapping[str, str]) -> dict[str, str]:
    """What a worker beside this gateway gets: the same data folder, and never the callers' keys or
    the language model's, which a process that decodes strangers' files has no business with."""
    kept = {name: value for name, value in environment.items() if name not in GATEWAYS_SECRETS}
    return {**kept, "DATA_DIR": str(settings.data_dir)}


class _Signals:
    """The first SIGTERM or SIGINT asks to stop, a second one to stop at once."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.hurry = asyncio.Event()
        self.exit_status = 0
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal)

    def give_up(self) -> None:
        """End as at a signal, but tell whoever started the process that it failed."""
        self.exit_status = 1
        self.stop.set()

    def _on_signal(self) -> None:
        if self.stop.is_set():
            self.hurry.set()
        self.stop.set()


def _say_what_is_set(settings: Settings, environment: Mapping[str, str]) -> None:
    if names := without_effect(environment):
        logger.warning("these variables have no effect here: %s", ", ".join(names))
    if not settings.accepted_keys:
        logger.warning("no API_KEYS are set: whoever reaches HOST and PORT may use the server")


def _allow_many_files() -> None:
    """A connection and an upload take a descriptor each; the usual soft limit is 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
