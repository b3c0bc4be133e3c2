#!/usr/bin/env bash
# typer 0.29.2: a Typer application's commands are not click commands, although click is installed beside it.
# Typer documents itself as built on click, and `typer.main.get_command(app)` as what gives "the click command". Code that
# checks isinstance(command, click.Command), annotates with click's types or catches click's exceptions does not apply.
# Seen with typer 0.29.2 and click 8.4.2 on Python 3.11:
#   click.Command? False
#   made of typer._click.core
#   click.ClickException catches a wrong option? False
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check typer==0.29.2 click==8.4.2
"$folder/venv/bin/python" - <<'PY' | tee "$folder/seen"
import click
import typer

app = typer.Typer()


@app.command()
def hello(name: str = "world") -> None:
    print(name)


command = typer.main.get_command(app)
print("click.Command?", isinstance(command, click.Command))
base = next(one for one in type(command).__mro__ if one.__name__ == "Command")
print("made of", base.__module__)
try:
    command.main(["--nonsense"], standalone_mode=False)
except click.ClickException:
    print("click.ClickException catches a wrong option? True")
except Exception:
    print("click.ClickException catches a wrong option? False")
PY
diff "$folder/seen" - <<'SEEN'
click.Command? False
made of typer._click.core
click.ClickException catches a wrong option? False
SEEN
echo "as stated"
