"""How every part of evalx connects to Kafka, and why it could not.

The Kafka library tells of a refused password or certificate in its log only; its error says that no broker answered. So
when a connection fails, `unavailable` makes one more, by itself, and asks that one what is wrong.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from pathlib import Path
from typing import Any

from aiokafka.conn import create_conn
from aiokafka.errors import (
    AuthenticationFailedError,
    IllegalSaslStateError,
    KafkaConnectionError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)

from evalx.access import PREFIX
from evalx.errors import ConfigurationError, ServiceUnavailableError
from evalx.settings import Settings

#: Seconds for the connection that finds out what is wrong: a healthy broker needs some 10 ms, with TLS and a password
#: up to 100. Added to the time in which the first one failed.
ASK_TIMEOUT_S = 3.0

_BASIC_HINT = "is it running, and is EVALX_KAFKA_BOOTSTRAP right?"
_REFUSED = (AuthenticationFailedError, SaslAuthenticationFailed)


class _Parting(ssl.SSLObject):
    """Says that it closes the connection, and does not wait for the other side to say so, too.

    A broker often does not, and event loops wait 30 s for it, which is twice what a worker may take to stop. TLS allows
    it, and nothing is lost: all that Kafka confirms was confirmed by then.
    """

    def unwrap(self) -> Any:
        """Send the last word."""
        with contextlib.suppress(ssl.SSLWantReadError):
            return super().unwrap()
        return None


def connection(settings: Settings) -> dict[str, Any]:
    """The arguments with which each client of aiokafka connects.

    Raises:
        ConfigurationError: a file with a certificate, key or password cannot be used.
    """
    arguments: dict[str, Any] = {"bootstrap_servers": settings.kafka_bootstrap}
    if settings.kafka_security_protocol != "PLAINTEXT":
        arguments["security_protocol"] = settings.kafka_security_protocol
    if settings.kafka_uses_tls:
        arguments["ssl_context"] = tls_context(settings)
    if settings.kafka_uses_sasl:
        arguments |= {
            "sasl_mechanism": settings.kafka_sasl_mechanism,
            "sasl_plain_username": settings.kafka_username,
            "sasl_plain_password": settings.kafka_secret,
        }
    return arguments


def tls_context(settings: Settings) -> ssl.SSLContext:
    """Certificates that are trusted, and our own; the broker's name is always checked.

    Raises:
        ConfigurationError: a file cannot be used.
    """
    try:
        context = ssl.create_default_context(cafile=settings.kafka_ca_file)
    except OSError as error:
        raise _unusable("KAFKA_CA_FILE", settings.kafka_ca_file, error, "certificates in PEM") from error
    context.sslobject_class = _Parting
    if settings.kafka_cert_file is not None:
        try:
            # A password for the key would be asked for on the terminal.
            context.load_cert_chain(settings.kafka_cert_file, settings.kafka_key_file, password="")
        except (OSError, ValueError) as error:
            hint = "a certificate in PEM, and in EVALX_KAFKA_KEY_FILE its key without a password"
            raise _unusable("KAFKA_CERT_FILE", settings.kafka_cert_file, error, hint) from error
    return context


def _unusable(name: str, path: Path | None, error: Exception, wanted: str) -> ConfigurationError:
    reason = getattr(error, "strerror", None) or str(error)
    return ConfigurationError(f"{PREFIX}{name}: {path} cannot be used: {reason}; it must hold {wanted}")


async def unavailable(settings: Settings, error: BaseException) -> ServiceUnavailableError:
    """What to raise when Kafka did not answer: with the reason, as far as it can be found out, and what to do."""
    reason = await _find_reason(settings) if isinstance(error, KafkaConnectionError | TimeoutError | OSError) else None
    if reason is None:
        reason = f"{str(error) or type(error).__name__}; {_BASIC_HINT}"
    return ServiceUnavailableError("Kafka", settings.kafka_bootstrap, reason)


async def _find_reason(settings: Settings) -> str | None:
    """What the first broker that can be reached has against us; None when none can be, or all is well by now."""
    arguments = connection(settings)
    for address in arguments.pop("bootstrap_servers").split(","):
        host, _, port = address.strip().rpartition(":")
        # IPv6 addresses are written in brackets.
        host = host.strip("[]") or address.strip()
        try:
            async with asyncio.timeout(ASK_TIMEOUT_S):
                made = await create_conn(host, int(port) if port.isdigit() else 9092, **arguments)
        except (KafkaError, OSError, TimeoutError, ValueError, AssertionError) as error:
            if (reason := explain(settings, error)) is not None:
                return reason
        else:
            made.close()
    return None


def explain(settings: Settings, error: BaseException) -> str | None:
    """What a failed connection says about the settings; None when it says nothing about them."""
    if isinstance(error, _REFUSED):
        return (
            f"it refuses user {settings.kafka_username!r} ({error}); are EVALX_KAFKA_USERNAME, EVALX_KAFKA_PASSWORD"
            f" and EVALX_KAFKA_SASL_MECHANISM ({settings.kafka_sasl_mechanism}) right?"
        )
    if isinstance(error, UnsupportedSaslMechanismError):
        return f"it does not take this EVALX_KAFKA_SASL_MECHANISM ({settings.kafka_sasl_mechanism}): {error}"
    if isinstance(error, ssl.SSLError):
        return _explain_tls(settings, error)
    if isinstance(error, IllegalSaslStateError | KafkaConnectionError | TimeoutError | ConnectionResetError):
        return (
            f"it takes the connection but does not answer ({type(error).__name__}); does this listener speak"
            f" {settings.kafka_security_protocol}, as EVALX_KAFKA_SECURITY_PROTOCOL says?{_own_certificate(settings)}"
        )
    return None


def _explain_tls(settings: Settings, error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        trusted = settings.kafka_ca_file or "the certificates of this system"
        return (
            f"its certificate is not accepted ({error.verify_message}); trusted are those of {trusted}: is"
            " EVALX_KAFKA_CA_FILE right, and is the broker's name in EVALX_KAFKA_BOOTSTRAP the one in its certificate?"
        )
    return (
        f"TLS fails ({error}); does this listener speak {settings.kafka_security_protocol}, as"
        f" EVALX_KAFKA_SECURITY_PROTOCOL says?{_own_certificate(settings)}"
    )


def _own_certificate(settings: Settings) -> str:
    if not settings.kafka_uses_tls:
        return ""
    if settings.kafka_cert_file is None:
        return " Does it want a certificate of ours (EVALX_KAFKA_CERT_FILE)?"
    return f" Does it trust our certificate, EVALX_KAFKA_CERT_FILE ({settings.kafka_cert_file})?"
