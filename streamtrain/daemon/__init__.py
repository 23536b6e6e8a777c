"""The daemon: watches, ingests, trains and publishes for one router or several, until told to stop."""

from streamtrain.daemon.life import Daemon

__all__ = ["Daemon"]
