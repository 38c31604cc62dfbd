"""Settings to app: the one place that constructs everything."""

from collections.abc import Callable

from fastapi import FastAPI

from kshot.server.app import create_app
from kshot.server.data_folder import DataFolderLock
from kshot.server.metrics import Metrics
from kshot.server.ports import Services
from kshot.server.settings import Settings

__all__ = ["Settings", "build_app"]


def build_app(
    settings: Settings | None = None, *, build: Callable[[Settings, Metrics], Services] | None = None
) -> FastAPI:
    """Take the data folder and return the app; the end of its lifespan gives the folder back.

    Parameters
    ----------
    settings : Settings, optional
        Read from the environment by default.
    build : callable, optional
        Constructs the services; `kshot.server.services.build_services` by default.

    Raises
    ------
    DataFolderLocked
        Another process owns the folder; the message names it and its URL.
    InvalidInput
        The environment holds a setting that is not allowed.
    """
    settings = Settings.from_env() if settings is None else settings
    lock = DataFolderLock(settings.data_dir)
    lock.acquire()
    try:
        if build is None:
            # Late: the services bring the whole index, which nothing above needs.
            from kshot.server.services import build_services  # noqa: PLC0415

            build = build_services
        metrics = Metrics()
        return create_app(build(settings, metrics), settings, metrics, on_close=lock.release)
    except BaseException:
        lock.release()
        raise
