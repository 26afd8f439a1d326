"""The pages whose blocks retrain a model, run as those of the other pages."""

from pathlib import Path

import pytest

from tests.documents.reader import RETRAINING, read


@pytest.mark.documents
@pytest.mark.parametrize("page", RETRAINING)
def test_a_page_does_what_it_says(page: str, tmp_path: Path) -> None:
    read(page, tmp_path)
