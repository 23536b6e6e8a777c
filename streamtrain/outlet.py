"""The last part of the flow, opened for one configuration: the models directory, and who is told of what is in it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from streamtrain.config import Config
from streamtrain.model.signature import KeyFileError, PublicKey, read_public_key
from streamtrain.publish.announce import Announcer
from streamtrain.publish.catalog import Catalog
from streamtrain.publish.registry import Registry
from streamtrain.publish.signing import Signer, read_signing_key
from streamtrain.publish.webhook import Webhook


class Outlet:
    """A registry whose changes are announced.

    Parameters
    ----------
    config : Config
    clock : callable
        Seconds since the epoch.
    publishing : bool
        Whether versions will be published: then the signing key and every secret must be there. A person who steps back
        needs no secrets; those that cannot be read then are told of, and the change is made all the same.

    Attributes
    ----------
    registry : Registry
    announcer : Announcer

    Raises
    ------
    KeyFileError
        If a key or, for publishing, a secret cannot be used.
    """

    def __init__(self, config: Config, clock: Callable[[], float] = time.time, *, publishing: bool = True) -> None:
        publish = config.publish
        self.announcer = Announcer(
            publish.hooks,
            publish.hook_timeout_s,
            [
                Webhook(one.url, None if one.secret_file is None else Path(one.secret_file), one.secret_env)
                for one in publish.webhooks
            ],
            publish.webhook_timeout_s,
            clock=clock,
        )
        signer: Signer | None = None
        if publishing:
            self.announcer.check()
            signer = None if publish.signing_key is None else read_signing_key(publish.signing_key)
        self.registry = Registry(
            config.models.directory,
            keep=config.models.keep,
            clock=clock,
            signer=signer,
            public_key=public_key(config) if signer is None or publish.public_key is not None else signer.public_key,
            on_change=self.announcer.tell,
        )

    def close(self) -> None:
        """Give the models directory back and stop telling."""
        self.registry.close()
        self.announcer.close()


def catalog(config: Config) -> Catalog:
    """Open the reading side of the models directory, which checks signatures where a key is configured.

    Parameters
    ----------
    config : Config

    Returns
    -------
    Catalog

    Raises
    ------
    KeyFileError
        If the key cannot be used.
    """
    return Catalog(config.models.directory, public_key=public_key(config))


def public_key(config: Config) -> PublicKey | None:
    """Key that versions are checked by: `publish.public_key`, or that of `publish.signing_key`.

    Parameters
    ----------
    config : Config

    Returns
    -------
    PublicKey or None
        None if neither is set.

    Raises
    ------
    KeyFileError
        If it cannot be used.
    """
    publish = config.publish
    if publish.public_key is not None:
        return read_public_key(publish.public_key)
    if publish.signing_key is None:
        return None
    try:
        return read_signing_key(publish.signing_key).public_key
    except KeyFileError as error:
        raise KeyFileError(
            f"{error} (set publish.public_key, which everybody may read, to check without it)"
        ) from error
