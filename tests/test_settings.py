"""Settings: four sources, one order, and an error that names key, source and what is allowed."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

import alembic_safe
from alembic_safe.configuration import SETTINGS_OPTION
from alembic_safe.errors import SettingError
from alembic_safe.settings import Settings, load_settings


def load(
    *,
    project_file: Path | None = None,
    environment: dict[str, str] | None = None,
    x: dict[str, str] | None = None,
    **keywords: Any,
) -> Settings:
    return load_settings(
        keywords=keywords,
        x_arguments=x or {},
        project_file=project_file,
        environment=environment or {},
    )


def pyproject(folder: Path, text: str) -> Path:
    path = folder / "pyproject.toml"
    path.write_text(text)
    return path


def test_without_any_source_the_defaults_hold() -> None:
    assert load() == Settings()


def test_the_defaults_stay_below_the_servers_deadlock_timeout() -> None:
    assert Settings().lock_timeout < 1.0


def test_nobody_changes_settings_that_are_in_force() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        load().release = "r1"  # type: ignore[misc]  # that is the point


def test_each_source_wins_over_the_one_before_it(tmp_path: Path) -> None:
    file = pyproject(tmp_path, '[tool.alembic_safe]\nrelease = "file"\n')
    environment = {"ALEMBIC_SAFE_RELEASE": "environment"}
    assert load(project_file=file).release == "file"
    assert load(project_file=file, release="keyword").release == "keyword"
    assert (
        load(project_file=file, release="keyword", environment=environment).release == "environment"
    )
    assert (
        load(
            project_file=file, release="keyword", environment=environment, x={"release": "x"}
        ).release
        == "x"
    )


def test_a_source_leaves_what_it_does_not_name(tmp_path: Path) -> None:
    file = pyproject(tmp_path, '[tool.alembic_safe]\nrelease = "r1"\nsoak = "2h"\n')
    settings = load(project_file=file, x={"contract": "hold"}, batch_size=7)
    assert settings == Settings(release="r1", soak=7200.0, contract="hold", batch_size=7)


@pytest.mark.parametrize("text", ["", "[tool.other]\nrelease = 1\n", "[project]\nname = 'shop'\n"])
def test_a_project_file_without_our_table_says_nothing(tmp_path: Path, text: str) -> None:
    assert load(project_file=pyproject(tmp_path, text)) == Settings()


def test_a_missing_project_file_says_nothing(tmp_path: Path) -> None:
    assert load(project_file=tmp_path / "pyproject.toml") == Settings()


def test_other_x_arguments_and_variables_belong_to_the_user() -> None:
    assert load(x={"tenant": "7"}, environment={"PATH": "/bin", "ALEMBIC_X": "1"}) == Settings()


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (2, 2.0),
        (0.25, 0.25),
        ("3", 3.0),
        ("1.5", 1.5),
        ("500ms", 0.5),
        ("2s", 2.0),
        (" 5 min ", 300.0),
        ("1h", 3600.0),
        ("2d", 172800.0),
    ],
)
def test_a_duration_is_seconds_or_a_number_with_a_unit(value: object, seconds: float) -> None:
    assert load(lock_timeout=value).lock_timeout == pytest.approx(seconds)


@pytest.mark.parametrize(
    "key", ["soak", "lock_timeout", "lock_deadline", "retry_base", "retry_cap", "upgrade_deadline"]
)
@pytest.mark.parametrize(
    "value", ["soon", "", "1 week", "-1s", -1, True, None, [1], "nan", "1e3", float("inf")]
)
def test_anything_else_is_no_duration(key: str, value: Any) -> None:
    with pytest.raises(SettingError, match=f"'{key}'.*500ms, 2s, 5min, 1h"):
        load(**{key: value})


@pytest.mark.parametrize("key", ["lock_timeout", "lock_deadline", "retry_base", "retry_cap"])
@pytest.mark.parametrize("value", [0, "0", "0s", "0.4ms", 0.0004])
def test_zero_would_mean_for_ever_to_the_server_and_is_refused(key: str, value: Any) -> None:
    with pytest.raises(SettingError, match="at least 1ms"):
        load(**{key: value})


def test_not_to_wait_at_all_is_fine_for_the_soak_and_another_upgrade() -> None:
    assert load(soak=0, upgrade_deadline="0s") == Settings(soak=0.0, upgrade_deadline=0.0)


@pytest.mark.parametrize("value", ["due", "now", "hold"])
def test_contract_is_one_of_three_words(value: str) -> None:
    assert load(contract=value).contract == value


@pytest.mark.parametrize("value", ["Now", "later", "", True, None])
def test_contract_is_nothing_else(value: object) -> None:
    with pytest.raises(SettingError, match=r"'contract'.*due, now, hold"):
        load(contract=value)


@pytest.mark.parametrize("value", ["", "  ", 7])
def test_a_release_is_a_text_that_is_not_empty(value: object) -> None:
    with pytest.raises(SettingError, match=r"'release'.*not empty"):
        load(release=value)


def test_a_release_is_taken_without_the_spaces_around_it() -> None:
    assert load(environment={"ALEMBIC_SAFE_RELEASE": " r1\n"}).release == "r1"


@pytest.mark.parametrize(("value", "rows"), [(1, 1), ("500", 500)])
def test_a_batch_is_a_number_of_rows(value: object, rows: int) -> None:
    assert load(batch_size=value).batch_size == rows


@pytest.mark.parametrize("value", [0, -5, 2.5, "many", True, None])
def test_a_batch_is_at_least_one_whole_row(value: object) -> None:
    with pytest.raises(SettingError, match=r"'batch_size'.*at least 1"):
        load(batch_size=value)


@pytest.mark.parametrize(
    ("value", "renames"),
    [
        ("users.full_name:display_name", ("users.full_name:display_name",)),
        ("a.b:c, d.e:f", ("a.b:c", "d.e:f")),
        (["a.b:c", "shop.d.e:f"], ("a.b:c", "shop.d.e:f")),
    ],
)
def test_renames_are_pairs_of_names(value: object, renames: tuple[str, ...]) -> None:
    assert load(rename=value).rename == renames


@pytest.mark.parametrize("value", ["full_name", "a.b", "b:c", "a.b:", ["a.b:c", 3], 7, None])
def test_half_a_rename_is_refused(value: object) -> None:
    with pytest.raises(SettingError, match=r"'rename'.*table\.old:new"):
        load(rename=value)


def test_an_unknown_key_names_itself_its_source_and_what_is_known(tmp_path: Path) -> None:
    file = pyproject(tmp_path, "[tool.alembic_safe]\nlock_timout = 1\n")
    with pytest.raises(SettingError) as caught:
        load(project_file=file)
    message = str(caught.value)
    assert "'lock_timout'" in message
    assert f"[tool.alembic_safe] in {file}" in message
    for field in dataclasses.fields(Settings):
        assert field.name in message


@pytest.mark.parametrize(
    ("sources", "named"),
    [
        ({"soak": "soon"}, "alembic_safe.configure()"),
        ({"environment": {"ALEMBIC_SAFE_SOAK": "soon"}}, "the environment (ALEMBIC_SAFE_*)"),
        ({"x": {"soak": "soon"}}, "-x on the command line"),
    ],
)
def test_a_bad_value_names_its_source_and_itself(sources: dict[str, Any], named: str) -> None:
    with pytest.raises(SettingError) as caught:
        load(**sources)
    assert named in str(caught.value)
    assert "'soak'" in str(caught.value)
    assert "'soon'" in str(caught.value)


def test_an_unknown_variable_with_our_prefix_is_a_typing_mistake() -> None:
    with pytest.raises(SettingError, match="'relase'"):
        load(environment={"ALEMBIC_SAFE_RELASE": "r1"})


def test_a_project_file_that_is_not_toml_is_named(tmp_path: Path) -> None:
    file = pyproject(tmp_path, "[tool.alembic_safe\n")
    with pytest.raises(SettingError, match="not a TOML file") as caught:
        load(project_file=file)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("text", ["tool = 1\n", "[tool]\nalembic_safe = 1\n"])
def test_our_table_has_to_be_a_table(tmp_path: Path, text: str) -> None:
    with pytest.raises(SettingError, match="has to be a table"):
        load(project_file=pyproject(tmp_path, text))


def test_configure_outside_of_an_alembic_environment_reads_the_folder_it_is_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pyproject(tmp_path, '[tool.alembic_safe]\nrelease = "r1"\n')
    below = tmp_path / "service"
    below.mkdir()
    monkeypatch.chdir(below)
    monkeypatch.delenv("ALEMBIC_SAFE_RELEASE", raising=False)
    options = alembic_safe.configure(soak="1h")
    assert options[SETTINGS_OPTION] == Settings(release="r1", soak=3600.0)
    assert options["transaction_per_migration"] is True


def test_configure_passes_the_users_hooks_on() -> None:
    def hook(*_anything: object) -> bool:
        return True

    names = (
        "process_revision_directives",
        "on_version_apply",
        "include_name",
        "include_object",
    )
    options = alembic_safe.configure(**dict.fromkeys(names, hook))
    assert all(options[name] is hook for name in names)


def test_configure_refuses_what_is_neither_a_setting_nor_a_hook() -> None:
    with pytest.raises(SettingError, match="'transaction_per_migration'"):
        alembic_safe.configure(transaction_per_migration=False)
