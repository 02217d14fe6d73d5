"""The command `sipivr`.

Exit status: 0 done; 1 it could not be done, and a sentence on standard error says why and what to do; 2 the
command line was not understood.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import sqlite3
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from sipivr import config, settings_text
from sipivr.doctor import examine, report
from sipivr.initialise import CannotInitialiseError, initialise, packaged_values
from sipivr.layout import Kind
from sipivr.store import audit, crypto, database, errors
from sipivr.supervision.child import Child, StartFailedError
from sipivr.supervision.serve import serve
from sipivr.supervision.sockets import PortTakenError

DEFAULT_CONFIG: Final = Path("sipivr.toml")
SAY_EVERY_S: Final = 2.0


class CannotError(Exception):
    """What was asked for cannot be done; the message is a sentence that says why."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit status."""
    given = _parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = given.run
    try:
        return run(given)
    except (CannotError, config.ConfigError, PortTakenError, StartFailedError) as error:
        print(f"sipivr {given.command}: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sipivr", description="A SIP softswitch that takes card payments by telephone."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(run=run)
        return sub

    def with_config(sub: argparse.ArgumentParser) -> argparse.ArgumentParser:
        sub.add_argument(
            "--config", type=Path, default=DEFAULT_CONFIG, metavar="FILE", help="settings (sipivr.toml)"
        )
        return sub

    serve = with_config(command("serve", _serve, "Run the switch until SIGTERM or Ctrl-C."))
    serve.add_argument(
        "--only",
        action="append",
        choices=[kind.value for kind in Kind],
        help="run this kind of process only; may be given more than once (one systemd unit for each)",
    )
    serve.add_argument("--users", action="store_true", help="run each kind under its own user (as root)")

    init = with_config(command("init", _init, "Write settings, keys, databases and the first accounts."))
    init.add_argument("--json", action="store_true", help="what is printed once, as one JSON document")
    init.add_argument("--dir", type=Path, metavar="DIR", help="where sipivr.toml and var/ go")
    init.add_argument(
        "--packaged",
        action="store_true",
        help="the layout of a package, as root: /etc/sipivr, /var/lib/sipivr, one user for each kind",
    )

    doctor = with_config(command("doctor", _doctor, "Check this machine; each finding names its mend."))
    doctor.add_argument("--json", action="store_true", help="findings as one JSON document")

    settings = command("settings", _settings, "Print every setting with its description and default.")
    settings.add_argument("--markdown", action="store_true", help="as docs/settings.md has them")

    audit = commands.add_parser("audit", help="The audit log.").add_subparsers(dest="audit", required=True)
    verify = with_config(audit.add_parser("verify", help="Recompute the chain of MACs from the first row."))
    verify.add_argument(
        "--against", type=Path, metavar="HEADS", help="heads kept elsewhere, `number mac` a line"
    )
    verify.set_defaults(run=_audit_verify)

    prompts = command("prompts", _prompts, "Speak every phrase ahead of time into a cache.")
    prompts.add_argument("--cache", type=Path, metavar="DIR", help="instead of the settings' own cache")
    command("version", _version, "Print the version.")
    return parser


def _loaded(path: Path) -> tuple[config.Settings, config.Paths]:
    settings = config.load(path)
    return settings, config.paths(settings, path.resolve().parent)


def _serve(given: argparse.Namespace) -> int:
    settings, paths = _loaded(given.config)
    kinds = frozenset(Kind(name) for name in given.only) if given.only else frozenset(Kind)
    if Kind.SWITCH in kinds and not paths.switch_db.exists():
        raise CannotError(f"{paths.switch_db} does not exist. Run: sipivr init --config {given.config}")

    def announce(children: Mapping[Kind, Sequence[Child]]) -> None:
        print(banner(settings, paths, children), flush=True)

    return serve(
        settings,
        given.config.resolve(),
        paths,
        kinds=kinds,
        users=given.users,
        hold_open=database.hold_open,
        announce=announce,
    )


def banner(settings: config.Settings, paths: config.Paths, children: Mapping[Kind, Sequence[Child]]) -> str:
    """What `sipivr serve` prints when everything is ready."""
    lines = [f"sipivr {version()} is ready on {settings.node.name} ({settings.node.environment})."]
    if children.get(Kind.SWITCH):
        listeners = [
            f"{listen} ({protocol})"
            for protocol, listen in (
                ("UDP", settings.sip.udp),
                ("TCP", settings.sip.tcp),
                ("TLS", settings.sip.tls),
            )
            if listen
        ]
        lines.append(f"  SIP        {', '.join(listeners)}")
        for child in children[Kind.SWITCH]:
            lines += [f"  {name:<10} {value}" for name, value in child.addresses.items()]
    if children.get(Kind.MEDIA):
        workers = len(children[Kind.MEDIA])
        ports = workers * settings.rtp.ports_per_worker
        lines.append(
            f"  RTP        {ports} UDP ports on {settings.rtp.address}, as many for RTCP, {workers} media worker(s)"
        )
    if children.get(Kind.API):
        scheme = "https" if settings.api.tls_certificate else "http"
        lines.append(f"  API        {scheme}://{settings.api.listen}/v1   reference: /docs")
    if children.get(Kind.SIMULATOR):
        lines.append(f"  sandbox    http://{settings.simulator.listen} answers as the payment gateway")
    lines += [f"  records    {paths.state_dir}", "Ctrl-C stops it; running calls may finish first."]
    return "\n".join(lines)


def _init(given: argparse.Namespace) -> int:
    if given.packaged:
        path = Path("/etc/sipivr/sipivr.toml") if given.config == DEFAULT_CONFIG else given.config
        values = packaged_values()
    else:
        path, values = (given.dir / DEFAULT_CONFIG if given.dir else given.config), {}
    try:
        made = initialise(path, values, users=given.packaged)
    except CannotInitialiseError as error:
        raise CannotError(str(error)) from None
    print(made.as_json() if given.json else made.text(), flush=True)
    return 0


def _doctor(given: argparse.Namespace) -> int:
    findings = examine(given.config, progress=None if given.json else sys.stderr)
    print(report(findings, as_json=given.json), flush=True)
    return 1 if any(finding.failed for finding in findings) else 0


def _head(line: str) -> audit.Head:
    number, _, mac = line.strip().partition(" ")
    if not number.isdecimal():
        raise CannotError(f"{line!r} is not a head: `number mac`.")
    return audit.Head(int(number), mac)


def _settings(given: argparse.Namespace) -> int:
    print(settings_text.markdown() if given.markdown else settings_text.toml(), end="")
    return 0


def _audit_verify(given: argparse.Namespace) -> int:
    _, paths = _loaded(given.config)
    try:
        keys = crypto.load_keys(paths.keys)
        heads = (
            [_head(line) for line in given.against.read_text("utf-8").splitlines()] if given.against else []
        )
        db = database.open_readonly(paths.switch_db)
        rows = audit.verify(db, keys.audit_key, heads)
    except (crypto.KeyFileError, errors.StoreError, OSError, sqlite3.Error) as error:
        raise CannotError(str(error)) from None
    print(f"{rows} rows of the audit log verify.")
    return 0


def _prompts(given: argparse.Namespace) -> int:
    """Synthesis takes a minute the first time; a second run finds everything."""
    from sipivr.prompts import PromptLibrary, PromptProgress  # noqa: PLC0415 - loads the voices' libraries

    cache = given.cache or _loaded(given.config)[1].prompt_cache
    said = time.monotonic()

    def tell(progress: PromptProgress) -> None:
        nonlocal said
        if progress.made and time.monotonic() - said > SAY_EVERY_S:
            said = time.monotonic()
            print(f"  {progress.done} of {progress.total} ...", flush=True)

    async def speak() -> list[PromptProgress]:
        library = PromptLibrary(cache)
        try:
            return [await library.prepare_fixed(tell), await library.prepare_counts(tell)]
        finally:
            await library.aclose()

    done = asyncio.run(speak())
    total, made = sum(one.total for one in done), sum(one.made for one in done)
    print(f"{total} prompts in {cache}, {made} of them new.", flush=True)
    for problem in (problem for one in done for problem in one.problems):
        print(
            f"  {problem} is spoken by a stand-in: its voice is missing, see `sipivr doctor`", file=sys.stderr
        )
    return 0


def _version(_: argparse.Namespace) -> int:
    print(f"sipivr {version()}")
    return 0


def version() -> str:
    """The installed version."""
    try:
        return importlib.metadata.version("sipivr")
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"
