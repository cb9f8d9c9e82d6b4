"""One frozen object with everything that an operator can set, read once at the start.

Every field is an environment variable with the prefix `EVALX_`; the four names of the original project are accepted as
well (`EVALX_CONTAINER_POOL_SIZE` wins over `CONTAINER_POOL_SIZE`). An empty variable counts as not set, so that a
compose file may pass on what it does not know. What follows from other settings is a property, never a second setting.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import AfterValidator, AliasChoices, BeforeValidator, Field, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
    SettingsConfigDict,
)

from evalx.access import (
    PREFIX,
    SaslMechanism,
    SecurityProtocol,
    kafka_mistake,
    read_secret,
    redis_mistake,
    with_access,
)
from evalx.errors import ConfigurationError

_KIB = 1024
_MIB = 1024 * _KIB

# The defaults of the contract: a maximum below one would reject every submission that leaves the field out.
_DEFAULT_CPU_TIME_MS = 2000
_DEFAULT_WALL_TIME_MS = 7000
_DEFAULT_MEMORY_BYTES = 256 * _MIB
_DEFAULT_OUTPUT_BYTES = 64 * _KIB
_DEFAULT_PROCESSES = 16

# Bytes that Kafka counts besides the value: key (<= 128), our headers (< 1 KiB with the longest trace state), batch
# and record framing (< 100).
_RECORD_OVERHEAD_BYTES = 4 * _KIB


class Lane(NamedTuple):
    """A priority and the partitions that have it."""

    name: str
    partitions: tuple[int, ...]


class ApiToken(NamedTuple):
    """Who may use the gateway: a name for logs and limits, and the SHA-256 of the secret."""

    name: str
    digest: bytes


def parse_lanes(text: str) -> tuple[Lane, ...]:
    """Lanes, highest first, from text such as `high=0-3,12-13,normal=4-7,low=8-11`; raises ValueError."""
    lanes: dict[str, list[int]] = {}
    name = ""
    for part in text.split(","):
        head, equals, span = part.strip().rpartition("=")
        if equals:
            name = head.strip()
            if not name.isidentifier() or name in lanes:
                raise ValueError(f"{part.strip()!r} does not begin a lane of its own name")
        elif not name:
            raise ValueError(f"{part.strip()!r} belongs to no lane; write NAME={part.strip()}")
        lanes.setdefault(name, []).extend(_parse_span(span))
    parsed = tuple(Lane(name, tuple(partitions)) for name, partitions in lanes.items())
    _check_cover(parsed)
    return parsed


# A partition number with more digits is a typing mistake, and a range up to it would fill the memory.
_LARGEST_PARTITION = 9999


def _parse_span(text: str) -> range:
    first, _, last = text.partition("-")
    last = last or first
    if not all(end.strip().isascii() and end.strip().isdigit() and len(end.strip()) <= 4 for end in (first, last)):
        raise ValueError(f"{text!r} is neither a partition nor a range such as 0-3 (at most {_LARGEST_PARTITION})")
    if int(last) < int(first):
        raise ValueError(f"the range {text!r} runs backwards")
    return range(int(first), int(last) + 1)


def _check_cover(lanes: tuple[Lane, ...]) -> None:
    owner: dict[int, str] = {}
    for lane in lanes:
        for partition in lane.partitions:
            if partition in owner:
                raise ValueError(f"partition {partition} is in both {owner[partition]!r} and {lane.name!r}")
            owner[partition] = lane.name
    missing = [partition for partition in range(max(owner) + 1) if partition not in owner]
    if missing:
        raise ValueError(f"partition {missing[0]} is in no lane; what is sent to it would never be judged")


def _lanes_from(value: Any) -> Any:
    return parse_lanes(value) if isinstance(value, str) else value


def _topic_name(value: str) -> str:
    if not value or len(value) > 200 or not all(c.isascii() and (c.isalnum() or c in "._-") for c in value):
        raise ValueError("a topic name has only A-Z a-z 0-9 . _ -")
    return value


def _seccomp(value: str) -> str:
    if value == "unconfined":
        raise ValueError("hostile programs are not run without a seccomp profile; evalx, docker or a path")
    return value


def parse_tokens(text: str) -> tuple[ApiToken, ...]:
    """Bearer tokens from text such as `ci=SHA256,web=SHA256`, each a name and the SHA-256 of a token in hexadecimal."""
    found: dict[str, ApiToken] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, digest = part.partition("=")
        if not name.isidentifier() or name in found:
            raise ValueError("write NAME=SHA256[,NAME=SHA256], each name once, of letters, digits and _")
        if len(digest) != 64 or not all(character in "0123456789abcdef" for character in digest):
            raise ValueError(f"what is given for {name} is not a SHA-256; make it with: printf %s TOKEN | sha256sum")
        found[name] = ApiToken(name, bytes.fromhex(digest))
    return tuple(found.values())


def _tokens_from(value: Any) -> Any:
    return parse_tokens(value) if isinstance(value, str) else value


def _words_from(value: Any) -> Any:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _runtime_dir() -> Path:
    if (uid := os.geteuid()) == 0:
        return Path("/run/evalx")
    run = os.environ.get("XDG_RUNTIME_DIR")
    return Path(run) / "evalx" if run else Path(f"/var/tmp/evalx-sockets-{uid}")


def _original(name: str) -> AliasChoices:
    return AliasChoices(PREFIX + name, name)


#: Names a folder with files instead of variables, for secrets; Docker and Kubernetes mount them so.
SECRETS_DIR = f"{PREFIX}SECRETS_DIR"

#: The fields that `_access_fits` looks at together.
_ACCESS = tuple(
    f"{service}_{name}"
    for service in ("kafka", "redis")
    for name in ("username", "password", "password_file", "ca_file", "cert_file", "key_file")
)


class Settings(BaseSettings):
    """Everything that can be set. Durations carry their unit in the name; sizes are bytes; maxima are inclusive."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, env_ignore_empty=True, extra="forbid", populate_by_name=True
    )

    # Services
    kafka_bootstrap: str = Field("localhost:9092", min_length=1, description="Kafka's brokers, HOST:PORT, by comma")
    kafka_security_protocol: SecurityProtocol = Field(
        "PLAINTEXT", description="PLAINTEXT, SSL (which is TLS), SASL_PLAINTEXT or SASL_SSL"
    )
    kafka_sasl_mechanism: SaslMechanism = Field("SCRAM-SHA-512", description="PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512")
    kafka_username: str | None = Field(None, description="for SASL")
    kafka_password: str | None = Field(None, repr=False, description="for SASL")
    kafka_password_file: Path | None = Field(None, description="a file that holds it, instead")
    kafka_ca_file: Path | None = Field(None, description="for SSL: whom to trust, PEM; unset = as the system")
    kafka_cert_file: Path | None = Field(None, description="for SSL: our certificate, PEM; unset = none")
    kafka_key_file: Path | None = Field(None, description="its key, without a password; unset = in kafka_cert_file")
    redis_url: str = Field(
        "redis://127.0.0.1:6379/0", pattern=r"^(rediss?|unix)://", repr=False, description="where the cache is"
    )
    redis_username: str | None = Field(None, description="unset = Redis's default user, or the one in the URL")
    redis_password: str | None = Field(None, repr=False, description="unset = none, or the one in the URL")
    redis_password_file: Path | None = Field(None, description="a file that holds it, instead")
    redis_ca_file: Path | None = Field(None, description="for rediss://: whom to trust, PEM; unset = as the system")
    redis_cert_file: Path | None = Field(None, description="for rediss://: our certificate, PEM; unset = none")
    redis_key_file: Path | None = Field(None, description="its key, without a password; unset = in redis_cert_file")
    docker_host: str | None = Field(None, description="the Docker daemon; unset = the usual socket")

    # Topics
    topic_prefix: Annotated[str, AfterValidator(_topic_name)] = Field(
        "evalx", description="what topic names begin with"
    )
    lanes: Annotated[tuple[Lane, ...], NoDecode, BeforeValidator(_lanes_from)] = Field(
        parse_lanes("high=0-3,normal=4-7,low=8-11"), description="priorities and their partitions, highest first"
    )
    consumer_group: str = Field(
        default_factory=lambda known: f"{known.get('topic_prefix', 'evalx')}-workers",
        min_length=1,
        description="of all workers; unset = PREFIX-workers",
    )
    max_message_bytes: int = Field(16 * _MIB, ge=1 * _MIB, le=64 * _MIB, description="the largest record")

    # What a submission may ask for
    max_code_bytes: int = Field(256 * _KIB, ge=1, description="the longest source text, in UTF-8")
    max_tests: int = Field(1000, ge=1, le=1000, description="tests in one submission")
    max_cpu_time_ms: int = Field(30_000, ge=_DEFAULT_CPU_TIME_MS, description="CPU time of one test")
    max_wall_time_ms: int = Field(120_000, ge=_DEFAULT_WALL_TIME_MS, description="elapsed time of one test")
    max_memory_bytes: int = Field(1024 * _MIB, ge=_DEFAULT_MEMORY_BYTES, description="memory of one test")
    max_output_bytes: int = Field(8 * _MIB, ge=_DEFAULT_OUTPUT_BYTES, le=32 * _MIB, description="stdout, stderr: each")
    max_processes: int = Field(64, ge=_DEFAULT_PROCESSES, description="processes and threads of one test")

    # Capacity
    cpu_slots: int = Field(default_factory=lambda: os.cpu_count() or 1, ge=1, description="programs run at one time")
    # 4 a slot: enough that no slot waits for Kafka, Redis or a comparison.
    concurrency: int = Field(
        default_factory=lambda known: 4 * known.get("cpu_slots", 1),
        ge=1,
        description="submissions in progress at one time, and cpu_slots more of each lane above another; "
        "unset = 4 x cpu_slots",
    )
    priorities: bool = Field(True, description="judge higher lanes first; false = all lanes take turns")
    # What waits behind a long queue is memory that a short one does not need: 19 KB for a batch of 5 KB, in each lane.
    buffer_max_count: int = Field(500, ge=1, description="submissions that wait in a worker before it holds Kafka back")
    buffer_max_bytes: int = Field(64 * _MIB, ge=1, description="likewise, in bytes")

    # Containers
    image_prefix: str = Field("evalx-", description="what names of images begin with")
    container_runtime: str | None = Field(None, description="such as runsc; unset = the daemon's own")
    seccomp: Annotated[str, AfterValidator(_seccomp)] = Field(
        "evalx", min_length=1, description="evalx, docker, or the path of a profile in Docker's format"
    )
    allow_unlimited: bool = Field(False, description="start although memory or pids limits are not enforced: unsafe")
    container_pool_size: int | None = Field(
        None,
        ge=0,
        validation_alias=_original("CONTAINER_POOL_SIZE"),
        description="containers kept warm in all; unset = one an image, or cpu_slots if that is more",
    )
    max_concurrent_containers: int = Field(
        500, ge=1, validation_alias=_original("MAX_CONCURRENT_CONTAINERS"), description="of all workers together"
    )
    # At least one for each of the five images and for each further slot: then no language has to give up its last one
    # for another that needs a second.
    container_cap: int = Field(
        default_factory=lambda known: min(
            max(4 + known.get("cpu_slots", 1), 2 * known.get("cpu_slots", 1)),
            known.get("max_concurrent_containers", 500),
        ),
        ge=1,
        description="containers of this worker; unset = 2 x cpu_slots, at least 4 + cpu_slots",
    )
    pool_scale_up_threshold: int = Field(
        90, ge=1, le=100, validation_alias=_original("POOL_SCALE_UP_THRESHOLD"), description="per cent in use: add"
    )
    pool_scale_down_threshold: int = Field(
        10, ge=0, le=99, validation_alias=_original("POOL_SCALE_DOWN_THRESHOLD"), description="per cent in use: remove"
    )
    elastic_pool: bool = Field(True, description="let the pool follow the load; false = add only for who waits, keep")
    container_max_batches: int = Field(1000, ge=1, description="batches after which a container is retired")
    fork_server: bool = Field(True, description="start a native program once for all its tests, where that is possible")
    warm_interpreters: bool = Field(True, description="fork tests from an interpreter that is started once a container")
    # A sixteenth of the usual: a worker, Kafka and Redis that wake up need not wait for programs to use up theirs.
    sandbox_cpu_shares: int = Field(
        64, ge=2, le=262_144, description="weight of a container when CPUs are short; others usually have 1024"
    )
    direct_sockets: bool = Field(True, description="talk to sandboxes over sockets, not through Docker, where possible")
    socket_dir: Path = Field(default_factory=_runtime_dir, description="where they are; this user's alone")
    socket_volume: str | None = Field(None, min_length=1, description="what is mounted there, if that is a volume")
    sandbox_work_bytes: int = Field(256 * _MIB, ge=16 * _MIB, description="each writable place of a container")

    # Times
    # 50 ms: a healthy Redis answers in under 1, and a cached answer that takes longer is better given from memory. On a
    # machine that is busy with judging Redis may need more: then claims are asked for once more, see cache/link.py.
    redis_timeout_ms: int = Field(50, ge=1, description="after which the cache counts as away")
    # A week: longer than any contest, and the memory limit evicts what is not asked for.
    result_cache_ttl_s: int = Field(7 * 24 * 3600, ge=1, description="how long a result is remembered")
    result_cache: bool = Field(True, description="answer a batch that was judged before without judging it again")
    test_cache: bool = Field(True, description="run only those tests of a batch that were not run for another one")
    single_flight: bool = Field(
        True, description="judge identical batches once, also when they arrive at the same time"
    )
    cache_secret: str | None = Field(
        None, min_length=16, repr=False, description="makes cache keys keyed hashes; the same for all workers"
    )
    # Not the system's temporary folder, which is in memory on many machines, and emptied at a restart.
    artifact_dir: Path = Field(
        default_factory=lambda: Path(f"/var/tmp/evalx-artifacts-{os.geteuid()}"),
        description="where compiled programs are kept on this machine",
    )
    artifact_disk_bytes: int = Field(1 << 30, ge=0, description="what they may take there; 0 = keep none")
    # 10 s: the platform's usual grace is 15 s or more before it kills, and containers must go in the rest.
    drain_timeout_s: float = Field(10.0, gt=0, description="for work in progress at a shutdown")
    # Unset, it is what may lie between two commits in the worst case: evalx/agents/standstill.py has the sum.
    standstill_grace_s: float | None = Field(
        None, ge=1, description="without a commit, beyond what is in flight, until a worker ends; unset = 142"
    )

    # The gateway
    gateway_host: str = Field("127.0.0.1", description="the address that the gateway listens on")
    gateway_port: int = Field(3000, ge=0, le=65535, description="its port; 0 = any free one")
    gateway_max_body_bytes: int = Field(10 * _MIB, ge=1 * _KIB, description="the largest request body")
    # Twice the largest load that is measured: 10,000 small submissions wait in some 20 MB.
    max_waiting: int = Field(
        20_000, ge=1, description="accepted and unanswered submissions of all gateways; over it: 429"
    )
    # Most proxies give up a silent connection after 60 s; a longer wait is for those who have none in between.
    gateway_max_wait_s: float = Field(300.0, gt=0, description="the longest `?wait=` that is accepted")
    gateway_ttl_s: int = Field(24 * 3600, ge=60, description="how long a result can be fetched by its token")
    gateway_tokens: Annotated[tuple[ApiToken, ...], NoDecode, BeforeValidator(_tokens_from)] = Field(
        (), repr=False, description="NAME=SHA256 of the bearer tokens, by comma; empty = everybody may submit"
    )
    gateway_rate_per_s: float = Field(0.0, ge=0, description="submissions a second of one token, or address; 0 = any")
    gateway_concurrency: int = Field(0, ge=0, description="unanswered submissions of one token, or address; 0 = any")
    gateway_cors_origins: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_words_from)] = Field(
        (), description="origins whose pages may call the gateway, by comma; empty = none but its own"
    )
    webhook_secret: str | None = Field(
        None, min_length=16, repr=False, description="signs webhooks; unset = `callback_url` is refused"
    )
    webhook_allow_private: bool = Field(False, description="call webhooks at private addresses too: unsafe")

    # Surroundings
    health_port: int = Field(6066, ge=0, le=65535, description="health and metrics of a worker; 0 = any free port")
    health_host: str = Field("127.0.0.1", description="the address of health_port")
    worker_addresses: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_words_from)] = Field(
        (), description="where `evalx top` asks workers, HOST[:PORT] by comma; unset = those that Redis knows"
    )
    worker_name: str | None = Field(None, description="the name in results; unset = HOST:PID")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="the least that is logged")
    traces: bool = Field(False, description="send spans by OTLP, as OTEL_ variables say; needs the extra `traces`")
    log_json: bool = Field(False, description="one JSON object a line")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment, then the files of EVALX_SECRETS_DIR, each named as the variable that it stands for."""
        if not (folder := os.environ.get(SECRETS_DIR)):
            return init_settings, env_settings
        if not Path(folder).is_dir():
            raise ConfigurationError(f"{SECRETS_DIR} is {folder!r}, where no folder is")
        return init_settings, env_settings, SecretsSettingsSource(settings_cls, folder)

    @classmethod
    def load(cls, **overrides: Any) -> Self:
        """The settings of the environment; `overrides` (by field name) win. Raises ConfigurationError."""
        try:
            return cls(**overrides)
        except ValidationError as error:
            raise ConfigurationError("; ".join(map(_complaint, _causes(error)))) from None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.container_cap > self.max_concurrent_containers:
            raise ValueError(
                f"{PREFIX}CONTAINER_CAP ({self.container_cap}) must not be over "
                f"{PREFIX}MAX_CONCURRENT_CONTAINERS ({self.max_concurrent_containers})"
            )
        if self.pool_scale_down_threshold >= self.pool_scale_up_threshold:
            raise ValueError(
                f"{PREFIX}POOL_SCALE_DOWN_THRESHOLD ({self.pool_scale_down_threshold}) must be below "
                f"{PREFIX}POOL_SCALE_UP_THRESHOLD ({self.pool_scale_up_threshold})"
            )
        return self

    @model_validator(mode="after")
    def _access_fits(self) -> Self:
        given = {name.upper(): getattr(self, name) for name in _ACCESS}
        if mistake := kafka_mistake(self.kafka_security_protocol, given) or redis_mistake(self.redis_url, given):
            raise ValueError(mistake)
        return self

    @property
    def kafka_uses_tls(self) -> bool:
        """Whether connections to Kafka are encrypted."""
        return self.kafka_security_protocol.endswith("SSL")

    @property
    def kafka_uses_sasl(self) -> bool:
        """Whether Kafka is told a user and a password."""
        return self.kafka_security_protocol.startswith("SASL")

    @property
    def kafka_secret(self) -> str | None:
        """The password for Kafka, wherever it is; raises ConfigurationError when its file cannot be read."""
        return read_secret(f"{PREFIX}KAFKA_PASSWORD_FILE", self.kafka_password_file, self.kafka_password)

    @property
    def redis_location(self) -> str:
        """`redis_url` with user, password and certificates; raises as `kafka_secret` does. Never to be shown."""
        secret = read_secret(f"{PREFIX}REDIS_PASSWORD_FILE", self.redis_password_file, self.redis_password)
        files = {
            "ssl_ca_certs": self.redis_ca_file,
            "ssl_certfile": self.redis_cert_file,
            "ssl_keyfile": self.redis_key_file or self.redis_cert_file,
        }
        return with_access(self.redis_url, self.redis_username, secret, files)

    @property
    def topic_submissions(self) -> str:
        """The topic that submissions come from."""
        return f"{self.topic_prefix}.submissions"

    @property
    def topic_results(self) -> str:
        """The topic that results go to."""
        return f"{self.topic_prefix}.results"

    @property
    def topic_dead_letters(self) -> str:
        """The topic of what cannot be judged."""
        return f"{self.topic_prefix}.submissions.DLT"

    @cached_property
    def lane_of(self) -> Mapping[int, str]:
        """The lane's name, by partition."""
        return MappingProxyType({partition: lane.name for lane in self.lanes for partition in lane.partitions})

    @cached_property
    def rank_of(self) -> Mapping[str, int]:
        """A lane's place, by name: 0 is the highest."""
        return MappingProxyType({lane.name: rank for rank, lane in enumerate(self.lanes)})

    @property
    def partition_count(self) -> int:
        """Partitions of each topic: every one has a lane, so it is as many as the lanes list."""
        return len(self.lane_of)

    @property
    def max_result_bytes(self) -> int:
        """The longest encoded result that Kafka takes with its key and headers."""
        return self.max_message_bytes - _RECORD_OVERHEAD_BYTES

    @property
    def redis_timeout_s(self) -> float:
        """`redis_timeout_ms` in seconds."""
        return self.redis_timeout_ms / 1000


def variable_names(field: str) -> tuple[str, ...]:
    """The environment variables that set a field, the preferred one first."""
    alias = Settings.model_fields[field].validation_alias
    if isinstance(alias, AliasChoices):
        return tuple(str(choice) for choice in alias.choices if str(choice).isupper())
    return ((PREFIX + field).upper(),)


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """What is wrong with variables that begin with the prefix but set nothing: most likely typing mistakes."""
    known = {SECRETS_DIR, *(name for field in Settings.model_fields for name in variable_names(field))}
    unknown = sorted(name for name in environment if name.startswith(PREFIX) and name not in known)
    return [f"{name} sets nothing{_nearest(name, known)}" for name in unknown]


def _nearest(name: str, known: set[str]) -> str:
    close = difflib.get_close_matches(name, sorted(known), n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def _causes(error: ValidationError) -> list[Mapping[str, Any]]:
    # A default that follows from a wrong value is a consequence, not a mistake of its own.
    return [dict(one) for one in error.errors() if one["type"] != "default_factory_not_called"]


def _complaint(error: Mapping[str, Any]) -> str:
    text = str(error["msg"]).removeprefix("Value error, ")
    if not error["loc"]:
        return text
    name = _variable(str(error["loc"][0]))
    # A URL may hold a password; that and other secrets must not end in a log.
    got = "" if name.endswith(("_URL", "_TOKENS", "_SECRET", "_PASSWORD")) else f" (got {str(error['input'])[:60]!r})"
    return f"{name}: {text}{got}"


def _variable(location: str) -> str:
    """The variable that was set, from the name of a field or of any of its variables."""
    for field in Settings.model_fields:
        names = variable_names(field)
        if location == field or location in names:
            return next((name for name in names if name in os.environ), names[0])
    return location
