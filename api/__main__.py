"""`python -m api serve` and `python -m api init`: the composition root of the control plane.

Exit codes of `init`: 0 done, 2 wrong arguments or settings, 3 the administrator exists already (nothing was
changed).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import secrets
import sqlite3
import sys
import time
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry
from sqlite_utils import Database

from api import logs
from api.app import create_app
from api.dependencies import Dependencies
from api.idempotency import Idempotency
from api.limits import RateLimiter
from api.live import Live
from api.reader import Reader
from api.server import server
from api.store import credentials, keys, schema
from api.switch import Switch
from sipivr import config
from sipivr.store import read
from sipivr.store.records import Principal, Role

_logger: Final = logging.getLogger("api")


class SetupError(Exception):
    """`init` cannot do what it was asked for; the message says why."""


def main(arguments: list[str] | None = None) -> int:
    """Runs one of the two commands; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m api", description="The control plane of sipivr.")
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="serve the REST API until SIGTERM")
    init = commands.add_parser("init", help="make api.db with an administrator and a first key")
    for command in (serve, init):
        command.add_argument("--config", type=Path, metavar="FILE", help="the settings")
    init.add_argument("--administrator", required=True, metavar="NAME", help="name to log in with")
    init.add_argument("--principal", required=True, metavar="ID", help="the administrator's principal")
    init.add_argument("--key-principal", required=True, metavar="ID", help="the principal of the first key")
    given = parser.parse_args(arguments)
    try:
        settings = config.load(given.config)
        base = given.config.resolve().parent if given.config else Path.cwd()
        paths = config.paths(settings, base)
        if given.command == "init":
            made = initialise(paths, given.administrator, given.principal, given.key_principal)
            print(json.dumps(made), flush=True)
            return 0
        return asyncio.run(_serve(settings, paths))
    except credentials.CredentialExistsError:
        print("This administrator exists already; nothing was changed.", file=sys.stderr)
        return 3
    except (config.ConfigError, SetupError) as error:
        print(error, file=sys.stderr)
        return 2


def dependencies(settings: config.Settings, paths: config.Paths) -> Dependencies:
    """Everything that the application needs; `close` it with `close`."""
    store = schema.Store(paths.api_db)
    reader = Reader(paths.switch_db)
    return Dependencies(
        store=store,
        reader=reader,
        switch=Switch(paths.control_socket),
        live=Live(reader),
        idempotency=Idempotency(store, time.time),
        limiter=RateLimiter(settings.api.requests_per_minute, time.monotonic),
        registry=CollectorRegistry(),
    )


async def _serve(settings: config.Settings, paths: config.Paths) -> int:
    os.umask(0o077)
    logs.configure(settings.log.level, settings.log.format == "json")
    deps = dependencies(settings, paths)
    try:
        http = server(create_app(deps), deps, settings.api)
        await http.serve()
        return 0 if http.started else 1
    finally:
        deps.reader.close()
        deps.store.close()
        logs.say(_logger, logging.INFO, "stopped")


def initialise(paths: config.Paths, name: str, principal_id: str, key_principal_id: str) -> dict[str, object]:
    """Makes `api.db`, the administrator's credential and the first key.

    Returns:
        The object that `init` prints: `administrator` (name, principal, password) and `api_key` (id, secret,
        principal, mode, scopes).

    Raises:
        SetupError: `switch.db` cannot be read, or a principal is not what it should be.
        credentials.CredentialExistsError: the administrator exists; nothing was changed.
    """
    os.umask(0o077)
    try:
        records = _open_records(paths.switch_db)
    except (sqlite3.Error, OSError):
        raise SetupError(f"{paths.switch_db} cannot be read; `sipivr init` makes it.") from None
    try:
        administrator = _principal(read.principal(records, principal_id), principal_id)
        owner = _principal(read.principal(records, key_principal_id), key_principal_id)
        if administrator.role is not Role.ADMINISTRATOR:
            raise SetupError(f"{principal_id} is not an administrator.")
        merchant = read.merchant(records, owner.merchant or "")
        if merchant is None:
            raise SetupError(f"{key_principal_id} belongs to no merchant.")
    finally:
        records.close()
    if not name or not name.isprintable() or ":" in name or len(name) > 100:
        # RFC 7617 §2: a user-id cannot contain a colon.
        raise SetupError("The administrator's name is 1 to 100 printable characters without a colon.")
    password, secret = secrets.token_urlsafe(15), keys.new_secret(merchant.mode)
    database = schema.open_database(paths.api_db)
    try:
        credentials.add(database, name=name.casefold(), principal=administrator.id, password=password)
        key = keys.add(
            database,
            secret,
            name="first key",
            mode=merchant.mode,
            principal=owner.id,
            merchant=merchant.id,
            scopes=owner.permissions,
            created_by=administrator.id,
        )
    finally:
        database.close()
    return {
        "administrator": {"name": name.casefold(), "principal": administrator.id, "password": password},
        "api_key": {
            "id": key.id,
            "secret": secret.text,
            "principal": owner.id,
            "mode": key.mode,
            "scopes": list(key.scopes),
        },
    }


def _open_records(path: Path) -> Database:
    """`switch.db` for reading, running or at rest.

    At rest there is no `-wal` and no `-shm`, and who may not write in the directory cannot make them; SQLite
    then refuses to read at all ("attempt to write a readonly database"). Without a `-wal` nothing can be
    missing from the file itself, so it is opened as one that does not change (SQLite, "Write-Ahead
    Logging", §"Read-Only Databases").
    """
    records = read.open_readonly(path)
    try:
        read.newest_sequence(records)
    except sqlite3.OperationalError:
        records.close()
        if path.with_name(f"{path.name}-wal").exists():
            raise
        uri = f"{path.resolve().as_uri()}?mode=ro&immutable=1"
        return Database(sqlite3.connect(uri, uri=True))
    return records


def _principal(found: Principal | None, principal_id: str) -> Principal:
    if found is None or not found.active or found.merchant is None:
        raise SetupError(f"{principal_id} is no active principal of a merchant.")
    return found


if __name__ == "__main__":
    sys.exit(main())
