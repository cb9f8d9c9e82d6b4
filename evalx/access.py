"""What Kafka and Redis are told to let us in: which settings fit together, and where a secret is read from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TypeAlias
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

from evalx.errors import ConfigurationError

SecurityProtocol: TypeAlias = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
SaslMechanism: TypeAlias = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]
#: What is set, by the variable's name without the prefix; what is not set is None.
Given: TypeAlias = Mapping[str, object]

PREFIX = "EVALX_"


def read_secret(variable: str, path: Path | None, value: str | None) -> str | None:
    """The value itself, or what the file holds, without the line's end.

    Raises:
        ConfigurationError: the file cannot be read, or is empty.
    """
    if path is None:
        return value
    try:
        secret = path.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise ConfigurationError(f"{variable}: {path} cannot be read: {reason}") from None
    if not secret:
        raise ConfigurationError(f"{variable}: {path} is empty; it must hold the password")
    return secret


def kafka_mistake(protocol: str, given: Given) -> str | None:
    """What does not fit together; a secret that would not be used is a mistake, too, and not only an idle setting."""
    if protocol.startswith("SASL"):
        if given["KAFKA_USERNAME"] is None or not (given["KAFKA_PASSWORD"] or given["KAFKA_PASSWORD_FILE"]):
            return (
                f"{PREFIX}KAFKA_SECURITY_PROTOCOL: {protocol} needs {PREFIX}KAFKA_USERNAME and {PREFIX}KAFKA_PASSWORD"
            )
    elif unused := _given(given, "KAFKA_USERNAME", "KAFKA_PASSWORD", "KAFKA_PASSWORD_FILE"):
        return f"{unused} needs {PREFIX}KAFKA_SECURITY_PROTOCOL SASL_SSL or SASL_PLAINTEXT, and it is {protocol}"
    files = _given(given, "KAFKA_CA_FILE", "KAFKA_CERT_FILE", "KAFKA_KEY_FILE")
    if files and not protocol.endswith("SSL"):
        return f"{files} needs {PREFIX}KAFKA_SECURITY_PROTOCOL SSL or SASL_SSL, and it is {protocol}"
    return _pair_mistake("KAFKA", given)


def redis_mistake(url: str, given: Given) -> str | None:
    """Likewise."""
    files = _given(given, "REDIS_CA_FILE", "REDIS_CERT_FILE", "REDIS_KEY_FILE")
    if files and not url.startswith("rediss:"):
        return f"{files} needs an {PREFIX}REDIS_URL that begins with rediss://"
    secret = _given(given, "REDIS_PASSWORD", "REDIS_PASSWORD_FILE")
    if secret and "@" in urlsplit(url).netloc:
        return f"{secret}: {PREFIX}REDIS_URL tells a user or password as well; set one of them"
    if given["REDIS_USERNAME"] is not None and not secret:
        return f"{PREFIX}REDIS_USERNAME needs {PREFIX}REDIS_PASSWORD"
    return _pair_mistake("REDIS", given)


def _given(given: Given, *names: str) -> str:
    """The first of these that is set, as a variable; empty when none is."""
    return next((PREFIX + name for name in names if given[name] is not None), "")


def _pair_mistake(service: str, given: Given) -> str | None:
    if given[f"{service}_PASSWORD"] is not None and given[f"{service}_PASSWORD_FILE"] is not None:
        return f"{PREFIX}{service}_PASSWORD and {PREFIX}{service}_PASSWORD_FILE exclude each other"
    if given[f"{service}_KEY_FILE"] is not None and given[f"{service}_CERT_FILE"] is None:
        return f"{PREFIX}{service}_KEY_FILE needs {PREFIX}{service}_CERT_FILE"
    return None


def with_access(url: str, username: str | None, password: str | None, files: Mapping[str, Path | None]) -> str:
    """A Redis URL with these; ``files`` are by the names that Redis's client gives them in a URL."""
    if password is None and not any(files.values()):
        return url
    parts = urlsplit(url)
    netloc = parts.netloc
    if password is not None:
        netloc = f"{quote(username or '', safe='')}:{quote(password, safe='')}@{netloc}"
    more = urlencode({name: str(path) for name, path in files.items() if path is not None})
    return urlunsplit(parts._replace(netloc=netloc, query="&".join(filter(None, (parts.query, more)))))


def redis_hint(error: BaseException) -> str:
    """What to do about a failure of Redis, as far as it is one of the settings; else empty."""
    text = f"{error} {error.__cause__ or ''}"
    # The client makes its own errors of these, and their texts are what stays the same.
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return "its certificate is not accepted: are EVALX_REDIS_CA_FILE and the name in EVALX_REDIS_URL right?"
    if "WRONGPASS" in text or "username-password pair" in text or "invalid password" in text:
        return "it refuses the password: are EVALX_REDIS_PASSWORD and EVALX_REDIS_USERNAME right?"
    if any(one in text for one in ("NOAUTH", "Authentication required", "already authenticated")):
        return "it wants a password: set EVALX_REDIS_PASSWORD"
    if "WRONG_VERSION_NUMBER" in text or "SSL" in text:
        return "TLS fails: does EVALX_REDIS_URL begin with rediss://, and does Redis speak TLS on this port?"
    return ""
