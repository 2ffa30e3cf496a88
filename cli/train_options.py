"""What `run` and `plan` take alike: which configuration, and which mix."""

from __future__ import annotations

from typing import Annotated

import typer

ConfigOption = Annotated[str, typer.Option(help="A YAML file, or the name of one of ours.")]
MixOption = Annotated[
    str | None, typer.Option(help="Mix to train on. Default: named as the stage.")
]
SettingsOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="section.field=value, over the configuration; repeatable."),
]
