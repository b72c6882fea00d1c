"""``tapbond schema``."""

import click


@click.command("schema")
def command() -> None:
    """Print the JSON Schema of configuration files, for editors and other checkers."""
    import msgspec  # noqa: PLC0415  (not for --help)

    from tapbond.cli.run import command as run  # noqa: PLC0415
    from tapbond.config.schema import schema  # noqa: PLC0415

    options = [option for option in run.params if isinstance(option, click.Option)]
    made = schema({name.removeprefix("--"): option.help or "" for option in options for name in option.opts})
    click.echo(msgspec.json.format(msgspec.json.encode(made), indent=2))
