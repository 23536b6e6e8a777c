"""A published model, or a model file, in use: score, export."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from streamtrain.cli.options import JSON, print_json


@click.command()
@click.argument("model", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--public-key", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Refuse what it did not sign."
)
def score(model: Path, public_key: Path | None) -> None:
    """Read feature vectors as JSON lines and write a score for each.

    MODEL is a models directory, a version's directory or a model file. A line is an array of features, or an object
    with every feature by name. A line that can't be scored gives {"error": …}, and exit code 1 at the end.
    """
    from streamtrain.model.signature import read_public_key
    from streamtrain.router.lines import score_lines
    from streamtrain.router.load import load

    loaded = load(model, None if public_key is None else read_public_key(public_key))
    failed = score_lines(loaded, sys.stdin.buffer, sys.stdout)
    if failed:
        sys.exit(1)


@click.command()
@click.option("--format", "form", type=click.Choice(["onnx", "c"]), required=True, help="What to write.")
@click.option(
    "--sessions/--no-sessions",
    default=None,
    help="Whether hidden states go from step to step; as the version was trained if not given.",
)
@JSON
@click.option("--name", help="What the names in a C header begin with.  [default: streamtrain]")
@click.argument("model", type=click.Path(exists=True, path_type=Path))
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
def export(form: str, sessions: bool | None, as_json: bool, name: str | None, model: Path, out: Path) -> None:
    """Write a model for another runtime: an ONNX graph, or one C99 header without floating point.

    MODEL is a models directory, a version's directory or a model file. OUT is replaced whole or not at all.
    """
    from streamtrain.export.source import read_source
    from streamtrain.publish.durable import write_file

    if form == "onnx" and name is not None:
        raise click.UsageError("--name is for C headers")
    source = read_source(model)
    stateful = source.sequence_length > 1 if sessions is None else sessions
    kind = "steps of sessions" if stateful else "requests by themselves"
    facts: dict[str, object] = {
        "format": form,
        "version": source.version,
        "features": source.config.input_dim,
        "hidden_units": source.config.hidden_dim,
        "sessions": stateful,
    }
    told = [
        f"model    {source.version or model}: {source.config.input_dim} features, "
        f"{source.config.hidden_dim} hidden units, for {kind}"
    ]
    if form == "onnx":
        from streamtrain.export.onnx_graph import OPSET, to_onnx

        try:
            data = to_onnx(source, sessions=stateful)
        except ModuleNotFoundError as error:
            raise click.UsageError("this needs the extra `onnx`: pip install 'streamtrain[onnx]'") from error
        facts |= {"opset": OPSET}
        told.append(f"graph    {len(data):,} bytes, opset {OPSET}, float32, any batch")
    else:
        from streamtrain.export.c_header import to_c_header

        header = to_c_header(source, sessions=stateful, name=name or "streamtrain")
        data = header.text.encode("ascii")
        facts |= {"weight_bytes": header.weight_bytes, "constant_bytes": header.constant_bytes}
        facts |= {"stack_bytes": header.stack_bytes, "session_bytes": header.session_bytes if stateful else None}
        payload = header.weight_bytes + header.constant_bytes
        told.append(
            f"payload  {payload:,} bytes: {header.weight_bytes:,} of weights, {header.constant_bytes:,} of constants"
        )
        told.append(f"stack    {header.stack_bytes:,} bytes at most")
        if stateful:
            told.append(f"session  {header.session_bytes:,} bytes each")
    write_file(out, data)
    if as_json:
        print_json(facts | {"written": str(out), "bytes": len(data)})
        return
    click.echo("\n".join((*told, f"written  {out}")))
