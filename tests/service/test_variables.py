import pytest

from perceptd.service.variables import shown, unknown


@pytest.mark.parametrize(
    "name",
    [
        "PERCEPTD_DATA_DIR",
        "PERCEPTD_URL",
        "PERCEPTD_TEST_BROWSER",
        "PERCEPTD_SERVICE_HOST",
        "PERCEPTD_SERVICE_PORT_HTTP",
        "PERCEPTD_PORT_8000_TCP_ADDR",
        "HOME",
    ],
)
def test_what_somebody_reads_is_known(name: str) -> None:
    assert unknown({name: ""}) == ""


def test_a_misspelt_one_is_told_with_what_was_meant() -> None:
    told = unknown({"PERCEPTD_DATADIR": "data"})
    assert told == "PERCEPTD_DATADIR is no setting: did you mean PERCEPTD_DATA_DIR?"
    assert "lists them all" in unknown({"PERCEPTD_QQQ": ""})


@pytest.mark.parametrize("name", ["perceptd_admin_token", "Perceptd_Data_Dir"])
def test_one_that_is_not_in_capitals_is_no_setting(name: str) -> None:
    """It would be taken, and not be kept from the processes that are started."""
    assert unknown({name: "x"}) == f"{name} is no setting: they are in capitals, {name.upper()}"


def test_a_setting_is_shown_with_its_option() -> None:
    assert shown("data_dir") == "--data-dir (PERCEPTD_DATA_DIR)"
    assert shown("max_rows") == "PERCEPTD_MAX_ROWS"
