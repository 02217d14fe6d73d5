"""The settings of one node: one TOML file, overridden by environment variables, validated as a whole.

This is the only module that reads `os.environ`. A setting `[sip] udp` is overridden by `SIPIVR_SIP__UDP`.
What belongs to merchants, numbers and trunks is not here but in `switch.db`, where an administrator can
change it on a running switch.
"""

from __future__ import annotations

import os
import tomllib
import typing
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

ENVIRONMENT_PREFIX = "SIPIVR_"


class ConfigError(Exception):
    """The settings cannot be used; the message is a sentence that names the setting and the mend."""


def _doc(text: str, **limits: Any) -> Meta:
    return Meta(description=text, **limits)


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all sections: frozen, and an unknown setting is an error."""


class NodeSettings(Section, frozen=True, kw_only=True):
    """Who this machine is and where it keeps its files."""

    name: Annotated[str, _doc("Name of this node in logs, metrics and records.")] = "node1"
    state_dir: Annotated[
        str, _doc("Databases, key files and ledgers. Relative paths are relative to the settings file.")
    ] = "var"
    run_dir: Annotated[str, _doc("Unix sockets, a directory for each pair of processes.")] = "var/run"
    environment: Annotated[
        str, _doc("`development` or `production`; production refuses to start with unsafe settings.")
    ] = "development"


class LogSettings(Section, frozen=True, kw_only=True):
    """Structured logs on standard error."""

    level: Annotated[str, _doc("DEBUG, INFO, WARNING or ERROR.")] = "INFO"
    format: Annotated[str, _doc("`json` (one object a line) or `text`.")] = "text"


class SIPSettings(Section, frozen=True, kw_only=True):
    """Where carriers and PBXs reach the switch."""

    udp: Annotated[str, _doc("address:port of the UDP listener, empty for none.")] = "127.0.0.1:5060"
    tcp: Annotated[str, _doc("address:port of the TCP listener, empty for none.")] = "127.0.0.1:5060"
    tls: Annotated[str, _doc("address:port of the TLS 1.2+ listener, empty for none.")] = ""
    tls_certificate: Annotated[str, _doc("PEM file with the certificate chain for TLS.")] = ""
    tls_key: Annotated[str, _doc("PEM file with the private key for TLS.")] = ""
    advertised_address: Annotated[
        str, _doc("Address that Contact and SDP name; empty: the listener's own.")
    ] = ""
    max_call_setups_per_s: Annotated[
        int, _doc("New calls a second before 503 with Retry-After answers the rest.", ge=1)
    ] = 200
    max_calls: Annotated[int, _doc("Calls at once on this node before 503.", ge=1)] = 400
    country_code: Annotated[str, _doc("Country code for national numbers.", pattern="^[1-9][0-9]{0,2}$")] = (
        "81"
    )


class RTPSettings(Section, frozen=True, kw_only=True):
    """Sockets and rules of the media plane."""

    address: Annotated[
        str,
        _doc(
            "Local address of the RTP sockets; or one IPv4 and one IPv6 address with a comma between, the one for"
            " our own offers first."
        ),
    ] = "127.0.0.1"
    advertised_address: Annotated[
        str, _doc("Address that SDP names (or one of each family, with a comma); empty: `address`.")
    ] = ""
    first_port: Annotated[
        int,
        _doc("First RTP port; even ports from here, RTCP one above each; 0 lets the kernel choose.", ge=0),
    ] = 0
    ports_per_worker: Annotated[
        int, _doc("RTP ports of one media worker on each address.", ge=1, le=4096)
    ] = 64
    timeout_s: Annotated[float, _doc("Seconds without a packet before a leg is reported silent.", ge=1)] = (
        30.0
    )
    port_sharing: Annotated[bool, _doc("Several legs on one port, told apart by the peer's address.")] = True
    latch_window_s: Annotated[
        float,
        _doc("Seconds in which a leg of a trunk with symmetric RTP may find its peer's source.", ge=1, le=60),
    ] = 10.0
    dscp: Annotated[
        int, _doc("DSCP of RTP and RTCP packets (RFC 2474); 46: expedited forwarding.", ge=0, le=63)
    ] = 46


class MediaSettings(Section, frozen=True, kw_only=True):
    """Media workers."""

    workers: Annotated[int, _doc("Number of workers; 0: cores − 1, at least one.", ge=0, le=256)] = 0
    spare: Annotated[bool, _doc("A warm process stands by to replace a worker that dies.")] = True
    max_legs: Annotated[
        int, _doc("Most legs of one worker, two a call; what is beyond is refused.", ge=2, le=4096)
    ] = 2048


class APISettings(Section, frozen=True, kw_only=True):
    """The REST API."""

    listen: Annotated[str, _doc("address:port of the HTTP listener.")] = "127.0.0.1:8080"
    tls_certificate: Annotated[str, _doc("PEM file; empty: plain HTTP, loopback only.")] = ""
    tls_key: Annotated[str, _doc("PEM file with the private key.")] = ""
    requests_per_minute: Annotated[int, _doc("Requests a minute for each key before 429.", ge=1)] = 600


class GatewaySettings(Section, frozen=True, kw_only=True):
    """How patient the switch is with payment gateways. Where a card goes is in `switch.db`, not here."""

    connect_timeout_s: Annotated[float, _doc("Seconds to connect.", gt=0, le=60)] = 5.0
    read_timeout_s: Annotated[float, _doc("Seconds to wait for an answer.", gt=0, le=300)] = 30.0
    max_connections: Annotated[int, _doc("Connections to one gateway at once.", ge=1, le=1000)] = 100
    final_after_s: Annotated[
        float, _doc("Seconds after ExecTran's last byte before UNPROCESSED means not charged.", ge=0)
    ] = 900.0
    reread_after_s: Annotated[
        str,
        _doc(
            "Seconds after which a payment that was closed as not charged is read again at the gateway, "
            "separated by commas."
        ),
    ] = "3600,21600,86400"


class SimulatorSettings(Section, frozen=True, kw_only=True):
    """The sandbox gateway that the supervisor starts beside the switch."""

    enabled: Annotated[bool, _doc("Start the simulator; refused in production.")] = True
    listen: Annotated[str, _doc("address:port, loopback only.")] = "127.0.0.1:8090"


class PromptSettings(Section, frozen=True, kw_only=True):
    """What customers hear: speech, synthesised once and kept."""

    cache_dir: Annotated[str, _doc("Synthesised prompts; empty: `prompts` in the state directory.")] = ""


class CallSettings(Section, frozen=True, kw_only=True):
    """Limits of one call."""

    max_duration_s: Annotated[int, _doc("A call is ended after this many seconds.", ge=60)] = 900
    drain_s: Annotated[int, _doc("Seconds that running calls have to finish after SIGTERM.", ge=0)] = 600


class Settings(Section, frozen=True, kw_only=True):
    """Everything, by section."""

    node: NodeSettings = NodeSettings()
    log: LogSettings = LogSettings()
    sip: SIPSettings = SIPSettings()
    rtp: RTPSettings = RTPSettings()
    media: MediaSettings = MediaSettings()
    api: APISettings = APISettings()
    gateway: GatewaySettings = GatewaySettings()
    simulator: SimulatorSettings = SimulatorSettings()
    prompts: PromptSettings = PromptSettings()
    calls: CallSettings = CallSettings()


class Paths(msgspec.Struct, frozen=True):
    """Every file of a node, absolute."""

    state_dir: Path
    run_dir: Path
    switch_db: Path
    api_db: Path
    keys: Path
    simulator_ledger: Path
    prompt_cache: Path
    control_socket: Path
    media_socket: Path


def paths(settings: Settings, base: Path) -> Paths:
    """Absolute paths; `base` is the directory of the settings file."""
    state = (base / settings.node.state_dir).resolve()
    run = (base / settings.node.run_dir).resolve()
    cache = settings.prompts.cache_dir
    return Paths(
        state_dir=state,
        run_dir=run,
        switch_db=state / "switch" / "switch.db",
        api_db=state / "api" / "api.db",
        keys=state / "secret" / "keys.toml",
        simulator_ledger=state / "simulator" / "ledger.db",
        prompt_cache=(base / cache).resolve() if cache else state / "prompts",
        control_socket=run / "api" / "control.sock",
        media_socket=run / "media" / "media.sock",
    )


#: Names of variables that are no settings: how the supervisor and systemd talk to a process.
READY_VARIABLE = "SIPIVR_READY_FD"
NOTIFY_VARIABLE = "NOTIFY_SOCKET"


def ready_descriptor() -> int | None:
    """The file descriptor on which the supervisor waits for our report, None when nobody waits."""
    text = os.environ.get(READY_VARIABLE, "")
    return int(text) if text.isdecimal() else None


def notify_socket() -> str | None:
    """Where systemd waits for `READY=1` (sd_notify(3)), None when nobody waits."""
    return os.environ.get(NOTIFY_VARIABLE) or None


def child_environment(**variables: str) -> dict[str, str]:
    """Our environment for a child process, with `variables`, without what was meant for us alone."""
    private = (READY_VARIABLE, NOTIFY_VARIABLE)
    return {name: value for name, value in os.environ.items() if name not in private} | variables


def _overrides(environ: typing.Mapping[str, str]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for name, value in environ.items():
        section, separator, setting = name.removeprefix(ENVIRONMENT_PREFIX).partition("__")
        if name.startswith(ENVIRONMENT_PREFIX) and separator:
            found.setdefault(section.lower(), {})[setting.lower()] = value
    return found


def _coerced(section: str, name: str, text: str) -> Any:
    """The text of an environment variable as the type that the setting has."""
    variable = f"{ENVIRONMENT_PREFIX}{section.upper()}__{name.upper()}"
    kind = next((f.type for f in msgspec.structs.fields(Settings) if f.name == section), None)
    if kind is None:
        raise ConfigError(
            f"{ENVIRONMENT_PREFIX}{section.upper()}__{name.upper()}: no section [{section}] exists."
        )
    default = {f.name: f.default for f in msgspec.structs.fields(kind)}.get(name, "")
    try:
        return msgspec.convert(text, type(default), strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{variable}: {error}.") from None


def load(path: Path | None, environ: typing.Mapping[str, str] | None = None) -> Settings:
    """Reads and validates the settings.

    Args:
        path: the TOML file; None for the defaults alone.
        environ: overrides; the process's environment when None.

    Raises:
        ConfigError: unreadable, not TOML, an unknown setting, or a value out of its range.
    """
    tree: dict[str, Any] = {}
    if path is not None:
        try:
            tree = tomllib.loads(path.read_text("utf-8"))
        except OSError as error:
            raise ConfigError(
                f"{path}: cannot be read ({error.strerror}). `sipivr init` writes one."
            ) from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: is not TOML: {error}.") from None
    for section, values in _overrides(os.environ if environ is None else environ).items():
        target = tree.setdefault(section, {})
        if not isinstance(target, dict):
            raise ConfigError(f"{path}: [{section}] must be a section.")
        for name, text in values.items():
            target[name] = _coerced(section, name, text)
    try:
        settings = msgspec.convert(tree, Settings)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path or 'settings'}: {error}. See docs/settings.md.") from None
    _check(settings)
    return settings


def host_and_port(listen: str) -> tuple[str, int]:
    """Splits `address:port`, `[v6]:port` too.

    Raises:
        ConfigError: no port, or a port that is none.
    """
    host, separator, port = listen.rpartition(":")
    if not separator or not port.isdecimal() or int(port) > 65535:
        raise ConfigError(f"{listen!r} is not address:port.")
    return host.strip("[]"), int(port)


def addresses(text: str) -> tuple[str, ...]:
    """The numeric addresses of a setting, at most one of each family; none when it is empty.

    Raises:
        ConfigError: not that.
    """
    found = tuple(word.strip() for word in text.split(",") if word.strip())
    try:
        parsed = [ip_address(word) for word in found]
    except ValueError as error:
        raise ConfigError(f"{error}. One IPv4 and one IPv6 address may stand there.") from None
    if len({one.version for one in parsed}) < len(parsed):
        raise ConfigError(f"{text!r}: more than one address of a family.")
    for one in parsed:
        if isinstance(one, IPv6Address) and (one.is_link_local or one.ipv4_mapped is not None):
            raise ConfigError(
                f"{one}: SDP cannot name an address with a scope, or an IPv4 one in IPv6's form."
            )
    return tuple(str(one) for one in parsed)


def seconds(text: str) -> tuple[float, ...]:
    """The numbers of a setting, in their order.

    Raises:
        ConfigError: one of them is no positive number.
    """
    try:
        found = tuple(float(word) for word in text.split(",") if word.strip())
    except ValueError:
        raise ConfigError(f"{text!r}: seconds, separated by commas.") from None
    if not all(0 < one < 1e9 for one in found):
        raise ConfigError(f"{text!r}: seconds above 0.")
    return found


def _check_rtp(rtp: RTPSettings) -> None:
    ours, named = addresses(rtp.address), addresses(rtp.advertised_address)
    if not ours:
        raise ConfigError("[rtp] address must name an address.")
    for one in (ip_address(address) for address in ours):
        if one.is_unspecified and not any(ip_address(other).version == one.version for other in named):
            raise ConfigError(f"[rtp] address {one} needs an advertised_address: in SDP it would mean hold.")


def _check(settings: Settings) -> None:
    _check_rtp(settings.rtp)
    seconds(settings.gateway.reread_after_s)
    for listen in (settings.sip.udp, settings.sip.tcp, settings.sip.tls, settings.api.listen):
        if listen:
            host_and_port(listen)
    if settings.log.level not in {"DEBUG", "INFO", "WARNING", "ERROR"}:
        raise ConfigError("[log] level must be DEBUG, INFO, WARNING or ERROR.")
    if settings.log.format not in {"json", "text"}:
        raise ConfigError("[log] format must be `json` or `text`.")
    if settings.node.environment not in {"development", "production"}:
        raise ConfigError("[node] environment must be `development` or `production`.")
    if settings.node.environment == "production" and settings.simulator.enabled:
        raise ConfigError("[simulator] enabled must be false in production: it approves charges by itself.")
    if settings.sip.tls and not (settings.sip.tls_certificate and settings.sip.tls_key):
        raise ConfigError("[sip] tls needs tls_certificate and tls_key.")
    host, _ = host_and_port(settings.api.listen)
    if not settings.api.tls_certificate and host not in {"127.0.0.1", "::1", "localhost"}:
        raise ConfigError("[api] listen is not loopback: set tls_certificate and tls_key.")
