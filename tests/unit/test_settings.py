from pathlib import Path

import pytest
from pydantic import ValidationError

from evalx.errors import ConfigurationError
from evalx.settings import PREFIX, Settings, parse_lanes, unknown_variables, variable_names

MIB = 1024 * 1024


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch):
    for field in Settings.model_fields:
        for name in variable_names(field):
            monkeypatch.delenv(name, raising=False)


def test_defaults():
    settings = Settings.load(cpu_slots=2)
    assert (settings.kafka_bootstrap, settings.redis_url) == ("localhost:9092", "redis://127.0.0.1:6379/0")
    assert (settings.topic_submissions, settings.topic_results) == ("evalx.submissions", "evalx.results")
    assert (settings.topic_dead_letters, settings.consumer_group) == ("evalx.submissions.DLT", "evalx-workers")
    assert (settings.concurrency, settings.container_cap, settings.partition_count) == (8, 6, 12)
    assert (settings.max_code_bytes, settings.max_tests, settings.max_message_bytes) == (262144, 1000, 16 * MIB)
    assert (settings.max_cpu_time_ms, settings.max_wall_time_ms, settings.max_processes) == (30_000, 120_000, 64)
    assert (settings.max_memory_bytes, settings.max_output_bytes) == (1024 * MIB, 8 * MIB)
    assert (settings.max_concurrent_containers, settings.container_max_batches) == (500, 1000)
    assert (settings.pool_scale_up_threshold, settings.pool_scale_down_threshold) == (90, 10)
    assert settings.max_result_bytes < settings.max_message_bytes
    assert settings.redis_timeout_s == 0.05


def test_variables_have_the_prefix(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("EVALX_KAFKA_BOOTSTRAP", "kafka:29092")
    monkeypatch.setenv("EVALX_TOPIC_PREFIX", "t1")
    monkeypatch.setenv("EVALX_CONCURRENCY", "3")
    settings = Settings.load()
    assert (settings.kafka_bootstrap, settings.concurrency) == ("kafka:29092", 3)
    assert (settings.topic_results, settings.consumer_group) == ("t1.results", "t1-workers")


@pytest.mark.parametrize(
    ("variable", "field"),
    [
        ("CONTAINER_POOL_SIZE", "container_pool_size"),
        ("MAX_CONCURRENT_CONTAINERS", "max_concurrent_containers"),
        ("POOL_SCALE_UP_THRESHOLD", "pool_scale_up_threshold"),
        ("POOL_SCALE_DOWN_THRESHOLD", "pool_scale_down_threshold"),
    ],
)
def test_original_names(monkeypatch: pytest.MonkeyPatch, variable: str, field: str):
    monkeypatch.setenv(variable, "71")
    if field == "pool_scale_down_threshold":
        assert getattr(Settings.load(), field) == 71
    monkeypatch.setenv(variable, "72")
    assert getattr(Settings.load(), field) == 72
    monkeypatch.setenv("EVALX_" + variable, "73")
    assert getattr(Settings.load(), field) == 73
    assert getattr(Settings.load(**{field: 74}), field) == 74
    monkeypatch.delenv("EVALX_" + variable)
    monkeypatch.setenv(variable, "many")
    with pytest.raises(ConfigurationError, match=rf"^{variable}: .*'many'"):
        Settings.load()


def test_an_empty_variable_is_not_set(monkeypatch: pytest.MonkeyPatch):
    for name in ("EVALX_DOCKER_HOST", "EVALX_LANES", "EVALX_CPU_SLOTS"):
        monkeypatch.setenv(name, "")
    assert Settings.load().docker_host is None
    assert Settings.load().partition_count == 12


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("EVALX_CPU_SLOTS", "two"),
        ("EVALX_CPU_SLOTS", "0"),
        ("EVALX_CONCURRENCY", "0"),
        ("EVALX_MAX_TESTS", "1001"),
        ("EVALX_MAX_CPU_TIME_MS", "1999"),
        ("EVALX_MAX_MEMORY_BYTES", "1"),
        ("EVALX_TOPIC_PREFIX", "a b"),
        ("EVALX_LANES", "high=0-3,low=5"),
        ("EVALX_LOG_LEVEL", "warn"),
        ("EVALX_LOG_JSON", "perhaps"),
        ("EVALX_HEALTH_PORT", "65536"),
        ("EVALX_DRAIN_TIMEOUT_S", "-1"),
    ],
)
def test_an_error_names_only_the_variable_at_fault(monkeypatch: pytest.MonkeyPatch, variable: str, value: str):
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError) as caught:
        Settings.load()
    assert caught.value.message.startswith(f"{variable}: ")
    assert caught.value.message.count(PREFIX) == 1
    assert repr(value) in caught.value.message


def test_every_wrong_variable_is_named_at_once(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("EVALX_MAX_TESTS", "0")
    monkeypatch.setenv("EVALX_CPU_SLOTS", "0")
    with pytest.raises(ConfigurationError, match=r"EVALX_MAX_TESTS: .*; EVALX_CPU_SLOTS: "):
        Settings.load()


def test_a_password_is_never_shown(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("EVALX_REDIS_URL", "redis://:secret@h:6379/0")
    assert "secret" not in repr(Settings.load())
    monkeypatch.setenv("EVALX_REDIS_URL", "http://:secret@h:6379/0")
    with pytest.raises(ConfigurationError) as caught:
        Settings.load()
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        ({"pool_scale_up_threshold": 10, "pool_scale_down_threshold": 10}, "EVALX_POOL_SCALE_DOWN_THRESHOLD"),
        ({"container_cap": 9, "max_concurrent_containers": 8}, "EVALX_CONTAINER_CAP"),
        ({"nonsense": 1}, "nonsense"),
    ],
)
def test_what_does_not_fit_together(overrides: dict[str, int], named: str):
    with pytest.raises(ConfigurationError, match=named):
        Settings.load(**overrides)


def test_the_derived_container_cap_respects_the_maximum():
    assert Settings.load(max_concurrent_containers=2).container_cap == 2
    assert Settings.load(cpu_slots=16).container_cap == 32


def test_settings_are_frozen():
    settings = Settings.load()
    with pytest.raises(ValidationError):
        settings.cpu_slots = 5  # type: ignore[misc]


def test_lanes():
    settings = Settings.load(lanes="high=0-3,12-13,normal=4-7,low=8-11")
    assert [lane.name for lane in settings.lanes] == ["high", "normal", "low"]
    assert settings.lanes[0].partitions == (0, 1, 2, 3, 12, 13)
    assert settings.lane_of[12] == "high"
    assert settings.lane_of[11] == "low"
    assert settings.rank_of == {"high": 0, "normal": 1, "low": 2}
    assert settings.partition_count == 14


def test_lanes_may_be_few_and_spaced():
    assert [tuple(lane) for lane in parse_lanes(" only = 0 - 2 , 3 ")] == [("only", (0, 1, 2, 3))]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("high=0-3,normal=3-7", "partition 3 is in both 'high' and 'normal'"),
        ("high=0-3,0", "partition 0 is in both"),
        ("high=0-3,low=5-7", "partition 4 is in no lane"),
        ("high=1-3", "partition 0 is in no lane"),
        ("0-3", "belongs to no lane"),
        ("", "belongs to no lane"),
        ("high=", "neither a partition nor a range"),
        ("high=0-3,", "neither a partition nor a range"),
        ("high=a-b", "neither a partition nor a range"),
        ("high=-1", "neither a partition nor a range"),
        ("high=0-1-2", "neither a partition nor a range"),
        ("high=0-99999999", "neither a partition nor a range"),
        ("high=²", "neither a partition nor a range"),
        ("high=3-0", "runs backwards"),
        ("=0", "does not begin a lane"),
        ("high=0,high=1", "does not begin a lane"),
    ],
)
def test_wrong_lanes(text: str, complaint: str):
    with pytest.raises(ValueError, match=complaint):
        parse_lanes(text)


def test_typing_mistakes_are_noticed():
    environment = {"EVALX_KAFKA_BOOTSTRP": "x", "EVALX_LANES": "", "HOME": "/"}
    assert unknown_variables(environment) == ["EVALX_KAFKA_BOOTSTRP sets nothing (did you mean EVALX_KAFKA_BOOTSTRAP?)"]


def test_every_setting_is_described():
    assert all(field.description for field in Settings.model_fields.values())


def test_settings_do_not_depend_on_a_file_in_the_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / ".env").write_text("EVALX_CPU_SLOTS=77\n")
    monkeypatch.chdir(tmp_path)
    assert Settings.load().cpu_slots != 77


class TestSecretsInFiles:
    def test_a_file_stands_for_the_variable_that_it_is_named_as(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        (tmp_path / "EVALX_CACHE_SECRET").write_text("sixteen characters\n")
        (tmp_path / "evalx_gateway_tokens").write_text(f"ci={'0' * 64}\n")
        monkeypatch.setenv("EVALX_SECRETS_DIR", str(tmp_path))
        settings = Settings.load()
        assert settings.cache_secret == "sixteen characters"
        assert [token.name for token in settings.gateway_tokens] == ["ci"]

    def test_a_variable_wins(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        (tmp_path / "EVALX_CACHE_SECRET").write_text("sixteen characters")
        monkeypatch.setenv("EVALX_SECRETS_DIR", str(tmp_path))
        monkeypatch.setenv("EVALX_CACHE_SECRET", "sixteen characters of the environment")
        assert Settings.load().cache_secret == "sixteen characters of the environment"

    def test_no_such_folder_is_said(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("EVALX_SECRETS_DIR", str(tmp_path / "none"))
        with pytest.raises(ConfigurationError, match="EVALX_SECRETS_DIR"):
            Settings.load()

    def test_what_is_wrong_in_a_file_does_not_show_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        (tmp_path / "EVALX_CACHE_SECRET").write_text("too short")
        monkeypatch.setenv("EVALX_SECRETS_DIR", str(tmp_path))
        with pytest.raises(ConfigurationError, match="CACHE_SECRET") as raised:
            Settings.load()
        assert "too short" not in str(raised.value)
