"""systemd's unit: what systemd says to it, and the program under what it forbids."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tools import DEPLOY, ROOT, alone, program, run, sidestep

HERE = Path(__file__).parent
UNIT = DEPLOY / "systemd" / "sidestep.service"
NODE = DEPLOY / "systemd" / "node.conf"
INSTALLED = "/usr/local/bin/sidestep"
# systemd's own words: 0 is fully confined, 10 not at all. A plain unit has 9.6.
EXPOSURE = {UNIT: "1.7", NODE: "2.2"}


def folder_of(unit_folder: str, *drop_ins: Path) -> Path:
    """The unit as it would be installed, with the program that was built."""
    unit = Path(unit_folder, UNIT.name)
    unit.write_text(UNIT.read_text().replace(INSTALLED, sidestep()))
    for drop_in in drop_ins:
        Path(unit_folder, f"{UNIT.name}.d").mkdir(exist_ok=True)
        Path(unit_folder, f"{UNIT.name}.d", drop_in.name).write_text(drop_in.read_text())
    return unit


def test_systemd_has_nothing_to_say_to_the_unit():
    for drop_ins in ((), (NODE,)):
        with tempfile.TemporaryDirectory() as folder:
            unit = folder_of(folder, *drop_ins)
            command = [program("systemd-analyze"), "verify", "--man=no", str(unit)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60)
            assert done.returncode == 0 and not (done.stdout + done.stderr), done.stdout + done.stderr


def test_it_is_as_confined_as_we_say():
    for last, most in EXPOSURE.items():
        with tempfile.TemporaryDirectory() as folder:
            unit = folder_of(folder, *([] if last == UNIT else [last]))
            said = run(program("systemd-analyze"), "security", "--offline=true", f"--threshold={most.replace('.', '')}", str(unit))
            assert re.search(rf"exposure level for {UNIT.name}: {most} ", said), said[-200:]


def words(key: str, *files: Path) -> list[str]:
    """What the lines of a key say, one after the other."""
    text = "\n".join(file.read_text() for file in files)
    return [word for line in re.findall(rf"^{key}=(.*)$", text, re.M) for word in line.split()]


def group(name: str) -> set[str]:
    """The system calls that a name stands for."""
    if not name.startswith("@"):
        return {name}
    listed = run(program("systemd-analyze"), "syscall-filter", name).splitlines()[1:]
    members = [line.strip() for line in listed if line.strip() and not line.strip().startswith("#")]
    return set().union(*map(group, members))


def allowed(*files: Path) -> set[str]:
    """The system calls that SystemCallFilter= leaves: what is named, less what stands in a line with `~`."""
    calls: set[str] = set()
    for line in re.findall(r"^SystemCallFilter=(.*)$", "\n".join(file.read_text() for file in files), re.M):
        named = set().union(*map(group, line.removeprefix("~").split()))
        calls = calls - named if line.startswith("~") else calls | named
    # Allowed always, says systemd.exec(5): what it takes to start a program and to end it.
    return calls | group("@default")


HOST = ["--config=host.toml", "--upstream=tcp://127.0.0.1:5399"]


def told_under(arguments: list[str], *files: Path) -> tuple[list[str], str]:
    """What the program tells systemd from start to stop with the calls and capabilities of the unit, and what it logs."""
    capabilities = ",".join(f"+{c.removeprefix('CAP_').lower()}" for c in words("AmbientCapabilities", *files))
    with tempfile.TemporaryDirectory() as folder:
        # Whoever has no privileges may not come to where this project lies.
        os.chmod(folder, 0o755)
        for file in (Path(sidestep()), ROOT / "config" / "host.toml", HERE / "confined.py"):
            shutil.copy(file, folder)
        Path(folder, "calls").write_text("\n".join(sorted(allowed(*files))))
        confined = [
            program("setpriv"), "--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs",
            f"--inh-caps=-all,{capabilities}", f"--ambient-caps=-all,{capabilities}", f"--bounding-set=-all,{capabilities}",
            "/usr/bin/python3", "confined.py", "calls", "./sidestep", "run", *arguments,
        ]
        command = alone(sys.executable, str(HERE / "told.py"), *confined)
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.split(), done.stderr


def test_confined_by_the_unit_it_answers_on_port_53_and_tells_systemd():
    told, log = told_under(HOST, UNIT)
    assert told[0] == "READY=1" and told[-1] == "STOPPING=1", (told, log)
    assert told.count("WATCHDOG=1") >= 2, told
    assert "listening on 127.0.0.1:53, [::1]:53" in log, log
    assert " WARN " not in "\n".join(line for line in log.splitlines() if "no upstream has answered" not in line), log


def test_confined_by_the_drop_in_it_holds_a_node():
    told, log = told_under(["--listen=169.254.20.10:53", "--node-address=169.254.20.10", "--upstream=tcp://127.0.0.1:5399"], UNIT, NODE)
    assert told[0] == "READY=1" and "WATCHDOG=1" in told, (told, log)
    assert "rules (nftables, goes with the process)" in log, log
    assert " WARN " not in "\n".join(line for line in log.splitlines() if "no upstream has answered" not in line), log


def test_the_hosts_configuration_is_right():
    run(sidestep(), "check", str(ROOT / "config" / "host.toml"))
