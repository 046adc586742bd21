"""Everything with a loop: started when entered, stopped when left; a failure never goes unnoticed."""

from __future__ import annotations

import asyncio
import gc
import signal
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Self, TypeVar

import structlog

from muster.mesh.errors import MusterError

log = structlog.get_logger()

Part = TypeVar("Part")


class Service(ABC):
    """A loop with a life: `async with service:` runs it in a task of its own.

    Entering waits until `ready` is set by the loop (or the loop has failed); leaving cancels the
    loop and waits for it.  Both are idempotent and safe to cancel.  If the loop fails, whoever waits
    in `ended` gets the error; where nobody does, the process stops with it (see `Stop.watching`).
    """

    def __init__(self) -> None:
        self.ready = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._observers = 0

    @abstractmethod
    async def run(self) -> None:
        """The loop; sets `self.ready` once its users may rely on it."""

    async def __aenter__(self) -> Self:
        if self._task is None:
            self._task = asyncio.create_task(self.run(), name=type(self).__name__)
            self._task.add_done_callback(self._task_ended)
            ready = asyncio.create_task(self.ready.wait())
            self._observers += 1
            try:
                await asyncio.wait({self._task, ready}, return_when=asyncio.FIRST_COMPLETED)
            except asyncio.CancelledError:
                self._observers -= 1
                await self._stop()
                raise
            finally:
                ready.cancel()
            if self._task.done():
                await self._task  # the error is raised here alone
            self._observers -= 1
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop()

    async def _stop(self) -> None:
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            if (current := asyncio.current_task()) is not None and current.cancelling():
                raise
        except MusterError as error:  # its owner learns of it by `ended`; here we only stop
            log.warning("service.failed", service=type(self).__name__, error=str(error))
        except Exception:
            log.exception("service.failed", service=type(self).__name__)

    async def ended(self) -> None:
        """Waits until the loop ends by itself, and raises what ended it."""
        if self._task is not None:
            self._observers += 1
            try:
                await asyncio.shield(self._task)
            finally:
                self._observers -= 1

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        """Fails the process with the error of a loop that was ready, unless a caller waits in `ended`."""
        if task is not self._task or not self.ready.is_set() or self._observers:
            return
        if not task.cancelled() and (error := task.exception()) is not None and (stop := _watching.get()) is not None:
            log.error("service.failed", service=type(self).__name__, error=repr(error))
            if not stop.is_set():  # otherwise the process stops already
                stop.fail(error)


def rest_the_collector() -> None:
    """Makes the garbage collector run rarely, and never again over the objects that exist by now.

    Our structs are frozen and hold no cycles; with Python's own thresholds it took a seventh of a
    broker's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)


class Stop(asyncio.Event):
    """Set when the process should end cleanly."""

    error: BaseException | None = None

    def fail(self, error: BaseException) -> None:
        """Ends the process with an error; its supervisor restarts it."""
        self.error = self.error or error
        self.set()

    @contextmanager
    def watching(self) -> Iterator[Self]:
        """Ends the process if a service fails unobserved that was entered within, or by such a service."""
        token = _watching.set(self)
        try:
            yield self
        finally:
            _watching.reset(token)


_watching: ContextVar[Stop | None] = ContextVar("watching", default=None)


@asynccontextmanager
async def stop_signals() -> AsyncIterator[Stop]:
    """An event that SIGTERM and SIGINT set, and that a service sets that fails.

    Raises:
        BaseException: what `Stop.fail` was called with.
    """
    loop = asyncio.get_running_loop()
    stop = Stop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        with stop.watching():
            yield stop
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
    if stop.error is not None:
        raise stop.error


async def entered(stack: AsyncExitStack, part: AbstractAsyncContextManager[Part], stop: asyncio.Event) -> Part | None:
    """Starts a service, or enters any other context; None if the signal to stop came before it was ready."""
    entering = asyncio.ensure_future(stack.enter_async_context(part))
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({entering, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if entering.done():
            return entering.result()
        entering.cancel()
        await asyncio.wait({entering})
        return None
    finally:
        stopping.cancel()


async def unless_stopped(stop: asyncio.Event, starting: Coroutine[Any, Any, None]) -> bool:
    """Starts something; returns False, and cancels it, if the signal to stop came before it was ready."""
    task = asyncio.ensure_future(starting)
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
            return True
        return False
    finally:
        stopping.cancel()
        if not task.done():
            task.cancel()
            await asyncio.wait({task})


async def until_stopped(stop: asyncio.Event, *services: Service) -> None:
    """Waits for the stop signal, or raises what ended one of the services, or any service that `stop` watches."""
    waits = [asyncio.create_task(stop.wait()), *(asyncio.create_task(service.ended()) for service in services)]
    try:
        done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in waits:
            task.cancel()
    if isinstance(stop, Stop) and stop.error is not None:
        raise stop.error
