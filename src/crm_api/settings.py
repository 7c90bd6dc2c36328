"""Reads the environment, once, into one frozen `Settings`."""

import hashlib
import hmac
import ipaddress
import os
import re
import secrets
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from crm_api.kernel.problems import ConfigurationError

_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[a-z0-9._\[\]:-]+")


class Settings(BaseSettings):
    """Every setting of the product; each is read from `CRM_<NAME>`. docs/settings.md is checked against this class."""

    model_config = SettingsConfigDict(env_prefix="CRM_", frozen=True, extra="ignore")

    environment: Literal["development", "production"] = Field(
        "development", description="`production` refuses generated secrets and privileged database roles."
    )
    database_url: str | None = Field(
        None,
        description="PostgreSQL 18 for the server's role. Unset: PostgreSQL is started from the installed package.",
    )
    migrate_url: str | None = Field(
        None, description="The same database for the role that migrates. Default: CRM_DATABASE_URL."
    )
    data_dir: Path = Field(
        Path(".data"), description="Folder of the embedded PostgreSQL, of attached files and of the generated secret."
    )
    secret: SecretStr | None = Field(
        None,
        description="At least 32 characters; cursors, key peppers and secrets derive from it. Required in production.",
    )
    secret_previous: SecretStr | None = Field(
        None,
        description="A second secret that is accepted, not used, while CRM_SECRET is exchanged: see operations.md.",
    )
    public_url: str | None = Field(
        None,
        description="Where browsers reach the server, as `https://crm.example.com`; tokens name it as issuer, links in "
        "letters begin with it.",
    )
    smtp_url: SecretStr | None = Field(
        None,
        description="Server that takes letters: `smtp://user:password@host:587` with STARTTLS, or `smtps://`. "
        "Unset: none are sent, and administrators hand links over themselves.",
    )
    mail_from: str = Field("crm@localhost.localdomain", description="Address that letters come from.")
    session_hours: float = Field(
        12, gt=0, le=720, description="Hours after which who signed in with a browser signs in again."
    )
    session_idle: int = Field(3600, ge=60, description="Seconds after which a session that is not used ends.")
    pool_size: int = Field(
        8,
        ge=1,
        le=200,
        description="Database connections of each server process for one tenant; a quarter more for others.",
    )
    pool_timeout: float = Field(2.0, gt=0, description="Seconds a request waits for a connection before it gets 503.")
    statement_timeout: int = Field(5000, ge=100, description="Milliseconds any statement of a request may run.")
    lock_timeout: int = Field(500, ge=10, description="Milliseconds a statement waits for a lock.")
    tenant_context: Literal["session", "transaction"] = Field(
        "session", description="`transaction` for poolers that hand connections over after each transaction."
    )
    max_body: int = Field(1_048_576, ge=1024, description="Bytes a request body may have.")
    max_file: int = Field(26_214_400, ge=1024, description="Bytes an attached file may have.")
    max_import: int = Field(536_870_912, ge=1024, description="Bytes the file of an import may have.")
    files_url: str | None = Field(
        None,
        description="Where files are kept: `s3://bucket/prefix`, with `AWS_*` for endpoint and credentials. Unset: the "
        "folder `files` in CRM_DATA_DIR, which all processes must share.",
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Origins that browsers may call from, separated by commas; `*` for any."
    )
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Addresses whose X-Forwarded-For is believed, separated by commas."
    )
    rate_credential: int = Field(
        100, ge=1, le=1_000_000, description="Requests each second of one credential, on average."
    )
    rate_tenant: int = Field(
        1000, ge=1, le=10_000_000, description="Requests each second of all credentials of a tenant, on average."
    )
    rate_window: int = Field(2, ge=1, le=60, description="Seconds of these rates that may be used at once.")
    rate_failures: int = Field(
        60, ge=1, le=1_000_000, description="Wrong credentials each minute from one address, of each process."
    )
    in_flight: int = Field(
        10, ge=1, le=100_000, description="Requests of one credential at the same time, of each process."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is logged.")
    log_format: Literal["json", "text"] = Field("json", description="`text` is for people at a terminal.")
    metrics_token: SecretStr | None = Field(
        None, description="When set, `/metrics` wants `Authorization: Bearer` with it; at least 16 characters."
    )
    idempotency_days: int = Field(7, ge=1, le=90, description="Days the reply under an Idempotency-Key is kept.")
    feed_days: int = Field(90, ge=1, le=3650, description="Days that events stay in the change feed; whole weeks.")
    webhook_days: int = Field(30, ge=1, le=3650, description="Days that a delivery and its attempts are kept.")
    webhook_lease: int = Field(
        60, ge=20, le=3600, description="Seconds after which another worker sends what one that died was sending."
    )
    egress_allow: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Networks beside the public ones that webhooks may go to, as `10.1.0.0/16`, separated by commas.",
    )
    egress_ca: Path | None = Field(
        None, description="File with certificates of authorities that receivers of webhooks may have, beside the usual."
    )
    worker: bool = Field(
        True, description="Whether server processes do the work beside requests, too; else `crm-api worker` does it."
    )
    worker_pool_size: int = Field(
        8, ge=1, le=200, description="Database connections for the work beside requests, of each process that does it."
    )
    worker_jobs: int = Field(4, ge=1, le=100, description="Jobs that a process runs at once.")
    job_lease: float = Field(
        60, ge=1, description="Seconds after which a job goes to another worker, when its own says nothing."
    )
    job_days: int = Field(30, ge=1, le=3650, description="Days that a job is kept after its end.")
    file_days: int = Field(
        30, ge=1, le=3650, description="Days that the bytes of a deleted file are kept; until then it can be restored."
    )
    export_days: int = Field(7, ge=1, le=365, description="Days that the result of an export can be got.")
    print_processes: int = Field(
        2, ge=1, le=64, description="Documents that a server process sets at once, each in a process of its own."
    )
    import_days: int = Field(
        30,
        ge=1,
        le=3650,
        description="Days that the file and the rows of an import are kept after it was last changed.",
    )
    shutdown_timeout: int = Field(20, ge=1, description="Seconds running requests get when the server stops.")

    @field_validator("cors_origins", "trusted_proxies", "egress_allow", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("files_url")
    @classmethod
    def _store(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("s3://", "file:///")):
            raise ValueError("CRM_FILES_URL must begin with s3:// or file:///.")
        return value

    @field_validator("public_url")
    @classmethod
    def _origin(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.scheme not in ("https", "http") or not parts.hostname or value != f"{parts.scheme}://{parts.netloc}":
            raise ValueError("CRM_PUBLIC_URL is https:// and a host, without a path.")
        return value

    @field_validator("smtp_url")
    @classmethod
    def _mail(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value().startswith(("smtp://", "smtps://")):
            raise ValueError("CRM_SMTP_URL must begin with smtp:// or smtps://.")
        return value

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise ValueError(f"CRM_CORS_ORIGINS: {origin!r} is no origin such as https://app.example.com.")
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        try:
            return tuple(str(ipaddress.ip_address(address)) for address in value)
        except ValueError as error:
            raise ValueError(f"CRM_TRUSTED_PROXIES: {error}.") from None

    @field_validator("egress_ca")
    @classmethod
    def _file(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_file():
            raise ValueError(f"CRM_EGRESS_CA: there is no file {value}.")
        return value

    @field_validator("egress_allow")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for network in value:
            try:
                ipaddress.ip_network(network)
            except ValueError as error:
                raise ValueError(f"CRM_EGRESS_ALLOW: {error}.") from None
        return value

    @field_validator("metrics_token")
    @classmethod
    def _long_enough(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value()) < 16:
            raise ValueError("CRM_METRICS_TOKEN must have at least 16 characters.")
        return value

    @model_validator(mode="after")
    def _links(self) -> Self:
        if self.smtp_url is not None and self.public_url is None:
            raise ValueError("CRM_SMTP_URL needs CRM_PUBLIC_URL: letters hold links.")
        return self

    @property
    def issuer(self) -> str | None:
        """Who issues tokens: the address that browsers know. None where it must be set, and is not."""
        return self.public_url or (None if self.environment == "production" else "http://127.0.0.1:8000")

    def master_secret(self) -> bytes:
        """The secret that all processes share; generated into `data_dir` in development only."""
        if self.secret is not None:
            return _long("CRM_SECRET", self.secret)
        if self.environment == "production":
            raise ConfigurationError("CRM_SECRET is required in production: all processes must share one secret.")
        return _generated_secret(self.data_dir / "secret")

    def master_secrets(self) -> tuple[bytes, ...]:
        """That secret, which makes things, and the one beside it under which things may have been made."""
        known = [self.master_secret()]
        if self.secret_previous is not None:
            known.append(_long("CRM_SECRET_PREVIOUS", self.secret_previous))
        return tuple(dict.fromkeys(known))


def _long(name: str, secret: SecretStr) -> bytes:
    value = secret.get_secret_value().encode()
    if len(value) < 32:
        raise ConfigurationError(f"{name} must have at least 32 characters.")
    return value


def _generated_secret(path: Path) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_bytes()
    with os.fdopen(handle, "wb") as file:
        file.write(secrets.token_hex(32).encode())
    return path.read_bytes()


def derive_key(master: bytes, purpose: str) -> bytes:
    """A 32-byte key for one purpose (HKDF-Expand of RFC 5869 with one block)."""
    return hmac.new(master, purpose.encode() + b"\x01", hashlib.sha256).digest()


@lru_cache(maxsize=1)
def load_settings() -> Settings:
    """The settings of this process.

    Raises:
        ConfigurationError: a variable is called almost like a setting.
    """
    for variable in os.environ:
        name = variable.removeprefix("CRM_").lower()
        if variable.startswith("CRM_") and name not in Settings.model_fields:
            close = get_close_matches(name, Settings.model_fields, 1, 0.85)
            if close:
                raise ConfigurationError(f"{variable} is no setting. Did you mean CRM_{close[0].upper()}?")
    return Settings()
