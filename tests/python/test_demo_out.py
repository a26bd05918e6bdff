"""The demo replaces the models of an earlier demo, and nobody else's."""

from pathlib import Path

import pytest

from lrengine.demo.given import LOG, check_out
from lrengine.demo.recipe import Recipe
from lrengine.errors import DataError


def models_in(out: Path) -> Path:
    model = out / "models" / "encoder"
    model.mkdir(parents=True)
    return model


@pytest.mark.parametrize("option", ["encoder", "llm"])
def test_a_given_model_is_never_replaced(tmp_path: Path, option: str) -> None:
    model = models_in(tmp_path)
    (tmp_path / LOG).touch()
    with pytest.raises(DataError, match=f"--{option} .*another --out"):
        check_out(Recipe(**{option: str(model)}), tmp_path)
    check_out(Recipe(**{option: str(model)}), tmp_path / "elsewhere")
    check_out(Recipe(**{option: "some/hub-name"}), tmp_path)


def test_models_that_no_demo_wrote_are_not_deleted(tmp_path: Path) -> None:
    models_in(tmp_path)
    with pytest.raises(DataError, match="no demo wrote"):
        check_out(Recipe(), tmp_path)
    (tmp_path / LOG).touch()
    check_out(Recipe(), tmp_path)


def test_an_empty_folder_is_fine(tmp_path: Path) -> None:
    check_out(Recipe(), tmp_path)
    (tmp_path / "models").mkdir()
    check_out(Recipe(), tmp_path)
