"""Kafka with passwords and TLS, Redis with both: everything that connects gets in, and says why when it does not.

One broker with a listener of each kind, and certificates that are made for this run. The tests' own reader uses the
broker's plain listener, so that it shares nothing with what is tested.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import redis
from confluent_kafka.admin import (
    AdminClient,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from integration_stack import (
    EVALX,
    PATIENCE_S,
    RUN_LABEL,
    Services,
    Topics,
    Worker,
    docker,
    eventually,
    free_port,
    program,
    submission,
)
from redis.backoff import NoBackoff
from redis.retry import Retry

from evalx import broker
from evalx.client import Client, ServiceUnavailableError, Submission, TestCase
from evalx.settings import Settings

USER = "evalx"
PASSWORD = "right horse, battery=staple"
#: Redis's command line takes no spaces in it.
REDIS_PASSWORD = "right:horse/@battery"
WRONG = "wrong horse"
#: Seconds after which a command hangs.
HANG_S = 90
PLAIN_LOGIN = "org.apache.kafka.common.security.plain.PlainLoginModule required"
SCRAM_LOGIN = "org.apache.kafka.common.security.scram.ScramLoginModule required;"

Given = dict[str, object]


def openssl(folder: Path, *arguments: str) -> None:
    done = subprocess.run(["openssl", *arguments], cwd=folder, capture_output=True, text=True, timeout=HANG_S)
    assert done.returncode == 0, done.stderr


def make_certificates(folder: Path) -> None:
    """``ca.pem`` and by it ``broker.pem`` and ``client.pem``, each with its ``.key``; ``other.pem`` signed nothing."""
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    for name in ("ca", "other"):
        subject = ["-subj", f"/CN=evalx test {name}", "-out", f"{name}.pem", "-keyout", f"{name}.key"]
        openssl(folder, "req", "-x509", *curve, *subject)
    for name in ("broker", "client"):
        subject = ["-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]
        signed = ["-CA", "ca.pem", "-CAkey", "ca.key", "-addext", "basicConstraints=critical,CA:false"]
        openssl(folder, "req", "-x509", *curve, *subject, *signed, "-out", f"{name}.pem", "-keyout", f"{name}.key")


@dataclass
class Secured(Services):
    """``kafka`` is the plain listener, for the tests themselves."""

    folder: Path = field(default_factory=Path)
    #: The addresses of the listeners, by their names in lower case.
    at: dict[str, str] = field(default_factory=dict)

    def start(self) -> None:
        make_certificates(self.folder)
        ports = {name: free_port() for name in ("external", "sasl", "tls", "secure")}
        self.at = {name: f"127.0.0.1:{port}" for name, port in ports.items()}
        self.kafka = self.at["external"]
        published = [word for port in ports.values() for word in ("-p", f"127.0.0.1:{port}:{port}")]
        environment = ["-e", f"EVALX_KAFKA_PROPERTIES={self._properties(ports)}", "-e", "EVALX_KAFKA_HEAP=-Xmx256m"]
        self._run("secured-kafka", *published, *environment, "evalx-kafka")
        self._start_secured_redis()
        self._await_healthy("secured-kafka")
        self._add_users()

    def _properties(self, ports: dict[str, int]) -> str:
        kinds = {"external": "PLAINTEXT", "sasl": "SASL_PLAINTEXT", "tls": "SSL", "secure": "SASL_SSL"}
        mapped = ",".join(f"{name.upper()}:{kind}" for name, kind in kinds.items())
        opened = ",".join(f"{name.upper()}://0.0.0.0:{port}" for name, port in ports.items())
        told = ",".join(f"{name.upper()}://{address}" for name, address in self.at.items())
        lines = {
            "listeners": f"INTERNAL://0.0.0.0:19092,CONTROLLER://127.0.0.1:9093,{opened}",
            "advertised.listeners": f"INTERNAL://127.0.0.1:19092,{told}",
            "listener.security.protocol.map": f"CONTROLLER:PLAINTEXT,INTERNAL:PLAINTEXT,{mapped}",
            "listener.name.sasl.sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256",
            "listener.name.sasl.plain.sasl.jaas.config": f'{PLAIN_LOGIN} user_{USER}="{PASSWORD}";',
            "listener.name.sasl.scram-sha-256.sasl.jaas.config": SCRAM_LOGIN,
            "listener.name.secure.sasl.enabled.mechanisms": "SCRAM-SHA-512",
            "listener.name.secure.scram-sha-512.sasl.jaas.config": SCRAM_LOGIN,
            "listener.name.tls.ssl.client.auth": "required",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.certificate.chain": self._pem("broker.pem"),
            "ssl.keystore.key": self._pem("broker.key"),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.certificates": self._pem("ca.pem"),
        }
        return "\n".join(f"{name}={value}" for name, value in lines.items())

    def _pem(self, name: str) -> str:
        return (self.folder / name).read_text().strip().replace("\n", r"\n")

    def _start_secured_redis(self) -> None:
        self.redis_port = free_port()
        name = self.container("secured-redis")
        label = ["--label", f"{RUN_LABEL}={self.run}"]
        files = ["--tls-cert-file", "/certs/broker.pem", "--tls-key-file", "/certs/broker.key"]
        trusted = ["--tls-ca-cert-file", "/certs/ca.pem", "--tls-auth-clients", "no"]
        users = [
            "--user",
            USER,
            "on",
            f">{REDIS_PASSWORD}",
            "~*",
            "&*",
            "+@all",
            "--user",
            "default",
            "off",
        ]
        docker(
            "create", "--name", name, *label, "--no-healthcheck", "-p", f"127.0.0.1:{self.redis_port}:6379",
            "evalx-redis", "--port", "0", "--tls-port", "6379", *files, *trusted, *users,
        )  # fmt: skip
        # Redis's own user reads them.
        self.folder.chmod(0o755)
        for file in self.folder.iterdir():
            file.chmod(0o644)
        docker("cp", str(self.folder), f"{name}:/certs")
        docker("start", name)

    def _add_users(self) -> None:
        admin = AdminClient({"bootstrap.servers": self.kafka})
        # One request may alter a user once.
        for mechanism in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512):
            added = UserScramCredentialUpsertion(USER, ScramCredentialInfo(mechanism, 4096), PASSWORD.encode())
            admin.alter_user_scram_credentials([added])[USER].result(timeout=HANG_S)

    def path(self, name: str) -> str:
        return str(self.folder / name)

    def access(self, listener: str, **changed: object) -> Given:
        """The settings for a listener, Redis included; ``changed`` wins."""
        login: Given = {"kafka_username": USER, "kafka_password": PASSWORD}
        kinds: dict[str, Given] = {
            "sasl": {"kafka_security_protocol": "SASL_PLAINTEXT", "kafka_sasl_mechanism": "SCRAM-SHA-256", **login},
            "tls": {
                "kafka_security_protocol": "SSL",
                "kafka_ca_file": self.path("ca.pem"),
                "kafka_cert_file": self.path("client.pem"),
                "kafka_key_file": self.path("client.key"),
            },
            "secure": {"kafka_security_protocol": "SASL_SSL", "kafka_ca_file": self.path("ca.pem"), **login},
        }
        store: Given = {
            "redis_url": f"rediss://127.0.0.1:{self.redis_port}/0",
            "redis_username": USER,
            "redis_password": REDIS_PASSWORD,
            "redis_ca_file": self.path("ca.pem"),
        }
        return {"kafka_bootstrap": self.at[listener], **kinds[listener], **store, **changed}


@pytest.fixture(scope="module")
def secured(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    started = Secured(services.run, services.logs, workers=services.workers, folder=tmp_path_factory.mktemp("certs"))
    try:
        started.start()
        yield started
    finally:
        docker("rm", "-fv", started.container("secured-kafka"), started.container("secured-redis"), check=False)


@pytest.fixture(scope="module")
async def topics(secured: Secured) -> AsyncIterator[Topics]:
    """Topics that a worker judges, which is let in by password and TLS."""
    made = Topics(secured, f"{secured.run}.secured")
    made.create(**secured.access("sasl"))
    async with made:
        worker = await made.worker(container_pool_size=0, **secured.access("secure")).ready()
        yield made
        code, _ = await worker.stop()
        assert code == 0


async def evalx(topics: Topics, *arguments: str, **settings: object) -> Any:
    environment = {**os.environ, **topics.environment(**settings)}
    return await asyncio.to_thread(
        lambda: subprocess.run(
            [str(EVALX), *arguments], env=environment, capture_output=True, text=True, timeout=HANG_S
        )
    )


async def test_a_worker_judges(topics: Topics):
    (result,) = await topics.judge(submission("python"))
    assert result["verdict"] == "AC"
    worker = topics.workers[0]
    # Redis was asked, and not only Kafka.
    assert not worker.events("redis_unavailable")
    assert not any(secret in worker.log.read_text() for secret in (PASSWORD, REDIS_PASSWORD))


async def test_a_client_with_a_password(topics: Topics, secured: Secured):
    access: Any = secured.access("sasl", kafka_sasl_mechanism="PLAIN", topic_prefix=topics.prefix)
    test = TestCase(stdin="1 2\n", expected_output="3\n")
    wanted = Submission(id=topics.new_id(), language="python", code=program("python", "sum"), tests=(test,))
    async with Client(Settings.load(**access)) as client:
        assert (await client.judge(wanted, timeout=PATIENCE_S)).verdict == "AC"


async def test_a_gateway_with_a_certificate_of_its_own(topics: Topics, secured: Secured):
    port = free_port()
    environment = topics.environment(gateway_port=port, **secured.access("tls"))
    gateway = Worker(topics.services, environment, (str(EVALX), "gateway"))
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:

        async def is_ready() -> bool:
            assert gateway.process.poll() is None, gateway.log.read_text()[-3000:]
            with contextlib.suppress(aiohttp.ClientError):
                async with session.get("/health") as response:
                    return response.status == 200
            return False

        await eventually(is_ready, "the gateway is ready")
        async with session.post("/v1/submissions?wait=120", json=submission("python")) as response:
            assert (response.status, (await response.json())["verdict"]) == (200, "AC")
    assert (await gateway.stop())[0] == 0
    assert PASSWORD not in gateway.log.read_text()


async def test_the_doctor(topics: Topics, secured: Secured):
    done = await evalx(topics, "doctor", "--json", **secured.access("tls"))
    status = {check["name"]: check["status"] for check in json.loads(done.stdout)}
    assert (status["kafka"], status["redis"]) == ("ok", "ok"), done.stdout
    assert not any(secret in done.stdout + done.stderr for secret in (PASSWORD, REDIS_PASSWORD))


@pytest.mark.parametrize("listener", ["sasl", "tls", "secure"])
async def test_the_lag(topics: Topics, secured: Secured, listener: str):
    done = await evalx(topics, "lag", "--json", **secured.access(listener))
    assert done.returncode == 0, done.stderr
    assert PASSWORD not in done.stdout + done.stderr


async def test_dead_letters_are_listed(topics: Topics, secured: Secured):
    await topics.dead_letter(6, await topics.send(b"no submission", key=b"k", partition=6))
    done = await evalx(topics, "dead-letters", "list", "--json", **secured.access("secure"))
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)) == 1


async def test_a_password_from_a_file(topics: Topics, secured: Secured, tmp_path: Path):
    (tmp_path / "password").write_text(PASSWORD + "\n")
    access = secured.access("sasl") | {"kafka_password": "", "kafka_password_file": tmp_path / "password"}
    done = await evalx(topics, "topics", "create", **access)
    assert done.returncode == 0, done.stderr


#: A listener, what is wrong of the settings for it, and what is told.
MISTAKES = [
    ("sasl", {"kafka_password": WRONG}, "refuses user 'evalx'"),
    ("sasl", {"kafka_password": WRONG, "kafka_sasl_mechanism": "PLAIN"}, "refuses user 'evalx'"),
    ("sasl", {"kafka_sasl_mechanism": "SCRAM-SHA-512"}, "does not take this EVALX_KAFKA_SASL_MECHANISM"),
    ("secure", {"kafka_password": WRONG}, "refuses user 'evalx'"),
    ("secure", {"kafka_ca_file": "other.pem"}, "is EVALX_KAFKA_CA_FILE right"),
    ("tls", {"kafka_cert_file": "", "kafka_key_file": ""}, "EVALX_KAFKA_CERT_FILE"),
    ("tls", {"kafka_cert_file": "other.pem", "kafka_key_file": "other.key"}, "Does it trust our certificate"),
    ("sasl", {"kafka_security_protocol": "SASL_SSL"}, "EVALX_KAFKA_SECURITY_PROTOCOL"),
]


@pytest.mark.parametrize(("listener", "wrong", "told"), MISTAKES)
async def test_why_a_client_is_not_let_in(topics: Topics, secured: Secured, listener: str, wrong: Given, told: str):
    given = {name: secured.path(str(value)) if str(value).endswith((".pem", ".key")) else value or None
             for name, value in wrong.items()}  # fmt: skip
    settings = Settings.load(**secured.access(listener, topic_prefix=topics.prefix, **given))  # type: ignore[arg-type]
    with pytest.raises(ServiceUnavailableError) as caught:
        await Client(settings).__aenter__()
    assert told in str(caught.value)
    assert PASSWORD not in str(caught.value)
    assert WRONG not in str(caught.value)


@pytest.mark.parametrize("command", [("topics", "create"), ("worker",), ("gateway",), ("lag",)])
async def test_a_command_that_is_not_let_in_says_why(topics: Topics, secured: Secured, command: tuple[str, ...]):
    done = await evalx(topics, *command, health_port=0, gateway_port=0, **secured.access("sasl", kafka_password=WRONG))
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode in {1, 3}
    assert last.startswith(f"evalx: Kafka at {secured.at['sasl']} cannot be reached: it refuses user 'evalx'")
    assert "Traceback" not in done.stderr
    assert WRONG not in done.stderr


async def test_the_doctor_tells_what_is_wrong_with_redis(topics: Topics, secured: Secured):
    def wrong(**settings: object) -> Given:
        return secured.access("sasl", **settings)

    cases = [
        (wrong(redis_password=WRONG), "EVALX_REDIS_PASSWORD and EVALX_REDIS_USERNAME"),
        (wrong(redis_ca_file=secured.path("other.pem")), "EVALX_REDIS_CA_FILE"),
        (wrong(redis_username="", redis_password=""), "set EVALX_REDIS_PASSWORD"),
    ]
    for settings, advice in cases:
        done = await evalx(topics, "doctor", "--json", **settings)
        (check,) = [check for check in json.loads(done.stdout) if check["name"] == "redis"]
        assert check["status"] == "warn"
        assert advice in check["advice"], check
        assert WRONG not in done.stdout


def test_redis_takes_nobody_without_tls(secured: Secured):
    plain = redis.Redis(port=secured.redis_port, socket_timeout=HANG_S, retry=Retry(NoBackoff(), 0))
    with pytest.raises(redis.ConnectionError), plain:
        plain.ping()


def test_to_part_does_not_wait_for_the_broker(secured: Secured):
    """An event loop waits 30 s for a broker that says nothing more, and a worker has 15 s to stop."""
    settings = Settings.load(kafka_security_protocol="SSL", kafka_ca_file=secured.path("ca.pem"))
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs.load_cert_chain(secured.path("broker.pem"), secured.path("broker.key"))
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    broker_side = theirs.wrap_bio(up, down, server_side=True)
    our_side = broker.tls_context(settings).wrap_bio(down, up, server_hostname="localhost")
    for side in (our_side, broker_side) * 2:
        with contextlib.suppress(ssl.SSLWantReadError):
            side.do_handshake()
    sent = up.pending
    assert our_side.unwrap() is None
    assert up.pending > sent
