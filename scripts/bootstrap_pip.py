"""Put pip into an environment that was made without it; run by that environment's own Python."""

import hashlib
import json
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

INDEX = "https://pypi.org/pypi/pip/json"


def main() -> None:
    """Download pip's wheel, check it against the index, and let it install itself."""
    with urllib.request.urlopen(INDEX, timeout=60) as reply:
        wheel = next(file for file in json.load(reply)["urls"] if file["filename"].endswith(".whl"))
    with urllib.request.urlopen(wheel["url"], timeout=300) as reply:  # noqa: S310  (from the index above)
        content = reply.read()
    if hashlib.sha256(content).hexdigest() != wheel["digests"]["sha256"]:
        sys.exit("pip's wheel does not have the checksum that the index names")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / wheel["filename"]
        path.write_bytes(content)
        # A wheel is a zip archive, and Python runs the packages inside one.
        subprocess.run([sys.executable, f"{path}/pip", "install", "--quiet", str(path)], check=True)  # noqa: S603


if __name__ == "__main__":
    main()
