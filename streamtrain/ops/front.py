"""What a daemon shows of itself: the status page and the metrics, opened for one configuration after another."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from streamtrain.config import Config
from streamtrain.ops.board import Board
from streamtrain.ops.logs import event
from streamtrain.ops.overview import Overview, Watched
from streamtrain.ops.page.app import App
from streamtrain.ops.page.server import Server
from streamtrain.ops.page.sockets import inherited, opened
from streamtrain.ops.telemetry import Telemetry, Textfile

_LOG = logging.getLogger(__name__)


class Front:
    """The page, `/metrics` and the textfile. Nothing that fails here fails the daemon: it is told in the log.

    Parameters
    ----------
    board : Board
    environ : mapping
        Of this process: systemd may hand sockets over, which go before `status.listen`.
    """

    def __init__(self, board: Board, environ: Mapping[str, str] = os.environ) -> None:
        self._board, self._environ = board, environ
        self._overviews: tuple[Overview, ...] = ()
        self.telemetry = Telemetry(lambda: self._overviews)
        board.observe(self.telemetry.observe)
        self._app = App(lambda: self._overviews, self.telemetry)
        self._listen: str | None = None
        self._server: Server | None = None
        self._textfile: Textfile | None = None

    def show(self, routers: Mapping[str, Config], listen: str | None, textfile: Path | None) -> None:
        """Show these routers from now on.

        Parameters
        ----------
        routers : mapping of str to Config
            By name; "" where there is only one.
        listen : str or None
            `status.listen`.
        textfile : Path or None
            `status.textfile`.
        """
        self._overviews = tuple(Overview(Watched(name, config, self._board)) for name, config in routers.items())
        if listen != self._listen or (listen is not None and self._server is None):
            self._close_server()
            self._listen = listen
            if listen is not None:
                self._open(listen)
        if self._textfile is not None and self._textfile.file != textfile:
            self._textfile.close()
            self._textfile = None
        if self._textfile is None and textfile is not None:
            self._textfile = Textfile(self.telemetry, textfile)

    def close(self) -> None:
        """Stop answering and writing."""
        self._close_server()
        if self._textfile is not None:
            self._textfile.close()
            self._textfile = None

    @property
    def overviews(self) -> Sequence[Overview]:
        """Those of all routers."""
        return self._overviews

    def _open(self, listen: str) -> None:
        sockets = inherited(self._environ, os.getpid())
        where = "sockets of systemd" if sockets else listen
        try:
            self._server = Server(self._app, sockets or [opened(listen)])
        except OSError as error:
            hint = "set status.listen to another address; SIGHUP tries again"
            event(_LOG, logging.ERROR, "no status page", listen=listen, error=str(error), hint=hint)
            return
        event(_LOG, logging.INFO, "status page", listen=where)

    def _close_server(self) -> None:
        if self._server is None:
            return
        self._server.close()
        self._server = None
        if self._listen is not None and self._listen.startswith("unix:") and "LISTEN_FDS" not in self._environ:
            Path(self._listen.removeprefix("unix:")).unlink(missing_ok=True)
