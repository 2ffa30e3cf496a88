from __future__ import annotations

import pytest

from cslm_data.errors import UsageError
from cslm_data.mixing.recipes import check_recipe, load_recipe

GOOD = {"stage": "pretrain", "sources": [{"task": "asr", "weight": 1}]}


@pytest.mark.parametrize("stage", ["pretrain", "sft"])
def test_the_shipped_recipes_load(stage):
    recipe = load_recipe(None, stage=stage)
    assert recipe.stage == stage
    assert sum(source.weight for source in recipe.sources) == pytest.approx(1)


def test_defaults_fill_what_is_left_out():
    recipe = check_recipe(GOOD, where="f")
    assert recipe.chunk_words == 7 and recipe.splits.by == "content"
    assert recipe.sources[0].weight == 1.0


def source(**fields):
    return {**GOOD, "sources": [{"task": "asr", "weight": 1, **fields}]}


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ({**GOOD, "wieght": 1}, "f: wieght: no such field"),
        ({**GOOD, "chunk_word": 1}, "f: chunk_word: no such field; did you mean chunk_words?"),
        ({"stage": "pretrain"}, "f: sources is missing"),
        ({**GOOD, "stage": "warmup"}, "f: stage must be one of pretrain, sft, not 'warmup'"),
        ({**GOOD, "seed": "x"}, "f: seed must be a whole number"),
        ({**GOOD, "seed": True}, "f: seed must be a whole number"),
        ({**GOOD, "sources": []}, "at least one"),
        ({**GOOD, "sources": {}}, "f: sources must be a list"),
        ({**GOOD, "splits": {"valid": 0.6, "test": 0.6}}, "f: splits"),
        ({**GOOD, "splits": {"by": "speaker"}}, r"f: splits\.by must be one of .* not 'speaker'"),
        (source(task="sing"), r"f: sources\[0\]\.task: 'sing' is not one of"),
        (source(weight=-1), r"f: sources\[0\]\.weight: must be more than 0"),
        (source(weight=float("nan")), "more than 0"),
        (source(max_epochs="two"), r"sources\[0\]\.max_epochs must be a number"),
        (source(languages="pairs"), "write each"),
        (source(task="mt"), "write pairs"),
        ("text", "must be a section of fields"),
    ],
)
def test_a_wrong_field_is_named_with_its_file(document, says):
    with pytest.raises(UsageError, match=says):
        check_recipe(document, where="f")


def test_files_that_are_no_recipes_are_named(tmp_path):
    path = tmp_path / "r.yaml"
    with pytest.raises(UsageError, match=r"r\.yaml: cannot read"):
        load_recipe(path, stage="pretrain")
    path.write_text("a: [")
    with pytest.raises(UsageError, match=r"r\.yaml: not YAML"):
        load_recipe(path, stage="pretrain")
    with pytest.raises(UsageError, match="--stage warmup"):
        load_recipe(None, stage="warmup")
