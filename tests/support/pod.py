"""A pod as a process: what the kubelet makes of a pod's template, as far as one machine without containers can.

The container's command runs with the environment, the arguments and the volumes of the template. ConfigMaps change as the
kubelet changes them, by a link that is swapped. Probes run as written; a pod that is deleted gets preStop, then SIGTERM, then
the rest of its time, then SIGKILL. Where the kernel permits it (as root), the process has a host name of its own, a root that
cannot be written and no capabilities. A pod's address is one of 127/8, and its 0.0.0.0 is that.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Self

from tests.support.dockerfile import Image

Template = dict[str, Any]
#: Names of ConfigMaps or Secrets -> their files
Contents = Mapping[str, Mapping[str, str]]

#: The kubelet puts the value of a variable of before in its place.
_REFERENCE = re.compile(r"\$\(([A-Za-z_][A-Za-z0-9_]*)\)")
_ADDRESSES = itertools.count(1)
_ISOLATED = """
hostname "$1"; shift
while [ "$1" != -- ]; do mount --bind "$1" "$1"; shift; done; shift
mount -o remount,bind,ro /
exec setpriv --bounding-set=-all --inh-caps=-all --no-new-privs "$@"
"""


@cache
def isolation() -> list[str]:
    """The command that gives a process its own mounts and host name; nothing where that is not permitted."""
    for command in (["unshare", "--mount", "--uts"], ["unshare", "--user", "--map-root-user", "--mount", "--uts"]):
        with contextlib.suppress(OSError):
            if subprocess.run([*command, "sh", "-c", "hostname x"], capture_output=True, check=False).returncode == 0:
                return command
    return []


class Pod:
    """One pod with one container. ``started``, ``ready`` and ``restarts`` are as the kubelet would report them."""

    def __init__(
        self, template: Template, *, name: str, folder: Path, config_maps: Contents, secrets: Contents, image: Image
    ) -> None:
        self.name = name
        self.spec = template["spec"]
        (self.container,) = self.spec["containers"]
        number = next(_ADDRESSES)
        self.address = f"127.7.{number // 250}.{number % 250 + 1}"
        self.started = self.ready = False
        self.restarts = 0
        self.killed = self._restarting = False
        self.log = folder / f"{name}.log"
        self._folder = folder / name
        self._config_maps, self._secrets, self._image = config_maps, secrets, image
        self._places: dict[str, Path] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self.process: subprocess.Popen[bytes]

    async def __aenter__(self) -> Self:
        self._mount()
        self._run()
        self._tasks = [asyncio.create_task(self._probe_on())]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stop_probing()
        if self.process.poll() is None:
            self.process.kill()
        await asyncio.to_thread(self.process.wait)

    def port(self, name: str) -> int:
        (found,) = [p["containerPort"] for p in self.container["ports"] if p["name"] == name]
        return int(found)

    async def until(self, what: str, value: object = True, *, timeout_s: float = 60.0) -> None:
        end_s = time.monotonic() + timeout_s
        while getattr(self, what) != value:
            assert time.monotonic() < end_s, f"{what} is not {value}: {self.log.read_text()}"
            assert self._restarting or self.process.poll() in (None, 0), self.log.read_text()
            await asyncio.sleep(0.02)

    # Before it runs.

    def _mount(self) -> None:
        volumes = {volume["name"]: volume for volume in self.spec["volumes"]}
        for mount in self.container["volumeMounts"]:
            place = self._folder / mount["name"]
            place.mkdir(parents=True)
            self._places[mount["mountPath"]] = place
            assert "subPath" not in mount, "it would never change"
        for mount in self.container["volumeMounts"]:
            volume = volumes[mount["name"]]
            assert mount.get("readOnly", False) == ("emptyDir" not in volume)
            if "configMap" in volume:
                self._swap(mount["mountPath"], self._config_maps[volume["configMap"]["name"]])
            elif "secret" in volume:
                self._swap(mount["mountPath"], self._secrets[volume["secret"]["secretName"]])
            elif "projected" in volume:
                self._swap(mount["mountPath"], self._projected(volume["projected"]["sources"]))

    def _projected(self, sources: list[Template]) -> dict[str, str]:
        """The files of a volume that takes them from several places."""
        files = {}
        for source in sources:
            ((kind, from_),) = source.items()
            held = (self._secrets if kind == "secret" else self._config_maps)[from_["name"]]
            files |= {item["path"]: held[item["key"]] for item in from_["items"]}
        return files

    def update(self, config_map: str) -> None:
        """A ConfigMap has changed: its volume follows."""
        volumes = {v["name"] for v in self.spec["volumes"] if v.get("configMap", {}).get("name") == config_map}
        for mount in self.container["volumeMounts"]:
            if mount["name"] in volumes:
                self._swap(mount["mountPath"], self._config_maps[config_map])

    def _swap(self, mount_path: str, files: Mapping[str, str]) -> None:
        """The files in a new folder, and ``..data`` pointing to it from one moment to the next."""
        place = self._places[mount_path]
        folder = place / f"..{time.monotonic_ns()}"
        folder.mkdir()
        for name, text in files.items():
            (folder / name).write_text(self._here(text))
            if not (place / name).is_symlink():
                (place / name).symlink_to(f"..data/{name}")
        data = place / "..data"
        old = data.resolve() if data.is_symlink() else None
        (place / "..data_tmp").symlink_to(folder.name)
        (place / "..data_tmp").rename(data)
        if old is not None:
            for file in old.iterdir():
                file.unlink()
            old.rmdir()

    def _here(self, text: str) -> str:
        """Paths of the container as they are on this machine, and the pod's own address."""
        paths = "|".join(re.escape(path) for path in sorted(self._places, key=len, reverse=True))
        text = re.sub(rf"(?<![\w/.])({paths})(?=[/\"'\s]|$)", lambda found: str(self._places[found[1]]), text)
        return text.replace("0.0.0.0", self.address)

    def _environment(self) -> dict[str, str]:
        out = {
            **self._image.env,
            "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
            "HOSTNAME": self.name,
            "KUBERNETES_SERVICE_HOST": "10.96.0.1",
            "KUBERNETES_SERVICE_PORT": "443",
            "HOME": str(self._places["/var/lib/router"]),
            "TMPDIR": str(self._places["/tmp"]),
        }
        for entry in self.container.get("env", ()):
            if "value" in entry:
                out[entry["name"]] = self._here(
                    _REFERENCE.sub(lambda found: out.get(found[1], found[0]), entry["value"])
                )
            else:
                where = entry["valueFrom"]["secretKeyRef"]
                out[entry["name"]] = self._secrets[where["name"]][where["key"]]
        return out

    def _run(self) -> None:
        command = [*self.container.get("command", self._image.entrypoint), *map(self._here, self.container["args"])]
        if isolation() and self.container["securityContext"]["readOnlyRootFilesystem"]:
            writable = [
                str(self._places[mount["mountPath"]])
                for mount in self.container["volumeMounts"]
                if not mount.get("readOnly")
            ]
            command = [*isolation(), "sh", "-ec", _ISOLATED, "sh", self.name, *writable, "--", *command]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                cwd=self._places["/var/lib/router"],
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    # While it runs.

    async def _probe_on(self) -> None:
        """Startup first; then readiness and liveness, each at its own pace. A container whose startup or liveness fails is
        started again."""
        while True:
            self.started = self.ready = False
            if await self._passes("startupProbe"):
                self.started = True
                ready = asyncio.create_task(self._watch_ready())
                try:
                    await self._fails("livenessProbe")
                finally:
                    ready.cancel()
            self.ready = False
            self._restarting = True
            self.process.kill()
            await asyncio.to_thread(self.process.wait)
            self.restarts += 1
            self._run()
            self._restarting = False

    async def _passes(self, kind: str) -> bool:
        probe = self.container[kind]
        for _ in range(probe.get("failureThreshold", 3)):
            if await self._probe(probe):
                return True
            await asyncio.sleep(probe["periodSeconds"])
        return False

    async def _fails(self, kind: str) -> None:
        probe = self.container[kind]
        failures = 0
        while failures < probe.get("failureThreshold", 3):
            failures = 0 if await self._probe(probe) else failures + 1
            await asyncio.sleep(probe["periodSeconds"])

    async def _watch_ready(self) -> None:
        probe = self.container["readinessProbe"]
        failures = 0
        while True:
            if await self._probe(probe):
                self.ready, failures = True, 0
            else:
                failures += 1
                self.ready = self.ready and failures < probe.get("failureThreshold", 3)
            await asyncio.sleep(probe["periodSeconds"])

    async def _probe(self, probe: dict[str, Any]) -> bool:
        try:
            async with asyncio.timeout(probe.get("timeoutSeconds", 1)):
                if "tcpSocket" in probe:
                    _, writer = await asyncio.open_connection(self.address, self.port(probe["tcpSocket"]["port"]))
                    writer.close()
                    return True
                get = probe["httpGet"]
                assert get.get("scheme", "HTTP") == "HTTP"
                return 200 <= await self.get(get["path"], port=get["port"]) < 400
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            return False

    async def get(self, path: str, *, port: str) -> int:
        """The status of an answer."""
        reader, writer = await asyncio.open_connection(self.address, self.port(port))
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nhost: {self.address}\r\nconnection: close\r\n\r\n".encode())
            return int((await reader.readline()).split()[1] or 0)
        except IndexError:
            return 0
        finally:
            writer.close()

    async def _stop_probing(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def delete(self) -> float:
        """Take the pod away. The seconds that it took; ``killed`` says that its time was too short."""
        began_s = time.monotonic()
        grace_s = self.spec["terminationGracePeriodSeconds"]
        await self._stop_probing()
        self.ready = False
        await asyncio.sleep(self.container["lifecycle"]["preStop"]["sleep"]["seconds"])
        self.process.send_signal(signal.SIGTERM)
        try:
            await asyncio.to_thread(self.process.wait, max(0.0, grace_s - (time.monotonic() - began_s)))
        except subprocess.TimeoutExpired:
            self.killed = True
            self.process.kill()
            await asyncio.to_thread(self.process.wait)
        return time.monotonic() - began_s
