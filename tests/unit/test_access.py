"""What is told to Kafka and Redis: which settings go together, and that a secret is shown nowhere."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError, SaslAuthenticationFailed, UnsupportedSaslMechanismError

from evalx import broker
from evalx.access import redis_hint
from evalx.agents.app import create_app
from evalx.errors import ConfigurationError
from evalx.settings import Settings

SECRET = "s3cret:/@ ü"
SASL: dict[str, Any] = {
    "kafka_security_protocol": "SASL_PLAINTEXT",
    "kafka_username": "evalx",
    "kafka_password": SECRET,
}


def test_without_settings_it_is_plain():
    assert broker.connection(Settings(kafka_bootstrap="k:1")) == {"bootstrap_servers": "k:1"}


def test_sasl():
    assert broker.connection(Settings(kafka_bootstrap="k:1", kafka_sasl_mechanism="PLAIN", **SASL)) == {
        "bootstrap_servers": "k:1",
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "PLAIN",
        "sasl_plain_username": "evalx",
        "sasl_plain_password": SECRET,
    }


def test_tls_trusts_the_system_and_checks_the_name():
    arguments = broker.connection(Settings(kafka_security_protocol="SSL"))
    context = arguments["ssl_context"]
    assert arguments["security_protocol"] == "SSL"
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED


@pytest.mark.parametrize("protocol", ["SASL_PLAINTEXT", "SASL_SSL"])
def test_faust_is_told_the_same(tmp_path: Path, protocol: str):
    app = create_app(Settings(**SASL | {"kafka_security_protocol": protocol}), "w", tmp_path)
    credentials = app.conf.broker_credentials
    assert (credentials.username, credentials.password) == ("evalx", SECRET)
    assert (credentials.mechanism.value, credentials.protocol.value) == ("SCRAM-SHA-512", protocol)
    assert (credentials.ssl_context is None) == (protocol == "SASL_PLAINTEXT")
    assert SECRET not in repr(app.conf.broker_credentials)


def test_faust_with_tls_alone_and_with_nothing(tmp_path: Path):
    assert create_app(Settings(kafka_security_protocol="SSL"), "w", tmp_path).conf.broker_credentials.context
    assert create_app(Settings(), "w", tmp_path).conf.broker_credentials is None


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"kafka_security_protocol": "SASL_SSL"}, "SASL_SSL needs EVALX_KAFKA_USERNAME and EVALX_KAFKA_PASSWORD"),
        ({"kafka_password": SECRET}, "EVALX_KAFKA_PASSWORD needs EVALX_KAFKA_SECURITY_PROTOCOL SASL_SSL"),
        ({"kafka_ca_file": "/ca"}, "EVALX_KAFKA_CA_FILE needs EVALX_KAFKA_SECURITY_PROTOCOL SSL"),
        (SASL | {"kafka_password_file": "/p"}, "EVALX_KAFKA_PASSWORD and EVALX_KAFKA_PASSWORD_FILE exclude each other"),
        (
            {"kafka_security_protocol": "SSL", "kafka_key_file": "/k"},
            "EVALX_KAFKA_KEY_FILE needs EVALX_KAFKA_CERT_FILE",
        ),
        ({"kafka_security_protocol": "TLS"}, "EVALX_KAFKA_SECURITY_PROTOCOL"),
        ({"kafka_sasl_mechanism": "GSSAPI"}, "EVALX_KAFKA_SASL_MECHANISM"),
        ({"redis_ca_file": "/ca"}, "EVALX_REDIS_CA_FILE needs an EVALX_REDIS_URL that begins with rediss://"),
        ({"redis_username": "u"}, "EVALX_REDIS_USERNAME needs EVALX_REDIS_PASSWORD"),
        ({"redis_password": SECRET, "redis_url": "redis://:x@h:1"}, "EVALX_REDIS_URL tells a user or password as well"),
        ({"redis_password": "x", "redis_password_file": "/p"}, "exclude each other"),
    ],
)
def test_what_does_not_go_together(given: dict[str, Any], complaint: str):
    with pytest.raises(ConfigurationError) as caught:
        Settings.load(**given)
    assert complaint in str(caught.value)
    assert SECRET not in str(caught.value)


def test_a_wrong_secret_is_not_shown():
    with pytest.raises(ConfigurationError, match="EVALX_KAFKA_PASSWORD") as caught:
        Settings.load(kafka_password=[SECRET])
    assert SECRET not in str(caught.value)


def test_secrets_are_in_no_representation():
    settings = Settings(redis_password=SECRET, **SASL)
    assert SECRET not in repr(settings)
    assert SECRET not in str(settings)


def test_a_password_from_a_file(tmp_path: Path):
    file = tmp_path / "password"
    file.write_text(SECRET + "\n")
    settings = Settings(**SASL | {"kafka_password": None, "kafka_password_file": file}, redis_password_file=file)
    assert settings.kafka_secret == SECRET
    assert settings.redis_location == "redis://:s3cret%3A%2F%40%20%C3%BC@127.0.0.1:6379/0"
    file.write_text("\n")
    with pytest.raises(ConfigurationError, match=r"^EVALX_KAFKA_PASSWORD_FILE: .* is empty"):
        broker.connection(settings)
    file.unlink()
    with pytest.raises(ConfigurationError, match=r"^EVALX_REDIS_PASSWORD_FILE: .* cannot be read: No such file"):
        _ = settings.redis_location


def test_the_location_of_redis():
    assert Settings(redis_url="redis://u:p@h:1/2").redis_location == "redis://u:p@h:1/2"
    assert Settings(redis_url="unix:///run/r.sock?db=1").redis_location == "unix:///run/r.sock?db=1"
    secured = Settings(
        redis_url="rediss://h:1/2?protocol=3", redis_username="u", redis_password="p",
        redis_ca_file="/a b.pem", redis_cert_file="/c.pem",
    )  # fmt: skip
    expected = "rediss://u:p@h:1/2?protocol=3&ssl_ca_certs=%2Fa+b.pem&ssl_certfile=%2Fc.pem&ssl_keyfile=%2Fc.pem"
    assert secured.redis_location == expected


@pytest.mark.parametrize("name", ["kafka_ca_file", "kafka_cert_file"])
@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_file_that_cannot_be_used(tmp_path: Path, name: str, content: str | None):
    file = tmp_path / "x.pem"
    if content is not None:
        file.write_text(content)
    settings = Settings(kafka_security_protocol="SSL", **{name: file})
    with pytest.raises(ConfigurationError, match=rf"^EVALX_{name.upper()}: .*x\.pem cannot be used: .*PEM"):
        broker.connection(settings)


def unverified() -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_message = "self-signed certificate"
    return error


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (SaslAuthenticationFailed("no"), "it refuses user 'evalx'"),
        (UnsupportedSaslMechanismError("only PLAIN"), "it does not take this EVALX_KAFKA_SASL_MECHANISM"),
        (unverified(), "its certificate is not accepted (self-signed certificate)"),
        (ssl.SSLError(1, "WRONG_VERSION_NUMBER"), "TLS fails"),
        (KafkaConnectionError("closed"), "does this listener speak SASL_PLAINTEXT"),
    ],
)
def test_what_a_failed_connection_says(error: Exception, hint: str):
    told = broker.explain(Settings(**SASL), error)
    assert told is not None
    assert hint in told
    assert SECRET not in told


def test_a_refused_connection_says_nothing_about_the_settings():
    assert broker.explain(Settings(), ConnectionRefusedError("refused")) is None


async def test_why_kafka_is_unavailable():
    error = await broker.unavailable(Settings(kafka_bootstrap="127.0.0.1:1"), KafkaConnectionError("nobody"))
    assert str(error).startswith("Kafka at 127.0.0.1:1 cannot be reached: KafkaConnectionError: nobody")
    assert str(error).endswith("is it running, and is EVALX_KAFKA_BOOTSTRAP right?")


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("invalid username-password pair or user is disabled.", "EVALX_REDIS_PASSWORD"),
        ("Authentication required.", "set EVALX_REDIS_PASSWORD"),
        ("HELLO must be called with the client already authenticated", "set EVALX_REDIS_PASSWORD"),
        ("Error 1 connecting to h:1. [SSL: CERTIFICATE_VERIFY_FAILED] ...", "EVALX_REDIS_CA_FILE"),
        ("[SSL: WRONG_VERSION_NUMBER] wrong version number", "rediss://"),
        ("Connection refused", ""),
    ],
)
def test_what_to_do_about_redis(text: str, hint: str):
    told = redis_hint(OSError(text))
    assert hint in told
    assert bool(told) == bool(hint)
